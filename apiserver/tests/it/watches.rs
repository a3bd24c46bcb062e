//! Watches: ordered, whole, and resumable after any event.

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::harness::{JOBS, OURS, World, job};

/// Reads the lines of an open watch.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    async fn open(world: &World, path: &str) -> Self {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        let response = world.send(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let frame = self.body.frame().await.unwrap().unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// What happened and to whom: `ADDED a`.
    async fn said(&mut self) -> String {
        let event = self.next().await;
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-").to_owned();
        format!("{} {name}", event["type"].as_str().unwrap())
    }
}

fn version(event: &Value) -> &str {
    event["object"]["metadata"]["resourceVersion"].as_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_cut_after_any_event_resumes_without_loss_or_repeat() {
    let world = World::new().await;
    let start =
        world.get(JOBS).await.json["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    // One group is one transaction: its objects share a revision and differ in position.
    let object = |name: &str| {
        let mut object = job(name);
        object["metadata"]["namespace"] = "default".into();
        json!({ "create": { "object": object } })
    };
    let results = world.groups(&json!([{ "ops": [object("a"), object("b"), object("c")] }])).await;
    assert_eq!(results[0]["outcome"], "Done", "{results:?}");
    world.merge(&format!("{JOBS}/b"), &json!({ "spec": { "count": 5 } })).await;
    world.delete(&format!("{JOBS}/a")).await;
    let wanted = ["ADDED a", "ADDED b", "ADDED c", "MODIFIED b", "DELETED a"];
    let mut whole = Lines::open(&world, &format!("{JOBS}?watch=1&resourceVersion={start}")).await;
    let mut versions = vec![start];
    for _ in wanted {
        versions.push(version(&whole.next().await).to_owned());
    }
    for (cut, from) in versions.iter().enumerate() {
        let mut rest = Lines::open(&world, &format!("{JOBS}?watch=1&resourceVersion={from}")).await;
        for expected in &wanted[cut..] {
            assert_eq!(rest.said().await, *expected, "resumed after {cut} events");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_resumes_watches_of_the_old_one() {
    let world = World::new().await;
    world.job("a").await;
    let version =
        world.get(JOBS).await.json["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    world.job("b").await;
    let again = World::over(world.store.clone()).await;
    let mut watch = Lines::open(&again, &format!("{JOBS}?watch=1&resourceVersion={version}")).await;
    assert_eq!(watch.said().await, "ADDED b");
    assert_eq!(
        again.get(&format!("{JOBS}/b")).await.json,
        world.get(&format!("{JOBS}/b")).await.json
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_leaves_the_selection_is_deleted_from_it() {
    let world = World::new().await;
    let mut object = job("a");
    object["metadata"]["labels"] = json!({ "tier": "x" });
    world.post(JOBS, &object).await;
    let mut watch = Lines::open(&world, &format!("{JOBS}?watch=1&labelSelector=tier%3Dx")).await;
    assert_eq!(watch.said().await, "ADDED a");
    let path = format!("{JOBS}/a");
    world.merge(&path, &json!({ "metadata": { "labels": { "tier": "y" } } })).await;
    assert_eq!(watch.said().await, "DELETED a");
    world.merge(&path, &json!({ "metadata": { "labels": { "tier": "x" } } })).await;
    assert_eq!(watch.said().await, "ADDED a");
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_says_up_to_where_all_was_sent() {
    let world = World::new().await;
    let path = format!("{JOBS}?watch=1&allowWatchBookmarks=true");
    let mut watch = Lines::open(&world, &path).await;
    let bookmark = watch.next().await;
    assert_eq!(bookmark["type"], "BOOKMARK");
    // Clients decode it as they do any object of the kind.
    let (kind, version_of) = (&bookmark["object"]["kind"], &bookmark["object"]["apiVersion"]);
    assert_eq!((kind, version_of), (&json!("Job"), &json!("heliox.dev/v1")));
    let from = version(&bookmark).to_owned();
    world.job("a").await;
    let mut resumed = Lines::open(&world, &format!("{JOBS}?watch=1&resourceVersion={from}")).await;
    assert_eq!(resumed.said().await, "ADDED a");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_of_a_busy_cluster_is_told_too() {
    let world = World::new().await;
    let path = "/api/v1/namespaces?watch=1&allowWatchBookmarks=true&resourceVersion=";
    let version = world.get(JOBS).await.json["metadata"]["resourceVersion"].clone();
    let mut watch = Lines::open(&world, &format!("{path}{}", version.as_str().unwrap())).await;
    let busy = async {
        for number in 0..20 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            world.job(&format!("job-{number}")).await;
        }
    };
    tokio::select! {
        biased;
        event = watch.next() => assert_eq!(event["type"], "BOOKMARK"),
        () = busy => panic!("20 s of silence"),
    }
}

#[tokio::test(start_paused = true)]
async fn several_kinds_come_as_one_cut() {
    let world = World::new().await;
    world.job("a").await;
    let path = format!(
        "{OURS}/watch?kinds=namespaces,jobs&sendInitialEvents=true&allowWatchBookmarks=true"
    );
    let mut watch = Lines::open(&world, &path).await;
    for expected in ["ADDED default", "ADDED heliox-system", "ADDED a"] {
        assert_eq!(watch.said().await, expected);
    }
    let bookmark = watch.next().await;
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    world.job("b").await;
    assert_eq!(watch.said().await, "ADDED b");
}

#[tokio::test(start_paused = true)]
async fn too_old_a_point_is_gone() {
    let world = World::new().await;
    world.job("a").await;
    let answer = world.get(&format!("{JOBS}?watch=1&resourceVersion=1")).await;
    assert_eq!((answer.code.as_u16(), answer.json["reason"].as_str()), (410, Some("Expired")));
}

/// What kubectl's `--sort-by` asks for: it sorts by the objects, not by the cells.
#[tokio::test(start_paused = true)]
async fn rows_bear_as_much_of_their_objects_as_is_asked_for() {
    let world = World::new().await;
    world.job("a").await;
    for (include, kind, has_spec) in [
        ("", json!("PartialObjectMetadata"), false),
        ("?includeObject=Metadata", json!("PartialObjectMetadata"), false),
        ("?includeObject=Object", json!("Job"), true),
        ("?includeObject=None", Value::Null, false),
    ] {
        for path in [format!("{JOBS}{include}"), format!("{JOBS}/a{include}")] {
            let row = world.get_table(&path).await["rows"][0].clone();
            assert_eq!(row["object"]["kind"], kind, "{path}");
            assert_eq!(row["object"]["spec"].is_object(), has_spec, "{path}");
        }
    }
    let refused = world.get(&format!("{JOBS}?includeObject=All")).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
}
