//! Runs of workflows: jobs in the order of their dependencies.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::batch::Op;
use api::object::Kind as _;
use api::workflow_run::RunPhase;
use api::{Job, KindId, ObjectKey, Workflow, WorkflowRun};
use runtime::{Any, ReconcileError, Requeue, Severity};

use crate::throttle::Throttle;
use crate::tools::{News, Tools};
use crate::workflow::created;
use plan::{Plan, View, plan};

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

    async fn look(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let read = self.tools.cache.read(|snapshot| {
            let run = Arc::clone(snapshot.workflow_runs.get(key)?);
            let workflow = ObjectKey::new(&*key.namespace, &*run.spec.workflow);
            let workflow = snapshot.workflows.get(&workflow).cloned();
            let jobs = snapshot.jobs.of_owner(run.uid()).cloned().collect();
            Some(Shared { run, workflow, jobs })
        });
        let Some(shared) = read else { return Ok(Requeue::Gone) };
        let Plan { mut groups, status, wake_at, ended } = self.plan(&shared);
        let mut requeue = self.tools.until(wake_at);
        if let Some(next) = status {
            match self.throttle.ask(shared.run.uid()) {
                None => groups.push(Op::status(next.as_ref()).into()),
                Some(wait) => requeue = Requeue::After(wait),
            }
        }
        self.tools.write("workflow run", groups).await?;
        let news = ended.map(|(phase, message)| news(phase, message));
        self.tools.tell(shared.run.as_ref(), news.into_iter().collect()).await;
        Ok(requeue)
    }

    /// Plans until no name that the plan would make is another owner's.
    fn plan(&self, shared: &Shared) -> Plan {
        let jobs: Vec<&Job> = shared.jobs.iter().map(Arc::as_ref).collect();
        let run = &shared.run;
        let mut taken = BTreeSet::new();
        loop {
            let plan = plan(&View {
                run,
                workflow: shared.workflow.as_deref(),
                jobs: &jobs,
                taken: &taken,
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
            return runs.map(|run| Key::Run(ObjectKey::new(&*namespace, &*run.name))).collect();
        }
        Vec::new()
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, ReconcileError> {
        let workflow = match key {
            Key::Run(run) => return self.look(run).await,
            Key::WaitingFor(workflow) => workflow,
        };
        let runs: Vec<ObjectKey> = self.tools.cache.read(|snapshot| {
            let waits = |run: &&Arc<WorkflowRun>| {
                run.spec.workflow == workflow.name && run.status.workflow.is_none()
            };
            let runs = snapshot.workflow_runs.of_namespace(&workflow.namespace);
            runs.filter(waits).map(|run| run.key()).collect()
        });
        for run in runs {
            self.look(&run).await?;
        }
        Ok(Requeue::Gone)
    }
}
