//! The layout of keys and records in etcd.
//!
//! # Invariants
//!
//! * etcd keeps no positions and no write ids, so a stored value consists of a header and the
//!   value. Only this store knows the header; it returns the value alone.
//! * The header begins with a hash of the value. So an expected value can be compared by a few
//!   bytes, and a transaction has room for the comparisons of many groups.
//! * Keys of the store itself are under `/heliox/store/` and are never returned.

use bytes::Bytes;
use etcd_client::proto::PbKeyValue;
use sha2::{Digest as _, Sha256};

use crate::{Key, Record, Revision};

/// Increased when older programs cannot read the new format.
const VERSION: u8 = 1;
/// Half of a SHA-256. Finding two values with the same hash takes about 2^64 tries.
const DIGEST_BYTES: usize = 16;
/// Version and hash.
const PREFIX_BYTES: usize = 1 + DIGEST_BYTES;
/// The prefix, the position (2 bytes) and the write id (16 bytes), all big endian.
pub(crate) const HEADER_BYTES: usize = PREFIX_BYTES + 2 + 16;
/// Barriers use this many keys in turn. In a full etcd, each can be deleted once.
const SPARE_BARRIERS: u64 = 64;
/// The prefix of the store's own keys.
const OWN: &str = "/heliox/store/";

/// Identifies an attempt to commit a group, over all of its retries. Unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteId(pub(crate) u128);

/// A record, and which write put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) record: Record,
    /// `None` if it was put by another program or a newer version of this one. The record then has
    /// the stored bytes as they are, at position 0. Leaving it out would mean that the key does not
    /// exist.
    pub(crate) id: Option<WriteId>,
}

/// Encodes a value for storing.
pub(crate) fn encode(value: &[u8], position: u32, id: WriteId) -> Vec<u8> {
    let position = u16::try_from(position).expect("positions are under 1024");
    let mut stored = Vec::with_capacity(HEADER_BYTES + value.len());
    stored.extend_from_slice(&prefix(value));
    stored.extend_from_slice(&position.to_be_bytes());
    stored.extend_from_slice(&id.0.to_be_bytes());
    stored.extend_from_slice(value);
    stored
}

/// Two exclusive bounds that contain every encoding of `value`.
pub(crate) fn bounds(value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let low = prefix(value).to_vec();
    let mut high = low.clone();
    // A position is below 1024, so its first byte is less than this.
    high.push(u8::MAX);
    (low, high)
}

fn prefix(value: &[u8]) -> [u8; PREFIX_BYTES] {
    let mut prefix = [VERSION; PREFIX_BYTES];
    prefix[1..].copy_from_slice(&Sha256::digest(value)[..DIGEST_BYTES]);
    prefix
}

/// Converts a revision from etcd's type.
pub(crate) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).expect("etcd counts from 1"))
}

/// Converts a number to etcd's type; `None` if it is too large.
pub(crate) fn signed(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

/// Where in etcd the keys of the store are.
#[derive(Debug, Clone)]
pub(crate) struct Keyspace {
    /// The prefix of every key.
    namespace: String,
}

impl Keyspace {
    pub(crate) fn new(namespace: String) -> Self {
        Self { namespace }
    }

    /// The key in etcd.
    pub(crate) fn stored(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.namespace).into_bytes()
    }

    /// Whether a key is one of the store's own, which callers cannot use.
    pub(crate) fn is_own(key: &str) -> bool {
        key.starts_with(OWN)
    }

    /// The key that is put to make a new revision.
    pub(crate) fn barrier(&self) -> Vec<u8> {
        self.stored("/heliox/store/barrier")
    }

    /// One of the keys that are put to make an event that every watch sees.
    pub(crate) fn spare_barrier(&self, number: u64) -> Vec<u8> {
        self.stored(&format!("/heliox/store/barrier/{}", number % SPARE_BARRIERS))
    }

    /// The first key and the exclusive end of all keys that can be deleted to make such an event.
    pub(crate) fn barriers(&self) -> (Vec<u8>, Vec<u8>) {
        range_of(self.barrier())
    }

    /// The key with the number that is added to revisions.
    pub(crate) fn shift(&self) -> Vec<u8> {
        self.stored("/heliox/store/shift")
    }

    /// The first key and the exclusive end of the store's own keys.
    pub(crate) fn own_range(&self) -> (Vec<u8>, Vec<u8>) {
        range_of(self.stored(OWN))
    }

    /// The key as callers know it; `None` if it is one of the store's own or not text.
    pub(crate) fn key(&self, stored: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(stored).ok()?.strip_prefix(&self.namespace)?;
        (!Self::is_own(text)).then(|| Key::from(text))
    }

    /// The first key and the exclusive end of the keys that start with `prefix`.
    pub(crate) fn range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        range_of(self.stored(prefix))
    }

    /// The smallest such range that contains the barrier and all of `keys`.
    pub(crate) fn range_around<'a>(
        &self,
        keys: impl Iterator<Item = &'a Key>,
    ) -> (Vec<u8>, Vec<u8>) {
        let mut common = self.barrier();
        for key in keys {
            let key = self.stored(key);
            let same = common.iter().zip(&key).take_while(|(a, b)| a == b).count();
            common.truncate(same);
        }
        range_of(common)
    }

    /// Decodes what etcd has stored; `None` if callers cannot use the key.
    pub(crate) fn decode(&self, pair: PbKeyValue) -> Option<Decoded> {
        let key = self.key(&pair.key)?;
        let stored = Bytes::from(pair.value);
        let (value, position, id) = match header(&stored) {
            Some((position, id)) => (stored.slice(HEADER_BYTES..), position, Some(id)),
            None => (stored, 0, None),
        };
        let created = revision(pair.create_revision);
        let modified = revision(pair.mod_revision);
        Some(Decoded { record: Record { key, value, created, modified, position }, id })
    }
}

/// The position and the write id, if this store has put the value.
fn header(stored: &[u8]) -> Option<(u32, WriteId)> {
    let header = stored.get(..HEADER_BYTES)?;
    let (position, id) = header[PREFIX_BYTES..].split_at(2);
    let position = u16::from_be_bytes(position.try_into().ok()?);
    let id = u128::from_be_bytes(id.try_into().ok()?);
    (header[0] == VERSION).then_some((u32::from(position), WriteId(id)))
}

fn range_of(prefix: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.clone();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return (prefix, end);
        }
    }
    // A key is never empty, so the first possible key is one zero byte. etcd also uses that to mean
    // "until the last key".
    let first = if prefix.is_empty() { vec![0] } else { prefix };
    (first, vec![0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &[u8], value: Vec<u8>) -> PbKeyValue {
        PbKeyValue {
            key: key.to_vec(),
            value,
            create_revision: 3,
            mod_revision: 7,
            ..PbKeyValue::default()
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let keys = Keyspace::new("/ns".to_owned());
        let stored = encode(b"value", 1022, WriteId(u128::MAX - 7));
        let decoded = keys.decode(pair(b"/ns/a", stored)).unwrap();
        let record = Record {
            key: "/a".into(),
            value: "value".into(),
            created: Revision(3),
            modified: Revision(7),
            position: 1022,
        };
        assert_eq!(decoded, Decoded { record, id: Some(WriteId(u128::MAX - 7)) });
    }

    #[test]
    fn what_another_wrote_is_there_as_it_is_and_what_is_the_stores_own_is_hidden() {
        let keys = Keyspace::new(String::new());
        for stored in [b"short".to_vec(), vec![VERSION + 1; 100], Vec::new()] {
            let Decoded { record, id } = keys.decode(pair(b"/a", stored.clone())).unwrap();
            assert_eq!((record.value, record.position, id), (Bytes::from(stored), 0, None));
        }
        assert_eq!(keys.decode(pair(&keys.barrier(), Vec::new())), None);
    }

    #[test]
    fn bounds_hold_a_value_with_any_header_and_no_other_value() {
        let (low, high) = bounds(b"value");
        for (position, id) in [(0, 0), (1022, u128::MAX)] {
            let stored = encode(b"value", position, WriteId(id));
            assert!(low < stored && stored < high);
        }
        for other in [&b""[..], b"valu", b"value2", b"other"] {
            let stored = encode(other, 0, WriteId(0));
            assert!(stored <= low || high <= stored, "{other:?}");
        }
    }

    #[test]
    fn a_range_holds_what_starts_with_the_prefix() {
        let keys = Keyspace::new("/ns".to_owned());
        assert_eq!(keys.range("/a"), (b"/ns/a".to_vec(), b"/ns/b".to_vec()));
        assert_eq!(range_of(vec![b'a', 0xff]), (vec![b'a', 0xff], vec![b'b']));
        assert_eq!(range_of(Vec::new()), (vec![0], vec![0]));
    }

    #[test]
    fn a_range_around_keys_holds_them_and_the_barrier() {
        let keys = Keyspace::new("/ns".to_owned());
        let around = |names: &[&str]| {
            let names: Vec<Key> = names.iter().map(|name| Key::from(*name)).collect();
            String::from_utf8(keys.range_around(names.iter()).0).unwrap()
        };
        assert_eq!(around(&["/heliox/v1/a", "/heliox/v1/b"]), "/ns/heliox/");
        assert_eq!(around(&["/a"]), "/ns/");
        assert_eq!(around(&[]), "/ns/heliox/store/barrier");
    }
}
