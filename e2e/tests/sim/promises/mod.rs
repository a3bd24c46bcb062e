//! The promises that can be seen from outside, as checks on what is there.
//!
//! Numbers are those of the design's list. A check panics with what it saw.

use std::collections::BTreeMap;

use api::amounts::Amounts;
use api::completion::End;
use api::merge;
use api::task::TaskPhase;
use api::{Kind as _, Task};
use runtime::Snapshot;

use crate::cluster::{Cluster, Host};

/// What was seen before, to compare with what is seen now.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    /// Ends of (job uid, run, index).
    recorded: BTreeMap<(String, u32, u32), End>,
    /// By task uid: attempt, run, and how the attempt had ended.
    tasks: BTreeMap<String, Seen>,
    /// What each machine was seen starting: (task uid, attempt) by machine.
    started: BTreeMap<(String, u32), String>,
}

#[derive(Debug, Clone)]
struct Seen {
    attempt: u32,
    run: u32,
    end: Option<TaskPhase>,
}

impl Watcher {
    /// Checks everything that must hold at any instant.
    pub(crate) fn check(&mut self, seen: &Snapshot, hosts: &[Host]) {
        self.recorded_stays_recorded(seen);
        self.attempts_only_grow(seen);
        no_node_is_over_committed(seen);
        sums_are_totals(seen);
        self.an_attempt_is_started_once(hosts);
    }

    /// Promise 3: what is recorded is final, and nothing of it runs again in its run.
    fn recorded_stays_recorded(&mut self, seen: &Snapshot) {
        for chunk in seen.completion_chunks.iter() {
            for (index, end) in chunk.ends() {
                let key = (chunk.spec.job.clone(), chunk.spec.run, index);
                let before = self.recorded.insert(key.clone(), end);
                assert!(
                    before.is_none_or(|before| before == end),
                    "promise 3: {key:?} was {before:?}, is {end:?}"
                );
            }
        }
        for task in seen.tasks.iter() {
            let Some(owner) = task.controller() else { continue };
            let key = (owner.uid.clone(), task.spec.run, task.spec.index);
            if self.recorded.contains_key(&key) {
                assert!(
                    task.has_ended(),
                    "promise 3: {key:?} is recorded, and {} is {}",
                    task.name(),
                    task.phase()
                );
            }
        }
    }

    /// Promise 2 (Replace): attempts only grow, and an attempt that has ended stays as it ended.
    fn attempts_only_grow(&mut self, seen: &Snapshot) {
        for task in seen.tasks.iter() {
            let end = task.has_ended().then(|| task.phase());
            let now = Seen { attempt: task.spec.attempt, run: task.spec.run, end };
            assert!(task.status.attempt <= now.attempt, "promise 2: a report of a later attempt");
            if let Some(before) = self.tasks.insert(task.uid().to_owned(), now.clone()) {
                assert!(now.attempt >= before.attempt, "promise 2: {} went back", task.name());
                if now.attempt == before.attempt && before.end.is_some() {
                    assert_eq!(
                        (now.run, now.end),
                        (before.run, before.end),
                        "promise 2: {}",
                        task.name()
                    );
                }
            }
        }
    }

    /// One binding, one container: an attempt is never seen running on two machines, unless its
    /// first was refused or lost, when the attempt is another.
    fn an_attempt_is_started_once(&mut self, hosts: &[Host]) {
        for host in hosts {
            for (_, identity) in host.machine.running() {
                let key = (identity.uid().to_owned(), identity.attempt());
                let before = self.started.insert(key.clone(), host.name.clone());
                assert!(
                    before.as_ref().is_none_or(|before| *before == host.name),
                    "promise 2: {key:?} runs on {} and ran on {before:?}",
                    host.name
                );
            }
        }
    }
}

/// Promise 8: what is bound to a node fits it, on every resource.
fn no_node_is_over_committed(seen: &Snapshot) {
    let mut taken: BTreeMap<&str, Amounts> = BTreeMap::new();
    for task in seen.tasks.iter() {
        let Some(node) = task.takes_resources_on() else { continue };
        let sum = taken.entry(node).or_default();
        for (resource, amount) in requests(seen, task) {
            *sum.entry(resource).or_default() += amount;
        }
    }
    for (node, sum) in taken {
        let Some(node) = seen.nodes.get(&api::ObjectKey::new("", node)) else { continue };
        let has = node.allocatable();
        for (resource, amount) in sum {
            let room = has.get(&resource).copied().unwrap_or_default();
            assert!(
                amount <= room,
                "promise 8: {} has {room} {resource}, {amount} is taken",
                node.name()
            );
        }
    }
}

fn requests(seen: &Snapshot, task: &Task) -> Amounts {
    let key = api::ObjectKey::new(task.namespace(), &*task.spec.template);
    let Some(template) = seen.task_templates.get(&key) else { return Amounts::new() };
    let merged = merge::template(&template.spec.template, task.spec.overrides.template.as_ref());
    merged.map(|template| template.requests()).unwrap_or_default()
}

/// Promise 10: every task is counted once.
fn sums_are_totals(seen: &Snapshot) {
    for job in seen.jobs.iter() {
        let status = &job.status;
        let sum =
            status.succeeded + status.failed + status.cancelled + status.active + status.pending;
        assert_eq!(sum, status.total, "promise 10: {} says {status:?}", job.name());
    }
}

/// Promise 7, when faults have stopped and everything has ended: nothing of ours runs.
pub(crate) fn nothing_runs(cluster: &Cluster) {
    for host in &cluster.hosts {
        let running = host.machine.running();
        assert!(running.is_empty(), "promise 7: on {} still run {running:?}", host.name);
    }
}
