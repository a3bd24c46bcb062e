//! Why tasks of a job are stopped.

use api::task::StopReason;

/// Why tasks are stopped, as shown in their column WHY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StopCause {
    pub(super) reason: StopReason,
    /// What happened, if the reason does not say everything.
    pub(super) message: Option<String>,
}

impl From<StopReason> for StopCause {
    fn from(reason: StopReason) -> Self {
        Self { reason, message: None }
    }
}

impl StopCause {
    pub(super) fn new(reason: StopReason, message: String) -> Self {
        Self { reason, message: Some(message) }
    }
}
