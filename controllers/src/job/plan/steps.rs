//! What is done with the tasks themselves: started, tried again, changed, stopped.

use std::collections::BTreeSet;

use api::job::is_revision;
use api::object::Kind as _;
use api::size::json_bytes;
use api::table::some_of;
use api::task::transition::{Amend, Rerun, TaskChange};
use api::task::{Overrides, StopReason, Task, TaskState};

use super::by_role::Member;
use super::cause::StopCause;
use super::outcome::{self, Verdict};
use crate::action::{Action, Group, NewTask, NewTasks};
use crate::freed::waits_for_a_name;
use crate::notice::Notice;
use crate::packing::{self, Parcel};

use super::{
    Course, GROUP_OPS, Holder, Plan, PlanInput, ROUND_OPS_MAX, Waiting, ending, large, objects,
};

/// Open task objects that a large job may always have.
const OPEN_MIN: u32 = 1_000;
/// For each task that runs, open task objects that a large job may have: the scheduler should find
/// the next ones ready.
const OPEN_PER_ACTIVE: u32 = 4;
/// Names of missing tasks that are looked for while the job may create none.
const LOOKED_FOR_MAX: usize = 64;
/// Tasks that a notice names.
pub(super) const NAMED_MAX: usize = 3;

/// Groups that bring the tasks further. Where the run opens, only the first of them.
pub(super) fn steps(input: &PlanInput<'_>, plan: &mut Plan) -> Vec<Group> {
    match (input.course, input.run.opens) {
        (Course::Usual, _) => go_on(input, plan),
        (Course::Suspended, true) => {
            plan.waiting.push(Waiting::Suspended);
            Vec::new()
        }
        (Course::Ending, true) => Vec::new(),
        (Course::Suspended, false) => {
            plan.waiting.push(Waiting::Suspended);
            stops(input, Some(StopReason::Suspend.into()))
        }
        (Course::Ending, false) => {
            let tasks = input.by_role.open();
            if tasks > 0 {
                plan.waiting.push(Waiting::Open { tasks });
            }
            stops(input, input.ending.as_ref().map(|ending| ending::cause(input, ending)))
        }
    }
}

fn go_on(input: &PlanInput<'_>, plan: &mut Plan) -> Vec<Group> {
    let (open, limit) = (input.by_role.open(), open_limit(input));
    // The tasks of earlier runs are stopped only once this run is stored: otherwise they would be
    // stopped for a run that may never come.
    if input.run.opens {
        let starts = creations(input, limit.saturating_sub(open), plan);
        plan.waiting.extend(limited(input, open.saturating_add(made(starts.as_ref())), limit));
        return with_template(input, starts.into_iter().collect(), Vec::new());
    }
    let mut groups = stops(input, None);
    let held = surplus(input, open);
    let why = StopCause::new(StopReason::Suspend, format!("parallelism is {limit}"));
    groups.extend(held.iter().map(|member| evict(member.task, why.clone())));
    let mut slots = limit.saturating_sub(open);
    groups.extend(retries(input, &mut slots, plan));
    if let Some(obstacle) = &input.obstacle {
        plan.waiting.push(obstacle.clone());
    } else {
        let mut starts = reruns(input, &mut slots);
        let new = creations(input, slots, plan);
        slots -= made(new.as_ref()).min(slots);
        starts.extend(new);
        let held: BTreeSet<u32> = held.iter().map(|member| member.task.spec.index).collect();
        groups.extend(with_template(input, starts, amends(input, &held)));
    }
    let is_open = || (open > 0).then_some(Waiting::Open { tasks: open });
    let open_then = open.max(limit.saturating_sub(slots));
    plan.waiting.extend(limited(input, open_then, limit).or_else(is_open));
    groups
}

/// How many tasks this creates.
fn made(creations: Option<&Parcel>) -> u32 {
    let made = creations.map_or(0, |parcel| parcel.action.ops());
    u32::try_from(made).unwrap_or(u32::MAX)
}

/// Reports that the run needs more than the `open` tasks and may not have them open at once. Tasks
/// that the plan starts count as open. Otherwise the status would change each time a task ends and
/// the next one starts.
fn limited(input: &PlanInput<'_>, open: u32, limit: u32) -> Option<Waiting> {
    let is_limited = open >= limit && open < input.wanted_tasks.total();
    is_limited.then_some(match input.view.job.spec.parallelism {
        Some(parallelism) if parallelism <= limit => Waiting::Parallelism { limit },
        Some(_) | None => Waiting::Window { limit },
    })
}

/// How many tasks may be open.
fn open_limit(input: &PlanInput<'_>) -> u32 {
    let parallelism = input.view.job.spec.parallelism.unwrap_or(u32::MAX);
    if !large::is_large(input) {
        return parallelism;
    }
    let window = input.by_role.active().saturating_mul(OPEN_PER_ACTIVE).max(OPEN_MIN);
    parallelism.min(window)
}

fn evict(task: &Task, cause: StopCause) -> Group {
    Action::evict(task, cause.reason, cause.message).into()
}

/// Stops the tasks that are not needed or, if there is a cause, all tasks.
fn stops(input: &PlanInput<'_>, all: Option<StopCause>) -> Vec<Group> {
    let replaced = format!("replaced by run {}", input.run.number);
    let replaced = all.clone().unwrap_or(StopCause::new(StopReason::Revision, replaced));
    let members = input.by_role.members.values().map(|member| (member, all.as_ref()));
    let predecessors = input.by_role.predecessors.values().map(|member| (member, Some(&replaced)));
    let strays = input.by_role.strays.iter();
    let is_to_stop = |member: &Member<'_>| member.is_open() && member.task.stop().is_none();
    let stop = |task: &Task, cause: StopCause| {
        evict(task, if task.is_deleting() { StopReason::Delete.into() } else { cause })
    };
    let wanted = members
        .chain(predecessors)
        .filter(|(member, _)| is_to_stop(member))
        .filter(|(member, cause)| cause.is_some() || member.task.is_deleting())
        .map(|(member, cause)| {
            stop(member.task, cause.cloned().unwrap_or(StopReason::Delete.into()))
        });
    let unwanted = strays
        .filter(|member| is_to_stop(member))
        .map(|member| stop(member.task, unwanted(input, member.task)));
    wanted.chain(unwanted).take(ROUND_OPS_MAX).collect()
}

/// Why the run does not need a task of the job.
fn unwanted(input: &PlanInput<'_>, task: &Task) -> StopCause {
    let PlanInput { view, run, wanted_tasks, .. } = input;
    let job = view.job.name();
    if task.spec.run < run.number {
        return StopCause::new(StopReason::ScaleDown, format!("replaced by run {}", run.number));
    }
    if wanted_tasks.has(task.spec.index) {
        return StopCause::new(StopReason::Cancel, "its end is recorded already".to_owned());
    }
    if wanted_tasks.index_named_as(job, task).is_some() {
        let why = format!("job {job} has a changed template for this task");
        return StopCause::new(StopReason::Revision, why);
    }
    let why = if view.job.spec.count.is_some() {
        let tasks = if wanted_tasks.total() == 1 { "task" } else { "tasks" };
        format!("job {job} was scaled down to {} {tasks}", wanted_tasks.total())
    } else {
        format!("job {job} no longer has this task")
    };
    StopCause::new(StopReason::ScaleDown, why)
}

/// The pending tasks beyond a lowered parallelism, last ones first. They are stopped, and then wait
/// as cancelled attempts, which the scheduler does not bind. Running tasks continue.
fn surplus<'a>(input: &'a PlanInput<'a>, open: u32) -> Vec<&'a Member<'a>> {
    let Some(parallelism) = input.view.job.spec.parallelism else {
        return Vec::new();
    };
    let surplus = usize::try_from(open.saturating_sub(parallelism)).unwrap_or(usize::MAX);
    let pending = input.by_role.members.values().rev();
    pending
        .filter(|member| member.is_open() && member.is_pending() && !member.task.is_deleting())
        .take(surplus.min(ROUND_OPS_MAX))
        .collect()
}

fn retries(input: &PlanInput<'_>, slots: &mut u32, plan: &mut Plan) -> Vec<Group> {
    let again = input.by_role.members.values().filter_map(|member| match &member.verdict {
        Verdict::Again(again) => Some((member.task, again)),
        Verdict::Recorded
        | Verdict::Open
        | Verdict::Anew
        | Verdict::Done { .. }
        | Verdict::FailsJob { .. } => None,
    });
    let count = usize::try_from(*slots).unwrap_or(usize::MAX).min(ROUND_OPS_MAX);
    let again: Vec<_> = again.take(count).collect();
    *slots -= u32::try_from(again.len()).unwrap_or(*slots);
    let told: Vec<_> = again.iter().filter(|(task, _)| is_told(task)).collect();
    if !told.is_empty() {
        let named = told.iter().map(|(task, again)| {
            format!("{} ({})", task.name(), outcome::why_there(task, &again.why))
        });
        let message = format!("retrying: {}", some_of(named, NAMED_MAX));
        plan.notices.push(Notice { warning: true, reason: "TaskRetried", message });
    }
    let retry = |(task, again): (&Task, &outcome::Again)| {
        Action::task(task, TaskChange::Retry(again.retry.clone())).into()
    };
    again.into_iter().map(retry).collect()
}

/// Whether the retry of a task is reported. It is not if the task continues after a suspension or
/// runs for a new revision.
fn is_told(task: &Task) -> bool {
    !matches!(
        task.state(),
        TaskState::Cancelled {
            reason: StopReason::Suspend | StopReason::Revision | StopReason::Gang
        }
    )
}

/// Takes over ended tasks of an earlier run into this one.
fn reruns(input: &PlanInput<'_>, slots: &mut u32) -> Vec<Parcel> {
    let ended = input
        .by_role
        .predecessors
        .iter()
        .filter(|(_, member)| !member.is_open() && !member.task.is_deleting());
    let count = usize::try_from(*slots).unwrap_or(usize::MAX).min(ROUND_OPS_MAX);
    let rerun = |(index, member): (&u32, &Member<'_>)| {
        let rerun = Rerun {
            run: input.run.number,
            template: input.template.name().to_owned(),
            overrides: input.wanted_tasks.overrides(*index),
            index: *index,
            count: input.wanted_tasks.total(),
            priority: input.view.job.spec.priority.unwrap_or_default(),
        };
        with_overrides(&rerun.overrides.clone(), member.task, TaskChange::Rerun(Box::new(rerun)))
    };
    let reruns: Vec<Parcel> = ended.take(count).map(rerun).collect();
    *slots -= u32::try_from(reruns.len()).unwrap_or(*slots);
    reruns
}

/// A change that also sets how a task differs from the template.
fn with_overrides(overrides: &Overrides, task: &Task, change: TaskChange) -> Parcel {
    let sized = Parcel::of_task(Action::task(task, change), task);
    Parcel { bytes: sized.bytes + json_bytes(overrides), ..sized }
}

/// Creates missing tasks.
fn creations(input: &PlanInput<'_>, slots: u32, plan: &mut Plan) -> Option<Parcel> {
    let PlanInput { view, run, wanted_tasks, record, by_role, template, .. } = input;
    let there = by_role.members.len() + by_role.predecessors.len();
    let ended = super::status::ends_of(wanted_tasks, record).total();
    let recorded_members =
        by_role.members.values().filter(|member| member.verdict == Verdict::Recorded).count();
    let there = u32::try_from(there - recorded_members).unwrap_or(u32::MAX);
    let missing = wanted_tasks.total().saturating_sub(ended).saturating_sub(there);
    if missing == 0 {
        return None;
    }
    if slots == 0 {
        still_taken(input, plan);
        return None;
    }
    let in_the_way: BTreeSet<&str> =
        by_role.strays.iter().map(|member| member.task.name()).collect();
    let count = usize::try_from(missing.min(slots)).unwrap_or(usize::MAX).min(ROUND_OPS_MAX);
    let mut each = Vec::new();
    for (index, name) in missing_tasks(input) {
        if each.len() == count {
            break;
        }
        if let Some(holder) = view.taken.get(&name) {
            say_taken(*holder, name, plan);
        } else if !in_the_way.contains(name.as_str()) {
            each.push(NewTask { index, name, overrides: wanted_tasks.overrides(index) });
        }
    }
    let alike = || Box::new(objects::task(view.job, run, wanted_tasks.total(), template.name()));
    (!each.is_empty()).then(|| Action::CreateTasks(NewTasks { alike: alike(), each }).into())
}

/// The tasks that are still to be created, by their indexes, and their names.
fn missing_tasks(input: &PlanInput<'_>) -> impl Iterator<Item = (u32, String)> {
    let PlanInput { view, wanted_tasks, record, by_role, .. } = input;
    let is_missing = |index: &u32| {
        let is_there =
            by_role.members.contains_key(index) || by_role.predecessors.contains_key(index);
        !is_there && wanted_tasks.has(*index)
    };
    let indexes = record.missing(wanted_tasks.limit()).filter(is_missing);
    indexes.map(|index| (index, wanted_tasks.object_name(view.job.name(), index)))
}

/// Keeps saying that names are taken while the job may create no task anyway. Without this, its status
/// would say so only between the end of one task and the start of the next, and be written twice for
/// each of them.
fn still_taken(input: &PlanInput<'_>, plan: &mut Plan) {
    if !waits_for_a_name(&input.view.job.status.conditions) {
        return;
    }
    // Tasks are created in the order of their indexes, so those with taken names come first.
    for (_, name) in missing_tasks(input).take(LOOKED_FOR_MAX) {
        match input.view.taken.get(&name) {
            Some(holder) => say_taken(*holder, name, plan),
            None => plan.looked_for.push(name),
        }
    }
}

/// Says that a name is taken. The first of each kind is enough, since often many are.
fn say_taken(holder: Holder, name: String, plan: &mut Plan) {
    let waiting = match holder {
        Holder::Another => Waiting::NameTaken { kind: "task", name },
        Holder::Predecessor => Waiting::Predecessor { name },
    };
    if !plan.waiting.iter().any(|other| other.reason() == waiting.reason()) {
        plan.waiting.push(waiting);
    }
}

/// Updates pending tasks in place. Not if the template itself has changed and the job does not
/// apply changes to existing tasks.
fn amends(input: &PlanInput<'_>, held: &BTreeSet<u32>) -> Vec<Parcel> {
    let PlanInput { view, run, wanted_tasks, by_role, template, .. } = input;
    if !is_revision(&view.job.spec, &run.revision) {
        return Vec::new();
    }
    let written = objects::written_template_name(view.job);
    let (count, priority) = (wanted_tasks.total(), view.job.spec.priority.unwrap_or_default());
    let is_behind = |index: u32, task: &Task| {
        (task.spec.template != template.name() && task.spec.template != written)
            || task.spec.count != count
            || task.spec.priority != priority
            || !wanted_tasks.has_overrides(index, &task.spec.overrides)
    };
    let amend = |index: u32, task: &Task| {
        let amend = Amend {
            template: template.name().to_owned(),
            count,
            priority,
            overrides: wanted_tasks.overrides_of(index, &task.spec.overrides),
        };
        with_overrides(&amend.overrides.clone(), task, TaskChange::Amend(Box::new(amend)))
    };
    by_role
        .members
        .iter()
        .filter(|(index, member)| member.is_open() && member.is_pending() && !held.contains(index))
        .filter(|(index, member)| is_behind(**index, member.task))
        .map(|(index, member)| amend(*index, member.task))
        .take(ROUND_OPS_MAX)
        .collect()
}

/// Groups that need the TaskTemplate. If it does not exist yet, one group creates it together with
/// as many tasks as fit, and the rest waits until it exists.
fn with_template(input: &PlanInput<'_>, starts: Vec<Parcel>, amends: Vec<Parcel>) -> Vec<Group> {
    if input.view.template.is_none() {
        let template = Action::create(input.template.clone()).into();
        let needed = !starts.is_empty() || !amends.is_empty();
        let with = || packing::beside(template, starts.into_iter().chain(amends), GROUP_OPS);
        return needed.then(with).into_iter().collect();
    }
    let amends = amends.into_iter().map(|amend| Group::from(amend.action));
    packing::groups(starts, GROUP_OPS).into_iter().chain(amends).collect()
}
