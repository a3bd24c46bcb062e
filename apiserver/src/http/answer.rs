//! Answers.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Bytes that are JSON already.
pub(crate) fn raw(code: StatusCode, json: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(json.into());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// A value as JSON.
pub(crate) fn json(code: StatusCode, value: &impl Serialize) -> Response<Body> {
    raw(code, serde_json::to_vec(value).expect("our answers have text keys and finite numbers"))
}

/// A failure.
pub(crate) fn status(status: &Status) -> Response<Body> {
    let code = status.code.and_then(|code| u16::try_from(code).ok());
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    json(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), status)
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
