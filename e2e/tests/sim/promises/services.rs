//! Promise 10a: nothing that Heliox does by its own choice leaves fewer tasks of a service ready than
//! `maxUnavailable` allows.
//!
//! A choice is made on what its maker knows, and that a task has stopped being ready may be on its way
//! to it. So a task counts as ready here if it was so in this step of the test or in the one before;
//! and of the numbers that a service has had in that time, the least is demanded.

use std::collections::{BTreeMap, BTreeSet};

use api::number_or_percent::NumberOrPercent;
use api::taint::TaintEffect;
use api::task::{ReportState, StopReason};
use api::{Kind as _, Node, Service, Task};
use runtime::Any;

use super::raw;
use crate::history::Moment;

/// What was known in one step.
#[derive(Debug, Default)]
struct Known {
    /// For each service, by uid, how few ready tasks it allowed at least.
    least: BTreeMap<String, u32>,
    /// The attempts of tasks that were ready.
    ready: BTreeSet<(String, u32)>,
    /// Nodes with a taint NoExecute: whoever sets one wants its tasks gone, whatever services allow.
    evicting: BTreeSet<String>,
}

/// What services allow, and what was ready lately.
#[derive(Debug, Default)]
pub(super) struct Services {
    now: Known,
    before: Known,
}

impl Services {
    /// Checks what this revision stopped.
    pub(super) fn check(&mut self, moment: &Moment<'_>) {
        for service in moment.seen.services.iter() {
            let Some(least) = least(service) else { continue };
            let known = self.now.least.entry(service.uid().to_owned()).or_insert(least);
            *known = least.min(*known);
        }
        for task in moment.seen.tasks.iter().filter(|task| is_ready(task)) {
            self.now.ready.insert(attempt(task));
        }
        let drives_away = |node: &Node| {
            node.spec.taints.iter().any(|taint| taint.effect == TaintEffect::NoExecute)
        };
        for node in moment.seen.nodes.iter().filter(|node| drives_away(node)) {
            self.now.evicting.insert(node.name().to_owned());
        }
        for change in moment.changes {
            let (Some(Any::Task(before)), Some(Any::Task(now))) = (&change.before, &change.now)
            else {
                continue;
            };
            if before.uid() == now.uid() && is_chosen(before, now) && is_ready(before) {
                self.is_allowed(moment, now);
            }
        }
    }

    /// A step of the test is over.
    pub(super) fn step(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    fn is_allowed(&self, moment: &Moment<'_>, stopped: &Task) {
        let Some(owner) = stopped.controller() else { return };
        let known = [&self.now, &self.before];
        let node = raw::node(stopped).unwrap_or_default();
        if known.iter().any(|it| it.evicting.contains(node)) {
            return;
        }
        let Some(least) = known.iter().filter_map(|it| it.least.get(&owner.uid)).min() else {
            return;
        };
        let was_ready = |task: &Task| known.iter().any(|it| it.ready.contains(&attempt(task)));
        let own = moment.seen.tasks.iter();
        let own = own.filter(|task| task.controller().is_some_and(|it| it.uid == owner.uid));
        let left = own.filter(|task| was_ready(task) && !raw::is_stopped(task)).count();
        assert!(
            left >= *least as usize,
            "promise 10a: with {} stopped, {left} tasks of {} are ready, of {least}: {:?}",
            stopped.name(),
            owner.name,
            stopped.spec.stop,
        );
    }
}

/// How few ready tasks a service allows at least; nothing where it counts nodes or shares.
fn least(service: &Service) -> Option<u32> {
    let spec = &service.spec;
    match spec.max_unavailable {
        Some(NumberOrPercent::Number(number)) if spec.per_node != Some(true) => {
            Some(spec.replicas.unwrap_or(1).saturating_sub(number))
        }
        Some(NumberOrPercent::Number(_) | NumberOrPercent::Percent(_)) | None => None,
    }
}

fn attempt(task: &Task) -> (String, u32) {
    (task.uid().to_owned(), task.spec.attempt)
}

fn is_ready(task: &Task) -> bool {
    let is_lost = task.status.loss.as_ref().is_some_and(|it| it.attempt == task.spec.attempt);
    raw::report(task) == Some(ReportState::Running) && task.status.ready && !is_lost
}

/// Whether the task was stopped just now, by a choice of Heliox.
fn is_chosen(before: &Task, now: &Task) -> bool {
    let stop = now.spec.stop.as_ref().filter(|_| !raw::is_stopped(before) && raw::is_stopped(now));
    stop.is_some_and(|stop| match stop.reason {
        StopReason::Revision
        | StopReason::ScaleDown
        | StopReason::Drain
        | StopReason::Preemption => true,
        StopReason::Cancel
        | StopReason::JobEnded
        | StopReason::Delete
        | StopReason::Timeout
        | StopReason::Suspend
        | StopReason::Gang
        | StopReason::Evict => false,
    })
}
