//! Why a call gave nothing: one variant for each thing that the caller does next.

use api::status::{Refusal, Why};
use http::StatusCode;

use crate::BoxError;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server was reached, so that nothing happened: it may work later.
    #[error("cannot reach the server")]
    Unavailable(#[source] BoxError),
    /// A write whose answer was lost. It may have happened, or may still: look before deciding anew.
    #[error("the connection broke before the answer came; the request may have been carried out")]
    Unknown(#[source] BoxError),
    /// The server refused: [`Refusal::why`] says what to do next.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The answer (or the request) makes no sense: a bug, or another version.
    #[error("cannot parse the answer")]
    Malformed(#[source] BoxError),
}

impl Error {
    /// Something that could not be read or built.
    pub(crate) fn malformed(source: impl Into<BoxError>) -> Self {
        Error::Malformed(source.into())
    }

    /// A refusal.
    pub fn refused(refusal: Refusal) -> Self {
        Error::Refused(Box::new(refusal))
    }

    /// A connection that broke. A write may have happened by then, unless it was never opened.
    pub(crate) fn broken(writes: bool, source: BoxError) -> Self {
        if writes && !never_sent(source.as_ref()) {
            Error::Unknown(source)
        } else {
            Error::Unavailable(source)
        }
    }

    /// A request that was given up, as no answer came. A write may have happened by then.
    pub fn silent(writes: bool) -> Self {
        Self::broken(writes, Box::new(Silent))
    }

    /// Whether the server accepted the connection, as far as that is known, and gave no answer for as
    /// long as it was waited for.
    pub fn is_silent(&self) -> bool {
        match self {
            Error::Unavailable(source) | Error::Unknown(source) => source.is::<Silent>(),
            Error::Refused(_) | Error::Malformed(_) => false,
        }
    }

    /// An answer that is no success.
    pub fn of_answer(code: StatusCode, body: &[u8]) -> Self {
        match Refusal::of_answer(code.as_u16(), body) {
            Some(refusal) => Self::refused(refusal),
            None => Self::malformed(format!("the server answered {code}")),
        }
    }

    /// An event of a watch that says why the server ends it.
    pub fn of_event(object: &str) -> Self {
        match serde_json::from_str(object).map(Refusal::of_status) {
            Ok(Some(refusal)) => Self::refused(refusal),
            Ok(None) => Self::malformed("the watch ended with an error that is none of Heliox's"),
            Err(error) => Self::malformed(error),
        }
    }

    /// The refusal, where the server gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_) => None,
        }
    }

    /// Why the server refused, where it did.
    pub fn why(&self) -> Option<Why> {
        self.refusal().map(|refusal| refusal.why)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.why() == Some(Why::NotFound)
    }
}

/// No answer came for as long as a request is waited for.
#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
struct Silent;

/// Whether an error of the transport came before anything was sent.
fn never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>()
        && error.is_connect()
    {
        return true;
    }
    error.downcast_ref::<crate::transport::NotSent>().is_some()
}
