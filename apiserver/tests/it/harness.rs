//! Two servers over one simulated store, and a way to ask them: each request goes to either, by chance,
//! since no answer may depend on which is asked.

use std::sync::Arc;

use apiserver::{Parts, Peers, Router, Server, StartError};
use base::{Clock, Health, Rng, Tasks, Timestamp};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::{Simulated, Store};
use tower::Service;

use crate::odd_store::OddStore;

pub(crate) const OURS: &str = "/apis/heliox.dev/v1";
pub(crate) const JOBS: &str = "/apis/heliox.dev/v1/namespaces/default/jobs";
pub(crate) const TASKS: &str = "/apis/heliox.dev/v1/namespaces/default/tasks";

/// Servers over the one store.
const SERVERS: usize = 2;

pub(crate) struct World {
    routers: Vec<Router>,
    chance: Rng,
    pub(crate) store: Simulated,
    _tasks: Tasks,
}

pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) json: Value,
}

async fn start(
    store: Arc<dyn Store>,
    peers: Option<Peers>,
    tasks: &Tasks,
) -> Result<Router, StartError> {
    let parts = Parts {
        store,
        clock: Clock::simulated(Timestamp::UNIX_EPOCH),
        rng: Rng::from_machine(),
        spawner: tasks.spawner(),
        registry: prometheus::Registry::new(),
        health: Health::default(),
        peers,
    };
    let server = Server::start(parts).await?;
    server.ready().await;
    Ok(server.service())
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(Simulated::new()).await
    }

    /// Other servers over a store that is there already.
    pub(crate) async fn over(store: Simulated) -> Self {
        Self::try_over(store).await.unwrap()
    }

    pub(crate) async fn try_over(store: Simulated) -> Result<Self, StartError> {
        Self::start(store, SERVERS).await
    }

    /// One server over an empty store.
    pub(crate) async fn of_one() -> Self {
        Self::start(Simulated::new(), 1).await.unwrap()
    }

    async fn start(store: Simulated, servers: usize) -> Result<Self, StartError> {
        let tasks = Tasks::new("apiservers");
        let mut routers = Vec::new();
        for _ in 0..servers {
            routers.push(start(Arc::new(store.clone()), None, &tasks).await?);
        }
        Ok(Self { routers, chance: chance(), store, _tasks: tasks })
    }

    /// One server over `odd`, which is a view of `store`.
    pub(crate) async fn over_odd(odd: &OddStore, store: Simulated) -> Self {
        let tasks = Tasks::new("apiserver");
        let routers = vec![start(Arc::new(odd.clone()), None, &tasks).await.unwrap()];
        Self { routers, chance: chance(), store, _tasks: tasks }
    }

    /// A single server, which is one of several over its store.
    pub(crate) async fn one_of(store: Simulated, peers: Peers) -> Self {
        let tasks = Tasks::new("apiserver");
        let routers = vec![start(Arc::new(store.clone()), Some(peers), &tasks).await.unwrap()];
        Self { routers, chance: chance(), store, _tasks: tasks }
    }

    /// One of its servers.
    pub(crate) fn router(&self) -> Router {
        self.routers[0].clone()
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> http::Response<axum::body::Body> {
        let mut router = self.chance.pick(&self.routers).expect("there are servers").clone();
        Service::<Request<Bytes>>::call(&mut router, request).await.unwrap()
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        form: &str,
        body: Vec<u8>,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", form)
            .body(body.into())
            .unwrap();
        let response = self.send(request).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { code, json: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.ask(method, path, "application/json", body.to_string().into_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "application/json", Vec::new()).await
    }

    /// What kubectl and hctl show.
    pub(crate) async fn get_table(&self, path: &str) -> Value {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let request = Request::get(path).header("accept", accept).body(Bytes::new()).unwrap();
        let bytes = self.send(request).await.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// What is answered to a GET, as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        let response = self.send(Request::get(path).body(Bytes::new()).unwrap()).await;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PUT, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, "application/json", Vec::new()).await
    }

    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Answer {
        let body = patch.to_string().into_bytes();
        self.ask(Method::PATCH, path, "application/merge-patch+json", body).await
    }

    pub(crate) async fn json_patch(&self, path: &str, patch: &Value) -> Answer {
        let body = patch.to_string().into_bytes();
        self.ask(Method::PATCH, path, "application/json-patch+json", body).await
    }

    /// Sends a batch of groups of one operation each; the outcomes.
    pub(crate) async fn batch(&self, ops: &[Value]) -> Vec<Value> {
        let groups: Vec<Value> = ops.iter().map(|op| json!({ "ops": [op] })).collect();
        self.groups(&json!(groups)).await
    }

    pub(crate) async fn groups(&self, groups: &Value) -> Vec<Value> {
        let answer = self.post(&format!("{OURS}/batches"), &json!({ "groups": groups })).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
        answer.json["results"].as_array().unwrap().clone()
    }

    /// Makes a job; it as it was answered.
    pub(crate) async fn job(&self, name: &str) -> Value {
        let answer = self.post(JOBS, &job(name)).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.json);
        answer.json
    }
}

/// Decides who is asked: `SEED=n` has a test ask as it did when it failed.
#[expect(clippy::print_stdout, reason = "a test that fails shows it")]
fn chance() -> Rng {
    let named = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = named.unwrap_or_else(|| Rng::from_machine().next_u64());
    println!("SEED={seed}");
    Rng::seeded(seed)
}

pub(crate) fn job(name: &str) -> Value {
    json!({
        "apiVersion": "heliox.dev/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": { "count": 2, "template": { "image": "busybox" } },
    })
}

/// A task of a job, as its controller makes it.
pub(crate) fn task_of(job: &Value, index: u32) -> Value {
    let name = format!("{}-{index}", job["metadata"]["name"].as_str().unwrap());
    json!({
        "apiVersion": "heliox.dev/v1",
        "kind": "Task",
        "metadata": {
            "name": name,
            "namespace": "default",
            "ownerReferences": [{
                "apiVersion": "heliox.dev/v1", "kind": "Job", "controller": true,
                "name": job["metadata"]["name"], "uid": job["metadata"]["uid"],
            }],
        },
        "spec": { "template": "t", "index": index, "count": 2, "run": 1, "attempt": 1 },
    })
}
