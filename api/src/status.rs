//! Errors on the wire: Kubernetes' `Status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::kind::KindId;
use crate::violation::Violation;

/// Why a request was refused. Code and word are Kubernetes', so that stock clients branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// 400: the request makes no sense.
    BadRequest,
    /// 403: not allowed.
    Forbidden,
    /// 404: not there.
    NotFound,
    /// 405: this cannot be done to that.
    MethodNotAllowed,
    /// 406: no form that the client accepts.
    NotAcceptable,
    /// 409: it is there already.
    AlreadyExists,
    /// 409: it changed meanwhile.
    Conflict,
    /// 410: the revision is no longer kept.
    Expired,
    /// 413: too large.
    RequestEntityTooLarge,
    /// 415: the body's form is not known.
    UnsupportedMediaType,
    /// 422: the object is not valid.
    Invalid,
    /// 429: too much at once.
    TooManyRequests,
    /// 500: a bug.
    InternalError,
    /// 503: try again later.
    ServiceUnavailable,
    /// 504: it may have happened.
    Timeout,
}

impl Reason {
    /// The HTTP status code.
    pub fn code(self) -> u16 {
        match self {
            Reason::BadRequest => 400,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Expired => 410,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::Invalid => 422,
            Reason::TooManyRequests => 429,
            Reason::InternalError => 500,
            Reason::ServiceUnavailable => 503,
            Reason::Timeout => 504,
        }
    }
}

/// A failure as a `Status`.
pub fn failure(reason: Reason, message: impl Into<String>) -> Status {
    Status {
        status: Some("Failure".to_owned()),
        message: Some(message.into()),
        reason: Some(format!("{reason:?}")),
        code: Some(i32::from(reason.code())),
        ..Status::default()
    }
}

/// A failure that is about one object.
pub fn failure_of(reason: Reason, kind: KindId, name: &str, message: impl Into<String>) -> Status {
    let info = kind.info();
    let details = StatusDetails {
        name: Some(name.to_owned()),
        group: (!info.group.is_empty()).then(|| info.group.to_owned()),
        kind: Some(info.plural.to_owned()),
        ..StatusDetails::default()
    };
    Status { details: Some(details), ..failure(reason, message) }
}

/// The cause that a full store's refusals name: nobody can write anything that takes room.
pub const STORE_FULL: &str = "StoreFull";

/// The store has no room; `message` says what to do.
pub fn store_full(message: impl Into<String>) -> Status {
    let message = message.into();
    let cause = StatusCause {
        reason: Some(STORE_FULL.to_owned()),
        message: Some(message.clone()),
        field: None,
    };
    let details = StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() };
    Status { details: Some(details), ..failure(Reason::ServiceUnavailable, message) }
}

/// Whether a failure says that the store has no room.
pub fn is_store_full(status: &Status) -> bool {
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref());
    causes.into_iter().flatten().any(|cause| cause.reason.as_deref() == Some(STORE_FULL))
}

/// An object that is not valid: every violation is a cause.
pub fn invalid(kind: KindId, name: &str, violations: &[Violation]) -> Status {
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let message = format!("{kind} {name:?} is invalid: {}", list.join("; "));
    let mut status = failure_of(Reason::Invalid, kind, name, message);
    let causes = violations.iter().map(|violation| StatusCause {
        field: Some(violation.path.clone()),
        message: Some(match &violation.hint {
            Some(hint) => format!("{} ({hint})", violation.message),
            None => violation.message.clone(),
        }),
        reason: Some("FieldValueInvalid".to_owned()),
    });
    if let Some(details) = status.details.as_mut() {
        details.causes = Some(causes.collect());
    }
    status
}
