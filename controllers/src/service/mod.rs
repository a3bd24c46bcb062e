//! Services: sets of tasks that stay up.

#[cfg(test)]
mod model;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::object::Kind as _;
use api::{Job, KindId, Node, ObjectKey, Service, Task, TaskTemplate};
use runtime::{Any, ReconcileError, Requeue, Snapshot};

use crate::action::created;
use crate::freed;
use crate::notice::Notice;
use crate::throttle::Throttle;
use crate::tools::Tools;
use plan::{Plan, View, is_at_rest, plan, template};

/// Keeps the tasks of services up.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    throttle: Throttle,
}

/// What a view refers to, shared with the cache.
struct Shared {
    service: Arc<Service>,
    tasks: Vec<Arc<Task>>,
    templates: Vec<Arc<TaskTemplate>>,
    template: Option<Arc<TaskTemplate>>,
    nodes: Vec<Arc<Node>>,
    draining: BTreeSet<String>,
    jobs: Vec<Arc<Job>>,
}

impl Shared {
    fn of(snapshot: &Snapshot, key: &ObjectKey) -> Option<Self> {
        // The rest of a service that is being deleted is left to the garbage collector.
        let service = Arc::clone(snapshot.services.get(key).filter(|it| !it.is_deleting())?);
        let template = ObjectKey::new(&*key.namespace, template(&service).name());
        let nodes = service.spec.is_per_node().then(|| snapshot.nodes.iter().cloned());
        let tasks: Vec<Arc<Task>> = snapshot.tasks.of_owner(service.uid()).cloned().collect();
        let is_draining = |node: &&str| {
            let node = snapshot.nodes.get(&ObjectKey::new("", *node));
            node.is_some_and(|node| node.is_draining())
        };
        let on: BTreeSet<&str> = tasks.iter().filter_map(|task| task.node()).collect();
        Some(Self {
            draining: on.into_iter().filter(is_draining).map(str::to_owned).collect(),
            tasks,
            templates: snapshot.task_templates.of_owner(service.uid()).cloned().collect(),
            template: snapshot.task_templates.get(&template).cloned(),
            nodes: nodes.into_iter().flatten().collect(),
            jobs: snapshot.jobs.of_owner(service.uid()).cloned().collect(),
            service,
        })
    }
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, throttle: Throttle::default() }
    }

    /// Plans until no name that the plan would use belongs to another owner.
    fn plan(&self, shared: &Shared) -> Plan {
        let tasks: Vec<&Task> = shared.tasks.iter().map(Arc::as_ref).collect();
        let templates: Vec<&TaskTemplate> = shared.templates.iter().map(Arc::as_ref).collect();
        let nodes: Vec<&Node> = shared.nodes.iter().map(Arc::as_ref).collect();
        let jobs: Vec<&Job> = shared.jobs.iter().map(Arc::as_ref).collect();
        let (mut taken, mut taken_jobs) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let plan = plan(&View {
                service: &shared.service,
                tasks: &tasks,
                templates: &templates,
                template: shared.template.as_deref(),
                nodes: &nodes,
                draining: &shared.draining,
                jobs: &jobs,
                taken_jobs: &taken_jobs,
                taken: &taken,
                now: self.tools.clock.now(),
            });
            let names = created(&plan.groups, KindId::Task);
            let of_jobs = created(&plan.groups, KindId::Job);
            let (found, found_jobs) = self.tools.cache.read(|snapshot| {
                let service = &*shared.service;
                let tasks = freed::taken_by_others(names, &snapshot.tasks, service);
                (tasks, freed::taken_by_others(of_jobs, &snapshot.jobs, service))
            });
            if found.is_empty() && found_jobs.is_empty() {
                return plan;
            }
            taken.extend(found);
            taken_jobs.extend(found_jobs);
        }
    }
}

impl runtime::Controller for Controller {
    /// The key of a service.
    type Key = ObjectKey;

    const NAME: &'static str = "service";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<ObjectKey> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let kind = object.kind();
        if kind == KindId::Service {
            return vec![object.key()];
        }
        if kind == KindId::Node {
            let is_same = is_same_place(before, now);
            let all = (!is_same).then(|| snapshot.services_per_node()).into_iter().flatten();
            let leaving = leaving(before, now, snapshot);
            return all.map(|service| service.key()).chain(leaving).collect();
        }
        if matches!(kind, KindId::Task | KindId::TaskTemplate | KindId::Job) {
            let mut keys: Vec<ObjectKey> = object.owners(KindId::Service).collect();
            if now.is_none() {
                keys.extend(freed::waiting_for(&object.key(), &snapshot.services, |service| {
                    &service.status.conditions
                }));
            }
            return keys;
        }
        Vec::new()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let Some(shared) = self.tools.cache.read(|snapshot| Shared::of(snapshot, key)) else {
            self.tools.metrics.service_gone(key);
            return Ok(Requeue::Gone);
        };
        self.tools.metrics.service(&shared.service);
        let looked_at = shared.tasks.len() + shared.templates.len() + shared.nodes.len();
        let looked_at = looked_at + shared.jobs.len() + 1;
        self.tools.metrics.viewed(Self::NAME, looked_at);
        let service = &shared.service;
        let plan = self.plan(&shared);
        let is_at_rest = is_at_rest(service, &plan);
        let Plan { mut groups, status, wake_at, notices } = plan;
        let mut requeue = self.tools.until(wake_at, is_at_rest);
        if let Some(wait) = self.throttle.add(status, &mut groups) {
            requeue = Requeue::After(wait);
        }
        // What can never be written is tried again with each look at the service, at most once a minute
        // unless something changes, since what it depends on may change.
        let never = self.tools.write(Self::NAME, groups).await?.into_iter().next();
        let unwritable = never.map(|(_, why)| {
            let message = format!("the service's next step cannot be stored: {why}");
            Notice { warning: true, reason: "NotWritable", message }
        });
        self.tools.tell(service.as_ref(), notices.into_iter().chain(unwritable).collect()).await;
        Ok(requeue)
    }
}

/// The services whose tasks are concerned by the beginning or the end of a node's drain.
fn leaving(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> BTreeSet<ObjectKey> {
    let is_draining =
        |any: Option<&Any>| matches!(any, Some(Any::Node(node)) if node.is_draining());
    let node = now.or(before).filter(|_| is_draining(before) != is_draining(now));
    let name = node.and_then(|node| node.meta().name.as_deref());
    let tasks = name.into_iter().flat_map(|name| snapshot.tasks_on(name));
    let service = |task: &Arc<Task>| {
        let owner = task.controller()?;
        let is_service = owner.kind == KindId::Service.info().kind;
        is_service.then(|| ObjectKey::new(task.namespace(), &*owner.name))
    };
    tasks.filter_map(service).collect()
}

/// Whether a node's change is of no interest to services that have a task on each node.
fn is_same_place(before: Option<&Any>, now: Option<&Any>) -> bool {
    let place = |any: Option<&Any>| {
        let Any::Node(node) = any? else { return None };
        let info = &node.status.info;
        let labels = node.meta().labels.clone();
        let taints = node.spec.taints.clone();
        Some((
            node.phase(),
            node.is_deleting(),
            labels,
            taints,
            [&info.arch, &info.os].map(Clone::clone),
        ))
    };
    place(before) == place(now)
}
