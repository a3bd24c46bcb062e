//! The name of a node: which agent may have it when the one before it is silent.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{OURS, World};

const MERGE: &str = "application/merge-patch+json";

#[tokio::test(start_paused = true)]
async fn another_agent_gets_a_nodes_name_only_some_time_after_the_one_before_was_heard() {
    let world = World::new().await;
    let path = format!("{OURS}/nodeleases");
    let grant = async |agent: &str| {
        let request = json!({ "node": "n1", "agent": agent, "bootId": "b" });
        world.post(&path, &request).await
    };
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    assert_eq!(world.post(&format!("{OURS}/nodes"), &node).await.code, StatusCode::CREATED);
    let status = async |status: serde_json::Value| {
        let path = format!("{OURS}/nodes/n1/status");
        let patch = json!({ "status": status }).to_string();
        let answer = world.ask(Method::PATCH, &path, MERGE, patch.into()).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    };
    status(json!({ "agent": "x", "readySince": "1970-01-01T00:00:00Z" })).await;
    let refused = grant("y").await;
    assert_eq!(refused.code, StatusCode::CONFLICT, "nobody has seen that x is silent");
    let message = refused.json["message"].as_str().unwrap();
    assert!(message.contains("hctl delete node n1"), "{message}");
    status(json!({ "silentSince": "1970-01-01T00:00:00Z" })).await;
    assert_eq!(grant("y").await.code, StatusCode::CONFLICT, "its tasks may still run");
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(grant("y").await.code, StatusCode::CREATED);
    assert_eq!(grant("x").await.code, StatusCode::CONFLICT, "now it is the other one's");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_deleted_keeps_no_name_and_its_own_agent_is_never_kept_away() {
    let world = World::new().await;
    let path = format!("{OURS}/nodeleases");
    let grant = |node: &str| json!({ "node": node, "agent": "y", "bootId": "b" });
    assert_eq!(world.post(&path, &grant("gone")).await.code, StatusCode::CREATED);
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "own" }, "spec": {},
    });
    world.post(&format!("{OURS}/nodes"), &node).await;
    let path_of_status = format!("{OURS}/nodes/own/status");
    let patch = json!({ "status": { "agent": "y" } }).to_string();
    world.ask(Method::PATCH, &path_of_status, MERGE, patch.into()).await;
    assert_eq!(world.post(&path, &grant("own")).await.code, StatusCode::CREATED);
}
