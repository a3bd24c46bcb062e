//! Parses stored records into cache entries. This is most of the work of following the store.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use api::KindId;
use api::ObjectKey;
use api::resource_version::ResourceVersion;
use bytes::Bytes;
use store::{Record, Revision};
use tracing::error;

use super::Entry;
use super::sharing::Sharing;
use crate::keys;
use crate::kinds::Wire;

/// This many records or more are parsed on all processors. So many arrive at once mostly when the
/// server starts: it parses the whole history of the store before it answers requests.
const SPREAD_FROM: usize = 256;
/// The minimum number of records for which a thread is started.
const SHARE_MIN: usize = 64;

/// A parsed object, before its labels and fields are shared with other entries.
pub(super) struct Parsed {
    kind: KindId,
    key: Arc<ObjectKey>,
    version: ResourceVersion,
    created: Revision,
    uid: Option<Arc<str>>,
    wire: Wire,
}

/// Parses a record, if it is an object's. The result shares key and uid with `known`, the current entry
/// of the same key.
pub(super) fn parsed(
    record: &Record,
    version: Option<ResourceVersion>,
    known: Option<&Entry>,
) -> Option<Parsed> {
    let kind = keys::kind_of(&record.key)?;
    let version =
        version.unwrap_or_else(|| ResourceVersion::of_event(record.modified.0, record.position));
    let key = match known {
        Some(known) => Arc::clone(&known.key),
        None => Arc::new(keys::object_key(kind, &record.key)?),
    };
    let (mut wire, unreadable) = Wire::of(kind, &key, &record.value, version);
    if let Some(why) = unreadable {
        error!(key = %record.key, error = %why, "cannot read a stored object: shown as it is stored");
    }
    // Entries live long, so unused capacity is given back.
    wire.json.shrink_to_fit();
    let uid = known.map(|known| &known.uid).filter(|uid| ***uid == *wire.uid).map(Arc::clone);
    Some(Parsed { kind, key, version, created: record.created, uid, wire })
}

impl Parsed {
    /// The cache entry. It shares equal labels and fields with other entries.
    pub(super) fn into_entry(self, sharing: &mut Sharing) -> Arc<Entry> {
        let Self { kind, key, version, created, uid, wire } = self;
        Arc::new(Entry {
            kind,
            key,
            version,
            created,
            uid: uid.unwrap_or_else(|| wire.uid.into()),
            is_deleting: wire.is_deleting,
            has_more: wire.has_more,
            wire: Bytes::from(wire.json),
            labels: sharing.labels(wire.labels),
            fields: sharing.fields(wire.fields),
        })
    }
}

/// Applies `parse` to each item and returns the results in order. Many items are spread over all
/// processors.
pub(super) fn spread<T: Sync, R: Send>(items: &[T], parse: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() < SPREAD_FROM {
        return items.iter().map(parse).collect();
    }
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let share = items.len().div_ceil(processors).max(SHARE_MIN);
    let parse_all = &|share: &[T]| share.iter().map(&parse).collect::<Vec<R>>();
    let (own, others) = items.split_at(share.min(items.len()));
    thread::scope(|scope| {
        let helped = |share| {
            // If the system refuses another thread, this thread does that share, too.
            let helper = thread::Builder::new().spawn_scoped(scope, move || parse_all(share));
            (share, helper)
        };
        let helpers: Vec<_> = others.chunks(share).map(helped).collect();
        let mut all = parse_all(own);
        for (share, helper) in helpers {
            all.extend(match helper {
                Ok(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_no_thread) => parse_all(share),
            });
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spread_keeps_its_order() {
        for count in [0, 1, SPREAD_FROM - 1, SPREAD_FROM, SPREAD_FROM + 1, 10_007] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(
                spread(&items, |item| item * 2),
                (0..count).map(|it| it * 2).collect::<Vec<_>>()
            );
        }
    }
}
