//! Owners of tasks and templates.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{JOBS, TASKS, World, task_of};

const TEMPLATES: &str = "/apis/heliox.dev/v1/namespaces/default/tasktemplates";

fn service() -> Value {
    json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service", "name": "web", "uid": "u",
        "controller": true, "blockOwnerDeletion": true,
    })
}

fn template(owner: &Value) -> Value {
    json!({
        "apiVersion": "heliox.dev/v1", "kind": "TaskTemplate",
        "metadata": { "name": "t", "namespace": "default", "ownerReferences": [owner] },
        "spec": { "owner": { "kind": "Job", "name": "a" }, "template": { "image": "x" } },
    })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_for_an_owner_of_a_kind_that_owns_no_tasks() {
    let world = World::new().await;
    let job = world.job("a").await;
    let mut task = task_of(&job, 0);
    // A workflow is known, and makes no tasks itself; of another group is another kind.
    let workflow = json!({ "kind": "Workflow" });
    let other_group = json!({ "kind": "Job", "apiVersion": "batch/v1" });
    for change in [json!({}), workflow, other_group] {
        let mut owner = service();
        for (field, value) in change.as_object().unwrap() {
            owner[field] = value.clone();
        }
        task["metadata"]["ownerReferences"] = json!([owner]);
        let refused = &world.batch(&[json!({ "create": { "object": task } })]).await[0];
        assert_eq!(refused["outcome"], "Invalid", "{refused}");
        let answer = world.post(TEMPLATES, &template(&owner)).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{:?}", answer.json);
        let message = answer.json["message"].as_str().unwrap();
        assert!(message.contains("cannot belong to a"), "{message}");
    }
    // Nor is it given one later.
    world.batch(&[json!({ "create": { "object": task_of(&job, 0) } })]).await;
    let patch = json!({ "metadata": { "ownerReferences": [service()] } });
    let answer = world.merge(&format!("{TASKS}/a-0"), &patch).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{:?}", answer.json);
    let orphan = json!({ "metadata": { "ownerReferences": null } });
    assert_eq!(world.merge(&format!("{TASKS}/a-0"), &orphan).await.code, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_template_of_a_job_that_is_gone_is_not_made() {
    let world = World::new().await;
    let job = world.job("a").await;
    let owner = task_of(&job, 0)["metadata"]["ownerReferences"][0].clone();
    world.delete(&format!("{JOBS}/a")).await;
    let answer = world.post(TEMPLATES, &template(&owner)).await;
    assert_eq!(answer.code, StatusCode::CONFLICT, "{:?}", answer.json);
    let message = answer.json["message"].as_str().unwrap();
    assert!(message.contains("the tasktemplate's job \"a\" is gone"), "{message}");
}
