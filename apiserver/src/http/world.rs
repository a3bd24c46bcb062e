//! An apiserver on a simulated store, for tests of its answers.

use std::sync::Arc;

use api::Timestamp;
use api::status::Refusal;
use axum::body::Body;
use base::{Clock, Health, Rng, Tasks};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use prometheus::Registry;
use serde_json::Value;
use store::Simulated;
use tower::Service as _;

use crate::access::Gate;
use crate::{Parts, Peers, Router, Server};

pub(super) struct World {
    pub(super) router: Router,
    pub(super) server: Arc<Server>,
    _tasks: Tasks,
}

impl World {
    pub(super) async fn new(gate: Gate) -> Self {
        Self::one_of(Simulated::new(), gate, None).await
    }

    /// One of several over a store.
    pub(super) async fn one_of(store: Simulated, gate: Gate, peers: Option<Peers>) -> Self {
        let tasks = Tasks::new("apiserver");
        let parts = Parts {
            store: Arc::new(store),
            clock: Clock::simulated(Timestamp::UNIX_EPOCH),
            rng: Rng::seeded(1),
            spawner: tasks.spawner(),
            registry: Registry::new(),
            health: Health::default(),
            peers,
        };
        let server = Server::start_behind(gate, parts).await.unwrap();
        server.ready().await;
        Self { router: server.service(), server, _tasks: tasks }
    }

    pub(super) async fn ask(&self, method: &Method, path: &str, body: &Value) -> Response<Body> {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(Request::builder().method(method).uri(path).body(body).unwrap()).await
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().call(request).await.unwrap()
    }

    /// Why a request is refused.
    pub(super) async fn refusal(
        &self,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> Option<Refusal> {
        let answer = self.ask(method, path, body).await;
        let code = answer.status();
        if code.is_success() {
            return None;
        }
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        Refusal::of_answer(code.as_u16(), &bytes)
    }
}
