//! Members of an etcd that are killed, hang and come back, under writers and watchers.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{join, join_all};
use store::conformance::next_events;
use store::{
    Conflict, Etcd, Event, Expectation, Group, List, Outcome, ReadError, Record, Revision, Store,
    Watch,
};

use crate::etcd_server::{Options, Servers, connect};

/// So long that only a broken store takes it.
const PATIENCE: Duration = Duration::from_secs(60);

fn put(key: &str, value: &str) -> Group {
    Group::default().put(key, Expectation::Any, value.to_owned())
}

async fn list(store: &Etcd, prefix: &str) -> Vec<Record> {
    let list = List { prefix: prefix.into(), at: None, after: None, limit: 10_000 };
    let page = store.list(list).await.unwrap();
    assert!(!page.more);
    page.records
}

/// Waits until `count` has come, while something else brings it about.
async fn reached(counter: &Cell<usize>, count: usize) {
    while counter.get() < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn next(watch: &mut Box<dyn Watch>) -> Vec<Event> {
    tokio::time::timeout(PATIENCE, next_events(&mut **watch)).await.expect("events come").unwrap()
}

/// Counts up by compare-and-swap, and leaves an item for each count.
struct Counter<'a> {
    store: &'a Etcd,
    done: &'a Cell<usize>,
    unknown: &'a Cell<usize>,
    name: usize,
}

impl Counter<'_> {
    async fn count_up(&self, times: usize) {
        let mut seen = self.store.get("/count").await.unwrap().unwrap();
        let mut item = 0;
        let mut left = times;
        while left > 0 {
            let count = number(&seen) + 1;
            let group = Group::default()
                .put("/count", Expectation::Modified(seen.modified), count.to_string())
                .put(format!("/item/{}/{item}", self.name), Expectation::Absent, "x");
            match self.store.commit(vec![group]).await.remove(0) {
                Outcome::Done { revision, .. } => {
                    self.done.set(self.done.get() + 1);
                    let value = count.to_string().into();
                    seen = Record { value, modified: revision, ..seen };
                    left -= 1;
                    item += 1;
                }
                Outcome::Refused { conflicts } => {
                    let [Conflict { key, found: Some(found) }] = &conflicts[..] else {
                        panic!("the item of another try is there: {conflicts:?}");
                    };
                    assert_eq!(&**key, "/count");
                    seen = found.clone();
                }
                Outcome::Unknown => {
                    self.unknown.set(self.unknown.get() + 1);
                    seen = self.store.get("/count").await.unwrap().unwrap();
                    left -= 1;
                    item += 1;
                }
                Outcome::Full(reason) | Outcome::Invalid(reason) => panic!("{reason}"),
            }
        }
    }
}

fn number(record: &Record) -> usize {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

/// Every count that was answered as done is there, and nothing that was not is counted twice.
#[tokio::test]
async fn increments_survive_the_death_of_every_leader() {
    const COUNTERS: usize = 8;
    const TIMES: usize = 50;
    let mut servers = Servers::start(3, &Options::default()).await;
    let (store, _tasks) = connect(&servers, "").await;
    let (other, _others) = connect(&servers, "").await;
    assert!(store.commit(vec![put("/count", "0")]).await[0].is_done());
    let (done, unknown) = (Cell::new(0), Cell::new(0));
    let counters = join_all((0..COUNTERS).map(|name| {
        let store = if name % 2 == 0 { &store } else { &other };
        let counter = Counter { store, done: &done, unknown: &unknown, name };
        async move { counter.count_up(TIMES).await }
    }));
    let killer = async {
        for part in 1..=3 {
            reached(&done, part * COUNTERS * TIMES / 5).await;
            let leader = servers.leader().await;
            servers.kill(leader);
            reached(&done, part * COUNTERS * TIMES / 5 + 20).await;
            servers.run(leader);
        }
    };
    join(counters, killer).await;
    let items = list(&store, "/item/").await.len();
    let count = number(&store.get("/count").await.unwrap().unwrap());
    assert_eq!(count, items, "a count and its item come together");
    assert!(done.get() <= items, "{} done, {items} there", done.get());
    assert!(items <= done.get() + unknown.get(), "{} done, {items} there", done.get());
    assert_eq!(done.get() + unknown.get(), COUNTERS * TIMES);
}

/// Nothing is missed, nothing comes twice, in order.
#[tokio::test]
async fn a_watch_goes_on_over_deaths_of_members() {
    const WRITES: usize = 300;
    let mut servers = Servers::start(3, &Options::default()).await;
    let (store, _tasks) = connect(&servers, "").await;
    let (writer, _others) = connect(&servers, "").await;
    let start = writer.commit(vec![put("/start", "x")]).await[0].done().unwrap();
    let mut watch = store.watch("/w/", Revision(start.0 + 1)).await.unwrap();
    let written = Cell::new(0);
    let write = async {
        for step in 0..WRITES {
            // Two events of a revision, and deletes now and then.
            let group = put(&format!("/w/{}", step % 7), &step.to_string())
                .put("/w/last", Expectation::Any, step.to_string())
                .delete(format!("/w/{}", (step + 3) % 7), Expectation::Any);
            assert!(writer.commit(vec![group]).await[0].is_done());
            written.set(step + 1);
        }
        writer.commit(vec![put("/w/end", "x")]).await[0].done().unwrap()
    };
    let kill = async {
        for member in 0..3 {
            reached(&written, (member + 1) * WRITES / 5).await;
            servers.kill(member);
            reached(&written, (member + 1) * WRITES / 5 + 10).await;
            servers.run(member);
        }
    };
    let follow = async {
        let mut seen: Vec<Event> = Vec::new();
        while seen.last().is_none_or(|event| &*event.key != "/w/end") {
            seen.extend(next(&mut watch).await);
        }
        seen
    };
    let (seen, (end, ())) = join(follow, join(write, kill)).await;
    let mut whole = Vec::new();
    let mut replay = writer.watch("/w/", Revision(start.0 + 1)).await.unwrap();
    while whole.last().is_none_or(|event: &Event| event.revision < end) {
        whole.extend(next(&mut replay).await);
    }
    let places = |events: &[Event]| -> Vec<_> {
        events.iter().map(|event| (event.revision, event.position, event.key.clone())).collect()
    };
    assert_eq!(places(&seen), places(&whole));
    assert_eq!(seen, whole);
    let lasts = seen.iter().filter(|event| &*event.key == "/w/last");
    let lasts: Vec<usize> = lasts.map(|event| number(event.now.as_ref().unwrap())).collect();
    assert_eq!(lasts, (0..WRITES).collect::<Vec<_>>());
}

/// With one member there is nobody else: it is waited for.
#[tokio::test]
async fn a_watch_and_a_writer_wait_for_a_member_that_comes_back() {
    let mut servers = Servers::start(1, &Options::default()).await;
    let (store, _tasks) = connect(&servers, "").await;
    let first = store.commit(vec![put("/a", "one")]).await[0].done().unwrap();
    let mut watch = store.watch("/", first).await.unwrap();
    assert_eq!(next(&mut watch).await.len(), 1);
    servers.kill(0);
    let (outcomes, ()) = join(store.commit(vec![put("/a", "two")]), async {
        servers.run(0);
    })
    .await;
    assert!(outcomes[0].is_done(), "{outcomes:?}");
    let events = next(&mut watch).await;
    assert_eq!((events.len(), events[0].revision), (1, outcomes[0].done().unwrap()));
    assert_eq!(events[0].now.as_ref().unwrap().value, "two");
}

/// It fell behind what is kept: it says so, rather than leave something out.
#[tokio::test]
async fn a_watch_that_resumes_behind_a_compaction_says_so() {
    let mut servers = Servers::start(1, &Options::default()).await;
    let (store, _tasks) = connect(&servers, "").await;
    let first = store.commit(vec![put("/a", "0")]).await[0].done().unwrap();
    let mut watch = store.watch("/", first).await.unwrap();
    assert_eq!(next(&mut watch).await.len(), 1);
    servers.kill(0);
    servers.run(0);
    let (other, _others) = connect(&servers, "").await;
    for step in 1..=10 {
        assert!(other.commit(vec![put("/a", &step.to_string())]).await[0].is_done());
    }
    let oldest = Revision(first.0 + 5);
    other.compact(oldest).await.unwrap();
    // What had been on its way when the member died may come first.
    let error = loop {
        match watch.next().await {
            Ok(_) => (),
            Err(error) => break error,
        }
    };
    assert_eq!(error, ReadError::Compacted { asked: Revision(first.0 + 1), oldest });
}

/// It neither answers nor breaks the connection.
#[tokio::test]
async fn a_member_that_hangs_is_left() {
    let servers = Servers::start(3, &Options::default()).await;
    let (store, _tasks) = connect(&servers, "").await;
    let first = store.commit(vec![put("/a", "one")]).await[0].done().unwrap();
    let mut watch = store.watch("/", Revision(first.0 + 1)).await.unwrap();
    let _hangs = servers.hang(0);
    let outcomes = store.commit(vec![put("/a", "two")]).await;
    assert!(outcomes[0].is_done(), "{outcomes:?}");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, "two");
    assert_eq!(next(&mut watch).await[0].revision, outcomes[0].done().unwrap());
}
