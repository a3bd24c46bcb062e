//! Decides which task objects to remove: recorded ones that are no longer kept, and those that
//! somebody deleted before they had succeeded.

use std::collections::BTreeSet;

use api::Timestamp;
use api::object::Kind as _;
use api::table::some_of;
use api::task::{Task, TaskState};

use crate::action::{Action, Group};
use crate::notice::Notice;

use super::by_role::Member;
use super::outcome::Verdict;
use super::{Course, GROUP_OPS, PlanInput, ROUND_OPS_MAX, large, steps};

/// How many objects of succeeded tasks, and of other ended tasks, a large job keeps.
const FINISHED_KEPT: usize = 1_000;

/// Which objects to remove now, and when to remove the next one.
#[derive(Debug, Default)]
pub(super) struct Removals {
    pub(super) groups: Vec<Group>,
    pub(super) wake_at: Option<Timestamp>,
    /// A notice that tasks were deleted before they had succeeded.
    pub(super) notice: Option<Notice>,
}

/// The objects that are no longer kept.
pub(super) fn removals(input: &PlanInput<'_>) -> Removals {
    let now = input.view.now;
    let keep = input.view.job.spec.keep_tasks().signed();
    let surplus = surplus(input);
    let mut gone = deleted(input);
    let notice = (!gone.is_empty()).then(|| notice(&gone));
    let mut wake_at: Option<Timestamp> = None;
    let members = input.by_role.members.values().map(|member| (member, false));
    let strays = input.by_role.strays.iter().map(|member| (member, is_in_the_way(input, member)));
    for (member, in_the_way) in members.chain(strays).chain(retired(input)) {
        let task = member.task;
        // The object of a task is the only place that says how it ended, until the record has it.
        if !is_recorded(input, member) || is_held(task) {
            continue;
        }
        let until = finished_at(task).saturating_add(keep).unwrap_or(Timestamp::MAX);
        if in_the_way || task.is_deleting() || until <= now || surplus.contains(task.name()) {
            gone.push(task);
        } else {
            wake_at = Some(wake_at.map_or(until, |at| at.min(until)));
        }
    }
    gone.truncate(ROUND_OPS_MAX);
    let group =
        |tasks: &[&Task]| Group { actions: tasks.iter().copied().map(Action::remove).collect() };
    Removals { groups: gone.chunks(GROUP_OPS).map(group).collect(), wake_at, notice }
}

/// Whether the end of a task is recorded.
fn is_recorded(input: &PlanInput<'_>, member: &Member<'_>) -> bool {
    member.verdict == Verdict::Recorded || large::stays_unmarked(input, member)
}

/// A task with a finalizer stays until the finalizer is gone: its removal would be refused, and
/// with it everything else in its group.
fn is_held(task: &Task) -> bool {
    task.meta().finalizers.as_ref().is_some_and(|list| !list.is_empty())
}

/// Tasks that were deleted before they had succeeded and that no longer run anywhere. Removing them
/// frees their names, and the next look makes new tasks for their indexes.
fn deleted<'a>(input: &PlanInput<'a>) -> Vec<&'a Task> {
    if input.course == Course::Ending {
        // No new tasks are made any more. How these ended has to be recorded first, as for all
        // others.
        return Vec::new();
    }
    let members = input.by_role.members.values().filter(|member| member.verdict == Verdict::Anew);
    // The result of a task of an earlier run does not matter: this run has work for its index.
    let predecessors = input.by_role.predecessors.values();
    let predecessors = predecessors.filter(|it| it.task.is_deleting() && !it.is_open());
    let tasks = members.chain(predecessors).map(|member| member.task);
    tasks.filter(|task| !is_held(task)).collect()
}

fn notice(deleted: &[&Task]) -> Notice {
    let named = some_of(deleted.iter().map(|task| task.name()), steps::NAMED_MAX);
    let message = format!("deleted by a user, running again: {named}");
    Notice { warning: false, reason: "TaskDeleted", message }
}

/// Tasks of an earlier run that will not be taken over, because nothing is started in the run any
/// more.
fn retired<'a>(input: &'a PlanInput<'a>) -> impl Iterator<Item = (&'a Member<'a>, bool)> {
    let ending = input.course == Course::Ending;
    input.by_role.predecessors.values().filter(move |_| ending).map(|member| (member, false))
}

/// Whether another index needs the name of a task that is not needed.
fn is_in_the_way(input: &PlanInput<'_>, member: &Member<'_>) -> bool {
    let wanted = input.wanted_tasks.index_named_as(input.view.job.name(), member.task);
    wanted.is_some_and(|index| input.record.get(index).is_none())
}

/// The recorded tasks of a large job beyond those that are kept.
fn surplus<'a>(input: &'a PlanInput<'a>) -> BTreeSet<&'a str> {
    if !large::is_large(input) {
        return BTreeSet::new();
    }
    let recorded = |succeeded: bool| {
        let mut tasks: Vec<&Task> = input
            .by_role
            .members
            .values()
            .chain(&input.by_role.strays)
            .filter(|member| is_recorded(input, member))
            .map(|member| member.task)
            .filter(|task| matches!(task.state(), TaskState::Succeeded) == succeeded)
            .collect();
        tasks.sort_by_cached_key(|task| (finished_at(task), task.spec.index));
        let surplus = tasks.len().saturating_sub(FINISHED_KEPT);
        tasks.truncate(surplus);
        tasks
    };
    let names = recorded(true).into_iter().chain(recorded(false));
    names.map(|task| task.name()).collect()
}

/// When the last attempt of a task ended, as far as is known.
fn finished_at(task: &Task) -> Timestamp {
    let reported = task.status.finished_at.filter(|_| task.report().is_some());
    reported
        .or_else(|| task.stop().map(|stop| stop.at))
        .or_else(|| task.loss().map(|loss| loss.since))
        .or_else(|| task.created())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
