//! Writes the ends of tasks into the completion record, many in one write.

use std::collections::BTreeMap;

use api::Task;
use api::completion::{End, place_of};
use api::object::Kind as _;
use api::size::{ADDED_BYTES, GROUP_BYTES_MAX, OBJECT_BYTES_MAX, json_bytes};
use api::task::transition::TaskChange;

use crate::action::{Action, Group, ObjectRef};
use crate::packing::{self, Parcel, task_bytes};

use super::by_role::Member;
use super::outcome::{self, Verdict};
use super::{Course, GROUP_OPS, PlanInput, ROUND_OPS_MAX, large};

/// The end of a task that is to be recorded.
struct Fold<'a> {
    member: &'a Member<'a>,
    end: End,
}

/// Groups that record ends, each in one chunk. A group also contains the tasks, under the condition
/// that they still have this end. Successes need no such condition, since nothing in the run
/// depends on a success being taken back. So many successes of a chunk are recorded at once, and
/// their tasks are marked as recorded after that was seen. In a large job all successes are recorded
/// like this: see [`large::stays_unmarked`].
pub(super) fn groups(input: &PlanInput<'_>) -> Vec<Group> {
    let mut chunks: BTreeMap<(u32, u32), Vec<Fold<'_>>> = BTreeMap::new();
    let members =
        input.by_role.members.values().map(|member| (member, end_of_member(input, member)));
    let strays = input.by_role.strays.iter().chain(retired(input));
    let strays = strays.filter(|member| !large::stays_unmarked(input, member));
    let strays = strays.map(|member| (member, end_of_stray(input, member)));
    let ended = members.chain(strays).filter_map(|(member, end)| Some(Fold { member, end: end? }));
    for fold in ended {
        let spec = &fold.member.task.spec;
        chunks.entry((spec.run, place_of(spec.index).0)).or_default().push(fold);
    }
    let mut groups = Vec::new();
    let mut room = ROUND_OPS_MAX;
    for ((run, _), mut folds) in chunks {
        if folds.len() > GROUP_OPS || large::is_large(input) {
            let (news, rest) = folds.into_iter().partition(|fold| is_new_success(input, fold));
            let news: Vec<Fold<'_>> = news;
            groups.extend((!news.is_empty()).then(|| Group::from(record(input, run, &news))));
            folds = rest;
        }
        folds.truncate(room);
        room -= folds.len();
        groups.extend(with_tasks(input, run, &folds));
    }
    groups
}

/// Whether a group records ends without marking the tasks as recorded.
pub(super) fn leaves_tasks_untold(group: &Group) -> bool {
    let is_record = |action: &Action| matches!(action, Action::Record { .. });
    let is_task = |action: &Action| matches!(action, Action::Task { .. });
    group.actions.iter().any(is_record) && !group.actions.iter().any(is_task)
}

/// Whether it is a success that is not in the record yet.
fn is_new_success(input: &PlanInput<'_>, fold: &Fold<'_>) -> bool {
    let spec = &fold.member.task.spec;
    let of_run = spec.run == input.run.number;
    of_run && fold.end == End::Succeeded && input.record.get(spec.index).is_none()
}

/// Tasks of an earlier run that this run will no longer take over.
fn retired<'a>(input: &'a PlanInput<'a>) -> impl Iterator<Item = &'a Member<'a>> {
    let ending = input.course == Course::Ending;
    input.by_role.predecessors.values().filter(move |_| ending)
}

fn record(input: &PlanInput<'_>, run: u32, folds: &[Fold<'_>]) -> Action {
    let ends = folds.iter().map(|fold| (fold.member.task.spec.index, fold.end)).collect();
    Action::Record { job: ObjectRef::of(input.view.job), run, ends }
}

/// Records ends and marks the tasks, as many as fit into a group: each task is written as a whole.
fn with_tasks(input: &PlanInput<'_>, run: u32, folds: &[Fold<'_>]) -> Vec<Group> {
    let tasks = folds.iter().map(|fold| fold.member.task);
    let tasks = tasks
        .map(|task| Parcel::of_task(Action::task(task, TaskChange::Record), task))
        .collect::<Vec<_>>();
    let mut rest = folds;
    let group = |tasks: Group| {
        let (folds, after) = rest.split_at(tasks.ops());
        rest = after;
        let record = std::iter::once(record(input, run, folds));
        Group { actions: record.chain(tasks.actions).collect() }
    };
    packing::groups(tasks, GROUP_OPS).into_iter().map(group).collect()
}

/// Whether a group that records ends has room for the job's status, too.
pub(super) fn leaves_room_for_status(input: &PlanInput<'_>, group: &Group) -> bool {
    let tasks: BTreeMap<&str, &Task> =
        input.by_role.all().map(|member| (member.task.name(), member.task)).collect();
    let bytes_of = |action: &Action| match action {
        Action::Task { task, .. } => {
            tasks.get(task.key.name.as_str()).map_or(0, |task| task_bytes(task))
        }
        Action::Create(_)
        | Action::CreateTasks(_)
        | Action::Patch(_)
        | Action::Status(_)
        | Action::Record { .. }
        | Action::Remove { .. }
        | Action::Delete { .. }
        | Action::Emptied { .. } => 0,
    };
    let bytes: usize = group.actions.iter().map(bytes_of).sum();
    bytes + OBJECT_BYTES_MAX <= GROUP_BYTES_MAX
        || bytes + json_bytes(input.view.job) + ADDED_BYTES <= GROUP_BYTES_MAX
}

fn end_of_member(input: &PlanInput<'_>, member: &Member<'_>) -> Option<End> {
    match (&member.verdict, input.course) {
        (Verdict::Done { end, .. }, _) => Some(*end),
        (Verdict::Again(_) | Verdict::Anew, Course::Ending) => {
            Some(outcome::end_without_retry(member.task))
        }
        (Verdict::FailsJob { .. }, Course::Ending) => Some(End::Failed),
        // The end of the job is stored first.
        (
            Verdict::FailsJob { .. } | Verdict::Again(_) | Verdict::Anew,
            Course::Usual | Course::Suspended,
        )
        | (Verdict::Recorded | Verdict::Open, _) => None,
    }
}

/// A task that the run does not need is not retried. An end that is already recorded stays.
fn end_of_stray(input: &PlanInput<'_>, member: &Member<'_>) -> Option<End> {
    let spec = &member.task.spec;
    let known = if spec.run == input.run.number { input.record.get(spec.index) } else { None };
    let end = match &member.verdict {
        Verdict::Done { end, .. } => *end,
        // A change of the job removed it before it was retried. The change may be reverted, and
        // then this task must not make the job fail, since it has retries left.
        Verdict::Again(_) | Verdict::Anew => End::Cancelled,
        Verdict::FailsJob { .. } => End::Failed,
        Verdict::Recorded | Verdict::Open => return None,
    };
    Some(known.unwrap_or(end))
}
