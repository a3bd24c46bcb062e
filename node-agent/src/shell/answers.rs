//! The forms of an agent's HTTP answers to the apiserver.

use api::status::Why;
use bytes::Bytes;
use client::BoxError;
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// The message of every answer before the engine is opened.
pub(super) const NO_ENGINE: &str = "the agent has not connected to its engine yet";

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The pairs of a query. Their values need no decoding.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// The answer before the engine is opened.
pub(super) fn no_engine() -> Response<Body> {
    refused(Why::Unavailable, NO_ENGINE)
}

/// A refusal: its body is one line of text.
pub(super) fn refused(why: Why, message: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{message}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() =
        StatusCode::from_u16(why.code()).expect("all of ours are status codes");
    response
}
