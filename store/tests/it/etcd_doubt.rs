//! Answers of etcd that are lost: what was done is found out, and nothing is done twice.

use std::time::Duration;

use base::{Rng, Tasks};
use futures_util::future::{join, join4};
use store::{
    Etcd, EtcdConfig, Event, Expectation, Group, List, Outcome, ReadError, Revision, Store,
};

use crate::etcd_proxy::Proxy;
use crate::etcd_server::{Options, Servers, connect};

/// A store whose answers can be lost, and another one that sees all.
struct World {
    store: Etcd,
    proxy: Proxy,
    other: Etcd,
    _tasks: [Tasks; 2],
    servers: Servers,
}

impl World {
    async fn new() -> Self {
        let servers = Servers::start(1, &Options { no_fsync: true, ..Options::default() }).await;
        let proxy = Proxy::before(&servers.urls()[0]).await;
        let tasks = Tasks::new("store");
        let config = EtcdConfig::plain(vec![proxy.url()]);
        let store = Etcd::connect(config, &Rng::from_machine(), &tasks.spawner()).await.unwrap();
        let (other, others) = connect(&servers, "").await;
        Self { store, proxy, other, _tasks: [tasks, others], servers }
    }

    /// Commits, with the answer lost; `meanwhile` happens after etcd has done it.
    async fn commit_unheard(
        &self,
        groups: Vec<Group>,
        meanwhile: impl AsyncFnOnce(&Etcd),
    ) -> Vec<Outcome> {
        let before = self.other.revision().await.unwrap();
        self.proxy.swallow_answers();
        let others = async {
            while self.other.revision().await.unwrap() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            meanwhile(&self.other).await;
            self.proxy.cut();
        };
        join(self.store.commit(groups), others).await.0
    }

    /// Everything that happened, as `key=value` or `key gone`.
    async fn history(&self) -> Vec<String> {
        let end = self.other.commit(vec![put("/end", "x")]).await[0].done().unwrap();
        let mut watch = self.other.watch("/", Revision(1)).await.unwrap();
        let mut events: Vec<Event> = Vec::new();
        while events.last().is_none_or(|event| event.revision < end) {
            events.extend(watch.next().await.unwrap().events);
        }
        events.pop();
        let show = |event: &Event| match &event.now {
            Some(now) => format!("{}={}", event.key, String::from_utf8_lossy(&now.value)),
            None => format!("{} gone", event.key),
        };
        events.iter().map(show).collect()
    }
}

fn put(key: &str, value: &str) -> Group {
    Group::default().put(key, Expectation::Any, value.to_owned())
}

fn create(key: &str) -> Group {
    Group::default().put(key, Expectation::Absent, "mine")
}

fn delete(key: &str) -> Group {
    Group::default().delete(key, Expectation::Any)
}

async fn do_it(store: &Etcd, group: Group) {
    assert!(store.commit(vec![group]).await[0].is_done());
}

#[tokio::test]
async fn what_happened_unheard_is_done_and_happens_once() {
    let world = World::new().await;
    let groups =
        vec![put("/a", "mine"), create("/b"), delete("/none").put("/c", Expectation::Any, "mine")];
    let outcomes = world.commit_unheard(groups, async |_| ()).await;
    for (key, outcome) in ["/a", "/b", "/c"].into_iter().zip(&outcomes) {
        let record = world.other.get(key).await.unwrap().unwrap();
        let Outcome::Done { revision, positions } = outcome else {
            panic!("{key} was done: {outcome:?}");
        };
        assert_eq!((record.modified, record.position), (*revision, *positions.last().unwrap()));
    }
    assert_eq!(world.history().await, ["/a=mine", "/b=mine", "/c=mine"]);
}

/// Sent again, the first would undo what the other did, and the second be refused though it was
/// done.
#[tokio::test]
async fn what_was_overwritten_meanwhile_is_done_and_not_done_again() {
    let world = World::new().await;
    let groups = vec![put("/a", "mine"), create("/b")];
    let overwrite = async |other: &Etcd| {
        do_it(other, put("/a", "theirs")).await;
        do_it(other, put("/b", "theirs")).await;
    };
    let outcomes = world.commit_unheard(groups, overwrite).await;
    assert!(outcomes.iter().all(Outcome::is_done), "{outcomes:?}");
    let history = ["/a=mine", "/b=mine", "/a=theirs", "/b=theirs"];
    assert_eq!(world.history().await, history);
}

/// Sent again, it would make anew what the other has removed.
#[tokio::test]
async fn what_was_deleted_meanwhile_is_done_and_not_done_again() {
    let world = World::new().await;
    let remove = async |other: &Etcd| do_it(other, delete("/b")).await;
    let outcomes = world.commit_unheard(vec![create("/b")], remove).await;
    assert!(outcomes[0].is_done(), "{outcomes:?}");
    assert_eq!(world.history().await, ["/b=mine", "/b gone"]);
}

/// A group of the transaction was refused; its neighbour's outcome says nothing of it.
#[tokio::test]
async fn what_was_refused_unheard_is_refused_with_what_is_there_now() {
    let world = World::new().await;
    do_it(&world.other, put("/taken", "theirs")).await;
    let groups = vec![create("/taken"), create("/b")];
    let overwrite = async |other: &Etcd| do_it(other, put("/taken", "theirs still")).await;
    let outcomes = world.commit_unheard(groups, overwrite).await;
    let Outcome::Refused { conflicts } = &outcomes[0] else {
        panic!("it was taken: {outcomes:?}");
    };
    assert_eq!(conflicts[0].found.as_ref().unwrap().value, "theirs still");
    assert!(outcomes[1].is_done(), "{outcomes:?}");
}

/// A delete leaves no name.
#[tokio::test]
async fn a_delete_that_may_be_anybodys_is_unknown() {
    let world = World::new().await;
    do_it(&world.other, put("/a", "theirs")).await;
    let outcomes = world.commit_unheard(vec![delete("/a")], async |_| ()).await;
    assert_eq!(outcomes, [Outcome::Unknown]);
}

#[tokio::test]
async fn what_history_no_longer_tells_is_unknown() {
    let world = World::new().await;
    let forget = async |other: &Etcd| {
        do_it(other, put("/a", "theirs")).await;
        do_it(other, put("/a", "theirs")).await;
        other.compact(other.revision().await.unwrap()).await.unwrap();
    };
    let outcomes = world.commit_unheard(vec![put("/a", "mine")], forget).await;
    assert_eq!(outcomes, [Outcome::Unknown]);
}

/// And it ends: nobody waits for ever.
#[tokio::test]
async fn without_a_member_commits_are_unknown_and_reads_unavailable() {
    let mut world = World::new().await;
    let mut watch = world.store.watch("/", Revision(2)).await.unwrap();
    world.servers.kill(0);
    let list = List { prefix: "/".into(), at: None, after: None, limit: 1 };
    let store = &world.store;
    let commit = store.commit(vec![put("/a", "x"), put("/a", "y")]);
    let (outcomes, got, listed, watched) =
        join4(commit, store.get("/a"), store.list(list), watch.next()).await;
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Unknown]);
    assert!(matches!(got, Err(ReadError::Unavailable(_))), "{got:?}");
    assert!(matches!(listed, Err(ReadError::Unavailable(_))), "{listed:?}");
    assert!(matches!(watched, Err(ReadError::Unavailable(_))), "{watched:?}");
}
