//! What a job has come to, as its status says it.

use std::collections::{BTreeMap, BTreeSet};

use api::completion::{End, EndCounts};
use api::conditions::{Standing, UNSCHEDULABLE, conditions, stalled};
use api::job::change::{self, tasks_from};
use api::job::{FailureCount, JobPhase, JobStatus, scaled_down as scaled_down_words};
use api::object::Kind as _;
use api::table::some_of;
use api::task::report::shortened;
use api::task::{PAST_MESSAGE_CHARS_MAX, TaskPhase, TaskState};
use api::{Job, Timestamp};

use crate::notice::Notice;

use super::by_role::Member;
use super::outcome::{self, Verdict};
use super::record::Record;
use super::waits;
use super::wanted_tasks::WantedTasks;
use super::{Course, PlanInput, Run, Waiting};

/// How many nodes a status names.
const NODES_NAMED: usize = 3;
/// How many reasons for failures a status names.
const FAILURES_NAMED: usize = 5;

/// How many of the run's indexes are recorded, by how they ended.
pub(super) fn ends_of(wanted_tasks: &WantedTasks, record: &Record<'_>) -> EndCounts {
    if wanted_tasks.is_dense() {
        return record.counts(wanted_tasks.limit());
    }
    let mut counts = EndCounts::default();
    let live = (0..wanted_tasks.limit()).filter(|index| wanted_tasks.has(*index));
    live.filter_map(|index| record.get(index)).for_each(|end| counts.add(end));
    counts
}

/// The next status. It says that the run has ended only if the remaining ends fit in one group, so
/// that they are written together with it.
pub(super) fn next(input: &PlanInput<'_>, folds: usize, waiting: &[Waiting]) -> JobStatus {
    let (job, ending) = (input.view.job, input.ending.as_ref());
    let mut status = base(input);
    count(input, &mut status);
    remember(input, &mut status);
    let hides_tasks = input.obstacle.as_ref().is_some_and(Waiting::hides_tasks);
    let has_all = input.course == Course::Ending || !hides_tasks;
    let is_over =
        folds <= 1 && status.pending + status.active == 0 && input.by_role.open() == 0 && has_all;
    status.ending = ending.map(|ending| ending.phase);
    status.observed_generation = job.generation();
    start(input, &mut status);
    hold(input, &mut status, is_over);
    status.phase = phase(input, &status, is_over);
    status.finished_at = status.finished_at.or(Some(input.view.now)).filter(|_| is_over);
    status.waiting = waits::counts(input, &status, waiting);
    let unfit = waits::unfit(input).filter(|_| !is_over);
    // While some task of the job runs, the others may just be waiting for it to end.
    let unschedulable = unfit.filter(|_| status.active == 0);
    let stalled = waiting.iter().find(|waiting| waiting.is_stalled()).filter(|_| !is_over);
    status.message = match ending {
        Some(ending) => ending.message.clone(),
        None if status.phase == JobPhase::Cancelled => {
            Some(format!("{} of {} tasks were cancelled", status.cancelled, status.total))
        }
        None => stalled
            .map(ToString::to_string)
            .or_else(|| lost(input))
            .or_else(|| unfit.map(str::to_owned))
            .or_else(|| waits::predecessor(waiting).filter(|_| !is_over))
            .or_else(|| waits::retrying(input, &status).filter(|_| !is_over)),
    };
    let standing = match status.phase {
        JobPhase::Succeeded | JobPhase::Skipped => Standing::Ready,
        JobPhase::Failed | JobPhase::TimedOut | JobPhase::Cancelled => Standing::Stalled,
        JobPhase::Pending | JobPhase::Running | JobPhase::Suspended if stalled.is_some() => {
            Standing::Stalled
        }
        JobPhase::Pending | JobPhase::Running | JobPhase::Suspended => Standing::Reconciling,
    };
    let reason = match (stalled, unschedulable) {
        (Some(why), _) => why.reason().to_owned(),
        (None, Some(_)) => UNSCHEDULABLE.to_owned(),
        (None, None) => status.phase.to_string(),
    };
    let why = match standing {
        Standing::Stalled => status.why(),
        Standing::Ready | Standing::Reconciling => status.message.clone(),
    };
    let message = why.unwrap_or_default();
    let at = (job.generation(), input.view.now);
    status.conditions = conditions(&status.conditions, standing, &reason, &message, at);
    status
}

/// Reports how many tasks are on silent nodes, what happens to them and what a user can do: `1 task
/// is lost: node-b is silent; the task waits for node-b to come back; ...`.
fn lost(input: &PlanInput<'_>) -> Option<String> {
    let (mut tasks, mut wait, mut nodes) = (0, true, BTreeSet::new());
    let mut lost = None;
    for member in input.by_role.members.values() {
        if let TaskState::Lost { node, replaceable: false, .. } = member.task.state() {
            tasks += 1;
            // If there are several, no particular one is named.
            lost = Some(member.task).filter(|_| tasks == 1);
            wait &= member.task.loss().is_some_and(|loss| loss.waits);
            nodes.insert(node);
        }
    }
    let are = |number: usize| if number == 1 { "is" } else { "are" };
    (tasks > 0).then(|| {
        let (named, silent) = (some_of(nodes.iter(), NODES_NAMED), are(nodes.len()));
        let (noun, goes_on) = if tasks == 1 { ("task", "waits") } else { ("tasks", "wait") };
        let (these, node) = match nodes.first() {
            Some(only) if nodes.len() == 1 => (*only, *only),
            _ => ("these nodes", "NODE"),
        };
        let task = lost.map_or("TASK", |task| task.name());
        let waits = if wait {
            format!(
                "; the {noun} {goes_on} for {these} to come back; to stop waiting: hctl evict {task} \
                 or hctl delete node {node}"
            )
        } else {
            String::new()
        };
        format!("{tasks} {noun} {} lost: {named} {silent} silent{waits}", are(tasks))
    })
}

fn base(input: &PlanInput<'_>) -> JobStatus {
    let before = &input.view.job.status;
    let mut status = if input.run.opens {
        let conditions = before.conditions.clone();
        JobStatus { conditions, ..JobStatus::default() }
    } else {
        before.clone()
    };
    status.run = input.run.number;
    status.revision.clone_from(&input.run.revision);
    status.indexes.clone_from(&input.wanted_tasks.indexes);
    status.parts.clone_from(&input.wanted_tasks.parts);
    status.tasks_from = tasks_from(&input.view.job.spec);
    status
}

fn count(input: &PlanInput<'_>, status: &mut JobStatus) {
    let mut ends = ends_of(&input.wanted_tasks, &input.record);
    let (mut active, mut there) = (0, 0);
    let is_ending = input.course == Course::Ending;
    for member in input.by_role.members.values() {
        match &member.verdict {
            Verdict::Recorded => continue,
            Verdict::Open => active += u32::from(member.is_active()),
            Verdict::Again(_) | Verdict::Anew if is_ending => {
                ends.add(outcome::end_without_retry(member.task));
            }
            Verdict::Again(_) | Verdict::Anew => (),
            Verdict::Done { end, .. } => ends.add(*end),
            Verdict::FailsJob { .. } => ends.add(End::Failed),
        }
        there += u32::from(member.is_open());
    }
    status.total = input.wanted_tasks.total();
    if is_ending {
        // What was not started will not be started any more.
        ends.cancelled += status.total.saturating_sub(ends.total()).saturating_sub(there);
    }
    status.active = active;
    status.succeeded = ends.succeeded;
    status.failed = ends.failed;
    status.cancelled = ends.cancelled;
    status.pending = status.total.saturating_sub(ends.total()).saturating_sub(active);
}

/// Keeps what can no longer be read from removed tasks. Retries and reasons only increase during a
/// run.
fn remember(input: &PlanInput<'_>, status: &mut JobStatus) {
    let failures = input.by_role.members.values().map(|member| member.task.spec.failures);
    let retries = failures.fold(0, u32::saturating_add);
    status.retries = status.retries.max(retries);
    status.retry_reasons = retry_reasons(input, &status.retry_reasons);
    let mut seen: BTreeMap<String, (u32, Option<String>)> = BTreeMap::new();
    for (index, member) in &input.by_role.members {
        let why = match &member.verdict {
            Verdict::Done { end: End::Failed, why } | Verdict::FailsJob { why } => why.clone(),
            Verdict::Recorded if input.record.get(*index) == Some(End::Failed) => {
                outcome::why(member.task)
            }
            Verdict::Again(_) | Verdict::Anew
                if input.course == Course::Ending
                    && outcome::end_without_retry(member.task) == End::Failed =>
            {
                outcome::why(member.task)
            }
            Verdict::Recorded
            | Verdict::Open
            | Verdict::Again(_)
            | Verdict::Anew
            | Verdict::Done { .. } => continue,
        };
        let (count, message) = seen.entry(why).or_default();
        *count += 1;
        if message.is_none() {
            // The message belongs to an earlier attempt.
            let said = member.task.status.message.as_deref();
            let said = said.filter(|_| member.task.report().is_some());
            *message = said.map(|text| shortened(text, PAST_MESSAGE_CHARS_MAX));
        }
    }
    for known in &status.failures {
        let (count, message) = seen.entry(known.reason.clone()).or_default();
        *count = known.count.max(*count);
        *message = known.message.clone().or_else(|| message.take());
    }
    let counted = |(reason, (count, message))| FailureCount { reason, count, message };
    status.failures = most_frequent(seen.into_iter().map(counted).collect());
}

/// The reasons for which attempts failed and were retried, including those of forgotten attempts,
/// which are in `known`.
fn retry_reasons(input: &PlanInput<'_>, known: &[FailureCount]) -> Vec<FailureCount> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for member in input.by_role.members.values().filter(|member| member.task.spec.failures > 0) {
        // A task also keeps failures of earlier runs and evictions: only its newest failures count.
        let failures = usize::try_from(member.task.spec.failures).unwrap_or(usize::MAX);
        let ended = member.task.status.attempts.iter().rev();
        let failed = ended.filter(|it| matches!(it.phase, TaskPhase::Failed | TaskPhase::TimedOut));
        for past in failed.take(failures) {
            let reason = match (&past.reason, past.exit_code) {
                (Some(reason), _) => reason.clone(),
                (None, Some(code)) => format!("exit {code}"),
                (None, None) => past.phase.to_string(),
            };
            *seen.entry(reason).or_default() += 1;
        }
    }
    for FailureCount { reason, count, .. } in known {
        let now = seen.entry(reason.clone()).or_default();
        *now = (*now).max(*count);
    }
    let counted = |(reason, count)| FailureCount { reason, count, message: None };
    most_frequent(seen.into_iter().map(counted).collect())
}

/// The reasons that a status names.
fn most_frequent(mut reasons: Vec<FailureCount>) -> Vec<FailureCount> {
    reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    reasons.truncate(FAILURES_NAMED);
    reasons
}

fn start(input: &PlanInput<'_>, status: &mut JobStatus) {
    if status.started_at.is_some() {
        return;
    }
    let of_run = |member: &&Member<'_>| member.task.spec.run == input.run.number;
    let members = input.by_role.members.values().chain(&input.by_role.strays).filter(of_run);
    let bound = members.filter_map(|member| member.task.binding());
    status.started_at = bound.map(|binding| binding.at).min();
}

/// Suspended time is counted separately, because it does not count towards the timeout.
fn hold(input: &PlanInput<'_>, status: &mut JobStatus, is_over: bool) {
    let now = input.view.now;
    let is_held = input.course == Course::Suspended && !is_over;
    match (is_held, status.suspended_at) {
        (true, None) => status.suspended_at = Some(now),
        (false, Some(since)) => {
            let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or_default();
            status.suspended_seconds = status.suspended_seconds.saturating_add(seconds);
            status.suspended_at = None;
        }
        (true, Some(_)) | (false, None) => (),
    }
}

fn phase(input: &PlanInput<'_>, status: &JobStatus, is_over: bool) -> JobPhase {
    if is_over {
        let by_itself =
            if status.cancelled > 0 { JobPhase::Cancelled } else { JobPhase::Succeeded };
        return status.ending.unwrap_or(by_itself);
    }
    match input.course {
        Course::Suspended => JobPhase::Suspended,
        Course::Usual | Course::Ending if status.started_at.is_some() => JobPhase::Running,
        Course::Usual | Course::Ending => JobPhase::Pending,
    }
}

/// Whether the two differ in more than counts. What the job reports about single tasks is treated
/// like counts, since it changes with every step of a large job.
pub(super) fn is_urgent(before: &JobStatus, next: &JobStatus) -> bool {
    let goes_on = |it: &JobStatus| it.active > 0 && stalled(&it.conditions).is_none();
    let says_the_same = before.message == next.message && before.conditions == next.conditions;
    let says_what_counts = !(says_the_same || goes_on(before) && goes_on(next));
    says_what_counts || without_counts(before) != without_counts(next)
}

/// A status without its counts and what is reported about them. Every field is listed, so that for
/// a new field somebody has to decide whether it may be written later.
fn without_counts(status: &JobStatus) -> impl PartialEq {
    let JobStatus {
        phase,
        ending,
        observed_generation,
        run,
        revision,
        indexes,
        parts,
        tasks_from,
        started_at,
        finished_at,
        suspended_at,
        suspended_seconds,
        total: _,
        pending: _,
        active: _,
        succeeded: _,
        failed: _,
        cancelled: _,
        retries: _,
        retry_reasons: _,
        failures: _,
        waiting: _,
        message: _,
        conditions: _,
    } = status;
    let is_what = (phase, ending, observed_generation, run, revision, indexes, parts, tasks_from);
    (is_what, started_at, finished_at, suspended_at, suspended_seconds)
}

/// What to report to users about the change to `next`.
pub(super) fn notices(input: &PlanInput<'_>, next: &JobStatus) -> impl Iterator<Item = Notice> {
    let job = input.view.job;
    let changed = replaced(&job.status, next).into_iter().chain(scaled_down(input, next));
    changed.chain(run_again(input)).chain(ended(job, next))
}

/// Reports that listed tasks run again, and how many running ones are stopped for that.
fn run_again(input: &PlanInput<'_>) -> Option<Notice> {
    let again = &input.wanted_tasks.again;
    let is_stopped = |member: &&Member<'_>| {
        let name = member.task.spec.overrides.name.as_ref();
        member.is_active()
            && member.task.stop().is_none()
            && again.iter().any(|it| Some(it) == name)
    };
    (!again.is_empty()).then(|| {
        let stopped = input.by_role.strays.iter().filter(is_stopped).count();
        let message = change::run_again(again.iter().map(String::as_str), stopped);
        Notice { warning: false, reason: "TaskChanged", message }
    })
}

/// Reports that the run has fewer tasks from now on, and how many running ones are stopped for
/// that.
fn scaled_down(input: &PlanInput<'_>, next: &JobStatus) -> Option<Notice> {
    let before = &input.view.job.status;
    let is_less = next.run == before.run && next.total < before.total && !before.phase.is_final();
    is_less.then(|| {
        let stopped = |member: &&Member<'_>| {
            let of_run = member.task.spec.run == next.run;
            of_run && member.is_active() && member.task.stop().is_none()
        };
        let stopped = input.by_role.strays.iter().filter(stopped).count();
        let message = scaled_down_words(before.total, next.total, stopped);
        Notice { warning: false, reason: "ScaledDown", message }
    })
}

/// Reports that a new run replaces one that has not ended.
fn replaced(before: &JobStatus, next: &JobStatus) -> Option<Notice> {
    let is_replaced = before.run > 0 && next.run != before.run && !before.phase.is_final();
    is_replaced.then(|| {
        let message = before.replaced_by(next.run);
        Notice { warning: false, reason: "RunReplaced", message }
    })
}

/// Reports that the run has ended.
fn ended(job: &Job, next: &JobStatus) -> Option<Notice> {
    let is_news = !job.status.phase.is_final() || job.status.run != next.run;
    let reason = match next.phase {
        JobPhase::Succeeded => "JobSucceeded",
        JobPhase::Failed => "JobFailed",
        JobPhase::TimedOut => "JobTimedOut",
        JobPhase::Cancelled => "JobCancelled",
        JobPhase::Pending | JobPhase::Running | JobPhase::Suspended | JobPhase::Skipped => {
            return None;
        }
    };
    let counts = format!("{} of {} tasks succeeded", next.succeeded, next.total);
    let why = next.why().filter(|_| next.phase != JobPhase::Succeeded);
    let message = why.map_or(counts.clone(), |why| format!("{why}; {counts}"));
    is_news.then_some(Notice { warning: next.phase != JobPhase::Succeeded, reason, message })
}

/// Writes why the job cannot go on, and changes nothing else. A new revision that is waiting to run
/// does not count as observed: the generation shows that it is still to come.
pub(super) fn say(job: &mut Job, waiting: &Waiting, now: Timestamp) {
    let generation = job.generation();
    let awaits_run = job.status.run > 0 && Run::of(job).opens;
    let status = &mut job.status;
    if !awaits_run {
        status.observed_generation = generation;
    }
    let message = waiting.to_string();
    let at = (generation, now);
    let before = std::mem::take(&mut status.conditions);
    status.conditions = conditions(&before, Standing::Stalled, waiting.reason(), &message, at);
    if status.ending.is_none() {
        status.message = Some(message);
    }
}
