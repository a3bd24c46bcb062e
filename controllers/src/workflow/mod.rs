//! Workflows: runs each new revision once, and removes old runs.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::object::Kind as _;
use api::{KindId, ObjectKey, WorkflowRun, names};
use runtime::{Any, ReconcileError, Requeue, Snapshot};

use crate::action::Action;
use crate::notice::Notice;
use crate::tools::Tools;
use plan::{View, is_at_rest, plan, unwritable};

/// Starts runs of workflows.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools }
    }
}

impl runtime::Controller for Controller {
    type Key = ObjectKey;

    const NAME: &'static str = "workflow";

    fn keys(before: Option<&Any>, now: Option<&Any>, _: &Snapshot) -> Vec<ObjectKey> {
        let Some(object) = now.or(before) else { return Vec::new() };
        if let Any::WorkflowRun(run) = object {
            return vec![ObjectKey::new(run.namespace(), &*run.spec.workflow)];
        }
        if object.kind() == KindId::Workflow { vec![object.key()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let read = self.tools.cache.read(|snapshot| {
            let workflow = Arc::clone(snapshot.workflows.get(key)?);
            let runs: Vec<Arc<WorkflowRun>> = snapshot.runs_of_workflow(key).cloned().collect();
            let prefix = names::prefix_of_owned(workflow.name());
            let alike = snapshot.workflow_runs.starting_with(&key.namespace, &prefix);
            let names: BTreeSet<String> = alike.map(|run| run.name().to_owned()).collect();
            Some((workflow, runs, names))
        });
        let Some((workflow, runs, taken)) = read else { return Ok(Requeue::Gone) };
        self.tools.metrics.viewed(Self::NAME, runs.len() + taken.len() + 1);
        let runs: Vec<&WorkflowRun> = runs.iter().map(Arc::as_ref).collect();
        let now = self.tools.clock.now();
        let view = View { workflow: &workflow, runs: &runs, taken: &taken, now };
        let plan = plan(&view);
        let is_at_rest = is_at_rest(&view, &plan);
        let never = self.tools.write(Self::NAME, plan.groups).await?;
        if let Some((_, why)) = never.first()
            && let Some(next) = unwritable(&workflow, why, now)
        {
            let message = format!("the workflow's status or its next run cannot be stored: {why}");
            self.tools.write(Self::NAME, vec![Action::status(next).into()]).await?;
            let notice = Notice { warning: true, reason: "NotWritable", message };
            self.tools.tell(workflow.as_ref(), vec![notice]).await;
        }
        Ok(if is_at_rest { Requeue::AtRest } else { Requeue::OnChange })
    }
}
