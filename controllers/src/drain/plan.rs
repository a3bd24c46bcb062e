//! Decides which tasks leave a node, and how its drain stands.
//!
//! # Invariants
//!
//! * A task is evicted for a taint only while the node has it, and not before the time that the task
//!   tolerates it is over.
//! * A task of a service is evicted by force only, after the deadline. Until then the service's own
//!   plan decides, which knows what is ready. Those of a service with one task on each node stay.
//! * A drain that has given up evicts nothing any more.
//! * On the state that its own actions lead to, `plan` returns nothing (it is a fixpoint).

use std::collections::BTreeMap;

use api::node::{Drain, DrainState, DrainStatus};
use api::object::Kind as _;
use api::table::some_of;
use api::taint::{self, Toleration};
use api::task::StopReason;
use api::{KindId, Node, Service, Task, Timestamp};
use jiff::SignedDuration;

use crate::action::{Action, Group};
use crate::notice::Notice;
use crate::service::plan::pin;

/// Everything that the decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The node.
    pub node: &'a Node,
    /// The tasks that are bound to it and have not ended.
    pub tasks: &'a [Placed<'a>],
    /// The time.
    pub now: Timestamp,
}

/// A task on the node.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The task.
    pub task: &'a Task,
    /// The taints that its placement tolerates.
    pub tolerations: &'a [Toleration],
    /// The service that it belongs to.
    pub service: Option<&'a Service>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The writes. Each group happens as a whole or not at all, independently of the others.
    pub groups: Vec<Group>,
    /// When to plan again even if nothing has changed.
    pub wake_at: Option<Timestamp>,
    /// What to report to users once the writes have succeeded.
    pub notices: Vec<Notice>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }

    /// Evicts a task, unless the plan is large enough: the next one evicts it then.
    fn evict(&mut self, task: &Task, why: &str) {
        if self.groups.len() < ROUND_OPS_MAX {
            let evict = Action::evict(task, StopReason::Drain, Some(why.to_owned()));
            self.groups.push(evict.into());
        }
    }
}

/// The maximum number of task changes in a plan; the next plan asks for the rest.
const ROUND_OPS_MAX: usize = 1_000;
/// How often it is looked what a drain waits for.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// How many services a sentence names.
const SERVICES_NAMED: usize = 3;

/// Decides which tasks leave the node now.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    for placed in view.tasks.iter().filter(|it| stays(it)) {
        let Some(leave) = taint::leave(&view.node.spec.taints, placed.tolerations) else {
            continue;
        };
        match leave.at.filter(|at| *at > view.now) {
            Some(at) => plan.wake(at),
            None => {
                let why = format!("node {} has taint {}", view.node.name(), leave.taint);
                plan.evict(placed.task, &why);
            }
        }
    }
    let next = view.node.spec.drain.as_ref().map(|asked| drain(view, asked, &mut plan));
    if next != view.node.status.drain {
        let mut node = view.node.clone();
        node.status.drain = next;
        plan.groups.push(Action::status(node).into());
    }
    plan
}

/// Whether nothing was done yet to make a task leave. A lost one is the node controller's.
fn stays(placed: &Placed<'_>) -> bool {
    placed.task.stop().is_none() && placed.task.loss().is_none()
}

/// Whether a task belongs to its node: a drain leaves it there.
fn belongs_here(placed: &Placed<'_>) -> bool {
    is_of_service(placed.task) && pin(placed.task).is_some()
}

fn is_of_service(task: &Task) -> bool {
    task.controller().is_some_and(|owner| owner.kind == KindId::Service.info().kind)
}

/// Carries the drain on. Returns how it stands then.
fn drain(view: &View<'_>, asked: &Drain, plan: &mut Plan) -> DrainStatus {
    let before = view.node.drain();
    if let Some(over) = before.filter(|it| it.state == DrainState::GaveUp) {
        return over.clone();
    }
    let there: Vec<&Placed<'_>> = view.tasks.iter().filter(|it| !belongs_here(it)).collect();
    let remaining = u32::try_from(there.len()).unwrap_or(u32::MAX);
    let goes_on = before.filter(|it| it.state == DrainState::Progressing);
    // A request that only says something else goes on where the one before it was.
    let known = goes_on.or(view.node.status.drain.as_ref().filter(|it| it.finished_at.is_none()));
    let mut status = DrainStatus {
        request: asked.clone(),
        state: DrainState::Progressing,
        started_at: known.map_or(view.now, |known| known.started_at),
        finished_at: None,
        total: known.map_or(0, |known| known.total).max(remaining),
        remaining,
        waits_for: None,
    };
    if remaining == 0 {
        if let Some(over) = before.filter(|it| it.state == DrainState::Complete) {
            return over.clone();
        }
        status.state = DrainState::Complete;
        status.finished_at = Some(view.now);
        let message = format!("all {} tasks have left the node", status.total);
        plan.notices.push(Notice { warning: false, reason: "Drained", message });
        return status;
    }
    let is_over = asked.deadline.is_some_and(|at| at <= view.now);
    if is_over && !asked.force {
        status.state = DrainState::GaveUp;
        status.finished_at = Some(view.now);
        status.waits_for = waits_for(&there);
        let why = status.waits_for.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let message =
            format!("at the deadline {remaining} of {} tasks had not left{why}", status.total);
        plan.notices.push(Notice { warning: true, reason: "DrainGaveUp", message });
        return status;
    }
    if let Some(at) = asked.deadline.filter(|_| !is_over) {
        plan.wake(at);
    }
    // What services say of themselves changes without an event that comes here.
    plan.wake(view.now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX));
    let node = view.node.name();
    let why = match is_over {
        true => format!("the deadline of the drain of node {node} has passed"),
        false => format!("node {node} is being drained"),
    };
    for placed in there.iter().filter(|it| stays(it) && (is_over || !is_of_service(it.task))) {
        plan.evict(placed.task, &why);
    }
    status.waits_for = waits_for(&there);
    status
}

/// What a drain with these tasks left waits for.
fn waits_for(there: &[&Placed<'_>]) -> Option<String> {
    let ending = there.iter().filter(|it| !stays(it) || !is_of_service(it.task)).count();
    let mut held: BTreeMap<String, (usize, Option<&Service>)> = BTreeMap::new();
    for placed in there.iter().filter(|it| stays(it) && is_of_service(it.task)) {
        let owner = placed.task.controller().map(|owner| owner.name.as_str()).unwrap_or_default();
        let name = format!("{}/{owner}", placed.task.namespace());
        held.entry(name).or_insert((0, placed.service)).0 += 1;
    }
    let held: Vec<String> =
        held.iter().map(|(name, (count, of))| of_service(name, *count, *of)).collect();
    let stopping = (ending > 0).then(|| match ending {
        1 => "1 task is being stopped".to_owned(),
        _ => format!("{ending} tasks are being stopped"),
    });
    let held = (!held.is_empty()).then(|| some_of(held.iter(), SERVICES_NAMED));
    let all: Vec<String> = stopping.into_iter().chain(held).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn of_service(name: &str, count: usize, service: Option<&Service>) -> String {
    let tasks = if count == 1 { "task" } else { "tasks" };
    let Some(service) = service else { return format!("{count} {tasks} of service {name}") };
    let (status, least) = (&service.status, service.spec.max_unavailable(service.status.replicas));
    let least = status.replicas.saturating_sub(least);
    format!(
        "{count} {tasks} of service {name} ({} of {} ready, at least {least} must be)",
        status.ready, status.replicas
    )
}
