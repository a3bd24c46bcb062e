//! Decides what to do about the current attempt of a task: continue, retry, or accept its end.

use api::Timestamp;
use api::completion::End;
use api::job::{Retry as Policy, RetryAction};
use api::object::Kind as _;
use api::task::transition::Retry;
use api::task::{Stop, StopReason, Task, TaskState, reason};

/// What to do about an attempt, if the job goes on as usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: its end is recorded.
    Recorded,
    /// Nothing: it has not ended.
    Open,
    /// Start another attempt.
    Again(Again),
    /// Somebody deletes the task's object before the task has succeeded: remove the object, and
    /// make a new one for the index.
    Anew,
    /// It has ended for good.
    Done {
        /// How it ended.
        end: End,
        /// Why, in a few words.
        why: String,
    },
    /// It has failed for good, and so has the whole job.
    FailsJob {
        /// Why, in a few words.
        why: String,
    },
}

/// Another attempt, and why it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) retry: Retry,
    /// Such as `exit 3` or `NodeLost`.
    pub(super) why: String,
}

/// Why an attempt did not succeed.
struct Cause<'a> {
    exit_code: Option<i32>,
    reason: Option<&'a str>,
    /// Whether the cause was the machine and not the program.
    disruption: bool,
}

/// Why a task's attempt ended, in a few words, such as `exit 3` or `Timeout`.
pub(super) fn why(task: &Task) -> String {
    match task.state() {
        TaskState::Failed { reason: Some(reason), .. } => reason.to_owned(),
        TaskState::Failed { exit_code: Some(code), .. } => format!("exit {code}"),
        TaskState::TimedOut => reason::TIMEOUT.to_owned(),
        TaskState::Lost { .. } => reason::NODE_LOST.to_owned(),
        TaskState::Cancelled { reason } => {
            task.stop().map_or_else(|| reason.words().to_owned(), Stop::words)
        }
        TaskState::Succeeded => "exit 0".to_owned(),
        TaskState::Failed { .. }
        | TaskState::Pending
        | TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. } => "unknown".to_owned(),
    }
}

/// The same with the place, for an event: `exit 3 on n1`, `node n1 was lost`.
pub(super) fn why_there(task: &Task, why: &str) -> String {
    match (task.state(), task.node()) {
        (TaskState::Lost { node, .. }, _) => format!("node {node} was lost"),
        (TaskState::Cancelled { reason: StopReason::Evict }, Some(node)) => {
            format!("evicted from {node}")
        }
        // The reason already says where, or it does not matter.
        (TaskState::Cancelled { .. }, _) | (_, None) => why.to_owned(),
        (_, Some(node)) => format!("{why} on {node}"),
    }
}

/// How to record a task that will not be retried although it could be, because its job ends or the
/// run no longer needs it. What counts is the end of its last attempt, which its phase shows as
/// well: the tasks that a job counts as failed must be those that are listed as failed.
pub(super) fn end_without_retry(task: &Task) -> End {
    match task.state() {
        TaskState::Failed { .. } | TaskState::TimedOut => End::Failed,
        TaskState::Pending
        | TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. }
        | TaskState::Succeeded
        | TaskState::Cancelled { .. }
        | TaskState::Lost { .. } => End::Cancelled,
    }
}

/// Decides what to do about a task's current attempt.
pub(super) fn verdict(task: &Task, policy: &Policy, now: Timestamp) -> Verdict {
    let verdict = wanted(task, policy, now);
    if matches!(verdict, Verdict::Again(_)) && task.spec.attempt == u32::MAX {
        // There is no next attempt number. Asking for it would be refused for ever.
        let why = "the attempt number cannot grow any further".to_owned();
        return Verdict::Done { end: End::Failed, why };
    }
    verdict
}

/// The same, as if attempt numbers had no limit.
fn wanted(task: &Task, policy: &Policy, now: Timestamp) -> Verdict {
    // What is recorded is final: whatever happens to the task now must not change the count.
    if task.is_recorded() {
        return Verdict::Recorded;
    }
    let failure = |exit_code, reason| Cause { exit_code, reason, disruption: false };
    let disruption = |reason| Cause { exit_code: None, reason: Some(reason), disruption: true };
    let cause = match task.state() {
        TaskState::Pending
        | TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. }
        | TaskState::Lost { replaceable: false, .. } => return Verdict::Open,
        TaskState::Succeeded => {
            return Verdict::Done { end: End::Succeeded, why: why(task) };
        }
        // It may have succeeded; nobody can know any more.
        TaskState::Failed { reason: Some(reason::RESTORED), .. } => disruption(reason::RESTORED),
        TaskState::Failed { exit_code, reason } => failure(exit_code, reason),
        TaskState::TimedOut => failure(None, Some(reason::TIMEOUT)),
        // Only once the task may be replaced. Before that, it may still be running, and a second
        // attempt would run beside it.
        TaskState::Lost { replaceable: true, .. } => disruption(reason::NODE_LOST),
        TaskState::Cancelled { reason } => match reason {
            // As in Kubernetes, deleting a task does not remove its work from the job. To do that,
            // one cancels the job or removes the index from it.
            StopReason::Delete if task.is_deleting() => return Verdict::Anew,
            StopReason::Cancel
            | StopReason::ScaleDown
            | StopReason::JobEnded
            | StopReason::Delete => return cancelled(task),
            StopReason::Timeout => failure(None, Some(reason::TIMEOUT)),
            StopReason::Preemption => disruption(reason::PREEMPTED),
            StopReason::Drain => disruption(reason::DRAINED),
            // A request that does not count against the task.
            StopReason::Suspend | StopReason::Revision | StopReason::Gang | StopReason::Evict => {
                return if task.is_deleting() {
                    Verdict::Anew
                } else {
                    Verdict::Again(Again { retry: at_once(task, reason), why: why(task) })
                };
            }
        },
    };
    let verdict = after(task, policy, &cause, now);
    // The object is being deleted, so a new one makes the next attempt.
    let is_anew = task.is_deleting() && matches!(verdict, Verdict::Again(_));
    if is_anew { Verdict::Anew } else { verdict }
}

fn cancelled(task: &Task) -> Verdict {
    Verdict::Done { end: End::Cancelled, why: why(task) }
}

fn at_once(task: &Task, reason: StopReason) -> Retry {
    // An evicted task should go to another node. The other reasons say nothing about the node.
    let elsewhere = reason == StopReason::Evict;
    let avoid = task.node().filter(|_| elsewhere).map(str::to_owned);
    Retry { counts: false, not_before: None, avoid, image_digest: None }
}

fn after(task: &Task, policy: &Policy, cause: &Cause<'_>, now: Timestamp) -> Verdict {
    let action = policy
        .rules
        .iter()
        .find(|rule| {
            cause.exit_code.is_some_and(|code| rule.exit_codes.contains(&code))
                || cause.reason.is_some_and(|word| rule.reasons.iter().any(|name| name == word))
        })
        .map_or(RetryAction::Retry, |rule| rule.action);
    let counts = match action {
        RetryAction::FailTask => return Verdict::Done { end: End::Failed, why: why(task) },
        RetryAction::FailJob => return Verdict::FailsJob { why: why(task) },
        RetryAction::Ignore => false,
        RetryAction::Retry => !cause.disruption || policy.count_disruptions.unwrap_or(false),
    };
    let failures = task.spec.failures.saturating_add(counts.into());
    // An attempt that does not count is retried without a limit.
    if counts && failures >= policy.max_attempts() {
        return Verdict::Done { end: End::Failed, why: why(task) };
    }
    if cause.disruption {
        // Another machine may have room at once.
        return Verdict::Again(Again {
            retry: Retry { counts, not_before: None, avoid: None, image_digest: None },
            why: why(task),
        });
    }
    // Even an ignored failure waits: a program that ends at once would otherwise keep a node busy.
    let wait = policy.wait_after(failures.max(1)).signed();
    let not_before = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    let avoid = policy.avoid_failed_nodes.unwrap_or(true).then(|| task.node().map(str::to_owned));
    Verdict::Again(Again {
        retry: Retry {
            counts,
            not_before: Some(not_before),
            avoid: avoid.flatten(),
            image_digest: None,
        },
        why: why(task),
    })
}
