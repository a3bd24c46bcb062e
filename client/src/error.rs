//! Why a call gave nothing: one variant for each thing that the caller does next.

use api::status::{Reason, is_store_full};
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::BoxError;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not happen, and may work later: the server was not reached, or is too busy.
    #[error("cannot reach the server")]
    Unavailable(#[source] BoxError),
    /// A write that may have happened, or may still: look before deciding anew.
    #[error("the connection broke before the answer came; the request may have been carried out")]
    Unknown(#[source] BoxError),
    /// The server said no, and why.
    #[error("{}", .0.message.as_deref().unwrap_or("the server refused"))]
    Refused(Box<Status>),
    /// The answer (or the request) makes no sense: a bug, or another version.
    #[error("cannot parse the answer")]
    Malformed(#[source] BoxError),
}

impl Error {
    /// Something that could not be read or built.
    pub(crate) fn malformed(source: impl Into<BoxError>) -> Self {
        Error::Malformed(source.into())
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
        let status = serde_json::from_slice(body).unwrap_or_else(|_| Status {
            code: Some(i32::from(code.as_u16())),
            message: Some(format!("the server answered {code}")),
            ..Status::default()
        });
        let message = || status.message.clone().unwrap_or_else(|| code.to_string());
        match code.as_u16() {
            503 if is_store_full(&status) => Error::Unavailable(Box::new(StoreFull(message()))),
            429 | 503 => Error::Unavailable(Box::new(NotNow(message()))),
            502 | 504 => Error::Unknown(Box::new(InDoubt(message()))),
            _ => Error::Refused(Box::new(status)),
        }
    }

    /// The HTTP code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Refused(status) => status.code.and_then(|code| u16::try_from(code).ok()),
            Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_) => None,
        }
    }

    /// The status of a refusal.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Refused(status) => Some(status),
            Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_) => None,
        }
    }

    /// Whether the server gave this reason.
    pub fn is(&self, reason: Reason) -> bool {
        self.status().and_then(|status| status.reason.as_deref()) == Some(&format!("{reason:?}"))
    }

    /// Whether the store has no room. Then nobody can write anything that takes some.
    pub fn is_store_full(&self) -> bool {
        match self {
            Error::Unavailable(source) => source.is::<StoreFull>(),
            Error::Refused(_) | Error::Unknown(_) | Error::Malformed(_) => false,
        }
    }

    /// What the server itself answered, where it was reached and cannot do this now: that it is
    /// too busy, or that a node does not answer it.
    pub fn not_now(&self) -> Option<&str> {
        match self {
            Error::Unavailable(source) => source.downcast_ref::<NotNow>().map(|it| it.0.as_str()),
            Error::Refused(_) | Error::Unknown(_) | Error::Malformed(_) => None,
        }
    }

    /// What the server itself answered, where it does not know whether the change was made.
    pub fn in_doubt(&self) -> Option<&str> {
        match self {
            Error::Unknown(source) => source.downcast_ref::<InDoubt>().map(|it| it.0.as_str()),
            Error::Unavailable(_) | Error::Refused(_) | Error::Malformed(_) => None,
        }
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.is(Reason::NotFound)
    }

    /// Whether the object changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.is(Reason::Conflict)
    }
}

/// The store behind the server has no room.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StoreFull(String);

/// The server was reached, and cannot do this now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotNow(String);

/// The server was reached, and does not know what became of the request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct InDoubt(String);

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
