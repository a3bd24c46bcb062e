//! The forms of an agent's HTTP answers to the apiserver.

use api::status::{Refusal, Why};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

/// The answer before the engine is opened.
pub(super) fn no_engine() -> Refused {
    Refused(Refusal::new(Why::Unavailable, "the agent has not connected to its engine yet"))
}

/// A refusal: its body is one line of text.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(Refusal { why, message, .. }) = self;
        let code = StatusCode::from_u16(why.code()).expect("all of ours are status codes");
        (code, format!("{message}\n")).into_response()
    }
}
