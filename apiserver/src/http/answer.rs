//! Builds answers.

use api::status::Refusal;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer from bytes that are already JSON.
pub(crate) fn raw(code: StatusCode, json: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(json.into());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// An answer with a value as JSON.
pub(crate) fn json(code: StatusCode, value: &impl Serialize) -> Response<Body> {
    raw(code, serde_json::to_vec(value).expect("our answers have text keys and finite numbers"))
}

/// An answer for a refusal.
pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    let code = StatusCode::from_u16(refusal.why.code()).expect("all of ours are status codes");
    json(code, &refusal.to_status())
}

/// An answer in plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
