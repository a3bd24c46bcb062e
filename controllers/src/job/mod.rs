//! Jobs: sets of tasks that run to completion.

#[cfg(test)]
mod model;
pub mod plan;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::Kind as _;
use api::{CompletionChunk, Job, KindId, ObjectKey, PartitionSet, Task, TaskTemplate, labels};
use runtime::{Any, ReconcileError, Requeue, Snapshot};

use crate::action::{Action, Group, created};
use crate::freed;
use crate::notice::Notice;
use crate::throttle::Throttle;
use crate::tools::Tools;
use crate::workflow_run::with_next_step;
use plan::{Holder, Plan, View, is_at_rest, plan, template_name, unwritable};

/// Runs the tasks of jobs.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    throttle: Throttle,
}

/// What a view refers to, shared with the cache.
struct Shared {
    job: Arc<Job>,
    chunks: Vec<Arc<CompletionChunk>>,
    tasks: Vec<Arc<Task>>,
    template: Option<Arc<TaskTemplate>>,
    partition_set: Option<Arc<PartitionSet>>,
}

impl Shared {
    fn of(snapshot: &Snapshot, key: &ObjectKey) -> Option<Self> {
        // The rest of a job that is being deleted is left to the garbage collector. Here, each task
        // that goes away would make us read all others for nothing.
        let job = Arc::clone(snapshot.jobs.get(key).filter(|job| !job.is_deleting())?);
        let template = ObjectKey::new(&*key.namespace, template_name(&job));
        let target = job.spec.target.as_ref();
        let set = target.map(|target| ObjectKey::new(&*key.namespace, &*target.partition_set));
        Some(Self {
            chunks: snapshot.completion_chunks.of_owner(job.uid()).cloned().collect(),
            tasks: snapshot.tasks.of_owner(job.uid()).cloned().collect(),
            template: snapshot.task_templates.get(&template).cloned(),
            partition_set: set.and_then(|set| snapshot.partition_sets.get(&set).cloned()),
            job,
        })
    }
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, throttle: Throttle::default() }
    }

    /// A write for the job can never succeed. Trying again would fail silently for ever, so the run
    /// fails instead, with the reason.
    async fn give_up(&self, job: &Job, why: &str) -> Result<Requeue, ReconcileError> {
        let Some(failed) = unwritable(job, why, self.tools.clock.now()) else {
            return Ok(Requeue::OnChange);
        };
        let message = failed.status.message.clone().unwrap_or_default();
        self.tools.write("job", vec![Action::status(failed).into()]).await?;
        let notice = Notice { warning: true, reason: "NotWritable", message };
        self.tools.tell(job, vec![notice]).await;
        Ok(Requeue::OnChange)
    }

    /// Writes groups; a job's end together with what follows it in its run, if that is possible.
    /// Otherwise the end alone: it must never wait for what follows.
    async fn write(&self, groups: Vec<Group>) -> Result<Vec<(Group, String)>, ReconcileError> {
        let mut places = groups.iter().enumerate();
        let end = places.find_map(|(place, it)| Some((place, with_next_step(&self.tools, it)?)));
        if let Some((place, end)) = end {
            let mut together = groups.clone();
            together[place] = end;
            match self.tools.write("job", together).await {
                Ok(never) if never.is_empty() => return Ok(never),
                Err(ReconcileError::Deposed) => return Err(ReconcileError::Deposed),
                Ok(_) | Err(ReconcileError::Again(_)) => (),
            }
        }
        self.tools.write("job", groups).await
    }

    /// Plans, and plans again until no name that the plan would use belongs to another owner.
    fn plan(&self, shared: &Shared) -> Plan {
        let chunks: Vec<&CompletionChunk> = shared.chunks.iter().map(Arc::as_ref).collect();
        let tasks: Vec<&Task> = shared.tasks.iter().map(Arc::as_ref).collect();
        let mut taken = BTreeMap::new();
        loop {
            let plan = plan(&View {
                job: &shared.job,
                chunks: &chunks,
                tasks: &tasks,
                template: shared.template.as_deref(),
                taken: &taken,
                partition_set: shared.partition_set.as_deref(),
                now: self.tools.clock.now(),
            });
            let found = self.taken_by_others(&plan, &shared.job);
            if found.is_empty() {
                return plan;
            }
            taken.extend(found);
        }
    }

    fn taken_by_others(&self, plan: &Plan, job: &Job) -> Vec<(String, Holder)> {
        let looked_for = plan.looked_for.iter().map(String::as_str);
        let names = created(&plan.groups, KindId::Task).into_iter().chain(looked_for);
        self.tools.cache.read(|snapshot| {
            let holder = |name: &str| {
                let there = snapshot.tasks.get(&ObjectKey::new(job.namespace(), name))?;
                let owner = there.controller();
                if owner.is_some_and(|owner| owner.uid == job.uid()) {
                    return None;
                }
                // There is only one job of a name, so the owner is gone.
                let is_predecessors = owner.is_some_and(|owner| {
                    owner.kind == KindId::Job.info().kind && owner.name == job.name()
                });
                let leaves = is_predecessors || there.is_deleting();
                Some(if leaves { Holder::Predecessor } else { Holder::Another })
            };
            names.filter_map(|name| Some((name.to_owned(), holder(name)?))).collect()
        })
    }
}

impl runtime::Controller for Controller {
    /// The key of a job.
    type Key = ObjectKey;

    const NAME: &'static str = "job";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<ObjectKey> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let kind = object.kind();
        if kind == KindId::Job {
            return vec![object.key()];
        }
        if kind == KindId::PartitionSet {
            return snapshot.jobs_targeting(&object.key()).map(|job| job.key()).collect();
        }
        if kind == KindId::Task || kind == KindId::TaskTemplate {
            let key = object.key();
            let mut keys: Vec<ObjectKey> = object.owners(KindId::Job).collect();
            // An earlier job of this name left it behind, and the job may be waiting for its name.
            if keys.is_empty() && now.is_none() {
                let labels = object.meta().labels.as_ref();
                let job = labels.and_then(|all| all.get(labels::JOB));
                keys.extend(job.map(|job| ObjectKey::new(&*key.namespace, &**job)));
            }
            if now.is_none() {
                keys.extend(freed::waiting_for(&key, &snapshot.jobs, |job| &job.status.conditions));
            }
            return keys;
        }
        // A chunk of the record changes together with its tasks, or by a plan that asks for another
        // look.
        Vec::new()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let Some(shared) = self.tools.cache.read(|snapshot| Shared::of(snapshot, key)) else {
            return Ok(Requeue::Gone);
        };
        self.tools.metrics.viewed(Self::NAME, shared.tasks.len() + shared.chunks.len() + 1);
        let job = &shared.job;
        let plan = self.plan(&shared);
        let is_at_rest = is_at_rest(job, &plan);
        let Plan { mut groups, status, wake_at, notices, .. } = plan;
        let mut requeue = self.tools.until(wake_at, is_at_rest);
        if let Some(wait) = self.throttle.add(status, &mut groups) {
            requeue = Requeue::After(wait);
        }
        if let Some((_, why)) = self.write(groups).await?.into_iter().next() {
            return self.give_up(job, &why).await;
        }
        self.tools.tell(job.as_ref(), notices).await;
        Ok(requeue)
    }
}
