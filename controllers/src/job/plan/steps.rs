//! What is done with the tasks themselves: started, tried again, changed, stopped.

use std::collections::BTreeSet;

use api::job::{SMALL_JOB_TASKS_MAX, is_revision};
use api::object::Kind as _;
use api::size::json_bytes;
use api::table::some_of;
use api::task::transition::{Amend, Rerun, TaskChange};
use api::task::{Overrides, StopReason, Task, TaskState};

use super::cast::Member;
use super::cause::StopCause;
use super::outcome::{self, Verdict};
use crate::action::{Action, Group, NewTask, NewTasks};
use crate::packing::{self, Parcel};

use super::{
    Course, GROUP_OPS, Holder, Notice, Plan, ROUND_OPS_MAX, Scene, Waiting, ending, objects,
};

/// Open task objects that a large job may always have.
const OPEN_MIN: u32 = 1_000;
/// For each task that runs, open task objects that a large job may have: the scheduler should find
/// the next ones ready.
const OPEN_PER_ACTIVE: u32 = 4;
/// Tasks that a notice names.
pub(super) const NAMED_MAX: usize = 3;

/// Groups that bring the tasks further. Where the run opens, only the first of them.
pub(super) fn steps(scene: &Scene<'_>, plan: &mut Plan) -> Vec<Group> {
    match (scene.course, scene.run.opens) {
        (Course::Usual, _) => go_on(scene, plan),
        (Course::Suspended, true) => {
            plan.waiting.push(Waiting::Suspended);
            Vec::new()
        }
        (Course::Ending, true) => Vec::new(),
        (Course::Suspended, false) => {
            plan.waiting.push(Waiting::Suspended);
            stops(scene, Some(StopReason::Suspend.into()))
        }
        (Course::Ending, false) => {
            let tasks = scene.cast.open();
            if tasks > 0 {
                plan.waiting.push(Waiting::Open { tasks });
            }
            stops(scene, scene.ending.as_ref().map(|ending| ending::cause(scene, ending)))
        }
    }
}

fn go_on(scene: &Scene<'_>, plan: &mut Plan) -> Vec<Group> {
    let (open, limit) = (scene.cast.open(), open_limit(scene));
    if scene.run.opens {
        let starts = creations(scene, limit.saturating_sub(open), plan);
        plan.waiting.extend(limited(scene, open.saturating_add(made(starts.as_ref())), limit));
        return with_template(scene, starts.into_iter().collect(), Vec::new());
    }
    let mut groups = stops(scene, None);
    let held = surplus(scene, open);
    let why = StopCause::new(StopReason::Suspend, format!("parallelism is {limit}"));
    groups.extend(held.iter().map(|member| evict(member.task, why.clone())));
    let mut slots = limit.saturating_sub(open);
    groups.extend(retries(scene, &mut slots, plan));
    if let Some(obstacle) = &scene.obstacle {
        plan.waiting.push(obstacle.clone());
    } else {
        let mut starts = reruns(scene, &mut slots);
        let new = creations(scene, slots, plan);
        slots -= made(new.as_ref()).min(slots);
        starts.extend(new);
        let held: BTreeSet<u32> = held.iter().map(|member| member.task.spec.index).collect();
        groups.extend(with_template(scene, starts, amends(scene, &held)));
    }
    let is_open = || (open > 0).then_some(Waiting::Open { tasks: open });
    let open_then = open.max(limit.saturating_sub(slots));
    plan.waiting.extend(limited(scene, open_then, limit).or_else(is_open));
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
fn limited(scene: &Scene<'_>, open: u32, limit: u32) -> Option<Waiting> {
    let is_limited = open >= limit && open < scene.roster.total();
    is_limited.then_some(match scene.view.job.spec.parallelism {
        Some(parallelism) if parallelism <= limit => Waiting::Parallelism { limit },
        Some(_) | None => Waiting::Window { limit },
    })
}

/// How many tasks may be open.
fn open_limit(scene: &Scene<'_>) -> u32 {
    let parallelism = scene.view.job.spec.parallelism.unwrap_or(u32::MAX);
    if scene.roster.total() <= SMALL_JOB_TASKS_MAX {
        return parallelism;
    }
    let window = scene.cast.active().saturating_mul(OPEN_PER_ACTIVE).max(OPEN_MIN);
    parallelism.min(window)
}

fn evict(task: &Task, cause: StopCause) -> Group {
    Action::evict(task, cause.reason, cause.message).into()
}

/// Stops the tasks that are not needed or, if there is a cause, all tasks.
fn stops(scene: &Scene<'_>, all: Option<StopCause>) -> Vec<Group> {
    let replaced = format!("replaced by run {}", scene.run.number);
    let replaced = all.clone().unwrap_or(StopCause::new(StopReason::Revision, replaced));
    let members = scene.cast.members.values().map(|member| (member, all.as_ref()));
    let predecessors = scene.cast.predecessors.values().map(|member| (member, Some(&replaced)));
    let strays = scene.cast.strays.iter();
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
        .map(|member| stop(member.task, unwanted(scene, member.task)));
    wanted.chain(unwanted).take(ROUND_OPS_MAX).collect()
}

/// Why the run does not need a task of the job.
fn unwanted(scene: &Scene<'_>, task: &Task) -> StopCause {
    let Scene { view, run, roster, .. } = scene;
    let job = view.job.name();
    if task.spec.run < run.number {
        return StopCause::new(StopReason::ScaleDown, format!("replaced by run {}", run.number));
    }
    if roster.has(task.spec.index) {
        return StopCause::new(StopReason::Cancel, "its end is recorded already".to_owned());
    }
    if roster.index_named_as(job, task).is_some() {
        let why = format!("job {job} has a changed template for this task");
        return StopCause::new(StopReason::Revision, why);
    }
    let why = if view.job.spec.count.is_some() {
        let tasks = if roster.total() == 1 { "task" } else { "tasks" };
        format!("job {job} was scaled down to {} {tasks}", roster.total())
    } else {
        format!("job {job} no longer has this task")
    };
    StopCause::new(StopReason::ScaleDown, why)
}

/// The pending tasks beyond a lowered parallelism, last ones first. They are stopped, and then wait
/// as cancelled attempts, which the scheduler does not bind. Running tasks continue.
fn surplus<'a>(scene: &'a Scene<'a>, open: u32) -> Vec<&'a Member<'a>> {
    let Some(parallelism) = scene.view.job.spec.parallelism else {
        return Vec::new();
    };
    let surplus = usize::try_from(open.saturating_sub(parallelism)).unwrap_or(usize::MAX);
    let pending = scene.cast.members.values().rev();
    pending
        .filter(|member| member.is_open() && member.is_pending() && !member.task.is_deleting())
        .take(surplus.min(ROUND_OPS_MAX))
        .collect()
}

fn retries(scene: &Scene<'_>, slots: &mut u32, plan: &mut Plan) -> Vec<Group> {
    let again = scene.cast.members.values().filter_map(|member| match &member.verdict {
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
fn reruns(scene: &Scene<'_>, slots: &mut u32) -> Vec<Parcel> {
    let ended = scene
        .cast
        .predecessors
        .iter()
        .filter(|(_, member)| !member.is_open() && !member.task.is_deleting());
    let count = usize::try_from(*slots).unwrap_or(usize::MAX).min(ROUND_OPS_MAX);
    let rerun = |(index, member): (&u32, &Member<'_>)| {
        let rerun = Rerun {
            run: scene.run.number,
            template: scene.template.name().to_owned(),
            overrides: scene.roster.overrides(*index),
            index: *index,
            count: scene.roster.total(),
            priority: scene.view.job.spec.priority.unwrap_or_default(),
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
fn creations(scene: &Scene<'_>, slots: u32, plan: &mut Plan) -> Option<Parcel> {
    let Scene { view, run, roster, record, cast, template, .. } = scene;
    let there = cast.members.len() + cast.predecessors.len();
    let ended = super::status::ends_of(roster, record).total();
    let recorded_members =
        cast.members.values().filter(|member| member.verdict == Verdict::Recorded).count();
    let there = u32::try_from(there - recorded_members).unwrap_or(u32::MAX);
    let missing = roster.total().saturating_sub(ended).saturating_sub(there);
    if missing == 0 || slots == 0 {
        return None;
    }
    let in_the_way: BTreeSet<&str> = cast.strays.iter().map(|member| member.task.name()).collect();
    let count = usize::try_from(missing.min(slots)).unwrap_or(usize::MAX).min(ROUND_OPS_MAX);
    let mut each = Vec::new();
    for index in record.missing(roster.limit()) {
        if each.len() == count {
            break;
        }
        let is_there = cast.members.contains_key(&index) || cast.predecessors.contains_key(&index);
        if is_there || !roster.has(index) {
            continue;
        }
        let name = roster.object_name(view.job.name(), index);
        if let Some(holder) = view.taken.get(&name) {
            // The first of each kind is enough, since often many names are taken.
            let waiting = name_taken(*holder, &name);
            if !plan.waiting.iter().any(|other| other.reason() == waiting.reason()) {
                plan.waiting.push(waiting);
            }
        } else if !in_the_way.contains(name.as_str()) {
            each.push(NewTask { index, name, overrides: roster.overrides(index) });
        }
    }
    let alike = || Box::new(objects::task(view.job, run, roster.total(), template.name()));
    (!each.is_empty()).then(|| Action::CreateTasks(NewTasks { alike: alike(), each }).into())
}

fn name_taken(holder: Holder, name: &str) -> Waiting {
    let name = name.to_owned();
    match holder {
        Holder::Another => Waiting::NameTaken { kind: "task", name },
        Holder::Predecessor => Waiting::Predecessor { name },
    }
}

/// Updates pending tasks in place. Not if the template itself has changed and the job does not
/// apply changes to existing tasks.
fn amends(scene: &Scene<'_>, held: &BTreeSet<u32>) -> Vec<Parcel> {
    let Scene { view, run, roster, cast, template, .. } = scene;
    if !is_revision(&view.job.spec, &run.revision) {
        return Vec::new();
    }
    let written = objects::written_template_name(view.job);
    let (count, priority) = (roster.total(), view.job.spec.priority.unwrap_or_default());
    let is_behind = |index: u32, task: &Task| {
        (task.spec.template != template.name() && task.spec.template != written)
            || task.spec.count != count
            || task.spec.priority != priority
            || !roster.has_overrides(index, &task.spec.overrides)
    };
    let amend = |index: u32, task: &Task| {
        let amend = Amend {
            template: template.name().to_owned(),
            count,
            priority,
            overrides: roster.overrides_of(index, &task.spec.overrides),
        };
        with_overrides(&amend.overrides.clone(), task, TaskChange::Amend(Box::new(amend)))
    };
    cast.members
        .iter()
        .filter(|(index, member)| member.is_open() && member.is_pending() && !held.contains(index))
        .filter(|(index, member)| is_behind(**index, member.task))
        .map(|(index, member)| amend(*index, member.task))
        .take(ROUND_OPS_MAX)
        .collect()
}

/// Groups that need the TaskTemplate. If it does not exist yet, one group creates it together with
/// as many tasks as fit, and the rest waits until it exists.
fn with_template(scene: &Scene<'_>, starts: Vec<Parcel>, amends: Vec<Parcel>) -> Vec<Group> {
    if scene.view.template.is_none() {
        let template = Action::create(scene.template.clone()).into();
        let needed = !starts.is_empty() || !amends.is_empty();
        let with = || packing::beside(template, starts.into_iter().chain(amends), GROUP_OPS);
        return needed.then(with).into_iter().collect();
    }
    let amends = amends.into_iter().map(|amend| Group::from(amend.action));
    packing::groups(starts, GROUP_OPS).into_iter().chain(amends).collect()
}
