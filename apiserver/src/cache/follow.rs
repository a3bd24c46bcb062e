//! Feeds the cache from a watch of the store, and recovers when the watch breaks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::resource_version::ResourceVersion;
use base::{Backoff, Health, Retry, Rng};
use futures_util::future::join;
use store::{Key, List, PAGE_RECORDS_MAX, ReadError, Record, Revision, Store, WatchProgress};
use tracing::info;

use super::behind::tell_when_behind;
use super::parsing::{Parsed, parsed, spread};
use super::sharing::Sharing;
use super::{Cache, Change, Entry, Objects};
use crate::keys;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Fill the cache with the state at the oldest revision that the store keeps, and replay what
    /// came after.
    FillFromOldest,
    /// Fill it with the current state, even while history is being compacted.
    FillFromNow,
    /// Follow the watch.
    Read,
}

/// Feeds the cache for ever, and reports when it does not catch up with a revision that is waited
/// for.
pub(crate) async fn follow(cache: Arc<Cache>, store: Arc<dyn Store>, (rng, health): (Rng, Health)) {
    let telling = tell_when_behind(&cache, (rng.fork("behind"), &health));
    tokio::join!(telling, feed(&cache, &*store, (rng, &health)));
}

async fn feed(cache: &Cache, store: &dyn Store, (rng, health): (Rng, &Health)) {
    let mut sharing = Sharing::default();
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), rng);
    let mut retry = Retry::new("watching the store", backoff, health);
    let mut next = Next::FillFromOldest;
    loop {
        let outcome = match next {
            Next::FillFromOldest => fill(cache, store, &mut sharing).await,
            Next::FillFromNow => fill_from_now(cache, store, &mut sharing).await,
            Next::Read => read(cache, store, (&mut sharing, &mut retry)).await,
        };
        match outcome {
            Ok(()) => {
                retry.worked();
                next = Next::Read;
            }
            Err(ReadError::Compacted { asked, oldest }) => {
                info!(%asked, %oldest, "history is gone; filling the cache again");
                // Other apiservers compact the history, up to the oldest revision. If a compaction
                // outran this fill, it would outrun the next one as well.
                next = match next {
                    Next::Read => Next::FillFromOldest,
                    Next::FillFromOldest | Next::FillFromNow => Next::FillFromNow,
                };
            }
            Err(error @ ReadError::Future { .. }) => {
                // The store has less history than it said or than we have seen. The current state
                // is still there to read.
                next = Next::FillFromNow;
                tokio::time::sleep(retry.failed(&error)).await;
            }
            Err(error @ ReadError::Unavailable(_)) => {
                tokio::time::sleep(retry.failed(&error)).await;
            }
        }
    }
}

/// Reads the state at the oldest kept revision. The watch then replays everything after it.
async fn fill(cache: &Cache, store: &dyn Store, sharing: &mut Sharing) -> Result<(), ReadError> {
    let at = store.oldest().await?;
    let mut objects = Objects::default();
    let mut after = None;
    loop {
        let list =
            List { prefix: keys::PREFIX.into(), at: Some(at), after, limit: PAGE_RECORDS_MAX };
        let page = store.list(list).await?;
        after = page.records.last().map(|record| Arc::clone(&record.key));
        let all = spread(&page.records, |record| parsed(record, None, None));
        for (record, parsed) in page.records.into_iter().zip(all) {
            if let Some(parsed) = parsed {
                objects.insert(record.key, parsed.into_entry(sharing));
            }
        }
        if !page.more {
            break;
        }
    }
    cache.reset(objects, at);
    // Reads have to wait until the cache has caught up with what was current when it was filled.
    let mut watch = store.watch(keys::PREFIX, Revision(at.0 + 1)).await?;
    let current = store.revision().await?;
    let mut reached = at;
    if at < current {
        let mut news = watch.next().await?;
        while news.reached < current {
            // The store reads the next events while these are parsed: first of all it is asked.
            let (next, _) = join(watch.next(), async { apply(cache, &news, sharing) }).await;
            news = next?;
        }
        reached = apply(cache, &news, sharing);
    }
    cache.publish(reached);
    Ok(())
}

/// Reads the current state page by page while a watch delivers the changes made meanwhile. Neither
/// needs old history, so others may compact freely. Watches of clients that were open before cannot
/// be resumed.
async fn fill_from_now(
    cache: &Cache,
    store: &dyn Store,
    sharing: &mut Sharing,
) -> Result<(), ReadError> {
    let from = store.revision().await?;
    let shown = cache.revision();
    if from < shown {
        // This is another store, or one that lost revisions it had confirmed; an operator has to
        // look at it. We never show a revision older than one already shown: watchers would ignore
        // the new events whose numbers they have already seen.
        return Err(ReadError::Future { asked: shown, current: from });
    }
    let mut watch = store.watch(keys::PREFIX, Revision(from.0 + 1)).await?;
    let mut filling = Filling { reached: from, ..Filling::default() };
    let (mut after, mut wanted) = (None, from);
    loop {
        let list = List { prefix: keys::PREFIX.into(), at: None, after, limit: PAGE_RECORDS_MAX };
        let mut listing = store.list(list);
        let page = loop {
            tokio::select! {
                biased;
                page = &mut listing => break page?,
                // The watch is read during the listing, so that it does not fall behind the kept
                // history.
                news = watch.next() => filling.apply(&news?, sharing),
            }
        };
        after = page.records.last().map(|record| Arc::clone(&record.key));
        wanted = wanted.max(page.revision);
        filling.add(page.records, sharing);
        if !page.more {
            break;
        }
    }
    // Reads have to wait until the objects of all pages are brought to one revision.
    while filling.reached < wanted {
        filling.apply(&watch.next().await?, sharing);
    }
    let Filling { objects, reached, .. } = filling;
    cache.reset(objects, reached);
    cache.publish(reached);
    Ok(())
}

/// Objects merged from pages that were read one after the other and from a watch that started
/// before the first page. Of each object, the newest version wins.
#[derive(Debug, Default)]
struct Filling {
    objects: Objects,
    /// When the watch reported the deletion of a key. A page that was read before may still contain
    /// it.
    deleted: BTreeMap<Key, Revision>,
    /// The revision up to which the watch has reported.
    reached: Revision,
}

impl Filling {
    fn add(&mut self, records: Vec<Record>, sharing: &mut Sharing) {
        let all = spread(&records, |record| parsed(record, None, None));
        for (record, parsed) in records.into_iter().zip(all) {
            let known = self.objects.get(&record.key).map(|entry| entry.version.revision());
            let known = known.max(self.deleted.get(&record.key).map(|at| at.0));
            if known.is_some_and(|known| known >= record.modified.0) {
                continue;
            }
            if let Some(parsed) = parsed {
                self.objects.insert(record.key, parsed.into_entry(sharing));
            }
        }
    }

    fn apply(&mut self, news: &WatchProgress, sharing: &mut Sharing) {
        self.reached = self.reached.max(news.reached);
        for event in &news.events {
            let known = self.objects.get(&event.key).map(|entry| entry.version.revision());
            // A page that was read later already contains this change.
            if known.is_some_and(|known| known > event.revision.0) {
                continue;
            }
            let version = ResourceVersion::of_event(event.revision.0, event.position);
            let now = event.now.as_ref();
            match now.map(|record| parsed(record, Some(version), None)) {
                Some(Some(parsed)) => {
                    self.objects.insert(event.key.clone(), parsed.into_entry(sharing));
                }
                // The key is not an object's.
                Some(None) => (),
                None => {
                    self.objects.remove(&event.key);
                    self.deleted.insert(event.key.clone(), event.revision);
                }
            }
        }
    }
}

/// Reads the watch until it breaks.
async fn read(
    cache: &Cache,
    store: &dyn Store,
    (sharing, retry): (&mut Sharing, &mut Retry),
) -> Result<(), ReadError> {
    let mut watch = store.watch(keys::PREFIX, Revision(cache.revision().0 + 1)).await?;
    if store.revision().await? <= cache.revision() {
        // No event may come for a long time. We are up to date, so the watch works.
        retry.worked();
    }
    loop {
        let news = watch.next().await?;
        retry.worked();
        cache.publish(apply(cache, &news, sharing));
    }
}

/// Applies a message of the watch. Returns the revision that the cache is then at.
fn apply(cache: &Cache, news: &WatchProgress, sharing: &mut Sharing) -> Revision {
    let events = news.events.iter().map(|event| (event, cache.get(&event.key)));
    let events: Vec<(&store::Event, Option<Arc<Entry>>)> = events.collect();
    let changes = spread(&events, |(event, known)| change(event, known.as_deref()));
    let changes = changes.into_iter().flatten();
    let changes = changes.map(|(key, change)| (key, change.into_change(sharing))).collect();
    cache.apply(changes, news.reached);
    news.reached
}

/// A change of an object that does not share anything with others yet.
struct ParsedChange {
    version: ResourceVersion,
    now: Option<Parsed>,
}

impl ParsedChange {
    fn into_change(self, sharing: &mut Sharing) -> Change {
        let now = self.now.map(|parsed| parsed.into_entry(sharing));
        Change { version: self.version, now }
    }
}

/// What an event changes, and of which key; nothing where that is no object.
fn change(event: &store::Event, known: Option<&Entry>) -> Option<(Key, ParsedChange)> {
    keys::kind_of(&event.key)?;
    let version = ResourceVersion::of_event(event.revision.0, event.position);
    let now = match &event.now {
        Some(record) => Some(parsed(record, Some(version), known)?),
        None => None,
    };
    Some((Arc::clone(&event.key), ParsedChange { version, now }))
}

#[cfg(test)]
mod tests {
    use api::{KindId, ObjectKey};

    use super::*;
    use crate::cache::PastEvent;
    use crate::encoding::encode;
    use serde_json::json;

    fn record(name: &str, modified: u64) -> Record {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "n" }, "data": { "at": modified.to_string() },
        });
        Record {
            key: keys::object(KindId::ConfigMap, &ObjectKey::new("n", name)),
            value: encode(&object),
            created: Revision(modified),
            modified: Revision(modified),
            position: 0,
        }
    }

    fn event(name: &str, at: u64, is_there: bool) -> store::Event {
        let there = record(name, at);
        store::Event {
            revision: Revision(at),
            position: 0,
            key: there.key.clone(),
            now: is_there.then(|| there.clone()),
        }
    }

    fn news(events: &[store::Event]) -> WatchProgress {
        let reached = events.last().map_or(Revision::default(), |event| event.revision);
        WatchProgress { events: events.to_vec(), reached }
    }

    fn shown(filling: &Filling) -> Vec<(String, u64)> {
        let entries = filling.objects.values();
        entries.map(|entry| (entry.key.name.clone(), entry.version.revision())).collect()
    }

    #[test]
    fn of_pages_and_events_the_newest_counts_whichever_comes_first() {
        let (mut filling, sharing) = (Filling::default(), &mut Sharing::default());
        // The watch is ahead of a page that is read later.
        filling.apply(&news(&[event("changed", 5, true), event("gone", 5, false)]), sharing);
        filling.add(vec![record("changed", 3), record("gone", 3), record("same", 2)], sharing);
        assert_eq!(shown(&filling), [("changed".to_owned(), 5), ("same".to_owned(), 2)]);
        // A page is ahead of the watch.
        filling.add(vec![record("again", 9), record("gone", 8)], sharing);
        let events = [event("again", 6, true), event("again", 7, false), event("gone", 8, true)];
        filling.apply(&news(&events), sharing);
        let names = shown(&filling);
        let want = [("again", 9), ("changed", 5), ("gone", 8), ("same", 2)];
        assert_eq!(names, want.map(|(name, at)| (name.to_owned(), at)));
        assert_eq!(filling.reached, Revision(8));
    }

    /// No store tells what a delete has deleted: the cache knows.
    #[test]
    fn a_delete_is_told_with_the_last_state_under_its_own_version() {
        let cache = Cache::default();
        apply(&cache, &news(&[event("a", 3, true), event("b", 3, true)]), &mut Sharing::default());
        let there = record("a", 3);
        assert!(cache.get(&there.key).is_some());
        apply(&cache, &news(&[event("a", 5, false)]), &mut Sharing::default());
        assert!(cache.get(&there.key).is_none());
        let deleted = |past: PastEvent<'_>| {
            assert!(past.event.now().is_none());
            Some((past.event.before().unwrap().key.name.clone(), past.wire()))
        };
        let news = cache.news_after((ResourceVersion::after(4), 10), deleted).unwrap().news;
        let [(name, last)] = &*news else { panic!("{news:?}") };
        assert_eq!(name, "a");
        let last: serde_json::Value = serde_json::from_slice(last).unwrap();
        let version = ResourceVersion::of_event(5, 0).to_string();
        assert_eq!(last["metadata"]["resourceVersion"], version);
        assert_eq!(last["data"]["at"], "3");
    }

    /// Only the metadata's version is replaced, whatever else in the object looks like it.
    #[test]
    fn the_last_state_of_what_was_deleted_is_otherwise_as_it_was() {
        for data in [
            json!({ "at": "3" }),
            json!({ "text": "\"resourceVersion\":\"3072\"" }),
            json!({ "resourceVersion": ResourceVersion::of_event(3, 0).to_string() }),
        ] {
            let cache = Cache::default();
            let mut made = event("a", 3, true);
            let mut object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": "a", "namespace": "n", "annotations": data.clone() },
                "data": data,
            });
            if let Some(record) = &mut made.now {
                record.value = encode(&object);
            }
            apply(&cache, &news(&[made]), &mut Sharing::default());
            apply(&cache, &news(&[event("a", 5, false)]), &mut Sharing::default());
            let told = |past: PastEvent<'_>| Some(past.wire());
            let told = cache.news_after((ResourceVersion::after(4), 10), told).unwrap().news;
            let last: serde_json::Value = serde_json::from_slice(&told[0]).unwrap();
            let version = ResourceVersion::of_event(5, 0).to_string();
            object["metadata"]["resourceVersion"] = version.into();
            assert_eq!(last, object);
        }
    }

    #[test]
    fn nothing_that_can_be_logged_shows_what_an_object_holds() {
        const SECRET: &str = "aHVudGVyMi0y";
        let mut event = event("a", 3, true);
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "a", "namespace": "n", "labels": { "l": SECRET } },
            "data": { "password": SECRET },
        });
        let key = keys::object(KindId::Secret, &ObjectKey::new("n", "a"));
        let there = Record { key: key.clone(), value: encode(&object), ..record("a", 3) };
        (event.key, event.now) = (key.clone(), Some(there));
        let cache = Cache::default();
        apply(&cache, &news(&[event.clone()]), &mut Sharing::default());
        let there = event.now.take();
        event.revision = Revision(4);
        apply(&cache, &news(&[event.clone()]), &mut Sharing::default());
        (event.revision, event.now) = (Revision(5), there);
        apply(&cache, &news(&[event]), &mut Sharing::default());
        let shown = |past: PastEvent<'_>| Some(format!("{past:?} {past:#?}"));
        let events = cache.news_after((ResourceVersion::default(), 10), shown).unwrap();
        // Debug output may show bytes as text or as a list of numbers.
        let numbers = format!("{:?}", SECRET.as_bytes());
        for shown in [format!("{cache:?} {events:?}"), format!("{cache:#?} {events:#?}")] {
            assert!(!shown.contains(SECRET) && !shown.contains(&numbers), "{shown}");
            assert!(shown.contains("/n/a"), "what it is about is shown: {shown}");
        }
    }

    /// Watchers would ignore new events whose version numbers they have already seen.
    #[tokio::test]
    async fn the_cache_does_not_go_back_where_the_store_did() {
        let (cache, store) = (Cache::default(), store::Simulated::new());
        let (shown, now) = (Revision(2), Revision(1));
        cache.publish(shown);
        let put = store::Group::default().put("/a", store::Expectation::Any, "x");
        store.commit(vec![put.clone()]).await;
        let filled = fill_from_now(&cache, &store, &mut Sharing::default()).await;
        assert_eq!(filled, Err(ReadError::Future { asked: shown, current: now }));
        assert_eq!(cache.revision(), shown);
        store.commit(vec![put.clone(), put]).await;
        assert_eq!(fill_from_now(&cache, &store, &mut Sharing::default()).await, Ok(()));
        assert!(cache.revision() > shown, "once the store has come further it is filled anew");
    }

    #[test]
    fn what_is_no_object_is_no_change() {
        let mut lock = event("a", 5, false);
        lock.key = keys::leader("scheduler");
        assert!(change(&lock, None).is_none());
    }
}
