//! The laws that every store must satisfy, as functions that are run against each of them.
//!
//! A law assumes that nobody else writes to its store and that the store is empty, but not that it
//! is new. It waits for events and never for a time, so it runs on the real clock (etcd) and, much
//! faster, on a paused one.

mod begins;
mod leases;
mod reads;
mod watches;
mod writes;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

pub use self::begins::*;
pub use self::leases::*;
pub use self::reads::*;
pub use self::watches::*;
pub use self::writes::*;
use crate::{
    Event, Expectation, Group, Key, List, Outcome, Page, ReadError, Record, Revision, Store, Watch,
    WatchProgress,
};

/// How long a law waits for something that must happen. Only a broken store takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store under test, with what must exist as long as it does (a directory, tasks, a process).
pub struct Fixture {
    /// The store.
    pub store: Arc<dyn Store>,
    _keep: Box<dyn Any>,
}

impl Fixture {
    /// Keeps `keep` until the test is over.
    pub fn new(store: impl Store, keep: impl Any) -> Self {
        Self { store: Arc::new(store), _keep: Box::new(keep) }
    }
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

/// Makes a test of each law: `conformance_suite!([tokio::test(start_paused = true)] fixture());`,
/// where the expression is a future of a [`Fixture`].
#[macro_export]
macro_rules! conformance_suite {
    (@all $what:ident $arguments:tt) => {
        $crate::conformance_suite! { @$what $arguments;
            create_then_get,
            a_record_keeps_its_position,
            create_twice_is_refused_with_what_is_there,
            each_expectation_holds_or_refuses,
            a_guard_on_another_key_holds_or_refuses,
            a_refused_group_changes_nothing_and_leaves_its_neighbours_alone,
            groups_committed_together_have_places_of_their_own,
            a_group_sees_what_those_before_it_did,
            a_key_changes_at_most_once_in_a_transaction,
            a_key_created_anew_has_a_new_created_revision,
            a_delete_of_nothing_makes_no_revision,
            a_group_that_only_looks_holds_or_refuses,
            a_value_of_one_mebibyte_works_and_a_larger_one_is_invalid,
            what_is_over_a_bound_is_invalid,
            of_two_writers_with_one_revision_one_wins,
            of_two_groups_that_guard_each_others_key_one_happens,
            a_thousand_concurrent_increments_lose_none,
            a_read_sees_every_answered_write,
            list_is_sorted_paged_and_bounded_by_the_prefix,
            a_list_at_an_old_revision_shows_what_was,
            a_future_revision_is_answered_as_such,
            a_watch_replays_exactly_what_came_after,
            a_watch_says_what_is_there_since,
            a_watch_keeps_to_its_prefix_and_keeps_revisions,
            a_watch_waits_for_what_comes,
            a_watch_reaches_whatever_revision_was_told,
            a_watch_cut_after_any_transaction_resumes_without_loss_or_repeat,
            a_list_and_a_watch_from_its_revision_join_without_gap,
            a_slow_watcher_gets_everything_once_and_in_order,
            compaction_forgets_history_and_keeps_current_values,
            compaction_never_goes_back_nor_past_the_current_revision,
            the_oldest_is_never_beyond_the_current_revision,
            a_node_lease_that_is_renewed_lives_and_one_that_is_not_goes,
            a_revoked_node_lease_takes_its_keys_along,
            a_put_without_a_node_lease_takes_the_key_off_it,
            a_put_under_another_node_lease_moves_the_key,
            what_was_before_a_beginning_is_forgotten,
            what_follows_after_a_beginning_is_after_it,
            a_store_that_has_begun_counts_on,
            a_store_that_has_begun_keeps_its_bounds,
            a_store_that_holds_something_does_not_begin_anew,
        }
    };
    (@list (); $($law:ident,)+) => {
        vec![$((stringify!($law), |store| $crate::conformance::$law(store).boxed_local())),+]
    };
    (@tests ($test:tt $new_fixture:expr); $($law:ident,)+) => {$(
        # $test
        async fn $law() {
            let fixture = $new_fixture.await;
            $crate::conformance::$law(&*fixture.store).await;
        }
    )+};
    ($test:tt $new_fixture:expr) => {
        $crate::conformance_suite! { @all tests ($test $new_fixture) }
    };
}

/// A law with its name.
pub type Law = (&'static str, for<'a> fn(&'a dyn Store) -> LocalBoxFuture<'a, ()>);

/// All laws, for a store that is expensive to create and is tested with several laws in turn.
pub fn laws() -> Vec<Law> {
    conformance_suite!(@all list ())
}

/// Commits one group.
async fn commit_one(store: &dyn Store, group: Group) -> Outcome {
    let mut outcomes = store.commit(vec![group]).await;
    assert_eq!(outcomes.len(), 1, "one outcome for one group");
    outcomes.remove(0)
}

/// Commits a group that must succeed.
async fn commit_done(store: &dyn Store, group: Group) -> Revision {
    let outcome = commit_one(store, group).await;
    outcome.done().unwrap_or_else(|| panic!("the group should happen: {outcome:?}"))
}

/// Puts a value unconditionally.
async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    commit_done(store, Group::default().put(key, Expectation::Any, value.to_owned())).await
}

/// Deletes a key unconditionally.
async fn delete(store: &dyn Store, key: &str) -> Revision {
    commit_done(store, Group::default().delete(key, Expectation::Any)).await
}

/// Reads a key that must exist.
async fn read(store: &dyn Store, key: &str) -> Record {
    let found = store.get(key).await.expect("the store works");
    found.unwrap_or_else(|| panic!("{key} should be there"))
}

/// Reads a whole list in pages of `limit`, all of one revision.
async fn list_all(store: &dyn Store, prefix: &str, at: Option<Revision>, limit: usize) -> Page {
    let mut list = List { prefix: prefix.into(), at, after: None, limit };
    let mut whole = Page { revision: Revision(0), records: Vec::new(), more: false };
    loop {
        let page = store.list(list.clone()).await.expect("the list can be read");
        assert!(page.records.len() <= limit, "a page is no longer than asked for");
        assert!(!page.more || !page.records.is_empty(), "a page that is not the last has records");
        whole.revision = page.revision;
        whole.records.extend(page.records);
        if !page.more {
            return whole;
        }
        list.at = Some(page.revision);
        list.after = whole.records.last().map(|record| record.key.clone());
    }
}

/// A list as `key=value`.
async fn listed(store: &dyn Store, prefix: &str, at: Option<Revision>) -> Vec<String> {
    list_all(store, prefix, at, 1000).await.records.iter().map(show).collect()
}

fn show(record: &Record) -> String {
    format!("{}={}", record.key, String::from_utf8_lossy(&record.value))
}

/// An event as `revision key: now`.
fn show_event(event: &Event) -> String {
    let now = match &event.now {
        Some(record) => String::from_utf8_lossy(&record.value).into_owned(),
        None => "nothing".to_owned(),
    };
    format!("{} {}: {now}", event.revision, event.key)
}

async fn watch(store: &dyn Store, prefix: &str, from: Revision) -> Box<dyn Watch> {
    store.watch(prefix, from).await.expect("the watch opens")
}

/// The next batch of a watch that must have one.
async fn next(watch: &mut Box<dyn Watch>) -> Vec<Event> {
    tokio::time::timeout(PATIENCE, next_events(&mut **watch))
        .await
        .expect("an event should have come")
        .expect("the watch goes on")
}

/// The next events, skipping progress without events. Cancel-safe.
pub async fn next_events(watch: &mut dyn Watch) -> Result<Vec<Event>, ReadError> {
    loop {
        let WatchProgress { events, .. } = watch.next().await?;
        if !events.is_empty() {
            return Ok(events);
        }
    }
}

/// Reads a watch until it has reached `revision`. Returns its events.
pub async fn news_until(watch: &mut dyn Watch, revision: Revision) -> Vec<Event> {
    let mut told = Vec::new();
    let reading = async {
        loop {
            let news = watch.next().await.expect("the watch goes on");
            told.extend(news.events);
            if news.reached >= revision {
                return;
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    read.unwrap_or_else(|_| panic!("the watch does not come to revision {revision}"));
    told
}

/// All events from `from` until one of revision `until` or later.
async fn events_until(
    store: &dyn Store,
    prefix: &str,
    from: Revision,
    until: Revision,
) -> Vec<Event> {
    let mut watch = watch(store, prefix, from).await;
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.revision < until) {
        let batch = next(&mut watch).await;
        if let (Some(last), Some(first)) = (events.last(), batch.first()) {
            assert!(last.revision < first.revision, "a batch never ends within a transaction");
        }
        events.extend(batch);
    }
    let place = |event: &Event| (event.revision, event.position);
    assert!(
        events.is_sorted_by(|a, b| place(a) < place(b)),
        "events come in order and once: {:?}",
        events.iter().map(place).collect::<Vec<_>>()
    );
    events
}

fn after(revision: Revision) -> Revision {
    Revision(revision.0 + 1)
}

fn key(text: &str) -> Key {
    Key::from(text)
}

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

async fn revision(store: &dyn Store) -> Revision {
    store.revision().await.expect("the store works")
}
