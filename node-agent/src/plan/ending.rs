//! How an attempt ended, in the words of its report.

use api::task::{ReportState, StopReason, reason};
use jiff::Timestamp;

use crate::attempt::Why;
use crate::engine::ContainerState;

/// An end.
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
    /// Why a stop that was asked for stops it.
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
    /// A failure that no exit code tells of.
    pub(crate) fn failed(reason: &str, message: impl Into<String>, finished: Timestamp) -> Self {
        // Otherwise no rule of a retry could name it.
        debug_assert!(reason::ALL.contains(&reason), "{reason} is not in api's list of reasons");
        Self {
            state: ReportState::Failed,
            exit_code: None,
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            started: None,
            finished,
        }
    }

    /// It was stopped.
    pub(crate) fn stopped(why: Why, finished: Timestamp) -> Self {
        let (state, reason) = match why {
            Why::TimedOut => (ReportState::TimedOut, Some(reason::TIMEOUT)),
            Why::Preempted => (ReportState::Cancelled, Some(reason::PREEMPTED)),
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

    /// What an ended container tells, which was asked to end at `asked` by the clock that told its
    /// end; nothing of one that has not ended.
    pub(crate) fn seen(state: &ContainerState, asked: Option<(Why, Timestamp)>) -> Option<Self> {
        let ContainerState::Exited { started, at, code, signal, oom_killed, is_unseen, message } =
            state
        else {
            return None;
        };
        // What ended before it was asked to has an end of its own.
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
