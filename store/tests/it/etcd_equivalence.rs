//! The store on etcd and the simulated one are one store, too: random operations, a group at a time
//! (how many groups share a revision is each store's own affair).

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use store::{
    Change, Etcd, Event, Expectation, Group, LeaseId, List, Outcome, Page, ReadError, Record,
    Revision, Simulated, Store,
};

use crate::equivalence::{PREFIXES, Step, current, group, step};
use crate::etcd_server::{Options, Servers, connect};

const SEQUENCES: usize = 8;
const LONG: Duration = Duration::from_secs(3600);

/// Both stores, and how the one's numbers become the other's.
struct Pair {
    etcd: Etcd,
    simulated: Simulated,
    /// How far etcd's revisions are ahead.
    ahead: u64,
    /// etcd's names of the simulated store's node leases 1, 2 and so on.
    leases: Vec<LeaseId>,
}

impl Pair {
    fn on_etcd(&self, revision: Revision) -> Revision {
        Revision(revision.0 + self.ahead)
    }

    fn revision(&self, of_etcd: Revision) -> Revision {
        Revision(of_etcd.0 - self.ahead)
    }

    fn record(&self, of_etcd: Record) -> Record {
        let (created, modified) = (self.revision(of_etcd.created), self.revision(of_etcd.modified));
        Record { created, modified, ..of_etcd }
    }

    fn lease(&self, simulated: LeaseId) -> LeaseId {
        let index = usize::try_from(simulated.0).unwrap() - 1;
        self.leases.get(index).copied().unwrap_or(LeaseId(999))
    }

    fn group_on_etcd(&self, mut group: Group) -> Group {
        for write in &mut group.writes {
            if let Change::Put { lease: Some(lease), .. } = &mut write.change {
                *lease = self.lease(*lease);
            }
        }
        group
    }

    fn outcome(&self, of_etcd: Outcome) -> Outcome {
        match of_etcd {
            Outcome::Done { revision, positions } => {
                Outcome::Done { revision: self.revision(revision), positions }
            }
            Outcome::Refused { mut conflicts } => {
                for conflict in &mut conflicts {
                    conflict.found = conflict.found.take().map(|found| self.record(found));
                }
                Outcome::Refused { conflicts }
            }
            other @ (Outcome::Unknown | Outcome::Full(_) | Outcome::Invalid(_)) => other,
        }
    }

    async fn commit(&self, changes: &[crate::equivalence::Change]) {
        let simulated = group(changes, &current(&self.simulated).await);
        let on_etcd = self.group_on_etcd(group(changes, &current(&self.etcd).await));
        let expected = self.simulated.commit(vec![simulated.clone()]).await.remove(0);
        let said = self.outcome(self.etcd.commit(vec![on_etcd]).await.remove(0));
        assert_eq!(normal(said, &simulated), normal(expected, &simulated), "{simulated:?}");
    }

    async fn act(&mut self, step: &Step) {
        match step {
            Step::Commit(groups) => {
                for changes in groups {
                    self.commit(changes).await;
                }
            }
            Step::Grant { .. } => {
                self.simulated.grant(LONG).await.unwrap();
                self.leases.push(self.etcd.grant(LONG).await.unwrap());
            }
            Step::Renew { lease } => {
                let expected = self.simulated.renew(vec![LeaseId(*lease)]).await;
                assert_eq!(self.etcd.renew(vec![self.lease(LeaseId(*lease))]).await, expected);
            }
            Step::Revoke { lease } => {
                self.simulated.revoke(LeaseId(*lease)).await.unwrap();
                self.etcd.revoke(self.lease(LeaseId(*lease))).await.unwrap();
            }
            Step::Compact { keep } => {
                let current = self.simulated.revision().await.unwrap();
                let keep_from = Revision(current.0.saturating_sub(*keep));
                self.simulated.compact(keep_from).await.unwrap();
                self.etcd.compact(self.on_etcd(keep_from)).await.unwrap();
            }
            // Real time passes by itself, and etcd is not opened.
            Step::Wait { .. } | Step::Reopen => (),
        }
        let revision = self.etcd.revision().await.unwrap();
        assert_eq!(Ok(self.revision(revision)), self.simulated.revision().await, "{step:?}");
    }

    /// Lists as of each revision that is kept, and the history under each prefix.
    async fn compare(&self) {
        let end = Group::default().put("/a/1", Expectation::Any, "end").put(
            "/b/1",
            Expectation::Any,
            "end",
        );
        let outcome = self.simulated.commit(vec![end.clone()]).await.remove(0);
        let end = (outcome.done().unwrap(), self.etcd.commit(vec![end]).await[0].done().unwrap());
        assert_eq!(end.0, self.revision(end.1));
        let first = self.simulated.oldest().await.unwrap().max(Revision(1));
        for prefix in PREFIXES {
            for at in first.0..=end.0.0 + 1 {
                let list = List {
                    prefix: prefix.into(),
                    at: Some(Revision(at)),
                    after: (at % 3 == 0).then(|| "/a/1".into()),
                    limit: usize::try_from(at % 4 + 1).unwrap(),
                };
                let on_etcd = List { at: Some(self.on_etcd(Revision(at))), ..list.clone() };
                let said = self.etcd.list(on_etcd).await.map(|page| Page {
                    revision: self.revision(page.revision),
                    records: page.records.into_iter().map(|record| self.record(record)).collect(),
                    ..page
                });
                let expected = self.simulated.list(list).await;
                match (&said, &expected) {
                    (Err(ReadError::Future { .. }), Err(ReadError::Future { .. })) => (),
                    _ => assert_eq!(said, expected),
                }
            }
            let next = Revision(first.0 + 1);
            let expected = history(&self.simulated, prefix, next, end.0).await;
            let said = history(&self.etcd, prefix, self.on_etcd(next), end.1).await;
            let said: Vec<Event> = said
                .into_iter()
                .map(|event| Event {
                    revision: self.revision(event.revision),
                    now: event.now.map(|record| self.record(record)),
                    ..event
                })
                .collect();
            assert_eq!(said, expected, "under {prefix:?}");
        }
    }
}

/// Without what has no meaning or is named differently.
fn normal(outcome: Outcome, group: &Group) -> Outcome {
    match outcome {
        Outcome::Done { revision, mut positions } => {
            for (write, position) in group.writes.iter().zip(&mut positions) {
                if write.change == Change::Delete {
                    *position = 0;
                }
            }
            Outcome::Done { revision, positions }
        }
        Outcome::Invalid(_) => Outcome::Invalid(String::new()),
        other @ (Outcome::Refused { .. } | Outcome::Unknown | Outcome::Full(_)) => other,
    }
}

/// What happened; of deletes without their places, which differ after a delete of nothing.
async fn history(store: &dyn Store, prefix: &str, from: Revision, to: Revision) -> Vec<Event> {
    let mut watch = store.watch(prefix, from).await.unwrap();
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.revision < to) {
        events.extend(watch.next().await.unwrap().events);
    }
    for event in events.iter_mut().filter(|event| event.now.is_none()) {
        event.position = 0;
    }
    events
}

#[tokio::test]
async fn etcd_and_simulated_say_the_same() {
    let servers = Servers::start(1, &Options { no_fsync: true, ..Options::default() }).await;
    let mut runner = TestRunner::deterministic();
    let sequences = prop::collection::vec(step(), 10..50);
    for sequence in 0..SEQUENCES {
        let steps = sequences.new_tree(&mut runner).unwrap().current();
        let (etcd, tasks) = connect(&servers, &format!("/{sequence}")).await;
        let ahead = etcd.revision().await.unwrap().0;
        let mut pair = Pair { etcd, simulated: Simulated::new(), ahead, leases: Vec::new() };
        for step in &steps {
            pair.act(step).await;
        }
        pair.compare().await;
        tasks.stop().await;
    }
}
