//! Decides which tasks leave a node.
//!
//! # Invariants
//!
//! * A task is evicted for a taint only while the node has it, and not before the time that the task
//!   tolerates it is over.
//! * On the state that its own actions lead to, `plan` returns nothing (it is a fixpoint).

use api::object::Kind as _;
use api::taint::{self, Toleration};
use api::task::StopReason;
use api::{Node, Task, Timestamp};

use crate::action::{Action, Group};

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
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The writes. Each group happens as a whole or not at all, independently of the others.
    pub groups: Vec<Group>,
    /// When to plan again even if nothing has changed.
    pub wake_at: Option<Timestamp>,
}

/// The maximum number of task changes in a plan; the next plan asks for the rest.
const ROUND_OPS_MAX: usize = 1_000;

/// Decides which tasks leave the node now.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    // What is being stopped leaves anyway, and a lost task is the node controller's.
    let staying =
        view.tasks.iter().filter(|it| it.task.stop().is_none() && it.task.loss().is_none());
    for placed in staying {
        let Some(leave) = taint::leave(&view.node.spec.taints, placed.tolerations) else {
            continue;
        };
        match leave.at.filter(|at| *at > view.now) {
            Some(at) => plan.wake_at = Some(plan.wake_at.map_or(at, |before| before.min(at))),
            None if plan.groups.len() < ROUND_OPS_MAX => {
                let why = format!("node {} has taint {}", view.node.name(), leave.taint);
                let evict = Action::evict(placed.task, StopReason::Drain, Some(why));
                plan.groups.push(evict.into());
            }
            None => (),
        }
    }
    plan
}
