//! Serves logs over the connection that this agent dialled and that was turned round.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Backoff, ErrorChain, Rng, Spawner};
use bytes::{Bytes, BytesMut};
use client::{Dial, Tunnel, open_tunnel};
use futures_util::TryStreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::time::sleep;
use tracing::{debug, info};

use crate::engine::{Engine, EngineError, Identity, LogLine, LogOptions};

/// Attempts whose names are remembered, so that their logs are found.
const NAMES_MAX: usize = 10_000;
/// A connection on which nothing is heard is asked for a sign of life so often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, EngineError>;

/// Which attempts there were, by uid and attempt.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(
    /// Guards the map for one operation.
    Arc<Mutex<BTreeMap<(String, u32), Identity>>>,
);

impl Names {
    /// Remembers an attempt.
    pub(super) fn remember(&self, identity: &Identity) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert((identity.uid().to_owned(), identity.attempt()), identity.clone());
        while names.len() > NAMES_MAX {
            names.pop_first();
        }
    }

    fn find(&self, uid: &str, attempt: u32) -> Option<Identity> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.get(&(uid.to_owned(), attempt)).cloned();
        // Kept logs are found by uid and attempt alone; the names do not matter then.
        known.or_else(|| Identity::new("default", "removed", uid, attempt).ok())
    }
}

/// Runs hyper's own tasks in ours.
#[derive(Debug, Clone)]
struct TaskExecutor(Spawner);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskExecutor {
    fn execute(&self, task: F) {
        self.0.spawn("log stream", task);
    }
}

/// Keeps a connection to the apiserver, on which that one asks. Never ends.
pub(super) async fn serve(
    dial: Dial,
    node: String,
    engine: Arc<dyn Engine>,
    names: Names,
    (spawner, rng): (Spawner, Rng),
) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), rng);
    let path = format!("/apis/heliox.dev/v1/nodes/{node}/connect");
    loop {
        match open_tunnel(&dial, &path, &spawner).await {
            Ok(tunnel) => {
                info!(node, "connected for logs");
                backoff.reset();
                answer_on(tunnel, &engine, &names, &spawner).await;
            }
            Err(error) => debug!(error = %ErrorChain(&error), "no connection for logs"),
        }
        sleep(backoff.next_wait()).await;
    }
}

async fn answer_on(tunnel: Tunnel, engine: &Arc<dyn Engine>, names: &Names, spawner: &Spawner) {
    let service = service_fn(move |request| {
        let (engine, names) = (Arc::clone(engine), names.clone());
        async move { Ok::<_, Infallible>(answer(engine.as_ref(), &names, &request).await) }
    });
    let connection = http2::Builder::new(TaskExecutor(spawner.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(tunnel, service);
    if let Err(error) = connection.await {
        debug!(error = %ErrorChain(&error), "the connection for logs ended");
    }
}

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
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
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

async fn answer(engine: &dyn Engine, names: &Names, request: &Request<Incoming>) -> Response<Body> {
    let uri = request.uri();
    let question = Question::parse(uri.path(), uri.query().unwrap_or_default());
    let Some(question) = question.filter(|_| request.method() == Method::GET) else {
        return text(StatusCode::NOT_FOUND, "an agent serves /logs/{uid}/{attempt}");
    };
    let Some(identity) = names.find(&question.uid, question.attempt) else {
        return text(StatusCode::NOT_FOUND, "that is no attempt");
    };
    match engine.logs(&identity, question.options).await {
        Ok(lines) => {
            let timestamps = question.timestamps;
            let frames = lines.map_ok(move |line| Frame::data(shown(&line, timestamps)));
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        Err(EngineError::Gone) => text(StatusCode::NOT_FOUND, "no log of this attempt is kept"),
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

fn text(code: StatusCode, message: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{message}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response
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

    #[test]
    fn an_uid_that_is_a_path_names_nothing() {
        assert_eq!(Names::default().find("..", 1), None);
        assert!(Names::default().find("0af3", 1).is_some());
    }
}
