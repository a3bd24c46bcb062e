//! What one request may ask for: every bound is checked before the work that it bounds.

use std::time::Duration;

use axum::body::Body;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::Service;

use crate::harness::{JOBS, OURS, World};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(start_paused = true)]
async fn a_patch_that_doubles_an_object_again_and_again_is_refused() {
    let world = World::new().await;
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" },
        "data": { "x": "y".repeat(100) },
    });
    world.post(CONFIG_MAPS, &object).await;
    let path = format!("{CONFIG_MAPS}/c");
    let steps: Vec<Value> = (0..40)
        .map(|step| json!({ "op": "copy", "from": "/data", "path": format!("/data/{step}") }))
        .collect();
    let answer = world.json_patch(&path, &json!(steps)).await;
    assert_eq!(answer.code, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.json);
    let message = answer.json["message"].as_str().unwrap();
    assert!(message.contains("operation 15 (copy \"/data/15\")"), "{message}");
    assert!(message.contains("at most 4 MiB"), "{message}");
    let unchanged = world.get(&path).await.json;
    assert_eq!(unchanged["data"], object["data"]);
}

#[tokio::test(start_paused = true)]
async fn a_patch_may_test_the_version_that_it_was_made_for() {
    let world = World::new().await;
    let made = world.job("a").await;
    let path = format!("{JOBS}/a");
    let patch = |version: &Value| {
        json!([
            { "op": "test", "path": "/metadata/resourceVersion", "value": version },
            { "op": "replace", "path": "/spec/count", "value": 7 },
        ])
    };
    let stale = world.json_patch(&path, &patch(&json!("1"))).await;
    assert_eq!(stale.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", stale.json);
    let current = world.json_patch(&path, &patch(&made["metadata"]["resourceVersion"])).await;
    assert_eq!(current.json["spec"]["count"], 7, "{}", current.json);
}

/// The refusal of a GET, and its code.
async fn refused(world: &World, path: &str) -> (u16, String) {
    let answer = world.get(path).await;
    let message = answer.json["message"].as_str().unwrap_or_default().to_owned();
    (answer.code.as_u16(), message)
}

#[tokio::test(start_paused = true)]
async fn odd_queries_are_refused_by_name() {
    let world = World::new().await;
    world.job("a").await;
    let token = |revision: u64| {
        let text = format!(r#"{{"revision":{revision},"after":"/"}}"#);
        text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()
    };
    let many = "!a,".repeat(100);
    for (query, code, why) in [
        (format!("continue={}", token(u64::MAX)), 400, "continue: invalid token"),
        (format!("continue={}", token(u64::MAX / 1024)), 410, "list again"),
        ("continue=x".to_owned(), 400, "continue: invalid token"),
        ("limit=-1".to_owned(), 400, "limit: invalid number \"-1\""),
        ("limit=1&limit=2".to_owned(), 400, "limit is given more than once"),
        ("timeoutSeconds=99999999999999999999".to_owned(), 400, "timeoutSeconds: "),
        (format!("resourceVersion={}", u64::MAX), 504, "Too large resource version"),
        (format!("watch=1&resourceVersion={}", u64::MAX), 410, "list again"),
        ("resourceVersionMatch=Exact".to_owned(), 400, "resourceVersionMatch: "),
        ("labelSelector=a%20b".to_owned(), 400, "labelSelector: \"a b\" is not a selector"),
        (format!("labelSelector={many}"), 400, "100 requirements; at most 64"),
        (format!("labelSelector={}", "x".repeat(5000)), 400, "5000 bytes; at most 4096"),
        (format!("x={}", "x".repeat(62_000)), 400, "the query has 62002 bytes; at most 61440"),
        (
            "x&y=1".to_owned(),
            400,
            "unknown parameter \"x\" for a list or watch; known parameters: labelSelector",
        ),
        ("x=1&".repeat(300), 400, "the query has 300 parameters; at most 288"),
    ] {
        let (is, message) = refused(&world, &format!("{JOBS}?{query}")).await;
        let shown: String = query.chars().take(100).collect();
        assert_eq!(is, code, "{shown}: {message}");
        assert!(message.contains(why), "{shown}: {message}");
    }
    for harmless in ["limit=18446744073709551615", "timeoutSeconds=18446744073709551615", "pretty"]
    {
        assert_eq!(refused(&world, &format!("{JOBS}?{harmless}")).await.0, 200, "{harmless}");
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_of_a_watch_are_named_once_and_understood() {
    let world = World::new().await;
    world.job("a").await;
    let named = "jobs,".repeat(9_000);
    let watch = format!("{OURS}/watch?kinds={named}&sendInitialEvents=true&timeoutSeconds=1");
    let text = world.text(&watch).await;
    assert_eq!(text.matches(r#""type":"ADDED""#).count(), 1, "an object is sent once");
    for (query, why) in [
        ("kinds=", "name at least one kind"),
        ("kinds=jobs,nothing", "unknown kind \"nothing\""),
        ("kinds=jobs&fieldSelector=x", "fieldSelector: \"x\" is not a field selector"),
    ] {
        let (code, message) = refused(&world, &format!("{OURS}/watch?{query}")).await;
        assert_eq!(code, 400, "{query}");
        assert!(message.contains(why), "{query}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn deep_documents_are_refused_wherever_they_come_in() {
    let world = World::new().await;
    world.job("a").await;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let path = format!("{JOBS}/a");
    for (method, path, form, body) in [
        (Method::POST, JOBS, "application/json", deep(100_000)),
        (Method::PUT, path.as_str(), "application/json", deep(100_000)),
        (Method::PATCH, &path, "application/merge-patch+json", deep(100_000)),
        (Method::PATCH, &path, "application/json-patch+json", deep(100_000)),
        (Method::DELETE, &path, "application/json", deep(100_000)),
        (Method::POST, &format!("{OURS}/batches"), "application/json", deep(100_000)),
        (Method::PATCH, &path, "application/merge-patch+json", {
            format!(r#"{{"spec":{{"template":{}}}}}"#, deep(100))
        }),
    ] {
        let what = format!("{method} {path} {form}");
        let answer = world.ask(method, path, form, body.into_bytes()).await;
        assert!(matches!(answer.code.as_u16(), 400 | 413), "{what}: {}", answer.json);
    }
}

#[tokio::test(start_paused = true)]
async fn long_lists_and_watches_come_whole_in_pieces() {
    let world = World::new().await;
    // Each is larger than one piece, or brings one near its end.
    let sizes = [100_000, 200_000, 10, 300_000, 10, 1];
    for (index, size) in sizes.into_iter().enumerate() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("c{index}") },
            "data": { "x": "y".repeat(size) },
        });
        assert_eq!(world.post(CONFIG_MAPS, &object).await.code, StatusCode::CREATED);
    }
    let lengths = |items: Vec<Value>| -> Vec<usize> {
        items.iter().map(|item| item["data"]["x"].as_str().unwrap().len()).collect()
    };
    let list = world.get(CONFIG_MAPS).await.json;
    assert_eq!(lengths(list["items"].as_array().unwrap().clone()), sizes);
    let some = world.get(&format!("{CONFIG_MAPS}?limit=4")).await.json;
    assert_eq!(lengths(some["items"].as_array().unwrap().clone()), sizes[..4]);
    let none = world.get(&format!("{CONFIG_MAPS}?labelSelector=a")).await.json;
    assert_eq!(none["items"], json!([]));
    let watch = format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true&timeoutSeconds=1");
    let lines: Vec<Value> =
        world.text(&watch).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, objects) = lines.split_last().unwrap();
    assert_eq!(lengths(objects.iter().map(|line| line["object"].clone()).collect()), sizes);
    assert_eq!(end["type"], "BOOKMARK", "the mark comes after all there is");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_or_comes_too_slowly_is_given_up() {
    let world = World::new().await;
    let piece = || Ok::<_, std::convert::Infallible>(bytes::Bytes::from_static(b" "));
    let stops = stream::iter([piece()]).chain(stream::pending()).boxed();
    let trickles = stream::repeat(()).then(move |()| async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        piece()
    });
    for (body, seconds) in [(stops, 30), (trickles.boxed(), 300)] {
        let began = Instant::now();
        let body = Body::from_stream(body);
        let request = Request::post(JOBS).header("content-type", "application/json").body(body);
        let mut router = world.router();
        let response = Service::<Request<Body>>::call(&mut router, request.unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_is_called_and_how_many_groups_a_batch_has_is_bounded() {
    let world = World::new().await;
    let long = json!({ "node": "n", "agent": "a".repeat(10_000), "bootId": "b" });
    let answer = world.post(&format!("{OURS}/nodeleases"), &long).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{}", answer.json);
    let many = json!({ "groups": vec![json!({ "ops": [] }); 1_001] });
    let answer = world.post(&format!("{OURS}/batches"), &many).await;
    assert_eq!(answer.json["message"], "too many groups: 1001 (maximum 1000)");
}
