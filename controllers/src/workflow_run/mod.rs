//! Runs of workflows: jobs in the order of their dependencies.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::batch::{Group, Op};
use api::object::Kind as _;
use api::workflow_run::RunPhase;
use api::{Job, KindId, ObjectKey, Workflow, WorkflowRun};
use runtime::{Any, ReconcileError, Requeue, Severity};

use crate::freed::{self, waits_for_a_name};
use crate::throttle::Throttle;
use crate::tools::{News, Tools};
use crate::workflow::created;
use plan::{Plan, View, plan, unwritable};

/// Brings runs' jobs to their ends.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    throttle: Throttle,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A run.
    Run(ObjectKey),
    /// All runs that wait for a workflow to begin.
    WaitingFor(ObjectKey),
    /// All runs that wait for the name of a job that is gone.
    Freed(ObjectKey),
}

/// What a view is of, shared with the cache.
struct Shared {
    run: Arc<WorkflowRun>,
    workflow: Option<Arc<Workflow>>,
    jobs: Vec<Arc<Job>>,
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, throttle: Throttle::default() }
    }

    fn shared(&self, key: &ObjectKey) -> Option<Shared> {
        self.tools.cache.read(|snapshot| {
            let run = Arc::clone(snapshot.workflow_runs.get(key)?);
            let workflow = ObjectKey::new(&*key.namespace, &*run.spec.workflow);
            let workflow = snapshot.workflows.get(&workflow).cloned();
            let jobs = snapshot.jobs.of_owner(run.uid()).cloned().collect();
            Some(Shared { run, workflow, jobs })
        })
    }

    async fn look(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let mut unwritable = BTreeMap::new();
        // Each round learns of at least one more job that can never be written, or is the last.
        loop {
            let Some(shared) = self.shared(key) else { return Ok(Requeue::Gone) };
            let Plan { mut groups, status, wake_at, ended } = self.plan(&shared, &unwritable);
            let mut requeue = self.tools.until(wake_at);
            if let Some(next) = status {
                match self.throttle.ask(shared.run.uid()) {
                    None => groups.push(Op::status(next.as_ref()).into()),
                    Some(wait) => requeue = Requeue::After(wait),
                }
            }
            let never = self.write(groups).await?;
            let mut learned = false;
            for (group, why) in &never {
                for name in created(std::slice::from_ref(group), KindId::Job) {
                    learned |= unwritable.insert(name.to_owned(), why.clone()).is_none();
                }
            }
            if learned {
                continue;
            }
            if let Some((_, why)) = never.first() {
                return self.say_unwritable(&shared.run, why).await;
            }
            let news = ended.map(|(phase, message)| news(phase, message));
            self.tools.tell(shared.run.as_ref(), news.into_iter().collect()).await;
            return Ok(requeue);
        }
    }

    /// Writes groups; what of them can never be written, one operation each, and why. Of a group of
    /// several operations one may be the reason: they are tried one by one.
    async fn write(&self, groups: Vec<Group>) -> Result<Vec<(Group, String)>, ReconcileError> {
        let mut tried = groups;
        loop {
            let never = self.tools.write("workflow run", tried).await?;
            if never.iter().all(|(group, _)| group.ops.len() <= 1) {
                return Ok(never);
            }
            tried = never.into_iter().flat_map(|(group, _)| group.ops).map(Group::from).collect();
        }
    }

    /// The run's own status can never be written: a smaller one says so.
    async fn say_unwritable(
        &self,
        run: &WorkflowRun,
        why: &str,
    ) -> Result<Requeue, ReconcileError> {
        if let Some(next) = unwritable(run, why, self.tools.clock.now()) {
            self.tools.write("workflow run", vec![Op::status(&next).into()]).await?;
            let message = next.status.message.unwrap_or_default();
            let news = News { severity: Severity::Warning, reason: "NotWritable", message };
            self.tools.tell(run, vec![news]).await;
        }
        Ok(Requeue::OnChange)
    }

    /// Plans until no name that the plan would make is another owner's.
    fn plan(&self, shared: &Shared, unwritable: &BTreeMap<String, String>) -> Plan {
        let jobs: Vec<&Job> = shared.jobs.iter().map(Arc::as_ref).collect();
        let run = &shared.run;
        let mut taken = BTreeSet::new();
        loop {
            let plan = plan(&View {
                run,
                workflow: shared.workflow.as_deref(),
                jobs: &jobs,
                taken: &taken,
                unwritable,
                now: self.tools.clock.now(),
            });
            let found: Vec<String> = self.tools.cache.read(|snapshot| {
                let is_anothers = |name: &&str| {
                    let there = snapshot.jobs.get(&ObjectKey::new(run.namespace(), *name));
                    let owner = there.map(|job| job.controller().map(|owner| owner.uid.as_str()));
                    owner.is_some_and(|owner| owner != Some(run.uid()))
                };
                let names = created(&plan.groups, KindId::Job);
                names.filter(is_anothers).map(str::to_owned).collect()
            });
            if found.is_empty() {
                return plan;
            }
            taken.extend(found);
        }
    }
}

fn news(phase: RunPhase, message: String) -> News {
    let (severity, reason) = match phase {
        RunPhase::Succeeded | RunPhase::Skipped => (Severity::Normal, "RunSucceeded"),
        RunPhase::TimedOut => (Severity::Warning, "RunTimedOut"),
        RunPhase::Cancelled => (Severity::Warning, "RunCancelled"),
        RunPhase::Failed | RunPhase::Pending | RunPhase::Running | RunPhase::Suspended => {
            (Severity::Warning, "RunFailed")
        }
    };
    News { severity, reason, message }
}

impl runtime::Controller for Controller {
    type Key = Key;

    const NAME: &'static str = "workflow run";

    fn keys(&self, before: Option<&Any>, now: Option<&Any>) -> Vec<Key> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let kind = object.kind();
        if kind == KindId::WorkflowRun {
            return vec![Key::Run(object.key())];
        }
        if kind == KindId::Workflow {
            return vec![Key::WaitingFor(object.key())];
        }
        if kind == KindId::Job {
            let owners = object.meta().owner_references.iter().flatten();
            let runs = owners.filter(|owner| owner.kind == KindId::WorkflowRun.info().kind);
            let namespace = object.key().namespace;
            let runs = runs.map(|run| Key::Run(ObjectKey::new(&*namespace, &*run.name)));
            let freed = now.is_none().then(|| Key::Freed(object.key()));
            return runs.chain(freed).collect();
        }
        Vec::new()
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, ReconcileError> {
        let runs: Vec<ObjectKey> = match key {
            Key::Run(run) => return self.look(run).await,
            Key::WaitingFor(workflow) => self.tools.cache.read(|snapshot| {
                let waits = |run: &&Arc<WorkflowRun>| {
                    run.spec.workflow == workflow.name && run.status.workflow.is_none()
                };
                let runs = snapshot.workflow_runs.of_namespace(&workflow.namespace);
                runs.filter(waits).map(|run| run.key()).collect()
            }),
            Key::Freed(job) => self.tools.cache.read(|snapshot| {
                let run = |name| snapshot.workflow_runs.get(&ObjectKey::new(&*job.namespace, name));
                let runs = freed::wanted_by(&job.name).filter_map(run);
                let waits = |run: &&Arc<WorkflowRun>| waits_for_a_name(&run.status.conditions);
                runs.filter(waits).map(|run| run.key()).collect()
            }),
        };
        for run in runs {
            self.look(&run).await?;
        }
        Ok(Requeue::Gone)
    }
}
