//! Errors of an engine: one variant for each thing the caller does next.

use api::task::reason;
use thiserror::Error;

/// What an operation failed with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// It cannot work as requested, however often it is tried: the attempt has failed.
    #[error("{message}")]
    Refused {
        /// Which property of the request is at fault.
        reason: Reason,
        /// For the user; names what is at fault.
        message: String,
    },
    /// Nothing was done, because the image has to be pulled first.
    #[error("the image must be pulled first")]
    NeedsImage,
    /// The engine answered that it failed. It may work another time; after several failures the
    /// attempt is given up.
    #[error("{message}")]
    Failed {
        /// The engine's words.
        message: String,
    },
    /// Nothing was done, and not because of the request: try again later, without a limit.
    #[error("engine unavailable: {message}")]
    Unavailable {
        /// What was seen.
        message: String,
    },
    /// It may have been done, or may still be done: look before deciding anew.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// What was seen.
        message: String,
    },
    /// There is no such container of this scope.
    #[error("no such container")]
    Gone,
}

/// The reason of a refusal, for a task's `status.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The image is not present and could not be fetched.
    ImagePull,
    /// The command cannot be executed.
    CannotRun,
    /// A mount cannot be made.
    Mount,
    /// A host port is taken.
    PortTaken,
    /// The name is taken by a container that is not ours.
    NameTaken,
    /// Anything else the engine rejects in the request.
    Invalid,
}

impl Reason {
    /// As it is written in a task's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImagePull => reason::IMAGE_PULL,
            Self::CannotRun => reason::CANNOT_RUN,
            Self::Mount => reason::MOUNT_FAILED,
            Self::PortTaken => reason::PORT_TAKEN,
            Self::NameTaken => reason::NAME_TAKEN,
            Self::Invalid => reason::INVALID_CONTAINER,
        }
    }
}

impl EngineError {
    /// A refusal.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::Refused { reason, message: message.into() }
    }

    /// A failure of the engine itself.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into() }
    }

    /// A failure to be tried again later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into() }
    }

    /// A failure with an unknown outcome.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::Unknown { message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_that_an_engine_gives_may_be_named_in_a_retry() {
        let all = [
            Reason::ImagePull,
            Reason::CannotRun,
            Reason::Mount,
            Reason::PortTaken,
            Reason::NameTaken,
            Reason::Invalid,
        ];
        for reason in all {
            assert!(reason::ALL.contains(&reason.as_str()), "{reason:?}");
        }
    }
}
