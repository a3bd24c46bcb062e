//! What a new Job begins with, so that it is written together with the Job: its open run, its template
//! and its first tasks, just as the job's own plan says.

use std::collections::BTreeMap;

use api::{Job, Timestamp};

use crate::action::{Action, Group, New, Status};
use crate::job::plan::{View, plan};

/// The group that makes a Job with its first tasks; nothing where it can have none before somebody has
/// looked at what there is, or has something to tell.
pub(crate) fn with_first_tasks(job: &Job, now: Timestamp) -> Option<Group> {
    if job.spec.target.is_some() {
        return None;
    }
    let mut job = job.clone();
    // As the apiserver counts what is new.
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

/// The Jobs alone of such groups, and all else as it is: what they begin with is then made once they are
/// there.
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
