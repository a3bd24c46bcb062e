//! Errors of calls: one variant for each thing the caller does next.

use api::status::{Refusal, Why};
use http::StatusCode;

use crate::BoxError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server was reached, so nothing happened. It may work later.
    #[error("cannot reach the server")]
    Unavailable(#[source] BoxError),
    /// The answer to a write was lost. It may have happened, or may still happen: look before
    /// deciding anew.
    #[error("the connection broke before the answer came; the request may have been carried out")]
    Unknown(#[source] BoxError),
    /// The server refused: [`Refusal::why`] says what to do next.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The answer (or the request) is not valid: a bug, or another version.
    #[error("cannot parse the answer")]
    Malformed(#[source] BoxError),
}

impl Error {
    /// An answer that could not be read, or a request that could not be built.
    pub(crate) fn malformed(source: impl Into<BoxError>) -> Self {
        Error::Malformed(source.into())
    }

    /// A refusal.
    pub fn refused(refusal: Refusal) -> Self {
        Error::Refused(Box::new(refusal))
    }

    /// A connection was lost. A write may have happened, unless the connection was never opened.
    pub(crate) fn broken(writes: bool, source: BoxError) -> Self {
        if writes && !never_sent(source.as_ref()) {
            Error::Unknown(source)
        } else {
            Error::Unavailable(source)
        }
    }

    /// A request was given up without an answer. A write may have happened.
    pub fn silent(writes: bool) -> Self {
        Self::broken(writes, Box::new(Silent))
    }

    /// Whether the server accepted the connection, as far as that is known, and did not answer in
    /// time.
    pub fn is_silent(&self) -> bool {
        match self {
            Error::Unavailable(source) | Error::Unknown(source) => source.is::<Silent>(),
            Error::Refused(_) | Error::Malformed(_) => false,
        }
    }

    /// An answer whose status is not a success.
    pub fn of_answer(code: StatusCode, body: &[u8]) -> Self {
        match Refusal::of_answer(code.as_u16(), body) {
            Some(refusal) => Self::refused(refusal),
            None => Self::malformed(format!("the server answered {code}")),
        }
    }

    /// The error event with which a server ends a watch.
    pub fn of_event(object: &str) -> Self {
        match serde_json::from_str(object).map(Refusal::of_status) {
            Ok(Some(refusal)) => Self::refused(refusal),
            Ok(None) => Self::malformed("the watch ended with an error that is none of Heliox's"),
            Err(error) => Self::malformed(error),
        }
    }

    /// The refusal, if the server refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_) => None,
        }
    }

    /// Why the server refused, if it did.
    pub fn why(&self) -> Option<Why> {
        self.refusal().map(|refusal| refusal.why)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.why() == Some(Why::NotFound)
    }
}

/// No answer came within the time limit.
#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
struct Silent;

/// Whether a transport error occurred before anything was sent.
fn never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>()
        && error.is_connect()
    {
        return true;
    }
    error.downcast_ref::<crate::transport::NotSent>().is_some()
}
