//! Nodes: which ones are lost, and what happens to their tasks.

mod canary;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::node::NodePhase;
use api::object::Kind as _;
use api::placement::OnNodeLoss;
use api::{KindId, Node, ObjectKey, Task, merge};
use runtime::{Any, ReconcileError, Requeue, Snapshot};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::notice::Notice;
use crate::tools::Tools;
pub(crate) use canary::CanaryCage;
use plan::{Missing, Placed, Plan, Verdict, View, plan};

/// How often nodes are looked at while a silent node, or a task on one, has a deadline. The
/// deadlines are measured by a clock of this process, and cause no events.
const LOOK: Duration = Duration::from_millis(500);
/// After a write, the nodes are looked at again after this time.
const LOOK_ON: Duration = Duration::from_millis(20);

/// Declares nodes lost.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    canary: CanaryCage,
    started: Instant,
    /// Guards what is remembered between plans. There is only one key, and so only one worker:
    /// nobody waits for it.
    missing: Mutex<Missing>,
}

/// What a view refers to, shared with the cache.
struct Shared {
    nodes: Vec<Arc<Node>>,
    leased: BTreeSet<String>,
    tasks: Vec<(Arc<Task>, OnNodeLoss)>,
    /// The number of tasks that were read for it.
    tasks_read: usize,
}

impl Shared {
    fn of(snapshot: &Snapshot) -> Self {
        let leased: BTreeSet<String> =
            snapshot.node_leases.iter().map(|lease| lease.name().to_owned()).collect();
        // There may be a hundred times as many tasks as nodes, so only those that matter are read.
        let silent = snapshot.nodes_with_tasks().filter(|node| !leased.contains(*node));
        let cut_off = silent.flat_map(|node| snapshot.tasks_on(node));
        let is_heard = |task: &&Arc<Task>| task.node().is_some_and(|node| leased.contains(node));
        let mut tasks_read = 0;
        let lost = snapshot.lost_tasks().inspect(|_| tasks_read += 1);
        let returned: Vec<&Arc<Task>> = lost.filter(is_heard).collect();
        let tasks = cut_off.inspect(|_| tasks_read += 1).chain(returned);
        let tasks: Vec<(Arc<Task>, OnNodeLoss)> =
            tasks.map(|task| (Arc::clone(task), on_loss(snapshot, task))).collect();
        Self { nodes: snapshot.nodes.iter().cloned().collect(), leased, tasks, tasks_read }
    }
}

/// What a task's placement asks for when its node is lost.
fn on_loss(snapshot: &Snapshot, task: &Task) -> OnNodeLoss {
    let key = ObjectKey::new(task.namespace(), &*task.spec.template);
    let placement = snapshot.task_templates.get(&key).and_then(|template| {
        let own = task.spec.overrides.placement.as_deref();
        merge::placement(&template.spec.placement, own).ok()
    });
    placement.and_then(|placement| placement.on_node_loss).unwrap_or_default()
}

impl Controller {
    pub(crate) fn new(tools: Tools, canary: CanaryCage, started: Instant) -> Self {
        Self { tools, canary, started, missing: Mutex::default() }
    }

    fn plan(&self, shared: &Shared) -> Plan {
        let nodes: Vec<&Node> = shared.nodes.iter().map(Arc::as_ref).collect();
        let tasks: Vec<Placed<'_>> =
            shared.tasks.iter().map(|(task, on_loss)| Placed { task, on_loss: *on_loss }).collect();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plan(&View {
            nodes: &nodes,
            leased: &shared.leased,
            tasks: &tasks,
            canary: self.canary.get(),
            missing: &missing,
            elapsed: self.started.elapsed(),
            now: self.tools.clock.now(),
        });
        missing.clone_from(&plan.missing);
        plan
    }
}

impl runtime::Controller for Controller {
    /// All nodes are looked at together, because the brake counts them.
    type Key = ();

    const NAME: &'static str = "node";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<()> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let concerned = if let Any::Task(task) = object {
            // A task that arrives on a silent node, for example by a binding made before the node
            // fell silent, or that is evicted there.
            now.is_some() && is_cut_off(task, snapshot)
        } else if let Any::Node(_) = object {
            before.is_none() || now.is_none() || standing(before) != standing(now)
        } else {
            // Only that a lease appears or disappears: a renewal writes nothing.
            object.kind() == KindId::NodeLease
        };
        if concerned { vec![()] } else { Vec::new() }
    }

    async fn reconcile(&self, (): &()) -> Result<Requeue, ReconcileError> {
        let shared = self.tools.cache.read(Shared::of);
        self.tools.metrics.viewed(Self::NAME, shared.nodes.len() + shared.tasks_read);
        self.tools.metrics.nodes(&shared.nodes);
        let plan = self.plan(&shared);
        if let Some(waiting) = plan.waiting {
            warn!(?waiting, "no heartbeats from nodes, but they are not declared lost");
        }
        // A write may make more steps necessary (a node is ready again once its tasks are handled),
        // and no event may follow. So the nodes are looked at again until there is nothing to do.
        let requeue = match (plan.groups.is_empty(), plan.has_deadlines) {
            (false, _) => Requeue::After(LOOK_ON),
            (true, true) => Requeue::After(LOOK),
            // A node that is away for weeks costs nothing.
            (true, false) => Requeue::OnChange,
        };
        self.tools.write(Self::NAME, plan.groups).await?;
        for (name, verdict) in plan.verdicts {
            info!(node = name, ?verdict, "verdict");
            // The nodes are ordered by name.
            let place = shared.nodes.binary_search_by(|node| node.name().cmp(&name));
            let Some(node) = place.ok().and_then(|at| shared.nodes.get(at)) else { continue };
            let (warning, reason, message) = match verdict {
                Verdict::Lost => (true, "NodeLost", "no heartbeat from its agent".to_owned()),
                Verdict::Held(waiting) => {
                    let message = format!("no heartbeat; not declared lost: {waiting}");
                    (true, "NodeSilent", message)
                }
                Verdict::Heard => (false, "NodeHeard", "its agent is back".to_owned()),
            };
            let notice = Notice { warning, reason, message };
            self.tools.tell(node.as_ref(), vec![notice]).await;
        }
        Ok(requeue)
    }
}

/// The part of a node that matters here: whether it was ever heard, whether it is lost, and its
/// phase, which is counted.
fn standing(object: Option<&Any>) -> Option<(bool, bool, NodePhase)> {
    let Some(Any::Node(node)) = object else { return None };
    Some((node.status.ready_since.is_some(), node.status.lost.is_some(), node.phase()))
}

/// Whether a task has not ended and is on a node that is or was silent.
fn is_cut_off(task: &Task, snapshot: &Snapshot) -> bool {
    let Some(node) = task.node().filter(|_| !task.has_ended()) else { return false };
    task.loss().is_some() || snapshot.node_leases.get(&ObjectKey::new("", node)).is_none()
}
