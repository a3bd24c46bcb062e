//! Laws of reads.

use crate::conformance::{after, delete, key, list_all, listed, put, read, revision};
use crate::{List, PAGE_RECORDS_MAX, ReadError, Revision, Store};

/// This holds for each kind of read, immediately.
pub async fn a_read_sees_every_answered_write(store: &dyn Store) {
    for round in 0..50 {
        let value = round.to_string();
        let written = put(store, "/law/a", &value).await;
        assert_eq!(revision(store).await, written);
        assert_eq!(read(store, "/law/a").await.value, value);
        let page = list_all(store, "/law/", None, 10).await;
        assert_eq!((page.revision, &page.records[0].value[..]), (written, value.as_bytes()));
    }
}

/// In the order of bytes, whatever the size of pages.
pub async fn list_is_sorted_paged_and_bounded_by_the_prefix(store: &dyn Store) {
    for name in ["/law/b", "/law/a/2", "/law/a/10", "/law/a", "/law/ä", "/lax", "/law", "/law/a/1"]
    {
        put(store, name, "x").await;
    }
    let keys = ["/law/a", "/law/a/1", "/law/a/10", "/law/a/2", "/law/b", "/law/ä"];
    let now = revision(store).await;
    for (limit, at) in [(1, None), (2, None), (3, Some(now)), (6, None), (PAGE_RECORDS_MAX, None)] {
        let page = list_all(store, "/law/", at, limit).await;
        assert_eq!(page.revision, now);
        let found: Vec<&str> = page.records.iter().map(|record| &*record.key).collect();
        assert_eq!(found, keys, "in pages of {limit}");
    }
    let list = |after: &str, limit| List {
        prefix: key("/law/"),
        at: None,
        after: Some(key(after)),
        limit,
    };
    let page = store.list(list("/law/a/1", 2)).await.expect("the list can be read");
    let found: Vec<&str> = page.records.iter().map(|record| &*record.key).collect();
    assert_eq!((found, page.more), (vec!["/law/a/10", "/law/a/2"], true));
    let page = store.list(list("/law/b", 1)).await.expect("the list can be read");
    assert!(!page.more, "nothing follows after the last");
    let page = store.list(list("/a", 100)).await.expect("the list can be read");
    assert_eq!(page.records.len(), keys.len(), "after something before the prefix");
    let page = store.list(list("/law/b", 0)).await.expect("the list can be read");
    assert_eq!((page.records.len(), page.more), (0, true), "a page of nothing");
}

/// A list at an old revision equals the list that was current then, in pages of any size.
pub async fn a_list_at_an_old_revision_shows_what_was(store: &dyn Store) {
    put(store, "/other", "x").await;
    let mut history: Vec<(Revision, Vec<String>)> = Vec::new();
    for step in 0..60_u32 {
        // Keys are created, changed, deleted and created again, some of them often.
        let name = format!("/law/{}", step * step % 11);
        let revision = match step % 4 {
            3 => delete(store, &name).await,
            _ => put(store, &name, &step.to_string()).await,
        };
        history.push((revision, listed(store, "/law/", None).await));
    }
    put(store, "/law/zzz", "x").await;
    for (at, then) in history {
        for limit in [1, 3, 100] {
            let page = list_all(store, "/law/", Some(at), limit).await;
            let found: Vec<String> = page.records.iter().map(super::show).collect();
            assert_eq!((page.revision, &found), (at, &then), "in pages of {limit}");
            assert!(page.records.iter().all(|record| record.created <= record.modified));
            assert!(page.records.iter().all(|record| record.modified <= at));
        }
    }
}

/// It is neither awaited nor treated as the current one.
pub async fn a_future_revision_is_answered_as_such(store: &dyn Store) {
    let current = put(store, "/law/a", "x").await;
    let asked = after(current);
    let list = List { prefix: key("/law/"), at: Some(asked), after: None, limit: 10 };
    let future = |asked| ReadError::Future { asked, current };
    assert_eq!(store.list(list).await, Err(future(asked)));
    let asked = after(after(current));
    assert_eq!(store.watch("/law/", asked).await.err(), Some(future(asked)));
}
