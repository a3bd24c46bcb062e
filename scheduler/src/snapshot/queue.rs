//! Waiting tasks: the order in which they are placed, those that are delayed, and the classes that
//! fit no node.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Timestamp;

use super::queued::{Queued, TaskId};
use crate::class::{Class, ClassId, Facts, Parked};

/// The position of a class among those to be served: that of its first task. Tasks of one priority
/// and age are placed class by class, so that each node is examined once and not once for each
/// task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    priority: Reverse<i32>,
    created: Timestamp,
    facts: ByKey,
    class: ClassId,
}

/// Orders classes by their keys.
#[derive(Debug, Clone)]
struct ByKey(Arc<Facts>);

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}
impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for ByKey {}

/// The waiting tasks.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Classes with waiting tasks that are not parked, in order.
    turns: BTreeSet<Turn>,
    /// Classes that fit no node, each with what may change that.
    pub(crate) parked: BTreeMap<ClassId, Parked>,
    delayed: BTreeSet<(Timestamp, TaskId)>,
    /// Number of tasks that wait for a node or are delayed.
    pub(crate) pending: usize,
    /// Parked classes that got a new task.
    pub(crate) joined: BTreeSet<ClassId>,
    /// Up to where the log of nodes was read to wake parked classes.
    pub(crate) woken_at: u64,
}

fn turn(id: ClassId, class: &Class) -> Option<Turn> {
    let first = class.queue.first()?;
    Some(Turn {
        priority: first.priority,
        created: first.created,
        facts: ByKey(Arc::clone(&class.facts)),
        class: id,
    })
}

impl Waiting {
    /// The class to serve next.
    pub(crate) fn next(&self) -> Option<ClassId> {
        self.turns.first().map(|turn| turn.class)
    }

    /// Whether a class is still the next one after its first task was taken. If not, call
    /// [`Self::relist`] before the next change.
    pub(crate) fn is_still_next(&self, id: ClassId, class: &Class) -> bool {
        let next = self.turns.first();
        turn(id, class).is_some_and(|own| next.is_none_or(|next| own < *next))
    }

    /// Takes a class out of the order, to serve it.
    pub(crate) fn unlist(&mut self, id: ClassId, class: &Class) {
        if let Some(turn) = turn(id, class) {
            self.turns.remove(&turn);
        }
    }

    /// Puts it back into the order.
    pub(crate) fn relist(&mut self, id: ClassId, class: &Class) {
        if class.parked.is_none()
            && let Some(turn) = turn(id, class)
        {
            self.turns.insert(turn);
        }
    }

    pub(crate) fn enqueue(&mut self, id: ClassId, class: &mut Class, queued: Queued) {
        self.pending += 1;
        let is_first = class.queue.first().is_none_or(|first| queued < *first);
        if is_first {
            self.unlist(id, class);
        }
        class.queue.insert(queued);
        if is_first {
            self.relist(id, class);
        }
        if class.parked.is_some() {
            self.joined.insert(id);
        }
    }

    pub(crate) fn dequeue(&mut self, id: ClassId, class: &mut Class, queued: &Queued) {
        self.pending -= 1;
        let is_first = class.queue.first() == Some(queued);
        if is_first {
            self.unlist(id, class);
        }
        class.queue.remove(queued);
        if is_first {
            self.relist(id, class);
        }
        if class.queue.is_empty() {
            // It will be tried again when a task comes.
            class.parked = None;
            self.parked.remove(&id);
            self.joined.remove(&id);
        }
    }

    /// Takes the first task of a class that was taken out.
    pub(crate) fn pop(&mut self, class: &mut Class) -> Option<Queued> {
        let first = class.queue.pop_first()?;
        self.pending -= 1;
        Some(first)
    }

    pub(crate) fn delay(&mut self, until: Timestamp, task: TaskId) {
        self.pending += 1;
        self.delayed.insert((until, task));
    }

    pub(crate) fn undelay(&mut self, until: Timestamp, task: TaskId) {
        self.pending -= 1;
        self.delayed.remove(&(until, task));
    }

    /// A delayed task that is due.
    pub(crate) fn due(&self, now: Timestamp) -> Option<TaskId> {
        self.delayed.first().filter(|(until, _)| *until <= now).map(|(_, task)| *task)
    }

    /// When the next delayed task is due.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.delayed.first().map(|(until, _)| *until)
    }

    /// Parks a class that was taken out: no node fits it.
    pub(crate) fn park(&mut self, id: ClassId, class: &mut Class, parked: Parked) {
        class.parked = Some(parked);
        self.parked.insert(id, parked);
    }

    /// Ends that: some node may fit it.
    pub(crate) fn unpark(&mut self, id: ClassId, class: &mut Class) {
        if class.parked.take().is_some() {
            self.parked.remove(&id);
            self.joined.remove(&id);
            self.relist(id, class);
        }
    }
}
