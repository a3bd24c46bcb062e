//! One of two apiservers, A and B over one store, has a cache that shows the past. Whatever it
//! answers must be true of the store.

use http::StatusCode;
use serde_json::{Value, json};
use store::Simulated;

use crate::harness::{Answer, JOBS, OURS, TASKS, World, job, task_of};
use crate::odd_store::{OddStore, Reads};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A is current; B's cache stands still from [`Two::hold`] on.
struct Two {
    a: World,
    b: World,
    odd: OddStore,
}

impl Two {
    async fn new() -> Self {
        let store = Simulated::new();
        let odd = OddStore::over(store.clone());
        let a = World::over(store.clone()).await;
        let b = World::over_odd(&odd, store).await;
        Self { a, b, odd }
    }

    /// B sees what there is, and nothing that comes after.
    async fn hold(&self) {
        // A read waits until the cache shows what the store holds.
        self.b.get(JOBS).await;
        self.odd.hold_watches();
    }

    /// A job whose count is 2 for B's cache and 3 in the store.
    async fn job_that_moved_on(&self) -> String {
        self.a.job("x").await;
        self.hold().await;
        let path = format!("{JOBS}/x");
        let moved = self.a.merge(&path, &json!({ "spec": { "count": 3 } })).await;
        assert_eq!(moved.code, StatusCode::OK, "{}", moved.json);
        path
    }
}

fn config_map(owner: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "c", "namespace": "default", "ownerReferences": [{
            "apiVersion": "heliox.dev/v1", "kind": "Job", "controller": true,
            "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        }]},
    })
}

#[tokio::test(start_paused = true)]
async fn a_change_back_to_what_the_cache_shows_is_made() {
    let unchanged = json!({ "spec": { "count": 2 } });
    for form in ["merge", "json", "put"] {
        let two = Two::new().await;
        let path = two.job_that_moved_on().await;
        let answer: Answer = match form {
            "merge" => two.b.merge(&path, &unchanged).await,
            "json" => {
                let step = json!({ "op": "replace", "path": "/spec/count", "value": 2 });
                two.b.json_patch(&path, &json!([step])).await
            }
            _ => {
                let mut object = job("x");
                object["spec"]["count"] = 2.into();
                two.b.put(&path, &object).await
            }
        };
        assert_eq!(answer.code, StatusCode::OK, "{form}: {}", answer.json);
        let stored = two.a.get(&path).await.json;
        assert_eq!(stored["spec"]["count"], 2, "{form}: the later of two writes stays");
        assert_eq!(stored, answer.json, "{form}: what was answered is what is there");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_held_to_the_store() {
    let two = Two::new().await;
    let path = two.job_that_moved_on().await;
    let answer = two.b.merge(&format!("{path}?dryRun=All"), &json!({ "spec": {} })).await;
    assert_eq!(answer.json["spec"]["count"], 3, "{}", answer.json);
    assert_eq!(two.a.post(JOBS, &job("y")).await.code, StatusCode::CREATED);
    let answer = two.b.post(&format!("{JOBS}?dryRun=All"), &job("y")).await;
    assert_eq!(answer.code, StatusCode::CONFLICT, "{}", answer.json);
    let answer = two.b.post(&format!("{JOBS}?dryRun=All"), &job("z")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.json);
    assert_eq!(two.a.get(&format!("{JOBS}/z")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_no_more_is_made_again() {
    let two = Two::new().await;
    let owner = two.a.job("x").await;
    let create = json!({ "create": { "object": config_map(&owner) } });
    assert_eq!(two.a.batch(std::slice::from_ref(&create)).await[0]["outcome"], "Done");
    two.hold().await;
    let path = format!("{CONFIG_MAPS}/c");
    assert_eq!(two.a.delete(&path).await.code, StatusCode::OK);
    // Alone, and beside a write in one group.
    let other = json!({ "create": { "object": {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "d", "namespace": "default" },
    }}});
    let results = two.b.groups(&json!([{ "ops": [create, other] }])).await;
    assert_eq!(results[0]["outcome"], "Done", "{results:?}");
    assert_eq!(two.a.get(&path).await.code, StatusCode::OK, "done means that it is there");
    assert_eq!(two.a.delete(&path).await.code, StatusCode::OK);
    assert_eq!(two.b.batch(&[create]).await[0]["outcome"], "Done");
    assert_eq!(two.a.get(&path).await.code, StatusCode::OK, "done means that it is there");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_of_what_is_there_now() {
    let two = Two::new().await;
    let old = two.a.job("x").await;
    let path = format!("{JOBS}/x");
    two.a.delete(&format!("{path}?propagationPolicy=Foreground")).await;
    two.hold().await;
    // For B it is still being deleted, and a further deletion would change nothing.
    two.a.merge(&path, &json!({ "metadata": { "finalizers": null } })).await;
    assert_eq!(two.b.delete(&path).await.code, StatusCode::NOT_FOUND);
    let new = two.a.job("x").await;
    assert_ne!(new["metadata"]["uid"], old["metadata"]["uid"]);
    let deleted = two.b.delete(&path).await;
    assert_eq!(deleted.json["metadata"]["uid"], new["metadata"]["uid"]);
    assert_eq!(two.a.get(&path).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_does_not_show_yet_is_not_gone() {
    let two = Two::new().await;
    let owner = two.a.job("x").await;
    two.hold().await;
    two.a.batch(&[json!({ "create": { "object": task_of(&owner, 0) } })]).await;
    let task = two.a.get(&format!("{TASKS}/x-0")).await.json;
    let key = json!({ "namespace": "default", "name": "x-0" });
    let remove = json!({ "remove": { "key": key, "uid": task["metadata"]["uid"] } });
    // Its owner lives and has not recorded it.
    assert_eq!(two.b.batch(&[remove]).await[0]["outcome"], "Refused");
    two.a.post(&format!("{OURS}/nodes"), &json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    })).await;
    let bound = two.b.post(&format!("{TASKS}/x-0/binding"), &json!({ "node": "n1" })).await;
    assert_eq!(bound.json["status"]["phase"], "Bound", "{}", bound.json);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_not_empty_because_a_cache_does_not_show_what_is_in_it() {
    let two = Two::new().await;
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    let made = two.a.post("/api/v1/namespaces", &body).await.json;
    two.hold().await;
    let jobs = format!("{OURS}/namespaces/n/jobs");
    assert_eq!(two.a.post(&jobs, &job("a")).await.code, StatusCode::CREATED);
    two.a.delete("/api/v1/namespaces/n").await;
    let emptied = json!({ "emptied": { "key": { "name": "n" }, "uid": made["metadata"]["uid"] } });
    assert_eq!(two.b.batch(&[emptied]).await[0]["outcome"], "Refused");
    assert_eq!(two.a.get("/api/v1/namespaces/n").await.code, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_task_on_a_node_that_is_there_again_is_not_removed() {
    let two = Two::new().await;
    let owner = two.a.job("x").await;
    two.a.batch(&[json!({ "create": { "object": task_of(&owner, 0) } })]).await;
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    two.a.post(&format!("{OURS}/nodes"), &node).await;
    let bound = two.a.post(&format!("{TASKS}/x-0/binding"), &json!({ "node": "n1" })).await;
    assert_eq!(bound.json["status"]["phase"], "Bound", "{}", bound.json);
    // Nobody records how it ends, and for B its node is gone.
    two.a.delete(&format!("{JOBS}/x")).await;
    two.a.delete(&format!("{OURS}/nodes/n1")).await;
    two.hold().await;
    two.a.post(&format!("{OURS}/nodes"), &node).await;
    let key = json!({ "namespace": "default", "name": "x-0" });
    let remove = json!({ "remove": { "key": key, "uid": bound.json["metadata"]["uid"] } });
    assert_eq!(two.b.batch(&[remove]).await[0]["outcome"], "Refused", "it may run there");
    assert_eq!(two.a.get(&format!("{TASKS}/x-0")).await.code, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_read_does_not_wait_for_ever_for_a_cache_that_stands_still() {
    let two = Two::new().await;
    let path = two.job_that_moved_on().await;
    for path in [path.as_str(), JOBS] {
        let answer = two.b.get(path).await;
        assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.json);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_answered_and_hurts_that_request_alone() {
    let two = Two::new().await;
    two.odd.set_reads(Reads::Panic);
    let answer = two.b.get(JOBS).await;
    assert_eq!(answer.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json["reason"], "InternalError", "{}", answer.json);
    two.odd.set_reads(Reads::Work);
    assert_eq!(two.b.get(JOBS).await.code, StatusCode::OK);
    let metrics = two.b.text("/metrics").await;
    let counted = r#"heliox_apiserver_requests_total{code="500",kind="jobs",verb="get"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}
