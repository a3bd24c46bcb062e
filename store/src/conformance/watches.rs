//! Laws of watches and of compaction.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use futures_util::future::join;

use crate::conformance::{
    after, commit_done, delete, events_until, key, list_all, listed, news_until, next, next_events,
    put, read, revision, show, show_event, watch,
};
use crate::{Event, Expectation, Group, Key, List, ReadError, Record, Revision, Store, Watch};

/// Makes some history under `/law/`: single writes, several groups in one commit, several writes in
/// a group, deletes. Returns the revision before it.
async fn make_history(store: &dyn Store) -> Revision {
    let start = put(store, "/law/start", "x").await;
    for step in 0..12_u32 {
        let value = step.to_string();
        put(store, &format!("/law/{}", step % 3), &value).await;
        let groups = (0..4).map(|index| {
            Group::default()
                .put(format!("/law/many/{index}/{}", step % 2), Expectation::Any, value.clone())
                .delete(format!("/law/many/{index}/{}", (step + 1) % 2), Expectation::Any)
        });
        assert!(store.commit(groups.collect()).await.iter().all(crate::Outcome::is_done));
        delete(store, &format!("/law/{}", (step + 1) % 3)).await;
    }
    start
}

/// The events agree with the outcomes of the commits.
pub async fn a_watch_replays_exactly_what_came_after(store: &dyn Store) {
    put(store, "/law/before", "x").await;
    let a = put(store, "/law/a", "one").await;
    let b = put(store, "/law/b", "two").await;
    let c = delete(store, "/law/a").await;
    let d = put(store, "/law/a", "three").await;
    let events = events_until(store, "/law/", a, d).await;
    let expected = [
        format!("{a} /law/a: one"),
        format!("{b} /law/b: two"),
        format!("{c} /law/a: nothing"),
        format!("{d} /law/a: three"),
    ];
    assert_eq!(events.iter().map(show_event).collect::<Vec<_>>(), expected);
    assert_eq!(events[3].now, Some(read(store, "/law/a").await));
}

/// Whole records as each change left them, whatever has become of them since.
pub async fn a_watch_says_what_is_there_since(store: &dyn Store) {
    put(store, "/law/a", "one").await;
    let changed = put(store, "/law/a", "two").await;
    let old = read(store, "/law/a").await;
    for index in 0..20 {
        put(store, &format!("/law/other/{index}"), "x").await;
    }
    put(store, "/law/a", "three").await;
    let new = read(store, "/law/a").await;
    let gone = delete(store, "/law/a").await;
    let events = events_until(store, "/law/a", changed, gone).await;
    let told: Vec<_> = events.into_iter().map(|event| event.now).collect();
    assert_eq!(told, [Some(old), Some(new), None]);
}

/// Filtered events leave gaps in the revisions and do not renumber the rest.
pub async fn a_watch_keeps_to_its_prefix_and_keeps_revisions(store: &dyn Store) {
    let start = make_history(store).await;
    let end = put(store, "/law/many/end", "x").await;
    let all = events_until(store, "/law/", start, end).await;
    let some = events_until(store, "/law/many/", start, end).await;
    let expected: Vec<Event> =
        all.into_iter().filter(|event| event.key.starts_with("/law/many/")).collect();
    assert_eq!(some, expected);
}

/// It starts at the revision after the current one. Changes outside the prefix do not end the wait.
pub async fn a_watch_waits_for_what_comes(store: &dyn Store) {
    let start = put(store, "/law/a", "x").await;
    let mut watch = watch(store, "/law/", after(start)).await;
    let has_come = |watch: &mut Box<dyn Watch>| next_events(&mut **watch).now_or_never().is_some();
    assert!(!has_come(&mut watch), "nothing has come");
    put(store, "/elsewhere", "x").await;
    assert!(!has_come(&mut watch), "nothing has come under the prefix");
    let (events, revision) = join(next(&mut watch), put(store, "/law/b", "y")).await;
    let expected = [format!("{revision} /law/b: y")];
    assert_eq!(events.iter().map(show_event).collect::<Vec<_>>(), expected);
}

/// Even if nothing happens under its prefix, and whether it was open before or begins later.
pub async fn a_watch_reaches_whatever_revision_was_told(store: &dyn Store) {
    let start = put(store, "/law/a", "x").await;
    let mut first = watch(store, "/law/a", after(start)).await;
    let mut told = start;
    for round in 0..3 {
        put(store, "/elsewhere", &round.to_string()).await;
        let mut late = watch(store, "/law/a", after(told)).await;
        told = match round {
            0 => list_all(store, "/law/", None, 10).await.revision,
            _ => revision(store).await,
        };
        assert_eq!(news_until(&mut *first, told).await, []);
        assert_eq!(news_until(&mut *late, told).await, []);
    }
    let changed = put(store, "/law/a", "y").await;
    let events = news_until(&mut *first, changed).await;
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [changed]);
}

/// Including a watch that follows live changes and is dropped and opened again after each batch.
pub async fn a_watch_cut_after_any_transaction_resumes_without_loss_or_repeat(store: &dyn Store) {
    let start = make_history(store).await;
    let end = revision(store).await;
    let all = events_until(store, "/law/", after(start), end).await;
    for cut in start.0..end.0 {
        let cut = Revision(cut);
        let resumed = events_until(store, "/law/", after(cut), end).await;
        let rest: Vec<Event> = all.iter().filter(|event| event.revision > cut).cloned().collect();
        assert_eq!(resumed, rest, "resumed after revision {cut}");
    }
    let (writes, reads) = (20, async {
        let mut seen = Vec::new();
        let mut last = end;
        while seen.len() < 20 {
            let mut watch = watch(store, "/law/live/", after(last)).await;
            seen.extend(next(&mut watch).await);
            last = seen.last().map_or(last, |event: &Event| event.revision);
        }
        seen.iter().map(|event| event.key.to_string()).collect::<Vec<_>>()
    });
    let write = async {
        for index in 0..writes {
            put(store, &format!("/law/live/{index}"), "x").await;
        }
    };
    let (seen, ()) = join(reads, write).await;
    let written: Vec<String> = (0..writes).map(|index| format!("/law/live/{index}")).collect();
    assert_eq!(seen, written);
}

/// A list plus all events after it equals the later list.
pub async fn a_list_and_a_watch_from_its_revision_join_without_gap(store: &dyn Store) {
    let write = async {
        for step in 0..100_u32 {
            put(store, &format!("/law/{}", step % 7), &step.to_string()).await;
            delete(store, &format!("/law/{}", (step * 3) % 7)).await;
        }
        put(store, "/law/end", "x").await
    };
    let follow = async {
        let mut joined = Vec::new();
        for _ in 0..10 {
            tokio::task::yield_now().await;
            let page = list_all(store, "/law/", None, 1000).await;
            let mut view: BTreeMap<Key, Record> =
                page.records.into_iter().map(|record| (record.key.clone(), record)).collect();
            let mut watch = watch(store, "/law/", after(page.revision)).await;
            while !view.contains_key("/law/end") {
                for Event { key, now, .. } in next(&mut watch).await {
                    match now {
                        Some(record) => drop(view.insert(key, record)),
                        None => drop(view.remove(&key)),
                    }
                }
            }
            joined.push(view.values().map(show).collect::<Vec<_>>());
        }
        joined
    };
    let (joined, _) = join(follow, write).await;
    let end = listed(store, "/law/", None).await;
    assert!(joined.iter().all(|view| *view == end), "{joined:?} should all be {end:?}");
}

/// More happens while it is not read than any buffer holds.
pub async fn a_slow_watcher_gets_everything_once_and_in_order(store: &dyn Store) {
    let start = put(store, "/law/a", "0").await;
    let mut watch = watch(store, "/law/", after(start)).await;
    for round in 0..30 {
        let groups = (0..100).map(|index| {
            let value = (round * 100 + index).to_string();
            Group::default().put("/law/a", Expectation::Any, value)
        });
        assert!(store.commit(groups.collect()).await.iter().all(crate::Outcome::is_done));
    }
    let mut events: Vec<Event> = Vec::new();
    while events.len() < 3000 {
        events.extend(next(&mut watch).await);
    }
    let mut last = start;
    for (index, event) in events.iter().enumerate() {
        assert!(event.revision > last, "revisions grow");
        last = event.revision;
        let value = event.now.as_ref().map(|record| record.value.clone());
        assert_eq!(value.as_deref(), Some(index.to_string().as_bytes()));
    }
    assert_eq!(last, revision(store).await);
}

async fn assert_compacted(store: &dyn Store, asked: Revision, oldest: Revision) {
    assert_eq!(store.oldest().await, Ok(oldest));
    let list = List { prefix: key("/law/"), at: Some(asked), after: None, limit: 10 };
    let compacted = ReadError::Compacted { asked, oldest };
    assert_eq!(store.list(list).await, Err(compacted.clone()));
    assert_eq!(store.watch("/law/", asked).await.err(), Some(compacted));
}

/// The oldest revision exists: a list at it works, and a watch after it shows what followed.
pub async fn the_oldest_can_be_read_at_and_followed_from(store: &dyn Store) {
    let (oldest, current) = (store.oldest().await.expect("it works"), revision(store).await);
    assert!(oldest <= current, "the oldest is {oldest}, the current one {current}");
    listed(store, "/law/", Some(oldest)).await;
    let now = listed(store, "/law/", None).await;
    assert_eq!(listed(store, "/law/", Some(current)).await, now);
    let end = put(store, "/law/next", &current.to_string()).await;
    let events = events_until(store, "/law/", after(oldest), end).await;
    assert_eq!(events.last().map(|event| event.revision), Some(end));
    let last = events_until(store, "/law/", after(current), end).await;
    assert_eq!(last.len(), 1, "only what came");
    assert_eq!(listed(store, "/law/", Some(current)).await, now, "it is kept");
}

/// After any compaction.
pub async fn the_oldest_is_never_beyond_the_current_revision(store: &dyn Store) {
    make_history(store).await;
    the_oldest_can_be_read_at_and_followed_from(store).await;
    for behind in [2, 1, 0] {
        let current = revision(store).await;
        store.compact(Revision(current.0 - behind)).await.expect("the store works");
        the_oldest_can_be_read_at_and_followed_from(store).await;
    }
    store.compact(Revision(revision(store).await.0 + 1000)).await.expect("the store works");
    the_oldest_can_be_read_at_and_followed_from(store).await;
}

/// What is kept can be read and watched as before.
pub async fn compaction_forgets_history_and_keeps_current_values(store: &dyn Store) {
    put(store, "/law/old", "still").await;
    let start = make_history(store).await;
    let keep_from = revision(store).await;
    let then = listed(store, "/law/", None).await;
    let end = put(store, "/law/new", "x").await;
    let tail = events_until(store, "/law/", after(keep_from), end).await;
    let now = listed(store, "/law/", None).await;

    store.compact(keep_from).await.expect("the store works");
    assert_compacted(store, start, keep_from).await;
    assert_compacted(store, Revision(keep_from.0 - 1), keep_from).await;
    assert_eq!(listed(store, "/law/", Some(keep_from)).await, then);
    assert_eq!(listed(store, "/law/", None).await, now);
    assert_eq!(events_until(store, "/law/", after(keep_from), end).await, tail);
}

/// And revisions continue after it.
pub async fn compaction_never_goes_back_nor_past_the_current_revision(store: &dyn Store) {
    let start = make_history(store).await;
    let end = revision(store).await;
    let now = listed(store, "/law/", None).await;
    store.compact(end).await.expect("the store works");
    store.compact(start).await.expect("the store works");
    assert_eq!(store.oldest().await, Ok(end), "it never goes back");
    store.compact(Revision(end.0 + 1000)).await.expect("the store works");
    assert_eq!(store.oldest().await, Ok(end), "the future counts as the current revision");
    assert_eq!(listed(store, "/law/", None).await, now);
    let next = commit_done(store, Group::default().delete("/law/start", Expectation::Any)).await;
    assert_eq!(next, after(end));
}
