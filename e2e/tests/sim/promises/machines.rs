//! What machines did: promises 2, 5, 7 and 8 where they end, in containers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::{Kind as _, Task};
use node_agent::engine::sim::{HistoryEvent, HistoryKind};
use node_agent::engine::{Identity, NodeFacts};
use runtime::{Any, Snapshot};

use super::raw;
use crate::history::Moment;

/// Promise 7: what nobody wants is gone so long after faults have stopped. The agent is back in
/// contact within 15 s (its longest back-off, a lease's TTL, its own look around), and the longest
/// grace in the workload is 3 s.
pub(crate) const CONTACT_BOUND: Duration = Duration::from_secs(20);

/// An attempt of a task, by its uid.
type Attempt = (String, u32);

/// What machines did.
#[derive(Debug, Default)]
pub(super) struct Machines {
    /// What each runs.
    running: BTreeMap<String, BTreeMap<Identity, Held>>,
    /// Attempts that were started and did not go with their machine: where, and the number of the
    /// restart in place.
    started: BTreeMap<Attempt, (String, u32)>,
    /// Attempts that ran to their end, with exit code 0.
    ran_well: BTreeSet<Attempt>,
    /// Attempts that were bound to a node.
    bound: BTreeSet<(Attempt, String)>,
    /// Those that nobody wanted there any more before their agent said that they had ended.
    released: BTreeSet<(Attempt, String)>,
    /// Started and stopped since the last check.
    news: Vec<(String, HistoryEvent)>,
}

/// What a container takes of its machine.
#[derive(Debug)]
struct Held {
    cpu_millis: u64,
    ports: Vec<u16>,
}

fn attempt_of(identity: &Identity) -> Attempt {
    (identity.uid().to_owned(), identity.attempt())
}

impl Machines {
    /// Whether this attempt ran to its end, with exit code 0.
    pub(super) fn ran_well(&self, uid: &str, attempt: u32) -> bool {
        self.ran_well.contains(&(uid.to_owned(), attempt))
    }

    /// Takes over what happened on a machine; at each start, looks at what it runs.
    pub(super) fn hear(&mut self, host: &str, facts: &NodeFacts, news: Vec<HistoryEvent>) {
        for happening in news {
            let attempt = attempt_of(&happening.identity);
            let running = self.running.entry(host.to_owned()).or_default();
            match &happening.what {
                HistoryKind::Started { cpu_millis, host_ports } => {
                    let held = Held { cpu_millis: *cpu_millis, ports: host_ports.clone() };
                    running.insert(happening.identity.clone(), held);
                    fits(host, facts, running);
                    let beside = running.keys().filter(|it| attempt_of(it) == attempt).count();
                    assert_eq!(beside, 1, "promise 2: {attempt:?} runs twice on {host}");
                    let restart = happening.identity.restart();
                    let earlier = self.started.insert(attempt.clone(), (host.to_owned(), restart));
                    // In place: on the same machine, each time with the next number.
                    let follows =
                        |(before, number): (String, u32)| before == host && number < restart;
                    assert!(
                        earlier.clone().is_none_or(follows),
                        "promise 2: {attempt:?}, restart {restart} on {host}, is started after {earlier:?}"
                    );
                }
                HistoryKind::Ended { code } => {
                    running.remove(&happening.identity);
                    if *code == 0 {
                        self.ran_well.insert(attempt);
                    }
                }
                HistoryKind::Stopped => drop(running.remove(&happening.identity)),
                HistoryKind::Lost => {
                    running.remove(&happening.identity);
                    // Its agent may have seen nothing of it, and starts what it wrote down.
                    self.started.remove(&attempt);
                }
            }
            self.news.push((host.to_owned(), happening));
        }
    }

    /// Takes over what this revision bound to nodes, and released.
    pub(super) fn learn(&mut self, moment: &Moment<'_>) {
        for change in moment.changes {
            let now = task(change.now.as_ref());
            if let Some((now, node)) = now.and_then(|now| Some((now, raw::node(now)?))) {
                self.bound.insert(place(now, node));
            }
            if let Some(before) = task(change.before.as_ref())
                && let Some(node) = raw::node(before)
            {
                let wants = |task| raw::wants(task, before.spec.attempt, node);
                // An end that its agent reported came of what it did: that is judged.
                if raw::end(before).is_none() && !now.is_some_and(wants) {
                    self.released.insert(place(before, node));
                }
            }
        }
    }

    /// Judges what was started and stopped by what the store had by then.
    pub(super) fn check(&mut self, seen: &Snapshot) {
        for (host, HistoryEvent { identity, what, .. }) in std::mem::take(&mut self.news) {
            match what {
                HistoryKind::Started { .. } => {
                    let bound = self.bound.contains(&(attempt_of(&identity), host.clone()));
                    assert!(
                        bound,
                        "promise 2: {identity} was started on {host}, never bound to it"
                    );
                }
                HistoryKind::Stopped => {
                    let released = (attempt_of(&identity), host.clone());
                    assert!(
                        self.released.contains(&released),
                        "promise 5: {identity} was stopped on {host}, where it is wanted: {:#?}",
                        task_of(seen, &identity)
                    );
                }
                HistoryKind::Ended { .. } | HistoryKind::Lost => (),
            }
        }
    }

    /// Promise 7: what runs that nobody wants, if anything.
    pub(super) fn left_over(&self, seen: &Snapshot) -> Result<(), String> {
        let all = self.running.iter().flat_map(|(host, running)| {
            running.keys().map(move |identity| (host.as_str(), identity))
        });
        for (host, identity) in all {
            if !is_wanted(seen, identity, host) {
                let task = task_of(seen, identity);
                return Err(format!("promise 7: {identity} runs on {host}, unwanted: {task:#?}"));
            }
        }
        Ok(())
    }
}

/// Promise 8: what runs fits the machine.
fn fits(host: &str, facts: &NodeFacts, running: &BTreeMap<Identity, Held>) {
    let (has, takes) =
        (u64::from(facts.cpus) * 1000, running.values().map(|held| held.cpu_millis).sum::<u64>());
    assert!(takes <= has, "promise 8: {host} has {has} m, and runs {takes} m: {running:?}");
    let ports: Vec<u16> = running.values().flat_map(|held| held.ports.iter().copied()).collect();
    let apart: BTreeSet<u16> = ports.iter().copied().collect();
    assert_eq!(apart.len(), ports.len(), "promise 8: {host} runs two on a port: {running:?}");
}

fn is_wanted(seen: &Snapshot, identity: &Identity, host: &str) -> bool {
    task_of(seen, identity)
        .is_some_and(|task| raw::wants(task, identity.attempt(), host) && raw::end(task).is_none())
}

fn task(object: Option<&Any>) -> Option<&Task> {
    match object {
        Some(Any::Task(task)) => Some(task),
        _ => None,
    }
}

fn place(task: &Task, node: &str) -> (Attempt, String) {
    ((task.uid().to_owned(), task.spec.attempt), node.to_owned())
}

fn task_of<'a>(seen: &'a Snapshot, identity: &Identity) -> Option<&'a Task> {
    seen.tasks.iter().map(|task| &**task).find(|task| task.uid() == identity.uid())
}
