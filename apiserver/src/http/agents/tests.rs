//! Two apiservers, of which one passes questions on to the other.

use axum::body::Body;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::json;
use store::{Expectation, Group, Simulated, Store as _};
use tower::Service as _;
use tower::util::BoxCloneSyncService;

use super::super::world::World;
use super::*;
use crate::access::Gate;
use crate::encoding;
use crate::peers::{BoxError, Peers};
use crate::requester::Requester;

const OURS: &str = "/apis/heliox.dev/v1";
const LOG: &str = "/apis/heliox.dev/v1/namespaces/default/tasks/j-0/log";

/// An apiserver that everybody may ask everything, and which passes what concerns node n1 on to one
/// that refuses interns. Neither of them has a connection to an agent.
async fn two() -> [World; 2] {
    let store = Simulated::new();
    let nobody = tower::service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, BoxError>("it asks nobody".into())
    });
    let peers = Peers::new("http://b", BoxCloneSyncService::new(nobody));
    let strict = World::one_of(store.clone(), Gate::ClosedTo("interns"), Some(peers)).await;
    let router = strict.router.clone();
    let to_strict = tower::service_fn(move |request: Request<Body>| {
        let mut router = router.clone();
        async move { Ok(router.call(request).await?) }
    });
    let peers = Peers::new("http://a", BoxCloneSyncService::new(to_strict));
    let open = World::one_of(store.clone(), Gate::Open, Some(peers)).await;
    task_on_n1(&open).await;
    let key = &*keys::node_lease("n1");
    let record = store.get(key).await.unwrap().unwrap();
    let mut lease: serde_json::Value =
        serde_json::from_slice(encoding::json(&record.value).unwrap()).unwrap();
    lease["spec"]["apiserver"] = "http://b".into();
    let group = Group::default().put(key, Expectation::Any, encoding::encode(&lease));
    assert!(store.commit(vec![group]).await[0].is_done());
    [open, strict]
}

async fn task_on_n1(world: &World) {
    let post = async |path: &str, body: serde_json::Value| {
        let answer = world.ask(&Method::POST, &format!("{OURS}/{path}"), &body).await;
        let code = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(code, StatusCode::CREATED, "{}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
    };
    let version = "heliox.dev/v1";
    let job = json!({
        "apiVersion": version, "kind": "Job", "metadata": { "name": "j" },
        "spec": { "count": 1, "template": { "image": "busybox" } },
    });
    let job = post("namespaces/default/jobs", job).await;
    let node = json!({
        "apiVersion": version, "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    post("nodes", node).await;
    let task = json!({
        "apiVersion": version, "kind": "Task",
        "metadata": {
            "name": "j-0", "namespace": "default",
            "ownerReferences": [{
                "apiVersion": version, "kind": "Job", "controller": true, "name": "j",
                "uid": job["metadata"]["uid"],
            }],
        },
        "spec": { "template": "t", "index": 0, "count": 1, "run": 1, "attempt": 1 },
    });
    post("namespaces/default/tasks", task).await;
    let bind = json!({ "attempt": 1, "node": "n1" });
    post("namespaces/default/tasks/j-0/binding", bind).await;
    post("nodeleases", json!({ "node": "n1", "agent": "a", "bootId": "b" })).await;
}

async fn refused(world: &World, by: Requester, request: Request<Body>) -> Refusal {
    let answer = world.router.asked_by(by).call(request).await.unwrap();
    let code = answer.status().as_u16();
    let bytes: Bytes = answer.into_body().collect().await.unwrap().to_bytes();
    Refusal::of_answer(code, &bytes).unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_apiserver_that_holds_the_agent_judges_the_person_who_asked_the_other_one() {
    let [open, _strict] = two().await;
    let intern = Requester::member("ann", &["staff", "interns"]);
    let refusal = refused(&open, intern.clone(), get(LOG)).await;
    assert_eq!(refusal.why, Why::Forbidden);
    let may_not = r#"ann via another apiserver may not get tasks/log "j-0" in namespace "default""#;
    assert_eq!(refusal.message, may_not);
    let stats = refused(&open, intern, get(&format!("{OURS}/nodes/n1/stats"))).await;
    assert_eq!(stats.message, r#"ann via another apiserver may not get nodes/stats "n1""#);
    // Who may is only told that the agent is away.
    for other in [Requester::member("bob", &["staff"]), Requester::anonymous()] {
        let refusal = refused(&open, other, get(LOG)).await;
        assert_eq!(refusal.why, Why::Unavailable, "{refusal}");
        assert!(refusal.message.contains("not connected to any apiserver"), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_an_apiserver_says_for_whom_it_asks_and_only_where_it_asks_for_an_agent() {
    let [_open, strict] = two().await;
    let place = (KindId::Task, Some(api::verb::Subresource::Log));
    let key = ObjectKey::new("default", "j-0");
    let boss = Requester::member("boss", &[]);
    let boss = OnBehalf::new(boss, api::verb::Verb::Get, place, key).header().unwrap();
    let agent = format!("{OURS}/nodes/n1/agent/logs/x/1");
    let cluster = strict.server.identity.cluster.to_string();
    let asked = |path: &str, is_peer: bool| {
        let mut request = get(path);
        let headers = request.headers_mut();
        headers.insert(REQUESTER_HEADER, boss.clone());
        if is_peer {
            headers.insert(api::node::PEER_HEADER, HeaderValue::from_static("http://a"));
            headers.insert(api::node::CLUSTER_HEADER, cluster.parse().unwrap());
        }
        request
    };
    let anonymous = Requester::anonymous;
    let heard = refused(&strict, anonymous(), asked(&agent, true)).await;
    assert_eq!(heard.why, Why::Unavailable, "{heard}");
    for (by, path, is_peer) in [
        (anonymous(), &*agent, false),
        (anonymous(), LOG, true),
        (anonymous(), LOG, false),
        // An apiserver asks others over the network, never from within a process.
        (Requester::component("scheduler"), &*agent, true),
    ] {
        let refusal = refused(&strict, by, asked(path, is_peer)).await;
        assert_eq!(refusal.why, Why::Forbidden, "{path} {is_peer}: {refusal}");
        assert!(refusal.message.contains("may not ask for others"), "{refusal}");
    }
    // One that works together with no others has no peers.
    let alone = World::new(Gate::Open).await;
    let cluster = alone.server.identity.cluster.to_string();
    let mut request = asked(&agent, true);
    request.headers_mut().insert(api::node::CLUSTER_HEADER, cluster.parse().unwrap());
    let refusal = refused(&alone, anonymous(), request).await;
    assert_eq!(refusal.why, Why::Forbidden, "{refusal}");
}
