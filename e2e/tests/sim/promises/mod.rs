//! The promises of the design's list, as checks. A check panics with the number of its promise and
//! what it saw.
//!
//! They read what the store itself has at every revision ([`History`]), what the machines did
//! ([`HistoryEvent`](node_agent::engine::sim::HistoryEvent)) and what two clients were told, and none of
//! the functions whose results they judge ([`raw`]).
//!
//! | promise | check |
//! |---|---|
//! | 1 acknowledged writes survive | [`writes`], at every step |
//! | 2 an older attempt changes nothing | [`attempts`] at every revision; [`machines`]: started once, and only where it was bound |
//! | 3 recorded is final | [`record`] at every revision |
//! | 4 runnable work runs | [`Promises::until`], within its bound after faults stop |
//! | 5 what runs stays | [`machines`]: nothing is stopped that is wanted, whoever is away |
//! | 6 watches | [`watches`], at every step against the store; when quiet against fresh lists |
//! | 7 nothing lives on | [`machines`], within [`CONTACT_BOUND`] after faults stop |
//! | 8 no node is over-committed | [`capacity`] at every revision; [`machines`] at every start |
//! | 9 replicas in a state | none yet: partitions are assigned by hand, which is taken as given |
//! | 10a services keep enough ready | [`services`] at every revision |
//! | 10 counts | [`counts`] at every revision; when quiet, exactly |

mod attempts;
mod capacity;
mod counts;
mod machines;
mod raw;
mod record;
mod services;
mod watches;
mod writes;

use std::time::Duration;

use runtime::Snapshot;
use store::Store as _;
use tokio::time::Instant;

use crate::cluster::{Cluster, describe};
use crate::history::History;
use crate::watcher::Memory;
use crate::writer::Ledger;
pub(crate) use machines::CONTACT_BOUND;

/// How often it is looked whether something holds that is waited for.
const PERIOD: Duration = Duration::from_millis(200);

/// What is known of a cluster's past, to compare with what is there now.
#[derive(Debug)]
pub(crate) struct Promises {
    history: History,
    ledger: Ledger,
    memory: Memory,
    machines: machines::Machines,
    record: record::Record,
    services: services::Services,
    watches: watches::Watches,
    writes: writes::Writes,
}

impl Promises {
    /// To check a cluster from its beginning on, with what its two clients remember.
    pub(crate) fn new(ledger: Ledger, memory: Memory) -> Self {
        Self {
            history: History::new(),
            ledger,
            memory,
            machines: machines::Machines::default(),
            record: record::Record::default(),
            services: services::Services::default(),
            watches: watches::Watches::default(),
            writes: writes::Writes::default(),
        }
    }

    /// All there is, as of the last check.
    pub(crate) fn seen(&self) -> &Snapshot {
        self.history.seen()
    }

    /// Checks everything that has happened since the last check.
    pub(crate) async fn check(&mut self, cluster: &Cluster) {
        // Machines first: what an agent did, it did for what the store had by then.
        for host in &cluster.hosts {
            self.machines.hear(&host.name, host.machine.facts(), host.machine.take_history());
        }
        let (machines, record) = (&mut self.machines, &mut self.record);
        let services = &mut self.services;
        let read = self.history.read(&cluster.store, |moment| {
            machines.learn(&moment);
            attempts::check(&moment);
            record.check(&moment, machines);
            capacity::check(&moment);
            counts::check(&moment);
            services.check(&moment);
        });
        read.await;
        self.services.step();
        self.machines.check(self.history.seen());
        self.ledger.read(|entries| self.writes.check(entries, self.history.seen()));
        let oldest = cluster.store.oldest().await.unwrap();
        self.memory.read(|heard| self.watches.check(heard, self.history.log(), oldest));
    }

    /// Waits until `holds`, at most `limit`, checking all the while. `what` names the promise.
    pub(crate) async fn until(
        &mut self,
        cluster: &Cluster,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Snapshot) -> bool,
    ) {
        let until = Instant::now() + limit;
        loop {
            self.check(cluster).await;
            if holds(self.seen()) {
                return;
            }
            let late = Instant::now() >= until;
            assert!(!late, "{what}: not within {limit:?}\n{}", describe(self.seen()));
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Checks what must hold when faults have stopped and nothing is on its way, at the latest after
    /// [`CONTACT_BOUND`].
    pub(crate) async fn check_quiet(&mut self, cluster: &Cluster) {
        let until = Instant::now() + CONTACT_BOUND;
        loop {
            self.check(cluster).await;
            let left_over = self.machines.left_over(self.history.seen());
            match left_over.and_then(|()| counts::inexact(self.history.seen())) {
                Ok(()) => break,
                Err(broken) => assert!(Instant::now() < until, "{broken}"),
            }
            tokio::time::sleep(PERIOD).await;
        }
        watches::check_quiet(cluster, &self.memory).await;
    }
}
