//! The options of a deletion: each does what it says, or is refused with a sentence.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::harness::{JOBS, OURS, TASKS, World, task_of};

async fn on_a_node(world: &World, job: &Value, index: u32) -> String {
    let made = world.batch(&[json!({ "create": { "object": task_of(job, index) } })]).await;
    assert_eq!(made[0]["outcome"], "Done", "{made:?}");
    let name = format!("{}-{index}", job["metadata"]["name"].as_str().unwrap());
    let path = format!("{TASKS}/{name}");
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    world.post(&format!("{OURS}/nodes"), &node).await;
    let bound = world.post(&format!("{path}/binding"), &json!({ "node": "n1" })).await;
    assert_eq!(bound.code, StatusCode::CREATED, "{}", bound.json);
    path
}

async fn delete(world: &World, path: &str, options: &Value) -> (StatusCode, Value) {
    let answer = world.json(Method::DELETE, path, options).await;
    (answer.code, answer.json)
}

fn grace(task: &Value) -> &Value {
    &task["metadata"]["deletionGracePeriodSeconds"]
}

#[tokio::test(start_paused = true)]
async fn a_grace_period_is_kept_on_the_task_and_only_gets_shorter() {
    let world = World::new().await;
    let job = world.job("a").await;
    let path = on_a_node(&world, &job, 0).await;
    let plain = world.delete(&path).await.json;
    assert_eq!(
        (plain["status"]["phase"].as_str(), grace(&plain)),
        (Some("Stopping"), &Value::Null)
    );
    let asked = world.delete(&format!("{path}?gracePeriodSeconds=20")).await.json;
    assert_eq!(grace(&asked), 20, "{asked}");
    let longer = delete(&world, &path, &json!({ "gracePeriodSeconds": 25 })).await.1;
    assert_eq!(grace(&longer), 20, "it is not prolonged");
    let forced = delete(&world, &path, &json!({ "gracePeriodSeconds": 0 })).await.1;
    assert_eq!(grace(&forced), 0);
    assert_eq!(grace(&world.delete(&path).await.json), 0, "nobody who says nothing takes it back");
    assert_eq!(grace(&world.get(&path).await.json), 0);
    // It is the apiserver's own: what is written back, or away, changes nothing.
    let mut other = forced.clone();
    other["metadata"]["deletionGracePeriodSeconds"] = 300.into();
    other["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(grace(&world.put(&path, &other).await.json), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_deletion_cannot_do_is_refused_with_a_sentence() {
    let world = World::new().await;
    let job = world.job("a").await;
    let path = on_a_node(&world, &job, 0).await;
    let cases = [
        (json!({ "gracePeriodSeconds": -1 }), "gracePeriodSeconds: must be between 0 and 86400"),
        (json!({ "gracePeriodSeconds": 86401 }), "86400 (one day), not 86401"),
        (
            json!({ "gracePeriodSeconds": "1" }),
            "gracePeriodSeconds: expected a whole number, found text \"1\"",
        ),
        (
            json!({ "gracePeriodSecond": 1 }),
            "gracePeriodSecond: unknown field (write one of apiVersion, ",
        ),
        (
            json!({ "preconditions": { "name": "x" } }),
            "preconditions.name: unknown field (write one of uid, resourceVersion)",
        ),
        (json!({ "dryRun": ["Some"] }), "dryRun: must be All, not \"Some\""),
        (json!({ "dryRun": ["All", "All"] }), "must be empty or [\"All\"]"),
        (json!({ "propagationPolicy": "background" }), "must be Background, Foreground or Orphan"),
        (json!({ "orphanDependents": true, "propagationPolicy": "Orphan" }), "mutually exclusive"),
        (json!({ "kind": "Job" }), "must be DeleteOptions, not \"Job\""),
        (json!({ "ignoreStoreReadErrorWithClusterBreakingPotential": true }), "is not supported"),
    ];
    for (options, why) in cases {
        let (code, status) = delete(&world, &path, &options).await;
        let message = status["message"].as_str().unwrap();
        assert_eq!(code, StatusCode::BAD_REQUEST, "{options}: {message}");
        assert!(message.contains(why), "{options}: {message}");
    }
    for query in ["gracePeriodSeconds=-1", "gracePeriodSeconds=x", "dryRun=Yes"] {
        let answer = world.delete(&format!("{path}?{query}")).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{query}: {}", answer.json);
    }
    let task = world.get(&path).await.json;
    assert_eq!(task["metadata"].get("deletionTimestamp"), None, "{task}");
}

#[tokio::test(start_paused = true)]
async fn every_option_of_a_deletion_does_what_it_says() {
    let world = World::new().await;
    let finalizers = async |options: &Value, query: &str| {
        world.job("a").await;
        let path = format!("{JOBS}/a");
        let (code, job) = delete(&world, &format!("{path}?{query}"), options).await;
        assert_eq!(code, StatusCode::OK, "{options}: {job}");
        let free = json!({ "metadata": { "finalizers": null } });
        let is_there = world.merge(&path, &free).await.code == StatusCode::OK;
        world.delete(&path).await;
        let held = job["metadata"]["finalizers"][0].as_str().unwrap_or_default().to_owned();
        (is_there, held)
    };
    let gone = (false, String::new());
    let orphan = (true, "orphan".to_owned());
    let envelope = json!({ "kind": "DeleteOptions", "apiVersion": "heliox.dev/v1" });
    assert_eq!(finalizers(&envelope, "").await, gone);
    assert_eq!(finalizers(&json!({ "orphanDependents": true }), "").await, orphan);
    assert_eq!(finalizers(&json!({}), "orphanDependents=true").await, orphan);
    assert_eq!(finalizers(&json!({ "orphanDependents": false }), "").await, gone);
    assert_eq!(finalizers(&json!({ "propagationPolicy": "Orphan" }), "").await, orphan);
    let body = json!({ "propagationPolicy": "Background" });
    assert_eq!(finalizers(&body, "propagationPolicy=Orphan").await, gone, "the body counts");
    world.job("b").await;
    let path = format!("{JOBS}/b");
    let tried = delete(&world, &path, &json!({ "dryRun": ["All"] })).await;
    assert_eq!(tried.0, StatusCode::OK);
    assert_eq!(world.get(&path).await.code, StatusCode::OK, "it was only tried");
}

/// A grace period is for what runs itself; of a job, nothing is stopped but its tasks.
#[tokio::test(start_paused = true)]
async fn a_grace_period_that_has_no_effect_is_warned_of() {
    let world = World::new().await;
    world.job("a").await;
    let path = format!("{JOBS}/a?gracePeriodSeconds=0");
    let request = Request::delete(&path).body(Bytes::new()).unwrap();
    let response = world.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.starts_with("299 - \"gracePeriodSeconds has no effect on jobs"), "{warning}");
    response.into_body().collect().await.unwrap();
    let job = world.job("b").await;
    let task = on_a_node(&world, &job, 0).await;
    let request = Request::delete(format!("{task}?gracePeriodSeconds=0"));
    let response = world.send(request.body(Bytes::new()).unwrap()).await;
    assert_eq!(response.headers().get("warning"), None, "a task has one");
}

/// A task that has come to nothing yet goes at once: its job makes another one.
#[tokio::test(start_paused = true)]
async fn a_task_without_a_node_goes_at_once_and_can_be_made_again() {
    let world = World::new().await;
    let job = world.job("a").await;
    let create = json!({ "create": { "object": task_of(&job, 0) } });
    assert_eq!(world.batch(std::slice::from_ref(&create)).await[0]["outcome"], "Done");
    let path = format!("{TASKS}/a-0");
    let uid = world.get(&path).await.json["metadata"]["uid"].clone();
    assert_eq!(world.delete(&path).await.code, StatusCode::OK);
    assert_eq!(world.get(&path).await.code, StatusCode::NOT_FOUND);
    assert_eq!(world.batch(&[create]).await[0]["outcome"], "Done");
    assert_ne!(world.get(&path).await.json["metadata"]["uid"], uid);
}

/// What a task came to belongs to its job, until that has recorded it: nobody else removes it.
#[tokio::test(start_paused = true)]
async fn only_its_controller_removes_a_deleted_task_that_ran() {
    let world = World::new().await;
    let job = world.job("a").await;
    for (index, state, goes) in [(0, "Succeeded", "Refused"), (1, "Failed", "Done")] {
        let path = on_a_node(&world, &job, index).await;
        let uid = world.get(&path).await.json["metadata"]["uid"].clone();
        let key = json!({ "namespace": "default", "name": format!("a-{index}") });
        let remove = json!({ "remove": { "key": key, "uid": uid } });
        let report = json!({ "report": { "binding": 1, "bootId": "b", "state": state } });
        let report = json!({ "task": { "key": key, "uid": uid, "attempt": 1, "change": report } });
        assert_eq!(world.batch(&[report]).await[0]["outcome"], "Done");
        assert_eq!(
            world.batch(std::slice::from_ref(&remove)).await[0]["outcome"],
            "Refused",
            "not deleted"
        );
        let marked = world.delete(&path).await;
        assert!(marked.json["metadata"]["deletionTimestamp"].is_string(), "{}", marked.json);
        assert_eq!(world.delete(&path).await.code, StatusCode::OK, "again");
        assert_eq!(world.get(&path).await.code, StatusCode::OK, "and it is still there");
        assert_eq!(world.batch(&[remove]).await[0]["outcome"], goes, "{state}");
    }
}

/// The record of a job says for good that a task succeeded, whether the task bears a mark or not.
#[tokio::test(start_paused = true)]
async fn a_task_whose_success_is_recorded_is_removed_without_its_mark() {
    let world = World::new().await;
    let job = world.job("a").await;
    for (index, state, recorded, goes) in [
        (0, "Succeeded", "Succeeded", "Done"),
        (1, "Succeeded", "Failed", "Refused"),
        (2, "Failed", "Failed", "Refused"),
    ] {
        let path = on_a_node(&world, &job, index).await;
        let uid = world.get(&path).await.json["metadata"]["uid"].clone();
        let key = json!({ "namespace": "default", "name": format!("a-{index}") });
        let remove = json!({ "remove": { "key": key, "uid": uid } });
        let report = json!({ "report": { "binding": 1, "bootId": "b", "state": state } });
        let report = json!({ "task": { "key": key, "uid": uid, "attempt": 1, "change": report } });
        let of = json!({ "namespace": "default", "name": "a" });
        let record = json!({ "record": {
            "job": of, "uid": job["metadata"]["uid"], "run": 1, "ends": [[index, recorded]],
        }});
        for op in [report, record] {
            assert_eq!(world.batch(&[op]).await[0]["outcome"], "Done");
        }
        assert_eq!(world.batch(&[remove]).await[0]["outcome"], goes, "{state}, {recorded}");
        let left = if goes == "Done" { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(world.get(&path).await.code, left);
    }
}
