//! A task as the scheduler sees it: its object, its promise, and how it is accounted for.

use std::cmp::Reverse;
use std::sync::Arc;

use api::object::ObjectKey;
use api::task::{Refusals, TaskState};
use api::{Kind as _, Task, Timestamp};

use super::node::{NodeId, Nodes, SeenPorts};
use super::queued::{Queued, TaskId};
use crate::class::{ClassId, Shape};

/// A task with its promise and how it is accounted for.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    pub(crate) key: Arc<ObjectKey>,
    pub(crate) object: Arc<Task>,
    /// Always set, except while the task changes its class.
    pub(crate) class: Option<ClassId>,
    promise: Option<Promise>,
    /// After a refused binding: no other is tried before this time, unless the object changes.
    pub(crate) held_until: Option<Timestamp>,
    pub(crate) task_use: TaskUse,
}

/// A binding that was decided and that the cache does not show yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Promise {
    attempt: u32,
    /// The number of the task's last binding when it was decided.
    bindings_before: u32,
    node: Arc<str>,
}

/// How a task is accounted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TaskUse {
    /// Not at all.
    Idle,
    /// It waits for a node.
    Queued(Queued),
    /// It is delayed, and then waits for a node.
    Delayed(Timestamp),
    /// It holds resources of a node.
    Taking {
        /// The node.
        node: NodeId,
        /// The ports that it was assigned from the node's range.
        seen_ports: SeenPorts,
    },
    /// It succeeded on this node, so its output data is there.
    Succeeded {
        /// The node's name.
        node: String,
    },
}

fn bindings(task: &Task) -> u32 {
    task.spec.binding.as_ref().map_or(0, |binding| binding.number)
}

impl TaskEntry {
    pub(crate) fn new(key: Arc<ObjectKey>, object: Arc<Task>) -> Self {
        Self { key, object, class: None, promise: None, held_until: None, task_use: TaskUse::Idle }
    }

    /// Whether a newer object certainly belongs to the same class.
    pub(crate) fn is_same_class_with(&self, newer: &Task) -> bool {
        let old = &self.object;
        old.spec.template == newer.spec.template
            && old.spec.overrides == newer.spec.overrides
            && old.metadata.labels == newer.metadata.labels
            && old.metadata.owner_references == newer.metadata.owner_references
    }

    /// Stores a newer object. The promise is kept while the object does not show its result.
    pub(crate) fn replace(&mut self, newer: Arc<Task>) {
        let still_open = |promise: &Promise| {
            newer.uid() == self.object.uid()
                && newer.spec.attempt == promise.attempt
                && bindings(&newer) == promise.bindings_before
                && matches!(newer.state(), TaskState::Pending)
        };
        self.promise = self.promise.take().filter(still_open);
        self.held_until = None;
        self.object = newer;
    }

    /// Records a promise.
    pub(crate) fn promise(&mut self, node: Arc<str>) {
        let (attempt, bindings_before) = (self.object.spec.attempt, bindings(&self.object));
        self.promise = Some(Promise { attempt, bindings_before, node });
    }

    /// Ends the promise for an attempt. Returns whether there was one.
    pub(crate) fn end_promise_of(&mut self, attempt: u32) -> bool {
        self.promise.take_if(|promise| promise.attempt == attempt).is_some()
    }

    /// The node of the open promise, if there is one.
    #[cfg(test)]
    pub(crate) fn promised_node(&self) -> Option<&str> {
        self.promise.as_ref().map(|promise| &*promise.node)
    }

    /// How the task has to be accounted for, according to its object and its promise.
    pub(crate) fn use_now(&self, id: TaskId, shape: Option<&Shape>, nodes: &mut Nodes) -> TaskUse {
        let task = &*self.object;
        if let Some(node) = task.takes_resources_on() {
            let seen_ports = self.seen_ports(shape);
            return TaskUse::Taking { node: nodes.slot(node), seen_ports };
        }
        match task.state() {
            TaskState::Succeeded => match task.node() {
                Some(node) => TaskUse::Succeeded { node: node.to_owned() },
                None => TaskUse::Idle,
            },
            TaskState::Pending if !self.may_be_bound() => TaskUse::Idle,
            TaskState::Pending => match &self.promise {
                Some(promise) => {
                    TaskUse::Taking { node: nodes.slot(&promise.node), seen_ports: Vec::new() }
                }
                None => match self.waits_until() {
                    Some(until) => TaskUse::Delayed(until),
                    None => TaskUse::Queued(self.queued(id)),
                },
            },
            TaskState::Bound { .. }
            | TaskState::Starting { .. }
            | TaskState::Running { .. }
            | TaskState::Stopping { .. }
            | TaskState::Failed { .. }
            | TaskState::TimedOut
            | TaskState::Cancelled { .. }
            | TaskState::Lost { .. } => TaskUse::Idle,
        }
    }

    /// Until when it must not be bound, if there is such a time.
    fn waits_until(&self) -> Option<Timestamp> {
        let rests = self.object.refusals().map(Refusals::rests_until);
        self.object.spec.not_before.max(self.held_until).max(rests)
    }

    /// The nodes that returned the task and must not be offered it yet, each with when that is
    /// over.
    pub(crate) fn refused_by(&self, now: Timestamp) -> impl Iterator<Item = (&str, Timestamp)> {
        let by = self.object.refusals().into_iter().flat_map(|refusals| &refusals.by);
        let waits = by.map(|refusal| (refusal.node.as_str(), refusal.over_at()));
        waits.filter(move |(_, over_at)| *over_at > now)
    }

    fn may_be_bound(&self) -> bool {
        !self.object.is_deleting() && !self.object.is_recorded()
    }

    /// The task's position among the waiting tasks.
    pub(crate) fn queued(&self, task: TaskId) -> Queued {
        Queued {
            priority: Reverse(self.object.spec.priority),
            created: self.object.created().unwrap_or(Timestamp::MIN),
            index: self.object.spec.index,
            key: Arc::clone(&self.key),
            task,
        }
    }

    /// The ports of the node's range that the agent reported for the task; all that it reported if
    /// the shape is not known.
    fn seen_ports(&self, shape: Option<&Shape>) -> SeenPorts {
        if self.object.report().is_none() {
            return Vec::new();
        }
        let ports = &self.object.status.ports;
        match shape {
            Some(shape) => {
                shape.range_ports.iter().filter_map(|name| ports.get(name).copied()).collect()
            }
            None => ports.values().copied().collect(),
        }
    }
}
