//! An etcd that others write to, too: what they write holds nobody up, and is never taken for ours.

use std::time::Duration;

use base::{Rng, Tasks};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, ConnectOptions, GetOptions, Permission,
    PermissionType, Txn, TxnOp,
};
use futures_util::future::join;
use store::conformance::{news_until, next_events};
use store::{
    Etcd, EtcdConfig, EtcdUser, Event, Expectation, Group, List, Outcome, ReadError, Revision,
    Store, Watch,
};

use crate::etcd_server::{Options, Servers, connect};

/// Long enough for anything that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where Heliox keeps its objects.
const PREFIX: &str = "/heliox/v1/";

struct World {
    store: Etcd,
    /// Somebody else.
    client: Client,
    servers: Servers,
    _tasks: Tasks,
}

impl World {
    async fn new() -> Self {
        let servers = Servers::start(1, &Options { no_fsync: true, ..Options::default() }).await;
        let client = servers.client(0).await;
        let (store, tasks) = connect(&servers, "").await;
        Self { store, client, servers, _tasks: tasks }
    }

    async fn put(&self, key: &str) -> Revision {
        let put = Group::default().put(key, Expectation::Any, "ours");
        self.store.commit(vec![put]).await[0].done().unwrap()
    }

    /// A watch of all objects that has seen everything so far.
    async fn watch(&self, from: Revision) -> Box<dyn Watch> {
        self.store.watch(PREFIX, Revision(from.0 + 1)).await.unwrap()
    }

    /// How often etcd's revision grows while this is done.
    async fn revisions(&mut self, act: impl AsyncFnOnce(&mut Self)) -> i64 {
        let before = self.revision().await;
        act(self).await;
        self.revision().await - before
    }

    async fn revision(&mut self) -> i64 {
        self.client.get("x", None).await.unwrap().header().unwrap().revision()
    }

    /// How many keys there are that were put as barriers of a watch.
    async fn barriers(&mut self) -> i64 {
        let all = GetOptions::new().with_prefix().with_count_only();
        self.client.get("/heliox/store/barrier/", Some(all)).await.unwrap().count()
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> store::Page {
        let after = after.map(Into::into);
        self.store.list(List { prefix: PREFIX.into(), at: None, after, limit }).await.unwrap()
    }
}

/// Nothing of Heliox happens any more: not before the watch begins, and not after.
#[tokio::test]
async fn a_watch_comes_to_the_revision_of_anothers_key() {
    let mut world = World::new().await;
    let first = world.put("/heliox/v1/a").await;
    for round in 0..3 {
        world.client.put("foo", "x", None).await.unwrap();
        // It begins before that, and so there is nothing that it shows.
        let mut watch = world.watch(first).await;
        let told = match round {
            0 => world.list(None, 10).await.revision,
            _ => world.store.revision().await.unwrap(),
        };
        assert!(told > first);
        assert_eq!(news_until(&mut *watch, told).await, []);
        world.client.delete("foo", None).await.unwrap();
        let told = world.store.revision().await.unwrap();
        assert_eq!(news_until(&mut *watch, told).await, []);
    }
    let mut watch = world.watch(first).await;
    let (changed, events) = join(world.put("/heliox/v1/b"), next_events(&mut *watch)).await;
    assert_eq!(events.unwrap()[0].revision, changed, "and it follows on");
}

/// The store's own keys are somebody else's for whoever watches objects.
#[tokio::test]
async fn a_watch_comes_to_the_revision_of_a_key_of_the_stores_own() {
    let mut world = World::new().await;
    let first = world.put("/heliox/v1/a").await;
    let mut watch = world.watch(first).await;
    for key in ["/heliox/store/barrier", "/heliox/store/shift", "/ns/heliox/v1/a"] {
        world.client.put(key, "0 0", None).await.unwrap();
        let told = world.store.revision().await.unwrap();
        assert_eq!(news_until(&mut *watch, told).await, [], "{key}");
    }
}

/// For many who wait there is one barrier, and where nobody waits there is none.
#[tokio::test]
async fn a_barrier_is_made_only_for_those_who_wait_and_one_for_all() {
    let mut world = World::new().await;
    let first = world.put("/heliox/v1/a").await;
    let quiet = world.revisions(async |world| {
        let mut watch = world.watch(first).await;
        assert_eq!(world.store.revision().await, Ok(first));
        let longer = Duration::from_millis(500);
        assert!(tokio::time::timeout(longer, next_events(&mut *watch)).await.is_err());
        // Somebody else writes, and nobody asks.
        world.client.put("foo", "x", None).await.unwrap();
        assert!(tokio::time::timeout(longer, next_events(&mut *watch)).await.is_err());
    });
    assert_eq!(quiet.await, 1, "the other's");
    let asked = world.revisions(async |world| {
        let mut watch = world.watch(first).await;
        for _ in 0..100 {
            world.store.revision().await.unwrap();
        }
        let told = world.store.revision().await.unwrap();
        news_until(&mut *watch, told).await;
        let longer = Duration::from_millis(500);
        assert!(tokio::time::timeout(longer, next_events(&mut *watch)).await.is_err());
    });
    assert_eq!(asked.await, 1, "the barrier");
}

/// A full etcd takes deletes alone; each barrier is then the delete of one that was put before.
#[tokio::test]
async fn a_watch_comes_to_the_revision_of_anothers_key_in_a_full_etcd() {
    let mut world = World::new().await;
    let first = world.put("/heliox/v1/a").await;
    for key in ["foo", "bar", "baz"] {
        world.client.put(key, "x", None).await.unwrap();
        let mut watch = world.watch(first).await;
        news_until(&mut *watch, world.store.revision().await.unwrap()).await;
    }
    // As etcd does by itself. The store disarms it after a second or two, and it is armed again.
    let member = world.client.status().await.unwrap().header().unwrap().member_id();
    let mut watch = world.watch(first).await;
    for key in ["foo", "bar", "baz"] {
        let mut alarm = AlarmOptions::new();
        alarm.with_member(member);
        world.client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(alarm)).await.unwrap();
        assert!(world.client.put("more", "x", None).await.is_err(), "it is full");
        let before = world.barriers().await;
        world.client.delete(key, None).await.unwrap();
        let told = world.store.revision().await.unwrap();
        assert_eq!(news_until(&mut *watch, told).await, [], "{key}");
        assert_eq!(world.barriers().await, before - 1, "a delete has told");
    }
}

/// Who may not make a barrier is told so, and does not wait in silence.
#[tokio::test]
async fn a_watch_that_cannot_come_further_for_want_of_a_permission_says_so() {
    let mut world = World::new().await;
    let first = world.put("/heliox/v1/a").await;
    let client = &mut world.client;
    client.user_add("root", "secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("reader").await.unwrap();
    let granted = Permission::new(PermissionType::Read, "/heliox/").with_prefix();
    client.role_grant_permission("reader", granted).await.unwrap();
    client.user_add("reader", "secret", None).await.unwrap();
    client.user_grant_role("reader", "reader").await.unwrap();
    client.auth_enable().await.unwrap();
    let user = EtcdUser { name: "reader".to_owned(), password: "secret".to_owned() };
    let config = EtcdConfig { user: Some(user), ..EtcdConfig::plain(world.servers.urls()) };
    let tasks = Tasks::new("reader");
    let reader = Etcd::connect(config, &Rng::from_machine(), &tasks.spawner()).await.unwrap();
    let mut watch = reader.watch(PREFIX, Revision(first.0 + 1)).await.unwrap();
    let root = ConnectOptions::new().with_user("root", "secret");
    let mut root = Client::connect(world.servers.urls(), Some(root)).await.unwrap();
    root.put("foo", "x", None).await.unwrap();
    reader.revision().await.unwrap();
    let end = tokio::time::timeout(PATIENCE, next_events(&mut *watch)).await.unwrap();
    let Err(ReadError::Unavailable(why)) = end else { panic!("{end:?}") };
    assert!(why.contains("/heliox/store/") && why.contains("permission denied"), "{why}");
}

/// Left out, it would be taken for deleted; and what comes after it is not lost.
#[tokio::test]
async fn what_another_wrote_under_our_prefix_is_there_as_it_is_and_ends_nothing() {
    let mut world = World::new().await;
    let first = world.put("/heliox/v1/b").await;
    let mut watch = world.watch(first).await;
    let theirs = ["/heliox/v1/a", "/heliox/v1/b", "/heliox/v1/d"];
    let put = |key: &str| TxnOp::put(key, "theirs", None);
    world.client.txn(Txn::new().and_then(theirs.map(put))).await.unwrap();
    let last = world.put("/heliox/v1/c").await;
    let show = |event: &Event| {
        let value = event.now.as_ref().map(|now| String::from_utf8_lossy(&now.value).into_owned());
        format!("{} at {}: {value:?}", event.key, event.position)
    };
    let events: Vec<String> = news_until(&mut *watch, last).await.iter().map(show).collect();
    assert_eq!(
        events,
        [
            "/heliox/v1/a at 0: Some(\"theirs\")",
            "/heliox/v1/b at 1: Some(\"theirs\")",
            "/heliox/v1/d at 2: Some(\"theirs\")",
            "/heliox/v1/c at 0: Some(\"ours\")",
        ]
    );
    let page = world.list(None, 10).await;
    let keys: Vec<&str> = page.records.iter().map(|record| &*record.key).collect();
    assert_eq!(keys, ["/heliox/v1/a", "/heliox/v1/b", "/heliox/v1/c", "/heliox/v1/d"]);
    let got = world.store.get("/heliox/v1/b").await;
    let Err(ReadError::Unavailable(why)) = got else { panic!("{got:?}") };
    assert!(why.contains("/heliox/v1/b was not written by Heliox"), "{why}");

    // Of those who expect something of such a key, and of one who shares their transaction.
    let group = |key: &str, expect| Group::default().put(key, expect, "ours");
    let groups = vec![
        group("/heliox/v1/b", Expectation::Absent),
        group("/heliox/v1/a", Expectation::Value("theirs".into())),
        group("/heliox/v1/e", Expectation::Absent),
    ];
    let outcomes = world.store.commit(groups).await;
    for (outcome, key) in outcomes.iter().zip(["/heliox/v1/b", "/heliox/v1/a"]) {
        let Outcome::Refused { conflicts } = outcome else { panic!("{outcomes:?}") };
        assert_eq!(conflicts[0].found.as_ref().map(|found| &*found.key), Some(key));
    }
    assert!(outcomes[2].is_done(), "{outcomes:?}");

    // Deleted or overwritten by the store, it is as if it had never been.
    let found = page.records[1].modified;
    let delete = Group::default().delete("/heliox/v1/b", Expectation::Modified(found));
    assert!(world.store.commit(vec![delete]).await[0].is_done());
    assert_eq!(world.store.get("/heliox/v1/b").await, Ok(None));
    let put = world.put("/heliox/v1/a").await;
    let events: Vec<String> = news_until(&mut *watch, put).await.iter().map(show).collect();
    assert_eq!(
        events,
        [
            "/heliox/v1/e at 2: Some(\"ours\")",
            "/heliox/v1/b at 0: None",
            "/heliox/v1/a at 0: Some(\"ours\")",
        ]
    );
}

/// Keys that are nobody's text, more of them than a page has records: a list comes to its end.
#[tokio::test]
async fn a_list_goes_on_after_keys_that_are_no_text() {
    let mut world = World::new().await;
    world.put("/heliox/v1/z").await;
    for n in 0..5_u8 {
        let key = [b"/heliox/v1/a".as_slice(), &[0xff, n]].concat();
        world.client.put(key, "x", None).await.unwrap();
    }
    let listing = world.list(None, 1);
    let page = tokio::time::timeout(PATIENCE, listing).await.expect("it comes to its end");
    assert_eq!(&*page.records[0].key, "/heliox/v1/z");
}
