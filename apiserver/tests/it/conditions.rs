//! Conditions that follow from an object: the same wherever it is read, with the time since when they
//! are so, and never taken from who sends them back.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::Store as _;

use crate::harness::{OURS, TASKS, World, task_of};

const NODES: &str = "/apis/heliox.dev/v1/nodes";
const SETS: &str = "/apis/heliox.dev/v1/namespaces/default/partitionsets";

/// `Ready=True 0s Reconciling=False 0s Stalled=False 0s`, and the reason.
fn shown(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let one = |it: &Value| {
        let since: api::Timestamp = it["lastTransitionTime"].as_str().unwrap().parse().unwrap();
        let text = |field: &str| it[field].as_str().unwrap().to_owned();
        format!("{}={} {}s", text("type"), text("status"), since.as_second())
    };
    // The first three are those that every kind has.
    let all: Vec<String> = conditions.iter().take(3).map(one).collect();
    let generation = &object["metadata"]["generation"];
    assert!(conditions.iter().all(|it| it["observedGeneration"] == *generation), "{object}");
    format!("{} {}", conditions[0]["reason"].as_str().unwrap(), all.join(" "))
}

/// The first event of a watch from now on that shows the object.
async fn watched(world: &World, collection: &str, name: &str) -> Value {
    let path = format!("{collection}?watch=true&fieldSelector=metadata.name={name}");
    let request = Request::get(&path).body(Bytes::new()).unwrap();
    let mut body = world.send(request).await.into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let line = std::str::from_utf8(&frame).unwrap().lines().next().unwrap();
    serde_json::from_str::<Value>(line).unwrap()["object"].clone()
}

/// The object as GET, LIST, watch and a table have it, which is the same.
async fn read(world: &World, collection: &str, name: &str) -> Value {
    let got = world.get(&format!("{collection}/{name}")).await.json;
    let selector = format!("fieldSelector=metadata.name={name}");
    let list = world.get(&format!("{collection}?{selector}")).await.json;
    assert_eq!(list["items"], json!([got]), "LIST");
    assert_eq!(watched(world, collection, name).await, got, "watch");
    let table = world.get_table(&format!("{collection}?{selector}&includeObject=Object")).await;
    assert_eq!(table["rows"][0]["object"], got, "table");
    got
}

/// What was read is sent back, as a whole and as a patch: nothing of it fails, and nothing changes.
async fn sent_back(world: &World, collection: &str, name: &str) {
    let path = format!("{collection}/{name}");
    let before = world.get(&path).await.json;
    let stored = world.store.revision().await.unwrap();
    let put = world.put(&path, &before).await;
    assert_eq!((put.code, &put.json), (StatusCode::OK, &before), "PUT");
    let patched = world.merge(&path, &json!({ "status": before["status"] })).await;
    assert_eq!((patched.code, &patched.json), (StatusCode::OK, &before), "PATCH");
    assert_eq!(world.store.revision().await.unwrap(), stored, "nothing was written");
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": name }, "spec": {},
    })
}

#[tokio::test(start_paused = true)]
async fn a_node_tells_since_when_it_is_ready() {
    let world = World::new().await;
    let made = world.post(NODES, &node("n1")).await.json;
    assert_eq!(shown(&made), "NotReady Ready=False 0s Reconciling=True 0s Stalled=False 0s");
    let mut at = 0;
    let mut change = async |subresource: &str, patch: Value| {
        tokio::time::advance(Duration::from_secs(10)).await;
        at += 10;
        let path = format!("{NODES}/n1{subresource}");
        let answer = world.merge(&path, &patch).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
        let read = read(&world, NODES, "n1").await;
        assert_eq!(answer.json, read);
        sent_back(&world, NODES, "n1").await;
        shown(&read)
    };
    let status = |status: Value| json!({ "status": status });
    let ready = change("/status", status(json!({ "readySince": "1970-01-01T00:00:10Z" }))).await;
    assert_eq!(ready, "Ready Ready=True 10s Reconciling=False 10s Stalled=False 0s");
    // What else changes is no transition, and who writes the status writes no condition.
    let lie = json!([{
        "type": "Ready", "status": "False", "reason": "Lie",
        "lastTransitionTime": "2000-01-01T00:00:00Z",
    }]);
    let told = json!({ "images": ["busybox"], "conditions": lie });
    let same = change("/status", status(told)).await;
    assert_eq!(same, ready);
    let cordoned = change("", json!({ "spec": { "unschedulable": true } })).await;
    assert_eq!(cordoned, "Cordoned Ready=True 10s Reconciling=False 10s Stalled=False 0s");
    let full = change("/status", status(json!({ "problem": "its disk is full" }))).await;
    assert_eq!(full, "NotReady Ready=False 40s Reconciling=True 40s Stalled=False 0s");
    let lost = change("/status", status(json!({ "lost": "1970-01-01T00:00:50Z" }))).await;
    assert_eq!(lost, "Lost Ready=False 40s Reconciling=True 40s Stalled=False 0s");
    let back = change("/status", status(json!({ "lost": null, "problem": null }))).await;
    assert_eq!(back, "Cordoned Ready=True 60s Reconciling=False 60s Stalled=False 0s");
    let selected = world.get(&format!("{NODES}?fieldSelector=status.phase=Cordoned")).await.json;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_set_has_the_state_that_its_table_shows() {
    let world = World::new().await;
    let set = json!({
        "apiVersion": "heliox.dev/v1", "kind": "PartitionSet", "metadata": { "name": "p" },
        "spec": { "partitions": 1, "stateModel": "OnlineOffline", "mode": "Manual" },
    });
    let made = world.post(SETS, &set).await.json;
    assert_eq!(made["status"]["phase"], "Degraded", "{made}");
    assert_eq!(shown(&made), "Degraded Ready=False 0s Reconciling=True 0s Stalled=False 0s");
    tokio::time::advance(Duration::from_secs(10)).await;
    let assignment = json!({ "spec": { "assignment": { "p-0": { "n1": "ONLINE" } } } });
    world.merge(&format!("{SETS}/p"), &assignment).await;
    let set = read(&world, SETS, "p").await;
    assert_eq!(shown(&set), "Ready Ready=True 10s Reconciling=False 10s Stalled=False 0s");
    assert_eq!(set["status"]["observedGeneration"], set["metadata"]["generation"]);
    sent_back(&world, SETS, "p").await;
    for (phase, count) in [("Ready", 1), ("Degraded", 0)] {
        let list = world.get(&format!("{SETS}?fieldSelector=status.phase={phase}")).await.json;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{phase}");
    }
}

/// What the server warns of when it is sent a set.
async fn warned(world: &World, request: http::request::Builder, body: &Value) -> Option<String> {
    let body = Bytes::from(body.to_string());
    let response = world.send(request.body(body).unwrap()).await;
    assert!(response.status().is_success(), "{}", response.status());
    let warning = response.headers().get("warning").map(|it| it.to_str().unwrap().to_owned());
    response.into_body().collect().await.unwrap();
    warning
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_exist_is_warned_of_and_stays_in_the_state_of_the_set() {
    let world = World::new().await;
    let set = json!({
        "apiVersion": "heliox.dev/v1", "kind": "PartitionSet", "metadata": { "name": "p" },
        "spec": {
            "partitions": 1, "stateModel": "OnlineOffline", "mode": "Manual",
            "assignment": { "p-0": { "n9": "ONLINE" } },
        },
    });
    let told = "299 - \"partition set p: node n9 does not exist; tasks beside their partitions wait \
                until they join\"";
    let post = |query: &str| Request::post(format!("{SETS}{query}"));
    assert_eq!(warned(&world, post("?dryRun=All"), &set).await.as_deref(), Some(told));
    assert_eq!(warned(&world, post(""), &set).await.as_deref(), Some(told));
    let patch = |path: &str| {
        let request = Request::patch(format!("{SETS}/p{path}"));
        request.header("content-type", "application/merge-patch+json")
    };
    // What its controller says stays in its state through other changes.
    let status = json!({ "status": { "missingNodes": ["n9"] } });
    warned(&world, patch("/status"), &status).await;
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(warned(&world, patch(""), &labels).await.as_deref(), Some(told));
    let degraded = read(&world, SETS, "p").await;
    assert_eq!(shown(&degraded), "Degraded Ready=False 0s Reconciling=True 0s Stalled=False 0s");
    let condition = &degraded["status"]["conditions"][0];
    assert_eq!(condition["message"], "node n9 does not exist");
    let other = json!({ "spec": { "assignment": { "p-0": { "n9": null, "n1": "ONLINE" } } } });
    world.post(NODES, &node("n1")).await;
    assert_eq!(warned(&world, patch(""), &other).await, None);
    let ready = read(&world, SETS, "p").await;
    assert_eq!(shown(&ready), "Ready Ready=True 0s Reconciling=False 0s Stalled=False 0s");
    assert_eq!(ready["status"].get("missingNodes"), None, "{ready}");
}

/// What an earlier version stored has no conditions: it is read with some, the same each time.
#[tokio::test(start_paused = true)]
async fn what_was_stored_without_conditions_is_read_with_them() {
    let world = World::new().await;
    let mut set = json!({
        "apiVersion": "heliox.dev/v1", "kind": "PartitionSet",
        "metadata": { "name": "p", "namespace": "default", "uid": "u-1", "generation": 1 },
        "spec": { "partitions": 1, "stateModel": "OnlineOffline", "mode": "Manual" },
    });
    set["metadata"]["creationTimestamp"] = "1970-01-01T00:00:00Z".into();
    let mut old = node("n1");
    old["metadata"] = json!({ "name": "n1", "uid": "u-2", "generation": 1 });
    for (key, object) in [("partitionsets/default/p", set), ("nodes/_/n1", old)] {
        let stored = [vec![1], object.to_string().into_bytes()].concat();
        let key = format!("/heliox/v1/{key}");
        let group = store::Group::default().put(&*key, store::Expectation::Absent, stored);
        assert!(world.store.commit(vec![group]).await[0].is_done());
    }
    let before = read(&world, SETS, "p").await;
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(read(&world, SETS, "p").await, before);
    assert_eq!(shown(&before), "Degraded Ready=False 0s Reconciling=True 0s Stalled=False 0s");
    let node = read(&world, NODES, "n1").await;
    assert_eq!(shown(&node), "NotReady Ready=False 0s Reconciling=True 0s Stalled=False 0s");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_shown_with_conditions_and_stored_without() {
    let world = World::new().await;
    let job = world.job("a").await;
    world.batch(&[json!({ "create": { "object": task_of(&job, 0) } })]).await;
    world.post(NODES, &node("n1")).await;
    let path = format!("{TASKS}/a-0");
    let pending = read(&world, TASKS, "a-0").await;
    assert_eq!(shown(&pending), "Pending Ready=False 0s Reconciling=True 0s Stalled=False 0s");
    tokio::time::advance(Duration::from_secs(10)).await;
    let bound = world.post(&format!("{path}/binding"), &json!({ "node": "n1" })).await.json;
    assert_eq!(shown(&bound), "Bound Ready=False 0s Reconciling=True 0s Stalled=False 0s");
    let report = json!({ "report": {
        "binding": 1, "bootId": "b", "state": "Running", "ready": true,
        "startedAt": "1970-01-01T00:00:08Z",
    } });
    let key = json!({ "namespace": "default", "name": "a-0" });
    let uid = &pending["metadata"]["uid"];
    let report = json!({ "task": { "key": key, "uid": uid, "attempt": 1, "change": report } });
    assert_eq!(world.batch(&[report]).await[0]["outcome"], "Done");
    let running = read(&world, TASKS, "a-0").await;
    assert_eq!(shown(&running), "Running Ready=True 10s Reconciling=False 10s Stalled=False 0s");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(read(&world, TASKS, "a-0").await, running, "reading is no transition");
    sent_back(&world, TASKS, "a-0").await;
    let labels = json!({ "metadata": { "labels": { "x": "y" } } });
    assert_eq!(world.merge(&path, &labels).await.json["metadata"]["labels"]["x"], "y");
    let stored = world.store.get("/heliox/v1/tasks/default/a-0").await.unwrap().unwrap();
    let stored = String::from_utf8_lossy(&stored.value[1..]).into_owned();
    assert!(!stored.contains("conditions"), "{stored}");
    // Our own components derive them themselves, and are sent none.
    let many = format!("{OURS}/watch?kinds=tasks&timeoutSeconds=1");
    let body = world.text(&many).await;
    assert!(body.contains("a-0") && !body.contains("conditions"), "{body}");
}
