//! The subresource `scale`, as `kubectl scale` and autoscalers use it.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{JOBS, World};

const SERVICES: &str = "/apis/heliox.dev/v1/namespaces/default/services";

async fn service(world: &World, name: &str, spec: Value) -> Value {
    let mut service = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service", "metadata": { "name": name }, "spec": spec,
    });
    service["spec"]["template"] = json!({ "image": "x" });
    let made = world.post(SERVICES, &service).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.json);
    made.json
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tasks_is_read_and_changed_alone() {
    let world = World::new().await;
    service(&world, "web", json!({ "replicas": 3, "priority": 7 })).await;
    let path = format!("{SERVICES}/web/scale");
    let mut scale = world.get(&path).await.json;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(scale["status"]["selector"], "heliox.dev/service=web");
    // kubectl sends back what it has read.
    scale["spec"]["replicas"] = json!(5);
    let put = world.put(&path, &scale).await;
    assert_eq!((put.code, &put.json["spec"]["replicas"]), (StatusCode::OK, &json!(5)));
    let now = world.get(&format!("{SERVICES}/web")).await.json;
    assert_eq!((&now["spec"]["replicas"], &now["spec"]["priority"]), (&json!(5), &json!(7)));
    // What it has read is no longer so.
    scale["spec"]["replicas"] = json!(6);
    assert_eq!(world.put(&path, &scale).await.code, StatusCode::CONFLICT);
    let patched = world.merge(&path, &json!({ "spec": { "replicas": 0 } })).await;
    assert_eq!((patched.code, &patched.json["spec"]["replicas"]), (StatusCode::OK, &json!(0)));
}

/// Were a document without a number taken as "none", as in Kubernetes, a whole object that is sent
/// here by mistake would stop all tasks.
#[tokio::test(start_paused = true)]
async fn what_is_no_scale_of_the_object_is_refused() {
    let world = World::new().await;
    let whole = service(&world, "web", json!({ "replicas": 3 })).await;
    let path = format!("{SERVICES}/web/scale");
    let scale = |pointer: &str, value: Value| {
        let mut scale = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": { "name": "web", "namespace": "default", "uid": null },
            "spec": { "replicas": 1 },
        });
        *scale.pointer_mut(pointer).unwrap() = value;
        scale
    };
    for (sent, code) in [
        (whole, StatusCode::BAD_REQUEST),
        (scale("/metadata/name", json!("other")), StatusCode::BAD_REQUEST),
        (scale("/metadata/namespace", json!("other")), StatusCode::BAD_REQUEST),
        (scale("/metadata/uid", json!("other")), StatusCode::CONFLICT),
        (scale("/spec", Value::Null), StatusCode::UNPROCESSABLE_ENTITY),
        (scale("/spec/replicas", json!(-1)), StatusCode::UNPROCESSABLE_ENTITY),
        (scale("/spec/replicas", json!(10_001)), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let answer = world.put(&path, &sent).await;
        assert_eq!(answer.code, code, "{sent}: {}", answer.json);
    }
    let now = world.get(&format!("{SERVICES}/web")).await.json;
    assert_eq!(now["spec"]["replicas"], 3);
    service(&world, "each", json!({ "perNode": true })).await;
    let two = json!({ "spec": { "replicas": 2 } });
    let answer = world.merge(&format!("{SERVICES}/each/scale"), &two).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
    assert_eq!(world.get(&format!("{JOBS}/none/scale")).await.code, StatusCode::NOT_FOUND);
}
