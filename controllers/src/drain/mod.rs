//! Nodes that tasks have to leave: those that are being drained, and those with a taint of effect
//! NoExecute.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::object::Kind as _;
use api::taint::{Taint, TaintEffect, Toleration};
use api::{KindId, Node, ObjectKey, Service, Task, merge};
use runtime::{Any, ReconcileError, Requeue, Snapshot};

use crate::tools::Tools;
use plan::{Placed, View, plan};

/// Evicts tasks from nodes that they have to leave.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
}

/// What a view refers to, shared with the cache.
struct Shared {
    node: Arc<Node>,
    tasks: Vec<TaskThere>,
}

impl Shared {
    fn of(snapshot: &Snapshot, key: &ObjectKey) -> Option<Self> {
        let node = Arc::clone(snapshot.nodes.get(key)?);
        let tasks = snapshot.tasks_on(node.name()).filter(|_| has_to_be_left(&node));
        let tasks = tasks.map(|task| {
            let service = service_of(snapshot, task);
            (Arc::clone(task), tolerations(snapshot, task), service)
        });
        let tasks = tasks.collect();
        Some(Self { node, tasks })
    }
}

/// A task, what it tolerates, and the service that it belongs to.
type TaskThere = (Arc<Task>, Vec<Toleration>, Option<Arc<Service>>);

impl<'a> Placed<'a> {
    fn of((task, tolerations, service): &'a TaskThere) -> Self {
        Self { task, tolerations, service: service.as_deref() }
    }
}

/// What a task tolerates, by its template and its own placement.
fn tolerations(snapshot: &Snapshot, task: &Task) -> Vec<Toleration> {
    let key = ObjectKey::new(task.namespace(), &*task.spec.template);
    let placement = snapshot.task_templates.get(&key).and_then(|template| {
        let own = task.spec.overrides.placement.as_deref();
        merge::placement(&template.spec.placement, own).ok()
    });
    placement.map(|placement| placement.tolerations).unwrap_or_default()
}

/// The service that a task belongs to.
fn service_of(snapshot: &Snapshot, task: &Task) -> Option<Arc<Service>> {
    let owner = task.controller().filter(|owner| owner.kind == KindId::Service.info().kind)?;
    snapshot.services.get(&ObjectKey::new(task.namespace(), &*owner.name)).cloned()
}

/// Whether something may have to be done about a node.
fn has_to_be_left(node: &Node) -> bool {
    let drives_away = |taint: &Taint| taint.effect == TaintEffect::NoExecute;
    let has_drain = node.spec.drain.is_some() || node.status.drain.is_some();
    has_drain || node.spec.taints.iter().any(drives_away)
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools }
    }
}

impl runtime::Controller for Controller {
    /// The key of a node.
    type Key = ObjectKey;

    const NAME: &'static str = "drain";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<ObjectKey> {
        let Some(object) = now.or(before) else { return Vec::new() };
        if let Any::Node(node) = object {
            let is_concerned = |node: &Any| matches!(node, Any::Node(it) if has_to_be_left(it));
            let concerned = now.or(before).is_some_and(is_concerned);
            return concerned.then(|| node.key()).into_iter().collect();
        }
        if object.kind() != KindId::Task {
            return Vec::new();
        }
        let node_of = |any: Option<&Any>| {
            let Any::Task(task) = any? else { return None };
            let key = ObjectKey::new("", task.node()?);
            snapshot.nodes.get(&key).filter(|node| has_to_be_left(node)).map(|_| key)
        };
        let (old, new) = (node_of(before), node_of(now));
        let other = old.filter(|old| new.as_ref() != Some(old));
        new.into_iter().chain(other).collect()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let Some(shared) = self.tools.cache.read(|snapshot| Shared::of(snapshot, key)) else {
            return Ok(Requeue::Gone);
        };
        self.tools.metrics.viewed(Self::NAME, shared.tasks.len() + 1);
        let tasks: Vec<Placed<'_>> = shared.tasks.iter().map(Placed::of).collect();
        let plan = plan(&View { node: &shared.node, tasks: &tasks, now: self.tools.clock.now() });
        let is_at_rest = plan.groups.is_empty();
        let requeue = self.tools.until(plan.wake_at, is_at_rest);
        self.tools.write(Self::NAME, plan.groups).await?;
        self.tools.tell(shared.node.as_ref(), plan.notices).await;
        Ok(requeue)
    }
}
