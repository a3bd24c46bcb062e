//! The subresource `rollout`: what people ask of a service's rollout, as it is stored for its controller.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::World;

const SERVICES: &str = "/apis/heliox.dev/v1/namespaces/default/services";

/// A service that has rolled out two revisions.
async fn service(world: &World) -> Value {
    let service = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "template": { "image": "x" } },
    });
    let made = world.post(SERVICES, &service).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.json);
    let at = "2026-01-02T00:00:00Z";
    let revision =
        |number: u32, template: &str| json!({ "number": number, "template": template, "at": at });
    let status = json!({ "status": {
        "phase": "Running", "observedGeneration": 1, "currentRevision": 2, "updateRevision": 2,
        "rollout": { "revision": 2, "state": "Complete", "startedAt": at },
        "revisions": [revision(1, "a"), revision(2, "b")],
    }});
    let told = world.merge(&format!("{SERVICES}/web/status"), &status).await;
    assert_eq!(told.code, StatusCode::OK, "{}", told.json);
    told.json
}

async fn asked(world: &World, body: Value) -> (StatusCode, Value) {
    let answer = world.post(&format!("{SERVICES}/web/rollout"), &body).await;
    (answer.code, answer.json)
}

#[tokio::test(start_paused = true)]
async fn a_request_is_stored_with_who_asked_and_leaves_the_spec_as_it_is() {
    let world = World::new().await;
    let before = service(&world).await;
    let (code, now) = asked(&world, json!({ "verb": "Undo" })).await;
    assert_eq!(code, StatusCode::CREATED, "{now}");
    let request = &now["status"]["request"];
    assert_eq!((&request["verb"], &request["toRevision"]), (&json!("Undo"), &json!(1)));
    assert_eq!(request["by"], "system:anonymous");
    assert_eq!(now["spec"], before["spec"]);
    assert_eq!(now["metadata"]["generation"], before["metadata"]["generation"]);
    assert_eq!(now["status"]["revisions"], before["status"]["revisions"]);
    // Who waits for the service does not take it for ready meanwhile.
    let ready = now["status"]["conditions"].as_array().unwrap();
    assert!(ready.iter().any(|it| it["type"] == "Ready" && it["status"] == "False"), "{ready:?}");
    // The same once more is no second request, and another one has to wait.
    assert_eq!(asked(&world, json!({ "verb": "Undo" })).await.0, StatusCode::OK);
    let (code, refused) = asked(&world, json!({ "verb": "Restart" })).await;
    assert_eq!(code, StatusCode::CONFLICT);
    let why = "cannot restart the rollout of web: system:anonymous has asked for undo, which is not \
               carried out yet";
    assert_eq!(refused["message"], why);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_with_why() {
    let world = World::new().await;
    service(&world).await;
    for (body, code, part) in [
        (json!({ "verb": "Abort" }), StatusCode::CONFLICT, "the rollout of revision 2 is complete"),
        (json!({ "verb": "Undo", "toRevision": 9 }), StatusCode::UNPROCESSABLE_ENTITY, "history"),
        (json!({ "verb": "Undo", "revision": 1 }), StatusCode::CONFLICT, "is for revision 1"),
        (
            json!({ "verb": "Restart", "toRevision": 1 }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "only Undo",
        ),
        (json!({ "verb": "Frob" }), StatusCode::BAD_REQUEST, "Frob"),
        (json!({ "verb": "Undo", "frob": 1 }), StatusCode::BAD_REQUEST, "frob"),
    ] {
        let (found, refused) = asked(&world, body.clone()).await;
        assert_eq!(found, code, "{body}: {refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(part), "{body}: {message}");
    }
    // Nothing was stored, and what runs already is not asked for again.
    let (code, now) = asked(&world, json!({ "verb": "Undo", "toRevision": 2 })).await;
    assert_eq!((code, &now["status"]["request"]), (StatusCode::OK, &Value::Null));
    let gone = world.post(&format!("{SERVICES}/other/rollout"), &json!({ "verb": "Undo" })).await;
    assert_eq!(gone.code, StatusCode::NOT_FOUND);
}

/// A dry run stores nothing.
#[tokio::test(start_paused = true)]
async fn a_request_can_be_tried() {
    let world = World::new().await;
    service(&world).await;
    let path = format!("{SERVICES}/web/rollout?dryRun=All");
    let tried = world.post(&path, &json!({ "verb": "Restart" })).await;
    assert_eq!(tried.code, StatusCode::CREATED, "{}", tried.json);
    assert_eq!(tried.json["status"]["request"]["verb"], "Restart");
    let now = world.get(&format!("{SERVICES}/web")).await.json;
    assert_eq!(now["status"]["request"], Value::Null);
}
