//! Logs of attempts, asked for by the apiserver.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use super::serving::{Body, Served, no_engine, pairs, text};
use crate::engine::{EngineError, LogLine, LogOptions};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    uid: String,
    attempt: u32,
    options: LogOptions,
    timestamps: bool,
}

impl Question {
    /// Reads `/logs/{uid}/{attempt}?follow=&timestamps=&tailLines=`.
    fn parse(path: &str, query: &str) -> Option<Self> {
        let (uid, attempt) = path.strip_prefix("/logs/")?.split_once('/')?;
        let attempt = attempt.parse().ok()?;
        let mut options = LogOptions::default();
        let mut timestamps = false;
        for (key, value) in pairs(query) {
            match key {
                "follow" => options.follow = value == "true",
                "timestamps" => timestamps = value == "true",
                "tailLines" => options.tail = Some(value.parse().ok()?),
                _ => (),
            }
        }
        Some(Self { uid: uid.to_owned(), attempt, options, timestamps })
    }
}

/// Answers what is asked at `path`.
pub(super) async fn answer(served: &Served, path: &str, query: &str) -> Response<Body> {
    let Some(question) = Question::parse(path, query) else {
        return text(StatusCode::BAD_REQUEST, "logs are at /logs/{uid}/{attempt}");
    };
    let Some(identity) = served.find(&question.uid, question.attempt) else {
        return text(StatusCode::NOT_FOUND, "that is no attempt");
    };
    let Some(engine) = served.engine() else { return no_engine() };
    match engine.logs(&identity, question.options).await {
        Ok(lines) => {
            let timestamps = question.timestamps;
            let frames = lines.map_ok(move |line| Frame::data(shown(&line, timestamps)));
            Response::new(StreamBody::new(frames.map_err(Into::into)).boxed_unsync())
        }
        Err(EngineError::Gone) => {
            text(StatusCode::NOT_FOUND, "no log of this attempt is kept there")
        }
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn shown(line: &LogLine, timestamps: bool) -> Bytes {
    if !timestamps {
        return line.bytes.clone();
    }
    let mut shown = BytesMut::from(format!("{:.9} ", line.time).as_bytes());
    shown.extend_from_slice(&line.bytes);
    shown.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read() {
        let query = "follow=true&timestamps=false&tailLines=7";
        let question = Question::parse("/logs/0af3-77/2", query).unwrap();
        let options = LogOptions { follow: true, tail: Some(7), since: None };
        let wanted = Question { uid: "0af3-77".to_owned(), attempt: 2, options, timestamps: false };
        assert_eq!(question, wanted);
        for wrong in ["/logs/0af3", "/logs/0af3/x", "/other/0af3/1"] {
            assert_eq!(Question::parse(wrong, ""), None, "{wrong}");
        }
        assert_eq!(Question::parse("/logs/0af3/1", "tailLines=x"), None);
    }
}
