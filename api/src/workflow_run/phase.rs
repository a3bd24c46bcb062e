//! The phase of a workflow run. Its workflow shows the same phase.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Phase of a workflow run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum RunPhase {
    /// No job has started.
    #[default]
    Pending,
    /// Jobs are running, or more will.
    Running,
    /// Stopped by `suspend`; can be resumed.
    Suspended,
    /// All jobs have ended, and no more of them failed than `maxFailedJobs`.
    Succeeded,
    /// More jobs failed than `maxFailedJobs`.
    Failed,
    /// The workflow's `timeout` was exceeded.
    TimedOut,
    /// Cancelled by a user.
    Cancelled,
    /// Not run.
    Skipped,
}

impl RunPhase {
    /// Whether the run has ended.
    pub fn is_final(self) -> bool {
        match self {
            RunPhase::Pending | RunPhase::Running | RunPhase::Suspended => false,
            RunPhase::Succeeded
            | RunPhase::Failed
            | RunPhase::TimedOut
            | RunPhase::Cancelled
            | RunPhase::Skipped => true,
        }
    }
}

impl fmt::Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
