//! Feeds the cache from the store's watch, over its breaks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::completion::chunk_name;
use api::resource_version::ResourceVersion;
use api::{KindId, ObjectKey};
use base::{Backoff, Health, Retry, Rng};
use bytes::Bytes;
use store::{Key, List, PAGE_RECORDS_MAX, ReadError, Record, Revision, Store};
use tracing::{error, info};

use super::{Cache, Entry, Event};
use crate::{encoding, keys, kinds};

/// Feeds the cache for ever.
pub(crate) async fn follow(cache: Arc<Cache>, store: Arc<dyn Store>, (rng, health): (Rng, Health)) {
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), rng);
    let mut retry = Retry::new("watching the store", backoff, &health);
    let mut filled = false;
    loop {
        let outcome = if filled {
            read(&cache, &*store, &mut retry).await
        } else {
            fill(&cache, &*store).await
        };
        match outcome {
            Ok(()) => filled = true,
            Err(ReadError::Compacted { asked, oldest }) => {
                info!(%asked, %oldest, "history is gone, filling the cache anew");
                filled = false;
            }
            Err(error) => tokio::time::sleep(retry.failed(&error)).await,
        }
    }
}

/// Reads all there is at the oldest kept revision: the watch then replays what came since.
async fn fill(cache: &Cache, store: &dyn Store) -> Result<(), ReadError> {
    let at = store.oldest().await?;
    let mut objects = BTreeMap::new();
    let mut after = None;
    loop {
        let list =
            List { prefix: keys::PREFIX.into(), at: Some(at), after, limit: PAGE_RECORDS_MAX };
        let page = store.list(list).await?;
        after = page.records.last().map(|record| Arc::clone(&record.key));
        for record in page.records {
            if let Some(entry) = entry(&record, None) {
                objects.insert(record.key, Arc::new(entry));
            }
        }
        if !page.more {
            break;
        }
    }
    cache.reset(objects, at);
    // Nobody may read before the cache has caught up with what was current when it was filled.
    let mut watch = store.watch(keys::PREFIX, Revision(at.0 + 1)).await?;
    let current = store.revision().await?;
    let mut reached = at;
    while reached < current {
        reached = apply(cache, &watch.next().await?);
    }
    cache.publish(reached);
    Ok(())
}

/// Reads the watch until it breaks.
async fn read(cache: &Cache, store: &dyn Store, retry: &mut Retry) -> Result<(), ReadError> {
    let mut watch = store.watch(keys::PREFIX, Revision(cache.revision().0 + 1)).await?;
    loop {
        let events = watch.next().await?;
        retry.worked();
        cache.publish(apply(cache, &events));
    }
}

/// Applies events; the revision that they lead to.
fn apply(cache: &Cache, events: &[store::Event]) -> Revision {
    let revision = events.last().map_or_else(|| cache.revision(), |event| event.revision);
    let changes = events.iter().filter_map(|event| Some((Arc::clone(&event.key), change(event)?)));
    cache.apply(changes.collect(), revision);
    revision
}

fn change(event: &store::Event) -> Option<Event> {
    let version = ResourceVersion::of_event(event.revision.0, event.position);
    let now = match &event.now {
        Some(record) => Some(Arc::new(entry(record, Some(version))?)),
        None => None,
    };
    let last = match (&now, &event.before) {
        (None, Some(before)) => Some(entry(before, Some(version))?.wire),
        _ => None,
    };
    (now.is_some() || last.is_some()).then_some(Event { version, before: None, now, last })
}

/// A record as an entry, if it is an object. An object that cannot be read is left out, loudly: one
/// bad value must not take the whole API down.
fn entry(record: &Record, version: Option<ResourceVersion>) -> Option<Entry> {
    let kind = keys::kind_of(&record.key)?;
    let version =
        version.unwrap_or_else(|| ResourceVersion::of_event(record.modified.0, record.position));
    let wire = encoding::json(&record.value)
        .and_then(|json| (kinds::strategy(kind).to_wire)(json, version));
    match wire {
        Ok(wire) => Some(Entry {
            kind,
            key: object_key(kind, &record.key)?,
            version,
            created: record.created,
            uid: wire.uid.into(),
            is_deleting: wire.is_deleting,
            wire: Bytes::from(wire.json),
            labels: wire.labels,
            fields: wire.fields,
        }),
        Err(unreadable) => {
            error!(key = %record.key, error = %unreadable, "left out");
            None
        }
    }
}

/// The namespace and name that a key of the store stands for.
fn object_key(kind: KindId, key: &Key) -> Option<ObjectKey> {
    let mut parts = key.strip_prefix(keys::PREFIX)?.split('/').skip(1);
    let first = parts.next()?;
    if kind == KindId::NodeLease {
        return Some(ObjectKey::new("", first));
    }
    if kind == KindId::CompletionChunk {
        let (run, chunk) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        return Some(ObjectKey::new(first, chunk_name(run, chunk)));
    }
    Some(ObjectKey::new(if first == "_" { "" } else { first }, parts.next()?))
}
