//! A process that is killed while it writes: what it was answered is there, and nothing is torn.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use base::{Rng, Tasks};
use futures_util::future::join_all;
use store::{Embedded, Event, Expectation, Group, List, Outcome, Record, Revision, Store};

/// Names the directory to the child process, and tells it that it is one.
const DIRECTORY: &str = "HELIOX_STORE_CRASH_DIRECTORY";
const WRITERS: usize = 8;

/// Not a test of its own: the other one runs it in a child process, which it kills.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let tasks = Tasks::new("store");
    let store = Embedded::open(Path::new(&directory), &tasks.spawner()).unwrap();
    join_all((0..WRITERS).map(|writer| write_for_ever(&store, writer))).await;
}

/// Each group adds an item and counts it, so that half a group would be seen.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn write_for_ever(store: &Embedded, writer: usize) {
    let count_key = format!("/count/{writer}");
    let found = store.get(&count_key).await.unwrap();
    let mut count: u64 = found.as_ref().map_or(0, count_of);
    let mut expect =
        found.map_or(Expectation::Absent, |found| Expectation::Modified(found.modified));
    loop {
        count += 1;
        let group = Group::default()
            .put(format!("/item/{writer}/{count}"), Expectation::Absent, "x".repeat(200))
            .put(&*count_key, expect, count.to_string())
            .delete(format!("/item/{writer}/{}", count.saturating_sub(50)), Expectation::Any);
        let outcome = store.commit(vec![group]).await.remove(0);
        let Outcome::Done { revision, .. } = outcome else {
            panic!("nobody else writes: {outcome:?}");
        };
        println!("answered {writer} {count} {revision}");
        expect = Expectation::Modified(revision);
    }
}

fn count_of(record: &Record) -> u64 {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

/// Runs the child until it was answered `answers` times, kills it, and returns the last count and
/// revision that each writer was answered.
fn run_and_kill(directory: &Path, answers: u64) -> BTreeMap<usize, (u64, Revision)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_writes_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answered = BTreeMap::new();
    let mut lines_read = 0;
    for line in lines.map_while(Result::ok) {
        // A line that is cut off by the kill was not yet read by anybody.
        let Some(["answered", writer, count, revision]) =
            line.split(' ').collect::<Vec<_>>().first_chunk::<4>().copied()
        else {
            continue;
        };
        let revision = Revision(revision.parse().unwrap());
        answered.insert(writer.parse().unwrap(), (count.parse().unwrap(), revision));
        lines_read += 1;
        if lines_read == answers {
            // What it still wrote into the pipe before it died counts as answered, too.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(lines_read >= answers, "the child wrote until it was killed");
    answered
}

async fn list(store: &Embedded, prefix: &str, at: Option<Revision>) -> Vec<Record> {
    let list = List { prefix: prefix.into(), at, after: None, limit: 10_000 };
    store.list(list).await.unwrap().records
}

async fn history(store: &Embedded) -> Vec<Event> {
    let current = store.revision().await.unwrap();
    let mut watch = store.watch("/", Revision(1)).await.unwrap();
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.revision < current) {
        events.extend(watch.next().await.unwrap().events);
    }
    events
}

async fn check(store: &Embedded, answered: &BTreeMap<usize, (u64, Revision)>) {
    for (writer, (count, revision)) in answered {
        let found = store.get(&format!("/count/{writer}")).await.unwrap().unwrap();
        let (now, item) = (count_of(&found), format!("/item/{writer}/{}", count_of(&found)));
        assert!(
            (*count..=count + 1).contains(&now) && found.modified >= *revision,
            "writer {writer} was answered {count} at {revision}; found is {found:?}"
        );
        let item = store.get(&item).await.unwrap().expect("a group is all or nothing");
        assert_eq!(item.modified, found.modified, "a group has one revision");
        let items = list(store, &format!("/item/{writer}/"), None).await;
        assert_eq!(u64::try_from(items.len()).unwrap(), now.min(50), "no item is lost");
    }
    // History is whole: no revision is missing, and it leads to what is there.
    let mut replayed: BTreeMap<_, Record> = BTreeMap::new();
    let mut revisions = vec![Revision(0)];
    for Event { key, now, revision, .. } in history(store).await {
        if revisions.last() != Some(&revision) {
            revisions.push(revision);
        }
        match now {
            Some(record) => replayed.insert(key, record),
            None => replayed.remove(&key),
        };
    }
    assert!(revisions.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
    assert_eq!(replayed.into_values().collect::<Vec<_>>(), list(store, "/", None).await);
}

#[tokio::test]
async fn a_store_reopened_after_a_kill_has_what_was_answered_and_a_prefix_of_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let rng = Rng::seeded(1);
    for _ in 0..6 {
        let answered = run_and_kill(directory.path(), 1 + rng.below(600));
        let tasks = Tasks::new("store");
        let store = Embedded::open(directory.path(), &tasks.spawner()).unwrap();
        check(&store, &answered).await;
        tasks.stop().await;
    }
}
