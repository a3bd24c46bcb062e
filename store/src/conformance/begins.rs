//! Laws of a store that takes over from a lost one.

use crate::conformance::{
    after, commit_done, commit_one, delete, listed, next, put, read, revision, watch,
};
use crate::{BeginError, Expectation, Group, List, Outcome, ReadError, Revision, Store};

/// A revision beyond what any store reaches in a test: a restored store begins there.
const AHEAD: u64 = 1 << 40;

fn is_compacted<T>(answer: Result<T, ReadError>) -> bool {
    matches!(answer, Err(ReadError::Compacted { .. }))
}

/// Whether neither a list nor a watch shows the earlier history.
async fn is_forgotten(store: &dyn Store, asked: Revision) -> bool {
    let list = List { prefix: "/law/".into(), at: Some(asked), after: None, limit: 10 };
    is_compacted(store.list(list).await) && is_compacted(store.watch("/law/", asked).await)
}

/// A store that held something and is empty now begins after a far higher revision. Returns that
/// one and revisions of the earlier history.
async fn begin(store: &dyn Store) -> (Revision, Vec<Revision>) {
    let old = put(store, "/law/a", "x").await;
    let gone = delete(store, "/law/a").await;
    let begun = Revision(gone.0 + AHEAD);
    store.begin_after(begun).await.expect("it is empty");
    (begun, vec![old, gone, after(gone), Revision(begun.0 - 1)])
}

/// The earlier history is gone as if it had been compacted.
pub async fn what_was_before_a_beginning_is_forgotten(store: &dyn Store) {
    let mut open = watch(store, "/law/", after(revision(store).await)).await;
    put(store, "/law/other", "x").await;
    next(&mut open).await;
    delete(store, "/law/other").await;
    next(&mut open).await;
    let (_, before) = begin(store).await;
    for asked in before {
        assert!(is_forgotten(store, asked).await, "{asked} is of before");
    }
    put(store, "/law/a", "one").await;
    let mut end = open.next().await;
    // What it had not returned yet may come first.
    while end.is_ok() {
        end = open.next().await;
    }
    assert!(is_compacted(end), "a watch that was open ends");
}

/// New writes have greater revisions and are seen from the beginning on.
pub async fn what_follows_after_a_beginning_is_after_it(store: &dyn Store) {
    let (begun, _) = begin(store).await;
    let oldest = store.oldest().await.expect("the store works");
    assert!(begun <= oldest && oldest <= revision(store).await);
    let mut watch = watch(store, "/law/", after(oldest)).await;
    let first = put(store, "/law/a", "one").await;
    assert!(first > begun);
    let events = next(&mut watch).await;
    assert_eq!((events.len(), events[0].revision), (1, first));
    assert_eq!(events[0].now, Some(read(store, "/law/a").await));
    assert_eq!(read(store, "/law/a").await.created, first);
}

/// Reads, writes and expectations agree about revisions afterwards.
pub async fn a_store_that_has_begun_counts_on(store: &dyn Store) {
    let begun = Revision(revision(store).await.0 + AHEAD);
    store.begin_after(begun).await.expect("it is empty");
    let one = put(store, "/law/a", "one").await;
    let swap = |expect| Group::default().put("/law/a", expect, "two");
    let refused = commit_one(store, swap(Expectation::Modified(after(one)))).await;
    let Outcome::Refused { conflicts } = refused else { panic!("{refused:?}") };
    assert_eq!(conflicts[0].found, Some(read(store, "/law/a").await));
    let refused = commit_one(store, swap(Expectation::Modified(Revision(1)))).await;
    assert!(matches!(refused, Outcome::Refused { .. }), "{refused:?}");
    let two = commit_done(store, swap(Expectation::Modified(one))).await;
    let three = commit_done(store, swap(Expectation::Created(one))).await;
    assert!(one < two && two < three);
    assert_eq!(listed(store, "/law/", Some(one)).await, ["/law/a=one"]);
    assert_eq!(listed(store, "/law/", Some(three)).await, ["/law/a=two"]);
}

/// Future revisions, and compacted ones of the new history, are reported as usual.
pub async fn a_store_that_has_begun_keeps_its_bounds(store: &dyn Store) {
    let begun = Revision(revision(store).await.0 + AHEAD);
    store.begin_after(begun).await.expect("it is empty");
    let one = put(store, "/law/a", "one").await;
    let two = put(store, "/law/a", "two").await;
    let current = revision(store).await;
    let asked = after(after(current));
    let future = store.watch("/law/", asked).await.err();
    assert_eq!(future, Some(ReadError::Future { asked, current }));
    store.compact(two).await.expect("the store works");
    assert_eq!(store.oldest().await, Ok(two));
    assert!(is_forgotten(store, one).await);
}

/// A store that holds something has a history of its own.
pub async fn a_store_that_holds_something_does_not_begin_anew(store: &dyn Store) {
    let begun = Revision(revision(store).await.0 + AHEAD);
    store.begin_after(begun).await.expect("it is empty");
    store.begin_after(begun).await.expect("twice does no harm");
    let one = put(store, "/law/a", "x").await;
    assert!(one.0 < begun.0 + AHEAD);
    let again = store.begin_after(Revision(begun.0 + AHEAD)).await;
    assert_eq!(again, Err(BeginError::NotEmpty));
    assert_eq!(read(store, "/law/a").await.modified, one);
    assert!(put(store, "/law/a", "y").await.0 < begun.0 + AHEAD);
}
