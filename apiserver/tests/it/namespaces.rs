//! Namespaces: deleted, they take nothing new and go when they are empty. Events in them are bounded.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use store::Fault;

use crate::harness::{OURS, World, job};

const NAMESPACE: &str = "/api/v1/namespaces/n";

async fn make(world: &World) -> Value {
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    let answer = world.post("/api/v1/namespaces", &body).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.json);
    answer.json
}

fn jobs() -> String {
    format!("{OURS}/namespaces/n/jobs")
}

fn emptied(namespace: &Value) -> Value {
    json!({ "emptied": { "key": { "name": "n" }, "uid": namespace["metadata"]["uid"] } })
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_deleted_takes_nothing_new_and_goes_when_it_is_empty() {
    let world = World::of_one().await;
    let made = make(&world).await;
    assert_eq!(made["status"]["phase"], "Active");
    // A read waits until the cache shows what is there.
    world.get(&jobs()).await;
    assert_eq!(world.batch(&[emptied(&made)]).await[0]["outcome"], "Refused", "it lives");
    world.post(&jobs(), &job("a")).await;
    let marked = world.delete(NAMESPACE).await;
    assert_eq!(marked.code, StatusCode::OK, "{}", marked.json);
    assert_eq!(marked.json["status"]["phase"], "Terminating");

    let refused = world.post(&jobs(), &job("b")).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN, "{}", refused.json);
    assert_eq!(refused.json["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut in_it = job("b");
    in_it["metadata"]["namespace"] = "n".into();
    let outcomes = world.batch(&[json!({ "create": { "object": in_it } })]).await;
    assert_eq!(outcomes[0]["outcome"], "Refused", "a component looks again");
    // What is there can still be changed.
    let changed = world.merge(&format!("{}/a", jobs()), &json!({ "spec": { "count": 3 } })).await;
    assert_eq!(changed.code, StatusCode::OK, "{}", changed.json);

    world.get(&jobs()).await;
    assert_eq!(world.batch(&[emptied(&made)]).await[0]["outcome"], "Refused", "it holds a job");
    assert_eq!(world.delete(NAMESPACE).await.code, StatusCode::OK, "again changes nothing");
    let freed = json!({ "metadata": { "finalizers": null }, "spec": { "finalizers": [] } });
    world.merge(NAMESPACE, &freed).await;
    assert_eq!(world.get(NAMESPACE).await.code, StatusCode::OK, "nor does a patch take it away");
    world.delete(&format!("{}/a", jobs())).await;
    world.get(&jobs()).await;
    assert_eq!(world.batch(&[emptied(&made)]).await[0]["outcome"], "Done");
    assert_eq!(world.get(NAMESPACE).await.code, StatusCode::NOT_FOUND);
    make(&world).await;
    assert_eq!(world.batch(&[emptied(&made)]).await[0]["outcome"], "Done", "that one is gone");
    assert_eq!(world.get(NAMESPACE).await.code, StatusCode::OK, "the new one is not");
}

#[tokio::test(start_paused = true)]
async fn an_empty_namespace_stays_as_long_as_a_finalizer_holds_it() {
    let world = World::of_one().await;
    let made = make(&world).await;
    let path = format!("{NAMESPACE}?propagationPolicy=Foreground");
    assert_eq!(world.delete(&path).await.json["status"]["phase"], "Terminating");
    world.get(&jobs()).await;
    assert_eq!(world.batch(&[emptied(&made)]).await[0]["outcome"], "Refused");
    world.merge(NAMESPACE, &json!({ "metadata": { "finalizers": null } })).await;
    world.get(&jobs()).await;
    assert_eq!(world.batch(&[emptied(&made)]).await[0]["outcome"], "Done");
    assert_eq!(world.get(NAMESPACE).await.code, StatusCode::NOT_FOUND);
}

/// The create was decided before the deletion, and reaches the store after it.
#[tokio::test(start_paused = true)]
async fn a_create_that_is_under_way_while_its_namespace_is_deleted_does_not_happen() {
    let world = World::new().await;
    make(&world).await;
    world.store.faults().next_groups(1, Fault::Late(Duration::from_secs(1)));
    assert_eq!(world.post(&jobs(), &job("late")).await.code, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(world.delete(NAMESPACE).await.json["status"]["phase"], "Terminating");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.get(&format!("{}/late", jobs())).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn the_namespaces_that_heliox_needs_stay() {
    let world = World::new().await;
    for name in ["default", "heliox-system"] {
        let answer = world.delete(&format!("/api/v1/namespaces/{name}")).await;
        assert_eq!(answer.code, StatusCode::FORBIDDEN, "{}", answer.json);
    }
}

#[tokio::test(start_paused = true)]
async fn more_events_than_are_collected_are_refused_until_some_have_gone() {
    let world = World::of_one().await;
    let event = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "namespace": "default" },
            "involvedObject": {}, "message": "x".repeat(1_000_000),
        })
    };
    let path = "/api/v1/namespaces/default/events";
    let mut made = 0;
    while world.post(path, &event(&format!("e{made}"))).await.code == StatusCode::CREATED {
        made += 1;
        assert!(made < 1_000, "more than twice what is kept");
    }
    let refused = world.post(path, &event("late")).await;
    assert_eq!(refused.code, StatusCode::TOO_MANY_REQUESTS, "{}", refused.json);
    let outcomes = world.batch(&[json!({ "create": { "object": event("late") } })]).await;
    assert_eq!(outcomes[0]["why"], "TooManyRequests");
    assert_eq!(world.post(&jobs().replace("/n/", "/default/"), &job("a")).await.code, 201);
    // Some were made before the first was seen to be too many: not one more than needed has to go.
    let mut gone = 0;
    loop {
        let deleted = world.delete(&format!("{path}/e{gone}")).await;
        assert_eq!(deleted.code, StatusCode::OK, "{}", deleted.json);
        gone += 1;
        // A read waits until the cache shows what is there.
        world.get(&format!("{path}/e{gone}")).await;
        let left = made - gone;
        let is_room = left * 1_001_000 < 2 * 16 * 1024 * 1024;
        let answer = world.post(path, &event("now")).await;
        assert!(answer.code == StatusCode::CREATED || !is_room, "{left}: {}", answer.json);
        if answer.code == StatusCode::CREATED {
            break;
        }
    }
    assert!(gone > 0);
}
