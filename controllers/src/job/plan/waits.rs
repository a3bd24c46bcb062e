//! Counts what the tasks of a run wait for, for the job's status.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use api::Timestamp;
use api::conditions::UNSCHEDULABLE;
use api::job::{JobStatus, OTHER, RETRYING, WaitingCount, retrying as retrying_words};
use api::object::Kind as _;
use api::task::report::shortened;
use api::task::{PAST_MESSAGE_CHARS_MAX, Task};

use super::{Course, PlanInput, Waiting};

/// How many reasons a status counts separately.
const REASONS_MAX: usize = 5;

/// The tasks with one reason: their number, the first of them, and when the first one may start.
#[derive(Default)]
struct Tally<'a> {
    count: u32,
    task: Option<&'a str>,
    until: Option<Timestamp>,
}

/// What the tasks of the run wait for, the most frequent reasons first. `waiting` is what keeps the
/// plan from doing more, and `status` already has the counts of the run. In a run that ends or is
/// suspended, nothing waits: its pending tasks are stopped.
pub(super) fn counts(
    input: &PlanInput<'_>,
    status: &JobStatus,
    waiting: &[Waiting],
) -> Vec<WaitingCount> {
    if input.course != Course::Usual || status.phase.is_final() {
        return Vec::new();
    }
    let mut tallies: BTreeMap<(&str, Cow<'_, str>), Tally<'_>> = BTreeMap::new();
    for member in input.by_role.members.values().filter(|it| it.is_open() && it.is_pending()) {
        if let Some((reason, message, until)) = of_task(member.task) {
            let tally = tallies.entry((reason, message)).or_default();
            tally.count += 1;
            tally.task = tally.task.or(Some(member.task.name()));
            tally.until = [tally.until, until].into_iter().flatten().min();
        }
    }
    for (why, limit) in waiting.iter().filter_map(|why| Some((why, why.limit()?))) {
        // Tasks beyond a lowered limit keep running.
        let unfinished = status.pending.saturating_add(status.active);
        let count = unfinished.saturating_sub(limit.max(status.active));
        if count > 0 {
            let key = (why.reason(), why.to_string().into());
            tallies.insert(key, Tally { count, ..Tally::default() });
        }
    }
    let counted = |((reason, message), tally): ((&str, Cow<'_, str>), Tally<'_>)| WaitingCount {
        reason: reason.to_owned(),
        count: tally.count,
        message: shortened(&message, PAST_MESSAGE_CHARS_MAX),
        task: tally.task.map(str::to_owned),
        until: tally.until,
    };
    let mut counts: Vec<WaitingCount> = tallies.into_iter().map(counted).collect();
    counts.sort_by_key(|waiting| Reverse(waiting.count));
    let others = counts.split_off(counts.len().min(REASONS_MAX));
    let others: u32 = others.iter().map(|other| other.count).fold(0, u32::saturating_add);
    if others > 0 {
        let reason = OTHER.to_owned();
        counts.push(WaitingCount {
            reason,
            count: others,
            message: String::new(),
            task: None,
            until: None,
        });
    }
    counts
}

/// Why a pending task has no node, and until when at least. `None` if it only waits for the
/// scheduler to get to it.
fn of_task(task: &Task) -> Option<(&'static str, Cow<'_, str>, Option<Timestamp>)> {
    if let Some(why) = task.unschedulable() {
        return Some((UNSCHEDULABLE, why.into(), None));
    }
    match (task.last_attempt(), task.spec.not_before) {
        (None, None) => None,
        (last, until) => Some((RETRYING, last.unwrap_or_default().into(), until)),
    }
}

/// Why no node accepts the waiting tasks: the reason of the first task that has one.
pub(super) fn unfit<'a>(input: &PlanInput<'a>) -> Option<&'a str> {
    if input.course != Course::Usual {
        return None;
    }
    let mut pending = input.by_role.members.values().filter(|member| member.is_pending());
    pending.find_map(|member| member.task.unschedulable())
}

/// Reports that the job waits for a name to become free.
pub(super) fn predecessor(waiting: &[Waiting]) -> Option<String> {
    let is = |it: &&Waiting| matches!(it, Waiting::Predecessor { .. });
    waiting.iter().find(is).map(ToString::to_string)
}

/// The first task that is retried later, if nothing of the job runs meanwhile. Without this, it
/// would look as if nothing happened in a job whose every attempt fails at once.
pub(super) fn retrying(input: &PlanInput<'_>, status: &JobStatus) -> Option<String> {
    if input.course != Course::Usual || status.active > 0 {
        return None;
    }
    let mut pending = input.by_role.members.values().filter(|member| member.is_pending());
    let first = pending.find(|member| {
        let until = member.task.spec.not_before;
        until.is_some_and(|at| at > input.view.now)
    })?;
    Some(retrying_words(first.task.name(), &first.task.last_attempt()?))
}
