//! Decides whether the run ends before its last task has ended.

use api::completion::End;
use api::job::JobPhase;
use api::object::Kind as _;
use api::task::StopReason;
use api::{Job, Timestamp};
use jiff::SignedDuration;

use super::by_role::TasksByRole;
use super::cause::StopCause;
use super::outcome::Verdict;
use super::record::Record;
use super::status::ends_of;
use super::wanted_tasks::WantedTasks;
use super::{PlanInput, Run, View};

/// The decision that the run ends, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// The phase that the run ends in.
    pub(super) phase: JobPhase,
    /// The reason, as a sentence; `None` if the failures in the status say it.
    pub(super) message: Option<String>,
}

/// Decides whether the run ends. This decision is final for the run.
pub(super) fn ending(
    view: &View<'_>,
    run: &Run,
    wanted_tasks: &WantedTasks,
    record: &Record<'_>,
    by_role: &TasksByRole<'_>,
) -> Option<Ending> {
    let (spec, status) = (&view.job.spec, &view.job.status);
    // The decision was stored before its tasks were stopped. What led to it may be gone by now, and
    // the run must not go on with half of its tasks stopped.
    if !run.opens
        && let Some(phase) = status.ending
    {
        return Some(Ending { phase, message: status.message.clone() });
    }
    let end = |phase, message: String| Some(Ending { phase, message: Some(message) });
    // The run has ended already.
    if !run.opens && status.phase.is_final() {
        return None;
    }
    if spec.cancel {
        let why = spec.cancel_reason.as_ref().map(|why| format!("cancelled: {why}"));
        let why = why.unwrap_or_else(|| "cancelled on request".to_owned());
        return end(JobPhase::Cancelled, why);
    }
    // A run that begins has no tasks that could have failed yet, and no time has passed.
    if run.opens {
        return None;
    }
    for (index, member) in &by_role.members {
        if let Verdict::FailsJob { why } = &member.verdict {
            let name = wanted_tasks.object_name(view.job.name(), *index);
            return end(JobPhase::Failed, format!("task {name} failed the job: {why}"));
        }
    }
    let allowed = spec.max_failed_tasks.map_or(0, |most| most.of(wanted_tasks.total()));
    // More tasks have failed for good than the job tolerates, so the others would run for nothing.
    if failed(wanted_tasks, record, by_role) > allowed {
        // The status counts how the tasks ended, which says more.
        return Some(Ending { phase: JobPhase::Failed, message: None });
    }
    if deadline(view.job, view.now).is_some_and(|at| at <= view.now) {
        let limit = spec.timeout.map(|limit| limit.to_string()).unwrap_or_default();
        return end(JobPhase::TimedOut, format!("longer than timeout ({limit})"));
    }
    None
}

/// Why the tasks of a run that ends are stopped.
pub(super) fn cause(input: &PlanInput<'_>, ending: &Ending) -> StopCause {
    let spec = &input.view.job.spec;
    match ending.phase {
        JobPhase::TimedOut => {
            let after = spec.timeout.map(|limit| format!(" after {limit}")).unwrap_or_default();
            StopCause::new(StopReason::JobEnded, format!("job timed out{after}"))
        }
        JobPhase::Failed => {
            let why = ending.message.clone().unwrap_or_else(|| failed_tasks(input));
            StopCause::new(StopReason::JobEnded, why)
        }
        JobPhase::Pending
        | JobPhase::Running
        | JobPhase::Suspended
        | JobPhase::Succeeded
        | JobPhase::Cancelled
        | JobPhase::Skipped => match &spec.cancel_reason {
            Some(why) => StopCause::new(StopReason::Cancel, why.clone()),
            None => StopReason::Cancel.into(),
        },
    }
}

/// Which tasks failed, in a few words, such as `task load-3 failed`.
fn failed_tasks(input: &PlanInput<'_>) -> String {
    let PlanInput { wanted_tasks, record, by_role, .. } = input;
    let gave_up = |index: u32, verdict: &Verdict| match verdict {
        Verdict::Done { end, .. } => *end == End::Failed,
        Verdict::Recorded => record.get(index) == Some(End::Failed),
        Verdict::FailsJob { .. } | Verdict::Open | Verdict::Again(_) | Verdict::Anew => false,
    };
    let count = failed(wanted_tasks, record, by_role);
    let mut known = by_role.members.iter().filter(|(index, it)| gave_up(**index, &it.verdict));
    match known.next() {
        Some((_, member)) if count == 1 => {
            format!("task {} failed", member.task.name())
        }
        _ => format!("{count} tasks failed"),
    }
}

/// How many tasks of the run have failed for good.
fn failed(wanted_tasks: &WantedTasks, record: &Record<'_>, by_role: &TasksByRole<'_>) -> u32 {
    let gave_up = by_role
        .members
        .values()
        .filter(|member| matches!(&member.verdict, Verdict::Done { end: End::Failed, .. }));
    ends_of(wanted_tasks, record)
        .failed
        .saturating_add(u32::try_from(gave_up.count()).unwrap_or(u32::MAX))
}

/// When the run's time is up; `None` while it is suspended.
pub(super) fn deadline(job: &Job, now: Timestamp) -> Option<Timestamp> {
    let status = &job.status;
    if status.phase.is_final() || job.spec.is_suspended() {
        return None;
    }
    let before = i64::try_from(status.suspended_seconds).unwrap_or(i64::MAX);
    // It is being resumed, and the status does not include the last suspension yet.
    let last = status.suspended_at.map_or(0, |since| now.duration_since(since).as_secs().max(0));
    let held = SignedDuration::from_secs(before.saturating_add(last));
    status.started_at?.saturating_add(held).ok()?.saturating_add(job.spec.timeout?.signed()).ok()
}
