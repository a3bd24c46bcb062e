//! Owners of tasks and templates.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{JOBS, TASKS, World, job, task_of};

const TEMPLATES: &str = "/apis/heliox.dev/v1/namespaces/default/tasktemplates";

fn service() -> Value {
    json!({
        "apiVersion": "heliox.dev/v1", "kind": "Machine", "name": "web", "uid": "u",
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

/// A job that is made with its open run, its template and two tasks: who asks cannot know its uid.
fn begun(name: &str) -> Vec<Value> {
    let mut job = job(name);
    job["metadata"]["namespace"] = "default".into();
    job["status"] = json!({ "run": 1, "total": 2, "pending": 2 });
    let mut task = task_of(&job, 0);
    let owner = &mut task["metadata"]["ownerReferences"][0];
    owner["uid"] = "".into();
    let mut template = template(owner);
    template["spec"]["owner"]["name"] = name.into();
    template["metadata"]["name"] = format!("t-{name}").into();
    let mut leader = job.clone();
    leader["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "heliox.dev/v1", "kind": "WorkflowRun", "controller": true,
        "name": "w-1", "uid": "run-uid",
    }]);
    vec![
        json!({ "createWithStatus": { "object": leader } }),
        json!({ "create": { "object": template } }),
        json!({ "createTasks": { "task": task, "indexes": [[0, 2]] } }),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_job_is_made_with_its_status_and_its_first_tasks_or_not_at_all() {
    let world = World::new().await;
    let results = world.groups(&json!([{ "ops": begun("a") }])).await;
    assert_eq!(results[0]["outcome"], "Done", "{results:?}");
    let job = world.get(&format!("{JOBS}/a")).await.json;
    assert_eq!(job["status"]["run"], 1, "{job}");
    let mut places = vec![format!("{TEMPLATES}/t-a")];
    places.extend([0, 1].map(|index| format!("{TASKS}/a-{index}")));
    for place in &places {
        let owner = &world.get(place).await.json["metadata"]["ownerReferences"][0];
        assert_eq!(owner["uid"], job["metadata"]["uid"], "{place}");
    }
    // Nothing of it is made where one thing cannot be, such as a task that another has the name of.
    let mut taken = task_of(&world.job("c").await, 1);
    taken["metadata"]["name"] = "b-1".into();
    assert_eq!(
        world.batch(&[json!({ "create": { "object": taken } })]).await[0]["outcome"],
        "Done"
    );
    let results = world.groups(&json!([{ "ops": begun("b") }])).await;
    assert_eq!(
        (&results[0]["outcome"], &results[0]["why"]),
        (&json!("Refused"), &json!("AlreadyExists"))
    );
    for place in [format!("{JOBS}/b"), format!("{TEMPLATES}/t-b"), format!("{TASKS}/b-0")] {
        assert_eq!(world.get(&place).await.code, StatusCode::NOT_FOUND, "{place}");
    }
    // Without a uid only what the same group makes is meant, and a status only where others write one.
    let results = world.groups(&json!([{ "ops": [begun("a")[2]] }])).await;
    assert_eq!(results[0]["outcome"], "Refused", "{results:?}");
    let mut task = task_of(&job, 5);
    task["status"] = json!({ "message": "x" });
    let results = world.batch(&[json!({ "createWithStatus": { "object": task } })]).await;
    assert_eq!(results[0]["outcome"], "Invalid", "{results:?}");
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
