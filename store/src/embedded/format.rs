//! What is on disk: tables, and how a record is laid out in them.
//!
//! # Invariants
//!
//! * `CURRENT` holds every key's current record; `CHANGES` holds, for every change that is kept,
//!   what the key held before; `LOG` says which key changed at which revision and position. So a
//!   value is written once when it comes and once when it goes, a list of what is now reads
//!   nothing else, and any kept revision can be told: a key's record at revision r is what its
//!   first change after r found, or else the current one.
//! * `LOG` and `CHANGES` name the same changes; both begin at the oldest kept revision.
//! * The last entry of `LOG` is the current revision, or else the oldest kept one, where the store
//!   began after a revision and nothing has happened since. Compaction never removes that entry.

use bytes::Bytes;
use redb::TableDefinition;

use crate::group::Stored;
use crate::{Key, LeaseId, Record, Revision};

/// Incremented when an older program could not read what this one writes.
pub(crate) const FORMAT: u64 = 1;

/// Key → record.
pub(crate) const CURRENT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("current");
/// Key and revision → the record before; empty if there was none.
pub(crate) const CHANGES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("changes");
/// Revision and position → key.
pub(crate) const LOG: TableDefinition<'_, (u64, u32), &str> = TableDefinition::new("log");
/// Node lease → its time to live after a renewal, in milliseconds.
pub(crate) const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// Node lease and a key that belongs to it.
pub(crate) const LEASE_KEYS: TableDefinition<'_, (u64, &str), ()> =
    TableDefinition::new("lease_keys");
/// The names below → a number.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// See [`FORMAT`].
pub(crate) const META_FORMAT: &str = "format";
/// The oldest revision that can be read; 0 if there is none.
pub(crate) const META_OLDEST: &str = "oldest";
/// The last node lease's id, so that no id is used twice.
pub(crate) const META_LAST_LEASE: &str = "last_lease";

/// Created, modified and lease (0 means none) with 8 bytes each, and the position with 4 bytes, all
/// little endian. The value follows.
const HEADER_BYTES: usize = 28;

/// The number of bytes that [`encode`] fills.
pub(crate) fn encoded_bytes(record: &Record) -> usize {
    HEADER_BYTES + record.value.len()
}

/// Encodes a record into `place`, which has the length [`encoded_bytes`].
pub(crate) fn encode(record: &Record, lease: Option<LeaseId>, place: &mut [u8]) {
    let (header, value) = place.split_at_mut(HEADER_BYTES);
    header[..8].copy_from_slice(&record.created.0.to_le_bytes());
    header[8..16].copy_from_slice(&record.modified.0.to_le_bytes());
    header[16..24].copy_from_slice(&lease.map_or(0, |lease| lease.0).to_le_bytes());
    header[24..].copy_from_slice(&record.position.to_le_bytes());
    value.copy_from_slice(&record.value);
}

/// Decodes what [`encode`] wrote.
pub(crate) fn decode(key: Key, bytes: &[u8]) -> Stored {
    let number = |at: usize| {
        let bytes = bytes[at..at + 8].try_into().expect("eight bytes are eight bytes");
        u64::from_le_bytes(bytes)
    };
    let record = Record {
        key,
        value: Bytes::copy_from_slice(&bytes[HEADER_BYTES..]),
        created: Revision(number(0)),
        modified: Revision(number(8)),
        position: u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes are four bytes")),
    };
    Stored { record, lease: Some(LeaseId(number(16))).filter(|lease| lease.0 != 0) }
}
