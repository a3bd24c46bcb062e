//! The embedded and the simulated store are one store: random operations, step by step.

use std::time::Duration;

use base::Tasks;
use proptest::prelude::*;
use store::{Embedded, Simulated};
use store::{
    Event, Expectation, Group, LeaseId, List, Outcome, Page, ReadError, Record, Revision, Store,
};
use tempfile::TempDir;

/// Few keys, so that they collide; a prefix of others among them.
const KEYS: [&str; 6] = ["/a", "/a/1", "/a/2", "/a/10", "/b", "/b/1"];
pub(crate) const PREFIXES: [&str; 4] = ["", "/a", "/a/", "/b/1"];

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Commit(Vec<Vec<Change>>),
    Grant {
        ttl_s: u64,
    },
    Renew {
        lease: u64,
    },
    Revoke {
        lease: u64,
    },
    /// Virtual time passes; node leases may expire.
    Wait {
        s: u64,
    },
    /// Keeps so many of the last revisions.
    Compact {
        keep: u64,
    },
    Reopen,
}

/// A guard or a write, made concrete by what is there.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    key: usize,
    expect: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Guard,
    Put(u8),
    PutUnder(u8, u64),
    Delete,
}

fn change() -> impl Strategy<Value = Change> {
    let kind = prop_oneof![
        1 => Just(Kind::Guard),
        4 => any::<u8>().prop_map(Kind::Put),
        2 => (any::<u8>(), 1..5_u64).prop_map(|(value, lease)| Kind::PutUnder(value, lease)),
        3 => Just(Kind::Delete),
    ];
    // Most expectations hold, else little would happen.
    let expect = prop_oneof![3 => Just(0), 3 => Just(1), 2 => 2..7_usize];
    (0..KEYS.len(), expect, kind).prop_map(|(key, expect, kind)| Change { key, expect, kind })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let groups = prop::collection::vec(prop::collection::vec(change(), 0..4), 1..6);
    prop_oneof![
        12 => groups.prop_map(Step::Commit),
        2 => (1..6_u64).prop_map(|ttl_s| Step::Grant { ttl_s }),
        1 => (1..5_u64).prop_map(|lease| Step::Renew { lease }),
        1 => (1..5_u64).prop_map(|lease| Step::Revoke { lease }),
        2 => (1..5_u64).prop_map(|s| Step::Wait { s }),
        1 => (0..20_u64).prop_map(|keep| Step::Compact { keep }),
        1 => Just(Step::Reopen),
    ]
}

pub(crate) fn group(changes: &[Change], there: &[Option<Record>]) -> Group {
    changes.iter().fold(Group::default(), |group, change| {
        let (key, found) = (KEYS[change.key], &there[change.key]);
        let seen = |of: fn(&Record) -> Revision| found.as_ref().map_or(Revision(1), of);
        let expect = match change.expect {
            0 => Expectation::Any,
            1 => found
                .as_ref()
                .map_or(Expectation::Absent, |found| Expectation::Modified(found.modified)),
            2 => Expectation::Absent,
            3 => Expectation::Created(seen(|found| found.created)),
            4 => Expectation::Value(found.as_ref().map_or("".into(), |found| found.value.clone())),
            5 => Expectation::Modified(seen(|found| found.created)),
            _ => Expectation::Value("wrong".into()),
        };
        match change.kind {
            Kind::Guard => group.guard(key, expect),
            Kind::Put(value) => group.put(key, expect, value.to_string()),
            Kind::PutUnder(value, lease) => {
                group.put_under(LeaseId(lease), key, expect, value.to_string())
            }
            Kind::Delete => group.delete(key, expect),
        }
    })
}

/// The embedded store and what it lives on.
struct OnDisk {
    dir: TempDir,
    tasks: Tasks,
    store: Embedded,
}

impl OnDisk {
    fn new() -> Self {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("store"));
        let store = Embedded::open(dir.path(), &tasks.spawner()).unwrap();
        Self { dir, tasks, store }
    }

    async fn reopen(self) -> Self {
        let Self { dir, tasks, store } = self;
        tasks.stop().await;
        drop(store);
        let tasks = Tasks::new("store");
        let store = Embedded::open(dir.path(), &tasks.spawner()).unwrap();
        Self { dir, tasks, store }
    }
}

/// What a step says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Outcomes(Vec<Outcome>),
    Lease(Result<LeaseId, ReadError>),
    Renewed(Result<Vec<bool>, ReadError>),
    Nothing(Result<(), ReadError>),
}

async fn act(store: &dyn Store, step: &Step, there: &[Option<Record>]) -> Said {
    match step {
        Step::Commit(groups) => {
            let groups = groups.iter().map(|changes| group(changes, there)).collect();
            Said::Outcomes(store.commit(groups).await)
        }
        // Never a whole number of waits: which of two things comes first is not left open.
        Step::Grant { ttl_s } => {
            Said::Lease(store.grant(Duration::from_millis(ttl_s * 1000 + 13)).await)
        }
        Step::Renew { lease } => Said::Renewed(store.renew(vec![LeaseId(*lease)]).await),
        Step::Revoke { lease } => Said::Nothing(store.revoke(LeaseId(*lease)).await),
        Step::Compact { keep } => {
            let current = store.revision().await.unwrap();
            Said::Nothing(store.compact(Revision(current.0.saturating_sub(*keep))).await)
        }
        Step::Wait { .. } | Step::Reopen => Said::Nothing(Ok(())),
    }
}

/// Everything that can be seen: lists as of each revision, and the history under each prefix.
async fn seen(store: &dyn Store) -> (Vec<Result<Page, ReadError>>, Vec<Vec<Event>>) {
    let (oldest, current) = (store.oldest().await.unwrap(), store.revision().await.unwrap());
    let mut lists = Vec::new();
    let mut histories = Vec::new();
    for prefix in PREFIXES {
        // One too old and one too new as well.
        for at in oldest.0.saturating_sub(1)..=current.0 + 1 {
            let list = List {
                prefix: prefix.into(),
                at: Some(Revision(at)),
                after: (at % 3 == 0).then(|| "/a/1".into()),
                limit: usize::try_from(at % 4 + 1).unwrap(),
            };
            lists.push(store.list(list).await);
        }
        let all = List { prefix: prefix.into(), at: None, after: None, limit: 100 };
        lists.push(store.list(all).await);
        let mut watch = store.watch(prefix, oldest).await.unwrap();
        let (mut history, mut reached) = (Vec::new(), Revision(oldest.0.saturating_sub(1)));
        // What is kept comes without waiting for anybody else.
        while reached < current {
            let news = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
            let news = news.expect("all of it is there").unwrap();
            history.extend(news.events);
            reached = news.reached;
        }
        histories.push(history);
    }
    (lists, histories)
}

async fn check(steps: Vec<Step>) {
    let mut embedded = OnDisk::new();
    let simulated = Simulated::new();
    for (index, step) in steps.iter().enumerate() {
        let there = current(&simulated).await;
        let expected = act(&simulated, step, &there).await;
        let said = act(&embedded.store, step, &there).await;
        assert_eq!(said, expected, "step {index}: {step:?}");
        embedded = pass(step, embedded, &simulated).await;
        let expected = current(&simulated).await;
        assert_eq!(current(&embedded.store).await, expected, "after step {index}: {step:?}");
        if index % 8 == 7 {
            assert_same(&embedded, &simulated).await;
        }
    }
    assert_same(&embedded, &simulated).await;
    let embedded = embedded.reopen().await;
    assert_same(&embedded, &simulated).await;
}

async fn assert_same(embedded: &OnDisk, simulated: &Simulated) {
    assert_eq!(seen(&embedded.store).await, seen(simulated).await);
}

/// What a step does beyond asking the stores.
async fn pass(step: &Step, embedded: OnDisk, simulated: &Simulated) -> OnDisk {
    match step {
        Step::Wait { s } => tokio::time::sleep(Duration::from_secs(*s)).await,
        Step::Reopen => {
            simulated.restart();
            return embedded.reopen().await;
        }
        Step::Commit(_)
        | Step::Grant { .. }
        | Step::Renew { .. }
        | Step::Revoke { .. }
        | Step::Compact { .. } => (),
    }
    embedded
}

pub(crate) async fn current(store: &dyn Store) -> Vec<Option<Record>> {
    let mut there = Vec::new();
    for key in KEYS {
        there.push(store.get(key).await.unwrap());
    }
    there
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn embedded_and_simulated_say_the_same(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(check(steps));
    }
}
