//! Several apiservers over one store: an agent is connected to one of them, and any may be asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::{BoxError, Peers, Router};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use store::{Expectation, Fault, Group, LeaseId, Outcome, Revision, Simulated, Store as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::harness::{OURS, TASKS, World, task_of};

/// How long something is waited for before it is called missing.
const PATIENCE: Duration = Duration::from_secs(30);
const LEASE: &str = "/heliox/v1/nodelease/n1";

/// Apiservers by the URLs that they advertise.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<BTreeMap<String, Router>>>);

impl Network {
    async fn server(&self, store: &Simulated, host: &str) -> World {
        let network = self.clone();
        let transport = tower::service_fn(move |request: Request<Body>| {
            let host = request.uri().authority().unwrap().to_string();
            let router = network.0.lock().unwrap().get(&host).cloned();
            async move {
                let Some(mut router) = router else { return Err(BoxError::from("nobody there")) };
                Ok(Service::<Request<Body>>::call(&mut router, request).await?)
            }
        });
        let peers = Peers::new(format!("http://{host}"), BoxCloneSyncService::new(transport));
        let world = World::one_of(store.clone(), peers).await;
        self.0.lock().unwrap().insert(host.to_owned(), world.router());
        world
    }

    fn crash(&self, host: &str, world: World) {
        self.0.lock().unwrap().remove(host);
        drop(world);
    }
}

/// An agent whose log says over which connection it was asked, and goes on with what it is given.
struct Agent {
    _tasks: JoinSet<()>,
    more: mpsc::Sender<Bytes>,
}

impl Agent {
    /// The `number`-th connection of a start of the agent.
    async fn connect(world: &World, boot_id: &str, number: u64) -> Self {
        let mut tasks = JoinSet::new();
        let (near, far) = tokio::io::duplex(4096);
        let router = world.router();
        tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                Service::<Request<Body>>::call(&mut router.clone(), request.map(Body::new))
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ended = builder.serve_connection_with_upgrades(TokioIo::new(far), service).await;
        });
        let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
        tasks.spawn(async move { drop(connection.with_upgrades().await) });
        let path = format!("{OURS}/nodes/n1/connect?bootId={boot_id}&connection={number}");
        let request = Request::post(path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "heliox-tunnel")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let upgraded = hyper::upgrade::on(response).await.unwrap();
        let (more, lines) = mpsc::channel(10);
        let lines = Arc::new(tokio::sync::Mutex::new(lines));
        tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.uri(), number, Arc::clone(&lines));
                async move { Ok::<_, Infallible>(answer) }
            });
            let builder = http2::Builder::new(TokioExecutor::new());
            let _ended = builder.serve_connection(upgraded, service).await;
        });
        Self { _tasks: tasks, more }
    }
}

fn answer(
    uri: &http::Uri,
    number: u64,
    lines: Arc<tokio::sync::Mutex<mpsc::Receiver<Bytes>>>,
) -> Response<Body> {
    let mut first = Bytes::from(format!("connection {number}: {uri}\n"));
    if uri.query().is_some_and(|query| query.contains("tailLines=99")) {
        let mut refused = Response::new(Body::from("no log is kept\n"));
        *refused.status_mut() = StatusCode::NOT_FOUND;
        return refused;
    }
    if !uri.query().is_some_and(|query| query.contains("follow=true")) {
        return Response::new(Body::from(first));
    }
    let frames = stream::unfold((), move |()| {
        let (lines, line) = (Arc::clone(&lines), std::mem::take(&mut first));
        async move {
            let line = if line.is_empty() { lines.lock().await.recv().await? } else { line };
            Some((Ok::<_, Infallible>(line), ()))
        }
    });
    Response::new(Body::from_stream(frames))
}

/// A task that runs on `n1`; its uid.
async fn task_on_n1(world: &World) -> String {
    let job = world.job("j").await;
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    let made = world.post(&format!("{OURS}/nodes"), &node).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.json);
    let task = world.post(TASKS, &task_of(&job, 0)).await.json;
    let bind = json!({ "attempt": 1, "node": "n1" });
    let bound = world.post(&format!("{TASKS}/j-0/binding"), &bind).await;
    assert_eq!(bound.code, StatusCode::CREATED, "{}", bound.json);
    task["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn grant(world: &World, boot_id: &str) {
    let request = json!({ "node": "n1", "agent": "a", "bootId": boot_id });
    let granted = world.post(&format!("{OURS}/nodeleases"), &request).await;
    assert_eq!(granted.code, StatusCode::CREATED, "{}", granted.json);
}

/// Waits until the node lease says who holds which connection.
async fn told(store: &Simulated, apiserver: &str, connection: u64) {
    let from = Revision(store.revision().await.unwrap().0 + 1);
    let mut watch = store.watch(LEASE, from).await.unwrap();
    loop {
        let record = store.get(LEASE).await.unwrap();
        let spec = record.map_or(Value::Null, |record| {
            let text = String::from_utf8_lossy(&record.value).into_owned();
            let object: Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
            object["spec"].clone()
        });
        if spec["apiserver"] == json!(apiserver) && spec["connection"] == json!(connection) {
            return;
        }
        let next = tokio::time::timeout(PATIENCE, watch.next()).await;
        next.unwrap_or_else(|_| panic!("the lease says {spec}")).unwrap();
    }
}

async fn log(world: &World, query: &str) -> Result<String, (StatusCode, String)> {
    let path = format!("{TASKS}/j-0/log{query}");
    let request = Request::get(path).body(Bytes::new()).unwrap();
    let response = world.send(request).await;
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    if code.is_success() {
        return Ok(text);
    }
    let status: Value = serde_json::from_str(&text).unwrap();
    Err((code, status["message"].as_str().unwrap().to_owned()))
}

struct Two {
    network: Network,
    store: Simulated,
    a: World,
    b: World,
    uid: String,
}

impl Two {
    async fn new() -> Self {
        let (network, store) = (Network::default(), Simulated::new());
        let (a, b) = (network.server(&store, "a").await, network.server(&store, "b").await);
        let uid = task_on_n1(&a).await;
        Self { network, store, a, b, uid }
    }
}

#[tokio::test]
async fn any_apiserver_answers_for_an_agent_that_is_connected_to_another() {
    let two = Two::new().await;
    grant(&two.b, "b1").await;
    let agent = Agent::connect(&two.a, "b1", 1).await;
    told(&two.store, "http://a", 1).await;
    let line = |follow| {
        let query = format!("follow={follow}&timestamps=false&records=false");
        format!("connection 1: /logs/{}/1?{query}\n", two.uid)
    };
    for world in [&two.a, &two.b] {
        assert_eq!(log(world, "").await, Ok(line(false)));
        let refused = (StatusCode::NOT_FOUND, "node \"n1\": no log is kept".to_owned());
        assert_eq!(log(world, "?tailLines=99").await, Err(refused));
    }
    let request = Request::get(format!("{TASKS}/j-0/log?follow=true")).body(Bytes::new()).unwrap();
    let response = two.b.send(request).await;
    assert_eq!(response.headers()["content-type"], "text/plain");
    let mut body = response.into_body();
    let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(next().await, line(true), "it is there before more is");
    for more in ["one", "two"] {
        agent.more.send(Bytes::from(more)).await.unwrap();
        assert_eq!(next().await, more);
    }
}

#[tokio::test]
async fn a_lease_that_is_granted_after_the_agent_connected_tells_of_it_all_the_same() {
    let two = Two::new().await;
    let _agent = Agent::connect(&two.a, "b1", 1).await;
    grant(&two.b, "b1").await;
    told(&two.store, "http://a", 1).await;
    // Granted anew while the agent lives: nothing is lost on the way.
    grant(&two.b, "b1").await;
    told(&two.store, "http://a", 1).await;
    // The agent was restarted. Nobody is to be asked over its old connection.
    grant(&two.b, "b2").await;
    let refused = log(&two.b, "").await.unwrap_err();
    assert!(refused.1.contains("not connected to any apiserver"), "{refused:?}");
    let _agent = Agent::connect(&two.a, "b2", 1).await;
    told(&two.store, "http://a", 1).await;
    assert!(log(&two.b, "").await.is_ok());
}

#[tokio::test]
async fn the_connection_that_an_agent_opened_last_is_used_although_older_ones_are_not_known_dead() {
    let two = Two::new().await;
    grant(&two.a, "b1").await;
    let _half_dead = Agent::connect(&two.a, "b1", 1).await;
    told(&two.store, "http://a", 1).await;
    let _agent = Agent::connect(&two.b, "b1", 2).await;
    told(&two.store, "http://b", 2).await;
    // The apiserver with the older one learns of it by the lease.
    grant(&two.a, "b1").await;
    told(&two.store, "http://b", 2).await;
    for world in [&two.a, &two.b] {
        let line = loop {
            match log(world, "").await.unwrap() {
                old if old.starts_with("connection 1:") => tokio::task::yield_now().await,
                line => break line,
            }
        };
        assert!(line.starts_with("connection 2:"), "{line}");
    }
}

#[tokio::test]
async fn of_two_agents_under_one_name_the_one_that_has_the_lease_is_asked() {
    let two = Two::new().await;
    grant(&two.a, "b1").await;
    let agent = Agent::connect(&two.a, "b1", 1).await;
    told(&two.store, "http://a", 1).await;
    let _other = Agent::connect(&two.a, "c1", 7).await;
    for _ in 0..100 {
        for world in [&two.a, &two.b] {
            let line = log(world, "").await.unwrap();
            assert!(line.starts_with("connection 1:"), "{line}");
        }
    }
    // The other one is not asked either when the first has gone, and people are told of it.
    drop(agent);
    loop {
        match log(&two.a, "").await {
            Err((_, why)) if why.contains("another agent of the same name is") => {
                break;
            }
            Err(_) => tokio::task::yield_now().await,
            Ok(line) => assert!(line.starts_with("connection 1:"), "{line}"),
        }
    }
    // It has the lease from now on.
    grant(&two.a, "c1").await;
    loop {
        match log(&two.a, "").await {
            Ok(line) => break assert!(line.starts_with("connection 7:"), "{line}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn an_apiserver_that_is_gone_is_named_and_another_one_takes_over() {
    let Two { network, store, a, b, .. } = Two::new().await;
    let refused = log(&b, "").await.unwrap_err();
    assert!(refused.1.contains("is not connected"), "{refused:?}");
    grant(&b, "b1").await;
    let agent = Agent::connect(&a, "b1", 1).await;
    told(&store, "http://a", 1).await;
    network.crash("a", a);
    drop(agent);
    let refused = log(&b, "").await.unwrap_err();
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.1.contains("http://a") && refused.1.contains("nobody there"), "{refused:?}");
    let _agent = Agent::connect(&b, "b1", 2).await;
    assert!(log(&b, "").await.unwrap().starts_with("connection 2:"));
    told(&store, "http://b", 2).await;
    // It comes back where it was, and holds nothing: it asks the other one.
    let a = network.server(&store, "a").await;
    assert!(log(&a, "").await.unwrap().starts_with("connection 2:"));
}

#[tokio::test]
async fn what_one_apiserver_asks_of_another_goes_no_further() {
    let two = Two::new().await;
    grant(&two.a, "b1").await;
    let _agent = Agent::connect(&two.a, "b1", 1).await;
    told(&two.store, "http://a", 1).await;
    let path = format!("{OURS}/nodes/n1/agent/logs/{}/1", two.uid);
    assert_eq!(two.a.get(&path).await.code, StatusCode::BAD_REQUEST, "only apiservers ask so");
    let ask = async |world: &World| {
        let request = Request::get(&path).header("heliox-peer", "http://c");
        world.send(request.body(Bytes::new()).unwrap()).await.status()
    };
    assert_eq!(ask(&two.a).await, StatusCode::OK);
    assert_eq!(ask(&two.b).await, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_page_in_a_browser_runs_no_command() {
    let two = Two::new().await;
    let asked = async |origin: Option<&str>| {
        let path = format!("{TASKS}/j-0/exec?command=true");
        let mut request = Request::get(path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "v5.channel.k8s.io");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        two.a.send(request.body(Bytes::new()).unwrap()).await.status()
    };
    assert_eq!(asked(Some("http://127.0.0.1:7070")).await, StatusCode::FORBIDDEN);
    assert_eq!(asked(None).await, StatusCode::SERVICE_UNAVAILABLE, "only the agent is missing");
}

#[tokio::test]
async fn no_more_logs_are_read_at_once_than_there_are_places() {
    const PLACES: usize = 1_000;
    let two = Two::new().await;
    grant(&two.a, "b1").await;
    let _agent = Agent::connect(&two.a, "b1", 1).await;
    told(&two.store, "http://a", 1).await;
    let mut reading = Vec::new();
    for _ in 0..PLACES {
        let request = Request::get(format!("{TASKS}/j-0/log")).body(Bytes::new()).unwrap();
        let response = two.a.send(request).await;
        assert_eq!(response.status(), StatusCode::OK, "log {}", reading.len());
        reading.push(response);
    }
    let (code, why) = log(&two.a, "").await.unwrap_err();
    assert_eq!(code, StatusCode::TOO_MANY_REQUESTS, "{why}");
    assert!(why.contains("try again later"), "{why}");
    // Whoever has stopped reading has given its place back.
    reading.pop();
    log(&two.a, "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_told_is_told_later_however_much_happens_meanwhile() {
    // As many events as are looked through at a time.
    const EVENTS: usize = 1_000;
    let two = Two::new().await;
    grant(&two.a, "b1").await;
    let _agent = Agent::connect(&two.a, "b1", 1).await;
    told(&two.store, "http://a", 1).await;
    let lease = two.store.get(LEASE).await.unwrap().unwrap();
    let text = String::from_utf8(lease.value.to_vec()).unwrap();
    let untold = text.replace("http://a", "").replace("\"connection\":1", "\"connection\":0");
    assert_ne!(text, untold);
    let object: Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    let lease = LeaseId(object["spec"]["lease"].as_u64().unwrap());
    let mut groups = vec![Group::default().put_under(lease, LEASE, Expectation::Any, untold)];
    groups.extend((1..EVENTS).map(|number| {
        let key = format!("/heliox/v1/configmaps/default/c-{number}");
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("c-{number}"), "namespace": "default" },
        });
        Group::default().put(key, Expectation::Absent, format!("\u{1}{object}"))
    }));
    let outcomes = two.store.commit(groups).await;
    assert!(outcomes.iter().all(Outcome::is_done), "{outcomes:?}");
    two.store.faults().next_groups(1, Fault::RequestLost);
    told(&two.store, "http://a", 1).await;
}
