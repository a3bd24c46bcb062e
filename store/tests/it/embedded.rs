//! What only the embedded store has: a file, a queue and a process that ends.

use std::path::Path;
use std::time::Duration;

use base::Tasks;
use futures_util::future::join_all;
use store::{Embedded, Expectation, Group, OpenError, Outcome, ReadError, Revision, Store};

fn open(dir: &Path) -> Result<(Embedded, Tasks), OpenError> {
    let tasks = Tasks::new("store");
    Ok((Embedded::open(dir, &tasks.spawner())?, tasks))
}

async fn close((store, tasks): (Embedded, Tasks)) {
    tasks.stop().await;
    drop(store);
}

fn put(key: &str, value: &str) -> Group {
    Group::default().put(key, Expectation::Any, value.to_owned())
}

fn refusal(dir: &Path) -> String {
    let error = open(dir).expect_err("it should not open");
    error.to_string().replace(&*dir.to_string_lossy(), "DIR")
}

#[tokio::test]
async fn a_store_opens_once_at_a_time_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    assert_eq!(refusal(dir.path()), "DIR/store.redb is in use by another process");
    close(first).await;
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn what_is_not_a_store_does_not_open_and_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    let garbage = "not a database, but somebody's notes ".repeat(200);
    std::fs::write(&file, &garbage).unwrap();
    let refusal = refusal(dir.path());
    assert!(refusal.starts_with("DIR/store.redb is damaged or is not a store: "), "{refusal}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), garbage);
}

#[tokio::test]
async fn a_file_in_the_place_of_the_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data");
    std::fs::write(&file, "").unwrap();
    assert_eq!(refusal(&file), "cannot create the directory DIR");
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    close(open(dir.path()).unwrap()).await;
    let newer = redb::Database::open(dir.path().join("store.redb")).unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let transaction = newer.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(newer);
    assert_eq!(
        refusal(dir.path()),
        "DIR/store.redb has format 2; this version reads formats up to 1"
    );
}

#[tokio::test]
async fn a_new_store_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _tasks) = open(&dir.path().join("made/on/the/way")).unwrap();
    assert_eq!(store.revision().await, Ok(Revision(0)));
    assert_eq!(store.oldest().await, Ok(Revision(0)));
}

#[tokio::test]
async fn commits_that_wait_share_a_transaction() {
    let tasks = Tasks::new("store");
    let store = Embedded::in_memory(&tasks.spawner()).unwrap();
    let commits = (0..1000).map(|index| store.commit(vec![put(&format!("/{index}"), "x")]));
    let outcomes = join_all(commits).await.concat();
    assert!(outcomes.iter().all(Outcome::is_done));
    // Not one: the runtime gives the writer its turn while the thousand queue up.
    assert!(store.revision().await.unwrap() < Revision(20));
}

#[tokio::test]
async fn what_was_asked_before_a_stop_is_done_and_nothing_after() {
    let dir = tempfile::tempdir().unwrap();
    let (store, tasks) = open(dir.path()).unwrap();
    let mut watch = store.watch("/", Revision(1)).await.unwrap();
    let early = async {
        let commits = (0..100).map(|index| store.commit(vec![put(&format!("/{index}"), "x")]));
        join_all(commits).await.concat()
    };
    let stop = async {
        tasks.request_stop();
    };
    let (outcomes, ()) = futures_util::future::join(early, stop).await;
    assert!(outcomes.iter().all(Outcome::is_done), "{outcomes:?}");
    tasks.stop().await;
    let closed = ReadError::Unavailable("the store is closed".to_owned());
    assert_eq!(store.commit(vec![put("/late", "x")]).await, [Outcome::Unknown]);
    assert_eq!(store.get("/0").await, Err(closed.clone()));
    assert_eq!(watch.next().await, Err(closed));
    // The watch is still there, and does not keep the file locked.
    drop(store);
    let (store, _tasks) = open(dir.path()).unwrap();
    assert_eq!(store.get("/late").await, Ok(None));
    assert!(store.get("/99").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_every_node_lease_has_its_full_time() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path()).unwrap();
    let (ttl, most) = (Duration::from_secs(10), Duration::from_secs(9));
    let lease = opened.0.grant(ttl).await.unwrap();
    opened.0.commit(vec![Group::default().put_under(lease, "/a", Expectation::Any, "x")]).await;
    tokio::time::sleep(most).await;
    close(opened).await;
    let (store, _tasks) = open(dir.path()).unwrap();
    tokio::time::sleep(most).await;
    assert!(store.get("/a").await.unwrap().is_some(), "18 s, but only 9 since the restart");
    let mut watch = store.watch("/", Revision(2)).await.unwrap();
    let events = watch.next().await.unwrap().events;
    assert_eq!((&*events[0].key, &events[0].now), ("/a", &None));
    assert_ne!(store.grant(ttl).await.unwrap(), lease, "an id is not used twice");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _tasks) = open(dir.path()).unwrap();
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    let file = dir.path().join("store.redb");
    let before = std::fs::read(&file).unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(store.renew(vec![lease]).await, Ok(vec![true]));
    }
    assert!(std::fs::read(&file).unwrap() == before, "the file is as it was");
}

#[tokio::test]
async fn a_store_that_began_after_a_revision_counts_on_over_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Revision(1 << 40);
    let (store, tasks) = open(dir.path()).unwrap();
    store.begin_after(begun).await.unwrap();
    close((store, tasks)).await;
    let (store, tasks) = open(dir.path()).unwrap();
    assert_eq!((store.revision().await, store.oldest().await), (Ok(begun), Ok(begun)));
    store.commit(vec![put("/a", "x")]).await;
    close((store, tasks)).await;
    let (store, _tasks) = open(dir.path()).unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().modified, Revision(begun.0 + 1));
    assert_eq!(store.revision().await, Ok(Revision(begun.0 + 1)));
}
