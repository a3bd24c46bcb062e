//! The Jobs that a run creates, with their first tasks: those of a plan of the run, and those of the
//! step that follows the end of a job, which are written together with that end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::batch::GROUP_OPS_MAX;
use api::object::Kind as _;
use api::workflow::WorkflowSpec;
use api::{Job, KindId, ObjectKey, WorkflowRun, names};

use super::plan::first_tasks::with_first_tasks;
use super::plan::{View, plan};
use crate::action::{Action, Group, New, Status, created};
use crate::packing::{self, Parcel};
use crate::tools::Tools;

/// How many Jobs are made together with their first tasks in one look at a run. The others are made
/// alone, and their own controller makes their tasks.
const JOBS_WITH_TASKS_MAX: usize = 10;

/// Adds first tasks to the first few Jobs that are created. A run may start a thousand jobs at
/// once. If all their tasks were written here, a cancellation of the run would wait for 100,000
/// writes.
pub(crate) fn all_with_first_tasks(tools: &Tools, groups: Vec<Group>) -> Vec<Group> {
    let mut room = JOBS_WITH_TASKS_MAX;
    let with_tasks = |group: Group| {
        if room == 0 {
            return group;
        }
        let group = of_group(tools, group);
        room -= usize::from(group.actions.len() > 1);
        group
    };
    groups.into_iter().map(with_tasks).collect()
}

/// Adds first tasks to a group that creates only a Job, unless one of their names is in use. Then
/// the job's own controller handles that.
fn of_group(tools: &Tools, group: Group) -> Group {
    let [Action::Create(New::Job(job))] = &group.actions[..] else { return group };
    let Some(all) = with_first_tasks(job, tools.clock.now()) else { return group };
    if names_are_free(tools, job.namespace(), std::slice::from_ref(&all)) { all } else { group }
}

/// Whether no object has the name of a task or a template that these groups create.
fn names_are_free(tools: &Tools, namespace: &str, groups: &[Group]) -> bool {
    let key = |name: &str| ObjectKey::new(namespace, name);
    tools.cache.read(|snapshot| {
        let tasks = created(groups, KindId::Task);
        let templates = created(groups, KindId::TaskTemplate);
        tasks.into_iter().all(|name| snapshot.tasks.get(&key(name)).is_none())
            && templates.into_iter().all(|name| snapshot.task_templates.get(&key(name)).is_none())
    })
}

/// A run, and its jobs.
struct Family {
    run: Arc<WorkflowRun>,
    jobs: Vec<Arc<Job>>,
}

/// The group that writes the end of a job of a workflow, together with the Jobs that its run creates
/// because of that end, and their first tasks. `None` if it ends no such job, or if nothing follows
/// that fits.
///
/// The run's own plan decides what follows, on the state that this group leads to. So what its own
/// controller finds then is what it would have created itself, a wait for the disk later. It still
/// writes the run's status, and everything else.
pub(crate) fn with_next_step(tools: &Tools, group: &Group) -> Option<Group> {
    let ended = group.actions.iter().find_map(|action| match action {
        Action::Status(Status::Job(job)) if job.status.phase.is_final() => Some(job),
        Action::Status(_)
        | Action::Create(_)
        | Action::CreateTasks(_)
        | Action::Patch(_)
        | Action::Task { .. }
        | Action::Record { .. }
        | Action::Remove { .. }
        | Action::Delete { .. }
        | Action::Emptied { .. } => None,
    })?;
    let family = family(tools, ended)?;
    let others = family.jobs.iter().map(Arc::as_ref).filter(|job| job.uid() != ended.uid());
    let jobs: Vec<&Job> = others.chain([ended.as_ref()]).collect();
    let plan = plan(&View {
        run: &family.run,
        workflow: None,
        jobs: &jobs,
        taken: &BTreeSet::new(),
        unwritable: &BTreeMap::new(),
        now: tools.clock.now(),
    });
    if plan.ended.is_some() {
        return None;
    }
    let is_start = |group: &Group| matches!(group.actions[..], [Action::Create(New::Job(_))]);
    let starts: Vec<Group> = plan.groups.into_iter().filter(is_start).collect();
    if starts.is_empty() || starts.len() > JOBS_WITH_TASKS_MAX {
        return None;
    }
    let is_there = |name: &&str| {
        let key = ObjectKey::new(ended.namespace(), *name);
        tools.cache.read(|snapshot| snapshot.jobs.get(&key).is_some())
    };
    if created(&starts, KindId::Job).iter().any(is_there) {
        return None;
    }
    let starts = all_with_first_tasks(tools, starts).into_iter().flat_map(|start| start.actions);
    // What follows comes first: whoever sees that the job has ended sees what its end has led to. A
    // run that is cancelled in this moment would otherwise end without the new Jobs, which nobody
    // would stop.
    let all = starts.chain(group.actions.iter().cloned()).map(Parcel::from);
    let mut packed = packing::groups(all, GROUP_OPS_MAX);
    // What does not fit into one transaction is created by the run's controller.
    packed.pop().filter(|_| packed.is_empty())
}

/// The run of a job, if the end of the job may be what others of the run wait for.
fn family(tools: &Tools, ended: &Job) -> Option<Family> {
    let owner = ended.controller().filter(|it| it.kind == KindId::WorkflowRun.info().kind)?;
    tools.cache.read(|snapshot| {
        let run = snapshot.workflow_runs.get(&ObjectKey::new(ended.namespace(), &*owner.name))?;
        let workflow = run.status.workflow.as_ref().filter(|_| run.uid() == owner.uid)?;
        let follows = |before: &str| names::job_in_run(run.name(), before) == ended.name();
        // Most jobs of a wide workflow are followed by none, so this comes first.
        let mut all = workflow.jobs.iter().flat_map(|job| &job.depends_on);
        if !all.any(|dependency| follows(&dependency.job)) {
            return None;
        }
        let jobs: Vec<Arc<Job>> = snapshot.jobs.of_owner(run.uid()).cloned().collect();
        let family = Family { run: Arc::clone(run), jobs };
        is_last_of_some(&family, workflow, ended).then_some(family)
    })
}

/// Whether all that some job depends on has ended with this one.
fn is_last_of_some(family: &Family, workflow: &WorkflowSpec, ended: &Job) -> bool {
    let Family { run, jobs } = family;
    let known = run.status.jobs.iter().filter(|job| job.phase.is_final());
    let known = known.map(|job| names::job_in_run(run.name(), &job.name));
    let objects = jobs.iter().filter(|job| job.status.phase.is_final());
    let mut final_ones: BTreeSet<String> = known.collect();
    final_ones.extend(objects.map(|job| job.name().to_owned()));
    final_ones.insert(ended.name().to_owned());
    let name = |before: &str| names::job_in_run(run.name(), before);
    workflow.jobs.iter().any(|job| {
        let before = || job.depends_on.iter().map(|dependency| name(&dependency.job));
        before().any(|it| it == ended.name()) && before().all(|it| final_ones.contains(&it))
    })
}
