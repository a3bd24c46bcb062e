//! Which task gets which node.
//!
//! # Invariants
//!
//! * Each decision sees the promises made before it: nothing is given away twice.
//! * The node is the best of all that admit the task, not of a sample; equal inputs give equal
//!   placements, whatever the order in which they came.
//! * A node that gave a task back is not offered it again before its time, and holds up no other task.
//! * A class that no node is right for holds up no other, and is looked at again only when
//!   something changed that may help it.

mod against;
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
use crate::snapshot::{Improvement, Snapshot, Standing};

pub use crate::class::Blocked;
pub use explain::{Explanation, explain};
pub use filter::Rejection;

use against::Against;
use index::Choice;
use search::Search;
use wanted::Wanted;

/// What bounds one call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The time: tasks that are to wait longer do.
    pub now: Timestamp,
    /// Most bindings that are decided; what is left is decided by the next call.
    pub bindings_max: usize,
}

/// That a task is to run on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// The task, as it was when that was decided.
    pub task: Arc<Task>,
    /// The node.
    pub node: Arc<str>,
}

/// What was decided. The promises are in the snapshot already.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In the order of the decisions.
    pub bindings: Vec<Bind>,
    /// Classes that were looked at and that no node is right for; [`explain`] says why. A class
    /// that could not have been helped by what changed is not looked at, and not named again.
    pub waiting: Vec<ClassId>,
    /// When the first task's waiting time is over.
    pub wake_at: Option<Timestamp>,
    /// Whether the limit left tasks that may have a node.
    pub more: bool,
}

/// Decides for the tasks of `snapshot` that wait, in order: higher priority, then older.
pub fn place(snapshot: &mut Snapshot, limits: &Limits) -> Plan {
    let mut plan = Plan::default();
    while let Some(task) = snapshot.waiting.due(limits.now) {
        let queued = snapshot.tasks.at(task.0).queued(task);
        snapshot.set_standing(task, Standing::Queued(queued));
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

/// Looks again at parked classes that may be helped by what changed.
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
            // A node that came may be full: from then on room may help, too.
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

/// What may help a parked class now; nothing if some node is right for it.
fn looked_at_again(snapshot: &mut Snapshot, id: ClassId) -> Option<Parked> {
    let Snapshot { nodes, sets, jobs, classes, shapes, indexes, .. } = snapshot;
    let class = classes.at_mut(id.0);
    let facts = Arc::clone(&class.facts);
    // Its turn finds out what it lacks.
    let wanted = Wanted::new(&facts, sets, jobs).ok()?;
    let mut search = Search::begin((id, class), &wanted, shapes, (indexes, nodes));
    let best = search.best((id, class), &wanted, (indexes, nodes), &Against::default());
    let parked = search.parked();
    search.end(class, (indexes, nodes));
    (!matches!(best, Choice::Node(_))).then_some(parked)
}

/// Finds nodes for a class, task by task, as long as it is the class's turn.
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
        let against = Against::of(entry, nodes, limits.now);
        match search.best((id, class), &wanted, (indexes, nodes), &against) {
            Choice::Node(node) => {
                waiting.pop(class);
                let name = Arc::clone(&nodes.at(node).name);
                entry.promise(Arc::clone(&name));
                entry.standing = Standing::Taking { node, seen_ports: Vec::new() };
                nodes.charge(node, &facts, &Vec::new());
                plan.bindings.push(Bind { task: Arc::clone(&entry.object), node: name });
            }
            // Others of its class may have the nodes that gave this one back.
            Choice::Refused => {
                waiting.pop(class);
                let until = against.look_again_at(limits.now);
                entry.standing = Standing::Delayed(until);
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
