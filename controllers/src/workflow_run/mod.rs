//! Runs of workflows: jobs in the order of their dependencies.

pub mod plan;
mod starts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::object::Kind as _;
use api::workflow_run::RunPhase;
use api::{Job, KindId, ObjectKey, Workflow, WorkflowRun};
use runtime::{Any, ReconcileError, Requeue, Snapshot};

use crate::action::{Action, Group, created};
use crate::freed;
use crate::notice::Notice;
use crate::throttle::Throttle;
use crate::tools::Tools;
use plan::first_tasks::without_first_tasks;
use plan::{Plan, View, is_at_rest, plan, unwritable};
pub(crate) use starts::with_next_step;

/// Brings runs' jobs to their ends.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    throttle: Throttle,
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

    /// Writes groups. Returns the actions that can never be written, each in a group of its own, and
    /// why. If a group of several actions is refused for good, one of them may be the reason, so each
    /// is tried alone.
    async fn write(&self, groups: Vec<Group>) -> Result<Vec<(Group, String)>, ReconcileError> {
        let mut tried = groups;
        loop {
            let never = self.tools.write("workflow run", tried).await?;
            if never.iter().all(|(group, _)| group.actions.len() <= 1) {
                return Ok(never);
            }
            let actions = never.into_iter().flat_map(|(group, _)| group.actions).collect();
            tried = without_first_tasks(actions).into_iter().map(Group::from).collect();
        }
    }

    /// The run's own status can never be written: a smaller one says so.
    async fn say_unwritable(
        &self,
        run: &WorkflowRun,
        why: &str,
    ) -> Result<Requeue, ReconcileError> {
        if let Some(next) = unwritable(run, why, self.tools.clock.now()) {
            let message = next.status.message.clone().unwrap_or_default();
            self.tools.write("workflow run", vec![Action::status(next).into()]).await?;
            let notice = Notice { warning: true, reason: "NotWritable", message };
            self.tools.tell(run, vec![notice]).await;
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
            let names = created(&plan.groups, KindId::Job);
            let found = self
                .tools
                .cache
                .read(|snapshot| freed::taken_by_others(names, &snapshot.jobs, &**run));
            if found.is_empty() {
                return plan;
            }
            taken.extend(found);
        }
    }
}

fn notice(phase: RunPhase, message: String) -> Notice {
    let (warning, reason) = match phase {
        RunPhase::Succeeded | RunPhase::Skipped => (false, "RunSucceeded"),
        RunPhase::TimedOut => (true, "RunTimedOut"),
        RunPhase::Cancelled => (true, "RunCancelled"),
        RunPhase::Failed | RunPhase::Pending | RunPhase::Running | RunPhase::Suspended => {
            (true, "RunFailed")
        }
    };
    Notice { warning, reason, message }
}

impl runtime::Controller for Controller {
    /// A run's.
    type Key = ObjectKey;

    const NAME: &'static str = "workflow run";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<ObjectKey> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let (kind, key) = (object.kind(), object.key());
        if kind == KindId::WorkflowRun {
            return vec![key];
        }
        if kind == KindId::Workflow {
            let waits = |run: &&Arc<WorkflowRun>| run.status.workflow.is_none();
            return snapshot.runs_of_workflow(&key).filter(waits).map(|run| run.key()).collect();
        }
        if kind == KindId::Job {
            let mut runs: Vec<ObjectKey> = object.owners(KindId::WorkflowRun).collect();
            if now.is_none() {
                runs.extend(freed::waiting_for(&key, &snapshot.workflow_runs, |run| {
                    &run.status.conditions
                }));
            }
            return runs;
        }
        Vec::new()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let mut unwritable = BTreeMap::new();
        // Each round learns of at least one more job that can never be written, or is the last.
        loop {
            let Some(shared) = self.shared(key) else { return Ok(Requeue::Gone) };
            self.tools.metrics.viewed(Self::NAME, shared.jobs.len() + 1);
            let plan = self.plan(&shared, &unwritable);
            let is_at_rest = is_at_rest(&shared.run, &plan);
            let Plan { mut groups, status, wake_at, ended } = plan;
            let mut requeue = self.tools.until(wake_at, is_at_rest);
            if let Some(wait) = self.throttle.add(status, &mut groups) {
                requeue = Requeue::After(wait);
            }
            let groups = starts::all_with_first_tasks(&self.tools, groups);
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
            let notices = ended.map(|(phase, message)| notice(phase, message));
            self.tools.tell(shared.run.as_ref(), notices.into_iter().collect()).await;
            return Ok(requeue);
        }
    }
}
