//! Creates a Job together with its status, its TaskTemplate and its first tasks, in one transaction.
//! Otherwise the job's controller would write them after it has seen the Job, and each step of a
//! workflow would wait for the disk once more. What is written is what the job's own plan returns for
//! a job without tasks.

use std::collections::BTreeMap;

use api::{Job, Timestamp};

use crate::action::{Action, Group, New, Status};
use crate::job::plan::{View, plan};

/// The group that creates a Job with its first tasks. `None` if the job's own controller has to begin:
/// if the job depends on a partition set, creates no task at once, or reports something to users.
pub(crate) fn with_first_tasks(job: &Job, now: Timestamp) -> Option<Group> {
    if job.spec.target.is_some() {
        return None;
    }
    let mut job = job.clone();
    // The apiserver gives this generation to new objects, and the status refers to it.
    job.metadata.generation = Some(1);
    let taken = BTreeMap::new();
    let view = View {
        job: &job,
        chunks: &[],
        tasks: &[],
        template: None,
        taken: &taken,
        partition_set: None,
        now,
    };
    let mut plan = plan(&view);
    let (Some(first), true) = (plan.groups.pop(), plan.groups.is_empty()) else { return None };
    if !plan.notices.is_empty() {
        return None;
    }
    let mut actions = first.actions.into_iter();
    let Some(Action::Status(Status::Job(begun))) = actions.next() else { return None };
    let rest: Vec<Action> = actions.collect();
    let has_tasks = rest.iter().any(|action| matches!(action, Action::CreateTasks(_)));
    let create = Action::Create(New::Job(begun));
    has_tasks.then(|| Group { actions: std::iter::once(create).chain(rest).collect() })
}

/// Undoes [`with_first_tasks`] for actions that could not be written together: only the Jobs of them
/// are created, without a status, and their own controller does the rest. Other actions stay as they
/// are.
pub(crate) fn without_first_tasks(actions: Vec<Action>) -> Vec<Action> {
    let alone = |action: Action| match action {
        Action::Create(New::Job(mut job)) => {
            job.status = <_>::default();
            Some(Action::Create(New::Job(job)))
        }
        Action::Create(New::TaskTemplate(_)) | Action::CreateTasks(_) => None,
        other @ (Action::Create(New::WorkflowRun(_))
        | Action::Patch(_)
        | Action::Status(_)
        | Action::Task { .. }
        | Action::Record { .. }
        | Action::Remove { .. }
        | Action::Delete { .. }
        | Action::Emptied { .. }) => Some(other),
    };
    actions.into_iter().filter_map(alone).collect()
}
