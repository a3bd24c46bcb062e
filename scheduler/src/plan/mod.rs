//! Decides which task gets which node.
//!
//! # Invariants
//!
//! * Each decision takes the earlier ones into account: nothing is given away twice.
//! * The chosen node is the best of all nodes that fit, not of a sample. Equal inputs give equal
//!   placements, whatever the order in which they arrived.
//! * A node that returned a task is not offered it again before its wait is over, and meanwhile
//!   delays no other task.
//! * A class that fits no node delays no other class, and is only tried again when a change may
//!   help it.

mod exclusions;
mod explain;
mod filter;
mod index;
pub(crate) mod indexes;
#[cfg(test)]
mod properties;
mod score;
mod search;
#[cfg(test)]
mod tests;
mod wanted;

use std::sync::Arc;

use api::{Task, Timestamp};

use crate::class::{ClassId, Parked};
use crate::snapshot::{Improvement, Snapshot, TaskUse};

pub use crate::class::Blocked;
pub use explain::{Explanation, explain};
pub use filter::Rejection;

use exclusions::Exclusions;
use index::Choice;
use search::Search;
use wanted::Wanted;

/// The bounds of one call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The current time. Tasks that have to wait longer are skipped.
    pub now: Timestamp,
    /// Most bindings to decide; the next call decides the rest.
    pub bindings_max: usize,
}

/// The decision that a task runs on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// The task at the time of the decision.
    pub task: Arc<Task>,
    /// The node.
    pub node: Arc<str>,
}

/// The result. The promises are in the snapshot already.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The bindings in the order of their decisions.
    pub bindings: Vec<Bind>,
    /// Classes that were tried and fit no node; [`explain()`] says why. A class that no change could
    /// have helped is not tried and not listed again.
    pub waiting: Vec<ClassId>,
    /// When the first delayed task is due.
    pub wake_at: Option<Timestamp>,
    /// Whether the limit left tasks that could be placed.
    pub more: bool,
}

/// Places the waiting tasks of `snapshot` in order: higher priority first, then older.
pub fn place(snapshot: &mut Snapshot, limits: &Limits) -> Plan {
    let mut plan = Plan::default();
    while let Some(task) = snapshot.waiting.due(limits.now) {
        let queued = snapshot.tasks.at(task.0).queued(task);
        snapshot.set_use(task, TaskUse::Queued(queued));
    }
    wake(snapshot, &mut plan);
    while plan.bindings.len() < limits.bindings_max
        && let Some(class) = snapshot.waiting.next()
    {
        serve(snapshot, class, limits, &mut plan);
    }
    plan.more = snapshot.waiting.next().is_some();
    plan.wake_at = snapshot.waiting.wake_at();
    plan
}

/// Tries parked classes again that a change may have helped.
fn wake(snapshot: &mut Snapshot, plan: &mut Plan) {
    let log = snapshot.nodes.log();
    let (mut node_changed, mut freed) = (false, false);
    match log.since(snapshot.waiting.woken_at) {
        Some(news) => news.for_each(|(_, improvement)| match improvement {
            Improvement::Node => node_changed = true,
            Improvement::Freed => freed = true,
        }),
        None => (node_changed, freed) = (true, true),
    }
    snapshot.waiting.woken_at = log.end();
    let may_help = |parked: &Parked| match parked {
        Parked::Blocked => false,
        Parked::UntilNode => node_changed,
        Parked::UntilRoom => node_changed || freed,
    };
    let parked = snapshot.waiting.parked.iter().filter(|(_, parked)| may_help(parked));
    let classes: Vec<ClassId> = parked.map(|(class, _)| *class).collect();
    for id in classes {
        match looked_at_again(snapshot, id) {
            None => snapshot.waiting.unpark(id, snapshot.classes.at_mut(id.0)),
            // The new node may be full. From then on a task's end may help, too.
            Some(parked) => {
                snapshot.waiting.park(id, snapshot.classes.at_mut(id.0), parked);
                plan.waiting.push(id);
            }
        }
    }
    for id in std::mem::take(&mut snapshot.waiting.joined) {
        if !plan.waiting.contains(&id) {
            plan.waiting.push(id);
        }
    }
}

/// What has to happen for a parked class now; nothing if some node fits it.
fn looked_at_again(snapshot: &mut Snapshot, id: ClassId) -> Option<Parked> {
    let Snapshot { nodes, sets, jobs, classes, shapes, indexes, .. } = snapshot;
    let class = classes.at_mut(id.0);
    let facts = Arc::clone(&class.facts);
    // If data is missing, that is found out when the class is served.
    let wanted = Wanted::new(&facts, sets, jobs).ok()?;
    let mut search = Search::begin((id, class), &wanted, shapes, (indexes, nodes));
    let best = search.best((id, class), &wanted, (indexes, nodes), &Exclusions::default());
    let parked = search.parked();
    search.end(class, (indexes, nodes));
    (!matches!(best, Choice::Node(_))).then_some(parked)
}

/// Places tasks of a class one by one while it is the class's turn.
fn serve(snapshot: &mut Snapshot, id: ClassId, limits: &Limits, plan: &mut Plan) {
    let Snapshot { nodes, tasks, sets, jobs, classes, shapes, indexes, waiting, .. } = snapshot;
    let class = classes.at_mut(id.0);
    let facts = Arc::clone(&class.facts);
    waiting.unlist(id, class);
    let Ok(wanted) = Wanted::new(&facts, sets, jobs) else {
        waiting.park(id, class, Parked::Blocked);
        plan.waiting.push(id);
        return;
    };
    let mut search = Search::begin((id, class), &wanted, shapes, (indexes, nodes));
    while let Some(task) = class.queue.first().map(|first| first.task) {
        let entry = tasks.at_mut(task.0);
        let exclusions = Exclusions::of(entry, nodes, limits.now);
        match search.best((id, class), &wanted, (indexes, nodes), &exclusions) {
            Choice::Node(node) => {
                waiting.pop(class);
                let name = Arc::clone(&nodes.at(node).name);
                entry.promise(Arc::clone(&name));
                entry.task_use = TaskUse::Taking { node, seen_ports: Vec::new() };
                nodes.charge(node, &facts, &Vec::new());
                plan.bindings.push(Bind { task: Arc::clone(&entry.object), node: name });
            }
            // Other tasks of the class may still use the nodes that returned this one.
            Choice::Refused => {
                waiting.pop(class);
                let until = exclusions.look_again_at(limits.now);
                entry.task_use = TaskUse::Delayed(until);
                waiting.delay(until, task);
            }
            Choice::None => {
                waiting.park(id, class, search.parked());
                plan.waiting.push(id);
                break;
            }
        }
        if plan.bindings.len() >= limits.bindings_max || !waiting.is_still_next(id, class) {
            break;
        }
    }
    waiting.relist(id, class);
    search.end(class, (indexes, nodes));
}
