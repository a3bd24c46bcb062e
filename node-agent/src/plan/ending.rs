//! How an attempt ended, as its report says it.

use api::task::{ReportState, StopReason, reason};
use jiff::Timestamp;

use crate::attempt::Why;
use crate::engine::ContainerState;

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) state: ReportState,
    pub(crate) exit_code: Option<i32>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Timestamp,
}

impl Why {
    /// The agent's reason for a requested stop.
    pub(crate) fn of(reason: StopReason) -> Self {
        match reason {
            StopReason::Timeout => Self::TimedOut,
            StopReason::Preemption => Self::Preempted,
            StopReason::Cancel
            | StopReason::ScaleDown
            | StopReason::JobEnded
            | StopReason::Delete
            | StopReason::Drain
            | StopReason::Suspend
            | StopReason::Revision
            | StopReason::Gang
            | StopReason::Evict => Self::Asked,
        }
    }
}

impl Ending {
    /// A failure without an exit code.
    pub(crate) fn failed(reason: &str, message: impl Into<String>, finished: Timestamp) -> Self {
        // A retry rule can only name reasons in that list.
        debug_assert!(
            reason::ALL.contains(&reason) || reason == reason::FLAPPING,
            "{reason} is not in api's list of reasons"
        );
        Self {
            state: ReportState::Failed,
            exit_code: None,
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            started: None,
            finished,
        }
    }

    /// The attempt was stopped.
    pub(crate) fn stopped(why: Why, finished: Timestamp) -> Self {
        let (state, reason) = match why {
            Why::TimedOut => (ReportState::TimedOut, Some(reason::TIMEOUT)),
            Why::Preempted => (ReportState::Cancelled, Some(reason::PREEMPTED)),
            Why::Unhealthy => (ReportState::Failed, Some(reason::UNHEALTHY)),
            Why::Asked | Why::Unwanted => (ReportState::Cancelled, None),
        };
        Self {
            state,
            exit_code: None,
            reason: reason.map(str::to_owned),
            message: None,
            started: None,
            finished,
        }
    }

    /// The end that a container shows; nothing if it has not ended. If it was asked to end, `asked`
    /// says why and when, on the engine's clock.
    pub(crate) fn seen(state: &ContainerState, asked: Option<(Why, Timestamp)>) -> Option<Self> {
        let ContainerState::Exited { started, at, code, signal, oom_killed, is_unseen, message } =
            state
        else {
            return None;
        };
        // A container that ended before it was asked to has a result of its own.
        let mut ending = match asked.filter(|(_, since)| *at >= *since) {
            Some((why, _)) => Self::stopped(why, *at),
            None if *is_unseen => {
                let message = "it ended while nobody watched; its exit code is unknown";
                Self::failed(reason::CONTAINER_GONE, message, *at)
            }
            None => Self::of_its_own(*code, *signal, *oom_killed, *at),
        };
        ending.exit_code = Some(*code).filter(|_| !*is_unseen);
        ending.started = *started;
        if let Some(message) = message {
            ending.message = Some(message.clone());
        }
        Some(ending)
    }

    fn of_its_own(code: i32, signal: Option<i32>, oom_killed: bool, at: Timestamp) -> Self {
        if oom_killed {
            return Self::failed(reason::OOM_KILLED, "exceeded its memory limit", at);
        }
        if let Some(signal) = signal {
            return Self::failed(reason::SIGNAL, format!("killed by signal {signal}"), at);
        }
        let state = if code == 0 { ReportState::Succeeded } else { ReportState::Failed };
        Self { state, exit_code: None, reason: None, message: None, started: None, finished: at }
    }
}
