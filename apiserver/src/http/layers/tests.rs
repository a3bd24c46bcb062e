//! What every request gets, whoever answers it.

use std::future::pending;

use axum::Router;
use axum::routing::{get, post};
use http::header;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::super::world::World;
use super::*;
use crate::access::Gate;

async fn world() -> World {
    World::new(Gate::Open).await
}

fn asking(method: Method, path: &str, header: Option<(HeaderName, &str)>) -> Request {
    let request = Request::builder().method(method).uri(path);
    let request = match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    };
    request.body(Body::empty()).unwrap()
}

/// The answer of a handler behind the layers of a path.
async fn answered(world: &World, methods: MethodRouter<Arc<Server>>, method: Method) -> Refusal {
    let methods = around_path(methods, &world.server, "other");
    let router = Router::new().route("/", methods).with_state(Arc::clone(&world.server));
    let answer = router.oneshot(asking(method, "/", None)).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Refusal::of_answer(code, &body).expect("a refusal of ours")
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_answered_and_counted() {
    let world = world().await;
    let before = base::panics();
    let breaks = get(async || -> Response { panic!("on purpose") });
    let refusal = answered(&world, breaks, Method::GET).await;
    assert_eq!(refusal.why, Why::Internal);
    assert!(refusal.message.contains("a bug"), "{refusal}");
    assert!(base::panics() > before);
    let counted = world.server.metrics_text();
    let counted = String::from_utf8(counted).unwrap();
    let line = r#"heliox_apiserver_requests_total{code="500",kind="other",verb="get"} 1"#;
    assert!(counted.contains(line), "{counted}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_told_what_may_have_become_of_it() {
    let world = world().await;
    let read = answered(&world, get(pending::<Response>), Method::GET).await;
    assert_eq!(read.why, Why::Late, "{read}");
    let write = answered(&world, post(pending::<Response>), Method::POST).await;
    assert_eq!(write.why, Why::Unknown, "{write}");
}

#[tokio::test(start_paused = true)]
async fn every_answer_over_a_connection_bears_the_id_of_its_request() {
    let world = world().await;
    let id = async |header| {
        let answer = world.send(asking(Method::GET, "/nowhere", header)).await;
        answer.headers()[REQUEST_ID].to_str().unwrap().to_owned()
    };
    assert_eq!(id(Some((REQUEST_ID, "of-mine.1"))).await, "of-mine.1");
    let (one, another) = (id(None).await, id(None).await);
    assert_eq!((one.len(), one == another), (36, false), "{one} {another}");
    let router = world.router.asked_by(Requester::component("scheduler"));
    let answer = router.oneshot(asking(Method::GET, "/nowhere", None)).await.unwrap();
    assert!(!answer.headers().contains_key(REQUEST_ID), "its requester says enough");
    let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
    for odd in ["with blanks", "", &long] {
        assert_eq!(id(Some((REQUEST_ID, odd))).await.len(), 36, "{odd:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_may_end_with_a_slash() {
    let world = world().await;
    for path in ["/api/", "/apis/", "/version/", "/healthz/", "//apis/heliox.dev/v1/jobs/?limit=1"]
    {
        let answer = world.send(asking(Method::GET, path, None)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_not_served_is_told_which_are() {
    let world = world().await;
    let jobs = "/apis/heliox.dev/v1/namespaces/default/jobs";
    for (method, path, allowed) in [
        (Method::DELETE, jobs.to_owned(), "GET, POST"),
        (Method::HEAD, jobs.to_owned(), "GET, POST"),
        (Method::POST, format!("{jobs}/a"), "DELETE, GET, PATCH, PUT"),
        (Method::POST, format!("{jobs}/a/scale"), "GET, PATCH, PUT"),
        (Method::OPTIONS, "/healthz".to_owned(), "GET"),
        (Method::GET, "/apis/heliox.dev/v1/batches".to_owned(), "POST"),
    ] {
        let answer = world.send(asking(method.clone(), &path, None)).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(answer.headers()[header::ALLOW], allowed, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_list_is_compressed_for_who_asks_so_and_a_watch_never_is() {
    let world = world().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let text = "x".repeat(100_000);
    for name in ["a", "b"] {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
            "data": { "text": text },
        });
        assert_eq!(world.ask(&Method::POST, path, &map).await.status(), StatusCode::CREATED);
    }
    let encoding = async |path: &str, accept| {
        let accept = (ACCEPT_ENCODING, accept);
        let answer = world.send(asking(Method::GET, path, Some(accept))).await;
        assert!(answer.status().is_success(), "{path}");
        answer.headers().get(header::CONTENT_ENCODING).cloned()
    };
    assert_eq!(encoding(path, "gzip").await, Some(HeaderValue::from_static("gzip")));
    assert_eq!(encoding(path, "identity").await, None);
    assert_eq!(encoding(path, "gzip;q=0.5").await, Some(HeaderValue::from_static("gzip")));
    // Nothing is refused for an encoding, since it was done by then.
    assert_eq!(encoding(path, "gzip;q=0, identity; q=0").await, None);
    assert_eq!(encoding(&format!("{path}?limit=1"), "gzip").await, None, "it is short");
    assert_eq!(encoding(&format!("{path}?watch=true"), "gzip").await, None);
    let answer = world.ask(&Method::GET, path, &Value::Null).await;
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let list: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
}
