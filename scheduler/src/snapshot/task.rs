//! A task as the scheduler sees it: its object, the promise made for it, and what it counts for.

use std::cmp::Reverse;
use std::sync::Arc;

use api::object::ObjectKey;
use api::task::{Refusals, TaskState};
use api::{Kind as _, Task, Timestamp};

use super::node::{NodeId, Nodes, SeenPorts};
use super::queued::{Queued, TaskId};
use crate::class::{ClassId, Shape};

/// A task, the promise made for it, and what it counts for.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    pub(crate) key: Arc<ObjectKey>,
    pub(crate) object: Arc<Task>,
    /// Always set but while the task changes its class.
    pub(crate) class: Option<ClassId>,
    promise: Option<Promise>,
    /// A binding was refused: none is tried before, unless the object changes.
    pub(crate) held_until: Option<Timestamp>,
    pub(crate) standing: Standing,
}

/// A binding that was decided and that the cache does not show yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Promise {
    attempt: u32,
    /// How many bindings the task had when it was decided.
    bindings_before: u32,
    node: Arc<str>,
}

/// What a task counts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Idle,
    /// Waits for a node.
    Queued(Queued),
    /// Waits for a time, and then for a node.
    Delayed(Timestamp),
    /// Takes its share of a node.
    Taking {
        /// The node.
        node: NodeId,
        /// The ports that it got from the node's range.
        seen_ports: SeenPorts,
    },
    /// Was here, and left its data.
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
        Self { key, object, class: None, promise: None, held_until: None, standing: Standing::Idle }
    }

    /// Whether the class need not be looked up again for a newer object.
    pub(crate) fn is_same_class_with(&self, newer: &Task) -> bool {
        let old = &self.object;
        old.spec.template == newer.spec.template
            && old.spec.overrides == newer.spec.overrides
            && old.metadata.labels == newer.metadata.labels
            && old.metadata.owner_references == newer.metadata.owner_references
    }

    /// The cache shows a newer object. The promise stays while that does not show what became of it.
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

    /// Promises a node.
    pub(crate) fn promise(&mut self, node: Arc<str>) {
        let (attempt, bindings_before) = (self.object.spec.attempt, bindings(&self.object));
        self.promise = Some(Promise { attempt, bindings_before, node });
    }

    /// The promise made for an attempt is over. Answers whether there was one.
    pub(crate) fn end_promise_of(&mut self, attempt: u32) -> bool {
        self.promise.take_if(|promise| promise.attempt == attempt).is_some()
    }

    /// Whether a promise is open.
    #[cfg(test)]
    pub(crate) fn promised_node(&self) -> Option<&str> {
        self.promise.as_ref().map(|promise| &*promise.node)
    }

    /// What the task counts for by its object and its promise.
    pub(crate) fn standing_now(
        &self,
        id: TaskId,
        shape: Option<&Shape>,
        nodes: &mut Nodes,
    ) -> Standing {
        let task = &*self.object;
        if let Some(node) = task.takes_resources_on() {
            let seen_ports = self.seen_ports(shape);
            return Standing::Taking { node: nodes.slot(node), seen_ports };
        }
        match task.state() {
            TaskState::Succeeded => match task.node() {
                Some(node) => Standing::Succeeded { node: node.to_owned() },
                None => Standing::Idle,
            },
            TaskState::Pending if !self.may_be_bound() => Standing::Idle,
            TaskState::Pending => match &self.promise {
                Some(promise) => {
                    Standing::Taking { node: nodes.slot(&promise.node), seen_ports: Vec::new() }
                }
                None => match self.waits_until() {
                    Some(until) => Standing::Delayed(until),
                    None => Standing::Queued(self.queued(id)),
                },
            },
            TaskState::Bound { .. }
            | TaskState::Starting { .. }
            | TaskState::Running { .. }
            | TaskState::Stopping { .. }
            | TaskState::Failed { .. }
            | TaskState::TimedOut
            | TaskState::Cancelled { .. }
            | TaskState::Lost { .. } => Standing::Idle,
        }
    }

    /// Until when no binding is tried, if that was said.
    fn waits_until(&self) -> Option<Timestamp> {
        let rests = self.object.refusals().map(Refusals::rests_until);
        self.object.spec.not_before.max(self.held_until).max(rests)
    }

    /// The nodes that gave the task back and are not to be asked again yet, and until when.
    pub(crate) fn refused_by(&self, now: Timestamp) -> impl Iterator<Item = (&str, Timestamp)> {
        let by = self.object.refusals().into_iter().flat_map(|refusals| &refusals.by);
        let waits = by.map(|refusal| (refusal.node.as_str(), refusal.over_at()));
        waits.filter(move |(_, over_at)| *over_at > now)
    }

    fn may_be_bound(&self) -> bool {
        !self.object.is_deleting() && !self.object.is_recorded()
    }

    /// The task's place among those that wait.
    pub(crate) fn queued(&self, task: TaskId) -> Queued {
        Queued {
            priority: Reverse(self.object.spec.priority),
            created: self.object.created().unwrap_or(Timestamp::MIN),
            index: self.object.spec.index,
            key: Arc::clone(&self.key),
            task,
        }
    }

    /// The ports of the node's range that the agent reported; all that it reported where nothing
    /// tells which of them those are.
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
