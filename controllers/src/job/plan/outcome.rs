//! What is done with one task's attempt: go on, try again, or take its end as final.

use api::Timestamp;
use api::completion::End;
use api::job::{Retry as Policy, RetryAction};
use api::object::Kind as _;
use api::task::transition::Retry;
use api::task::{Stop, StopReason, Task, TaskState, reason};

/// What is to be done with an attempt, were the job to go on as usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The record has its end.
    Recorded,
    /// It has not ended.
    Open,
    /// Another attempt.
    Again(Again),
    /// Somebody deletes the task's object before the task has done its work: the object goes, and
    /// the index is run by a new one.
    Anew,
    /// It has ended for good.
    Done {
        /// How.
        end: End,
        /// Why, in a few words.
        why: String,
    },
    /// It is given up, and the whole job with it.
    FailsJob {
        /// Why, in a few words.
        why: String,
    },
}

/// Another attempt, and why the last one was not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) retry: Retry,
    /// `exit 3`, `NodeLost`.
    pub(super) why: String,
}

/// Why an attempt ended other than well.
struct Cause<'a> {
    exit_code: Option<i32>,
    reason: Option<&'a str>,
    /// Whether the machine, not the program, was the cause.
    disruption: bool,
}

/// Why a task's attempt ended, in a few words: `exit 3`, `Timeout`.
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

/// The same with where it ended, for an event: `exit 3 on n1`, `node n1 was lost`.
pub(super) fn why_there(task: &Task, why: &str) -> String {
    match (task.state(), task.node()) {
        (TaskState::Lost { node, .. }, _) => format!("node {node} was lost"),
        (TaskState::Cancelled { reason: StopReason::Evict }, Some(node)) => {
            format!("evicted from {node}")
        }
        // What stopped it says where that was, or it does not matter.
        (TaskState::Cancelled { .. }, _) | (_, None) => why.to_owned(),
        (_, Some(node)) => format!("{why} on {node}"),
    }
}

/// How the record has a task that would be tried again, but for the end of its job, or since the run
/// does not want it any more. What counts is how its last attempt ended, which is also what its phase
/// shows: a job must not count other tasks as failed than those that are listed as failed.
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

/// What is to be done with a task's current attempt.
pub(super) fn verdict(task: &Task, policy: &Policy, now: Timestamp) -> Verdict {
    let verdict = wanted(task, policy, now);
    if matches!(verdict, Verdict::Again(_)) && task.spec.attempt == u32::MAX {
        // No attempt can follow: without this it would be asked for, and refused, for ever.
        let why = "the attempt number cannot grow any further".to_owned();
        return Verdict::Done { end: End::Failed, why };
    }
    verdict
}

/// What is to be done with it as far as there are numbers for attempts.
fn wanted(task: &Task, policy: &Policy, now: Timestamp) -> Verdict {
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
        // It may have succeeded: nobody knows any more.
        TaskState::Failed { reason: Some(reason::RESTORED), .. } => disruption(reason::RESTORED),
        TaskState::Failed { exit_code, reason } => failure(exit_code, reason),
        TaskState::TimedOut => failure(None, Some(reason::TIMEOUT)),
        TaskState::Lost { replaceable: true, .. } => disruption(reason::NODE_LOST),
        TaskState::Cancelled { reason } => match reason {
            // As in Kubernetes, deleting a task does not take its work out of the job. To stop that
            // for good, one cancels the job or takes the index out of it.
            StopReason::Delete if task.is_deleting() => return Verdict::Anew,
            StopReason::Cancel
            | StopReason::ScaleDown
            | StopReason::JobEnded
            | StopReason::Delete => return cancelled(task),
            StopReason::Timeout => failure(None, Some(reason::TIMEOUT)),
            StopReason::Preemption => disruption(reason::PREEMPTED),
            StopReason::Drain => disruption(reason::DRAINED),
            // Somebody's wish, which costs the task nothing.
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
    // The object is on its way out: another one makes the next attempt.
    let is_anew = task.is_deleting() && matches!(verdict, Verdict::Again(_));
    if is_anew { Verdict::Anew } else { verdict }
}

fn cancelled(task: &Task) -> Verdict {
    Verdict::Done { end: End::Cancelled, why: why(task) }
}

fn at_once(task: &Task, reason: StopReason) -> Retry {
    // Who evicts a task wants it elsewhere; whatever else stopped it says nothing of its node.
    let elsewhere = reason == StopReason::Evict;
    let avoid = task.node().filter(|_| elsewhere).map(str::to_owned);
    Retry { counts: false, not_before: None, avoid }
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
    if counts && failures >= policy.max_attempts() {
        return Verdict::Done { end: End::Failed, why: why(task) };
    }
    if cause.disruption {
        // Another machine may have room at once.
        return Verdict::Again(Again {
            retry: Retry { counts, not_before: None, avoid: None },
            why: why(task),
        });
    }
    // An ignored failure waits, too: a program that ends at once would keep a node busy.
    let wait = policy.wait_after(failures.max(1)).signed();
    let not_before = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    let avoid = policy.avoid_failed_nodes.unwrap_or(true).then(|| task.node().map(str::to_owned));
    Verdict::Again(Again {
        retry: Retry { counts, not_before: Some(not_before), avoid: avoid.flatten() },
        why: why(task),
    })
}
