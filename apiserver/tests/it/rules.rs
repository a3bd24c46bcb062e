//! What may be changed, by rules that themselves change, and what a change means.

use expect_test::expect;
use http::StatusCode;
use serde_json::{Value, json};
use store::{Expectation, Group, Store as _};

use crate::harness::{JOBS, OURS, TASKS, World, job, task_of};

/// What older rules let in is reported on, stopped and mended all the same: an upgrade must not turn
/// running work into work that nobody can write about.
#[tokio::test(start_paused = true)]
async fn only_what_a_change_brings_is_held_against_it() {
    let world = World::new().await;
    let mut old = job("old");
    old["metadata"] =
        json!({ "name": "old", "namespace": "default", "uid": "u-1", "generation": 1 });
    old["spec"]["template"]["args"] = json!(["x".repeat(200_000)]);
    let stored = [vec![1], old.to_string().into_bytes()].concat();
    let group = Group::default().put("/heliox/v1/jobs/default/old", Expectation::Absent, stored);
    assert!(store::Store::commit(&world.store, vec![group]).await[0].is_done());
    let path = format!("{JOBS}/old");
    let status = json!({ "status": { "phase": "Running" } });
    let answer = world.merge(&format!("{path}/status"), &status).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    let answer = world.merge(&path, &json!({ "spec": { "cancel": true } })).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    let answer = world.merge(&path, &json!({ "spec": { "maxPerNode": 0 } })).await;
    assert_eq!(
        answer.json["details"]["causes"].as_array().map(Vec::len),
        Some(1),
        "{}",
        answer.json
    );
    assert_eq!(answer.json["details"]["causes"][0]["field"], "spec.maxPerNode");
    let answer = world.post(JOBS, &old).await;
    assert_eq!(answer.json["details"]["causes"][0]["field"], "spec.template.args[0]");
}

/// What could never be written is refused at once, whoever asks: the whole of it, and what Heliox
/// has to add to it.
#[tokio::test(start_paused = true)]
async fn what_leaves_no_room_for_its_status_is_refused() {
    let world = World::new().await;
    let tasks: Vec<Value> =
        (0..9_000).map(|n| json!({ "name": format!("{n}{}", "x".repeat(50)) })).collect();
    let mut large = job("a");
    large["spec"] = json!({ "tasks": tasks, "template": { "image": "busybox" } });
    let answer = world.post(JOBS, &large).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
    let why = answer.json["message"].as_str().unwrap();
    assert!(why.contains("more than the 1047552 that can be stored"), "{why}");
    large["spec"]["tasks"] = json!(&tasks[..5_000]);
    let answer = world.post(JOBS, &large).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.json);
    // Places of tasks that are removed stay taken for the run.
    let indexes: Vec<String> = (0..200_000).map(|_| String::new()).collect();
    let spec: api::job::JobSpec = serde_json::from_value(large["spec"].clone()).unwrap();
    let revision = api::job::revision(&spec);
    let status = json!({ "status": { "run": 1, "revision": revision, "indexes": indexes } });
    let answer = world.merge(&format!("{JOBS}/a/status"), &status).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    let change = json!({ "spec": { "tasks": [{ "name": "one-more" }] } });
    let answer = world.merge(&format!("{JOBS}/a"), &change).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    let change = json!({ "spec": { "tasks": &tasks[..5_000] } });
    let answer = world.merge(&format!("{JOBS}/a"), &change).await;
    assert_eq!(answer.json["details"]["causes"][0]["field"], "spec", "{}", answer.json["message"]);
}

/// A run that could only fail is refused where it is made, by whatever client.
#[tokio::test(start_paused = true)]
async fn a_run_is_given_the_parameters_that_its_workflow_takes() {
    let world = World::new().await;
    let (workflows, runs) = (
        "/apis/heliox.dev/v1/namespaces/default/workflows",
        "/apis/heliox.dev/v1/namespaces/default/workflowruns",
    );
    let run = |name: &str, params: Value| {
        json!({
            "apiVersion": "heliox.dev/v1", "kind": "WorkflowRun",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "workflow": "load", "params": params },
        })
    };
    // Both may be in one folder, in any order: the run waits for its workflow.
    let early = world.post(runs, &run("early", json!({ "wird": "x" }))).await;
    assert_eq!(early.code, StatusCode::CREATED, "{}", early.json);
    let workflow = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": "load", "namespace": "default" },
        "spec": {
            "params": [
                { "name": "date" },
                { "name": "size", "default": "small", "enum": ["small", "large"] },
            ],
            "runOnApply": false,
            "jobs": [{ "name": "a", "template": { "image": "busybox" } }],
        },
    });
    let made = world.post(workflows, &workflow).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.json);
    let refused = async |params: Value| {
        let answer = world.post(runs, &run("late", params)).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
        let causes = answer.json["details"]["causes"].as_array().unwrap().clone();
        let one = |cause: &Value| format!("{} {}", cause["field"], cause["message"]);
        causes.iter().map(one).collect::<Vec<_>>()
    };
    expect![[r#"
        [
            "\"spec.params.date\" \"a value is required (it has no default)\"",
        ]
    "#]]
    .assert_debug_eq(&refused(json!({})).await);
    expect![[r#"
        [
            "\"spec.params.siez\" \"the workflow has no parameter of this name (did you mean size?)\"",
        ]
    "#]].assert_debug_eq(&refused(json!({ "date": "x", "siez": "large" })).await);
    expect![[r#"
        [
            "\"spec.params.size\" \"\\\"larg\\\" is not one of small, large (did you mean large?)\"",
        ]
    "#]].assert_debug_eq(&refused(json!({ "date": "x", "size": "larg" })).await);
    expect![[r#"
        [
            "\"spec.params.date\" \"expected text, found a number (quote it: \\\"20260102\\\")\"",
        ]
    "#]]
    .assert_debug_eq(&refused(json!({ "date": 20260102 })).await);
    let dry = world.post(&format!("{runs}?dryRun=All"), &run("late", json!({}))).await;
    assert_eq!(dry.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", dry.json);
    let fine = world.post(runs, &run("late", json!({ "date": "x" }))).await;
    assert_eq!(fine.code, StatusCode::CREATED, "{}", fine.json);
}

/// A value that makes a job of the run invalid, too: the run would fail after it was made.
#[tokio::test(start_paused = true)]
async fn a_run_is_refused_whose_parameters_make_a_job_invalid() {
    let world = World::new().await;
    let (workflows, runs) = (
        "/apis/heliox.dev/v1/namespaces/default/workflows",
        "/apis/heliox.dev/v1/namespaces/default/workflowruns",
    );
    let workflow = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": "load", "namespace": "default" },
        "spec": {
            "params": [{ "name": "image", "default": "busybox" }, { "name": "extra", "default": "" }],
            "runOnApply": false,
            "jobs": [{ "name": "a", "template": {
                "image": "$(params.image)", "args": ["$(params.extra)", "$(task.index)"],
            } }],
        },
    });
    let mut bad_default = workflow.clone();
    bad_default["spec"]["params"][0]["default"] = "bad image of $(run.date)".into();
    let refused = world.post(workflows, &bad_default).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.json);
    let cause = &refused.json["details"]["causes"][0];
    assert_eq!(cause["field"], "spec.jobs[0].template.image", "{cause}");
    assert_eq!(world.post(workflows, &workflow).await.code, StatusCode::CREATED);
    let run = |name: &str, params: Value| {
        json!({
            "apiVersion": "heliox.dev/v1", "kind": "WorkflowRun",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "workflow": "load", "params": params },
        })
    };
    for query in ["", "?dryRun=All"] {
        let path = format!("{runs}{query}");
        let refused = world.post(&path, &run("bad", json!({ "image": "bad image" }))).await;
        assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.json);
        let cause = &refused.json["details"]["causes"][0];
        assert_eq!(cause["field"], "spec.params.image", "{cause}");
        let why = "makes template.image of job a invalid: an image name must not contain spaces";
        assert_eq!(cause["message"], why, "{cause}");
    }
    let fine = world.post(runs, &run("fine", json!({ "extra": "$(any) thing" }))).await;
    assert_eq!(fine.code, StatusCode::CREATED, "{}", fine.json);
}

/// The generation counts changes of what is meant: controllers run things anew by it.
#[tokio::test(start_paused = true)]
async fn other_words_for_the_same_are_no_new_generation() {
    let world = World::new().await;
    let mut wanted = job("a");
    wanted["spec"]["template"]["resources"] = json!({ "requests": { "cpu": "1000m" } });
    assert_eq!(world.post(JOBS, &wanted).await.code, StatusCode::CREATED);
    let path = format!("{JOBS}/a");
    let reworded = json!({
        "priority": 0,
        "template": {
            "imagePullPolicy": "IfNotPresent",
            "resources": { "requests": { "cpu": "1" } },
        },
    });
    let answer = world.merge(&path, &json!({ "spec": reworded })).await.json;
    assert_eq!(answer["metadata"]["generation"], 1);
    assert_eq!(answer["spec"]["template"]["resources"]["requests"]["cpu"], "1", "it is written");
    let template = json!({ "resources": { "requests": { "cpu": "2" } } });
    let answer = world.merge(&path, &json!({ "spec": { "template": template } })).await.json;
    assert_eq!(answer["metadata"]["generation"], 2);
    // A job that refuses other templates takes other words for the one it has.
    wanted["metadata"]["name"] = "b".into();
    wanted["spec"]["onChange"] = "Reject".into();
    assert_eq!(world.post(JOBS, &wanted).await.code, StatusCode::CREATED);
    let path = format!("{JOBS}/b");
    assert_eq!(world.merge(&path, &json!({ "spec": reworded })).await.code, StatusCode::OK);
    let answer = world.merge(&path, &json!({ "spec": { "template": template } })).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
}

/// What a person asked of one run is not held against the next, whichever client sends the change;
/// and what can never happen is refused.
#[tokio::test(start_paused = true)]
async fn a_cancel_is_of_one_run_and_of_none_that_has_ended() {
    let world = World::new().await;
    world.job("a").await;
    let path = format!("{JOBS}/a");
    let cancel = json!({ "spec": { "cancel": true } });
    assert_eq!(world.merge(&path, &cancel).await.json["spec"]["cancel"], true);
    let more = world.merge(&path, &json!({ "spec": { "count": 5 } })).await.json;
    assert_eq!(more["spec"]["cancel"], true, "the run is the same");
    let template = json!({ "spec": { "template": { "image": "two" } } });
    let changed = world.merge(&path, &template).await.json;
    assert_eq!(changed["spec"].get("cancel"), None);
    assert_eq!(changed["metadata"]["generation"], 4);
    // Another client sends the whole object back.
    let mut whole = world.merge(&path, &cancel).await.json;
    whole["spec"]["template"]["image"] = "three".into();
    let replaced = world.put(&path, &whole).await.json;
    assert_eq!(replaced["spec"].get("cancel"), None, "{replaced}");
    let status = json!({ "status": { "phase": "Succeeded", "run": 3, "observedGeneration": 6 } });
    assert_eq!(world.merge(&format!("{path}/status"), &status).await.code, StatusCode::OK);
    let late = world.merge(&path, &cancel).await;
    assert_eq!(late.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", late.json);
    let cause = &late.json["details"]["causes"][0];
    assert_eq!(cause["field"], "spec.cancel");
    let why = "the job has ended (Succeeded): nothing to cancel";
    assert!(cause["message"].as_str().unwrap().contains(why), "{cause}");
}

/// Numbers that are counted on leave numbers to go on with, whoever writes them.
#[tokio::test(start_paused = true)]
async fn no_number_is_taken_that_none_could_follow() {
    let world = World::new().await;
    let made = world.job("a").await;
    for field in ["attempt", "nextAttempt", "run", "failures"] {
        let mut task = task_of(&made, 0);
        task["spec"][field] = json!(u32::MAX);
        let answer = world.post(TASKS, &task).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
        let path = format!("spec.{field}");
        assert_eq!(answer.json["details"]["causes"][0]["field"], path.as_str(), "{}", answer.json);
    }
    let workflow = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow", "metadata": { "name": "w" },
        "spec": { "jobs": [{ "name": "a", "template": { "image": "x" } }] },
    });
    let workflows = format!("{OURS}/namespaces/default/workflows");
    assert_eq!(world.post(&workflows, &workflow).await.code, StatusCode::CREATED);
    for (path, field) in [(format!("{JOBS}/a"), "run"), (format!("{workflows}/w"), "lastRunNumber")]
    {
        let status = json!({ "status": { field: u32::MAX } });
        let answer = world.merge(&format!("{path}/status"), &status).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
        let status = json!({ "status": { field: 7 } });
        let answer = world.merge(&format!("{path}/status"), &status).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    }
}

/// A store holds an object that has come to the last generation there is: it can be changed all the
/// same, and so can a task.
#[tokio::test(start_paused = true)]
async fn what_has_the_last_generation_there_is_can_be_changed() {
    let world = World::new().await;
    let made = world.job("a").await;
    assert_eq!(world.post(TASKS, &task_of(&made, 0)).await.code, StatusCode::CREATED);
    for key in ["/heliox/v1/jobs/default/a", "/heliox/v1/tasks/default/a-0"] {
        let record = world.store.get(key).await.unwrap().unwrap();
        let mut stored: Value = serde_json::from_slice(&record.value[1..]).unwrap();
        stored["metadata"]["generation"] = i64::MAX.into();
        let mut value = vec![record.value[0]];
        serde_json::to_writer(&mut value, &stored).unwrap();
        let put = Group::default().put(key, Expectation::Any, value);
        assert!(world.store.commit(vec![put]).await[0].is_done());
    }
    let changed = world.merge(&format!("{JOBS}/a"), &json!({ "spec": { "count": 5 } })).await;
    assert_eq!(changed.code, StatusCode::OK, "{}", changed.json);
    assert_eq!(changed.json["metadata"]["generation"], i64::MAX);
    let task = world.get(&format!("{TASKS}/a-0")).await.json;
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    let registered = world.post(&format!("{OURS}/nodes"), &node).await;
    assert_eq!(registered.code, StatusCode::CREATED, "{}", registered.json);
    let bind = json!({ "task": {
        "key": { "namespace": "default", "name": "a-0" }, "uid": task["metadata"]["uid"],
        "attempt": 1, "change": { "bind": { "node": "n1" } },
    }});
    let results = world.batch(&[bind]).await;
    assert_eq!(results[0]["outcome"], "Done", "{results:?}");
    let bound = world.get(&format!("{TASKS}/a-0")).await.json;
    assert_eq!(bound["metadata"]["generation"], i64::MAX, "{bound}");
}

/// An item is known by its text within a run: where a change says the same of it in another order, it
/// stays the item that it was, and its task is not run again.
#[tokio::test(start_paused = true)]
async fn an_item_keeps_its_words_while_it_means_the_same() {
    let world = World::new().await;
    let mut wanted = job("a");
    wanted["spec"] = json!({
        "items": [{ "shard": 1, "of": 4 }, { "shard": 2 }],
        "template": { "image": "busybox" },
    });
    let made = world.post(JOBS, &wanted).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.json);
    let before = made.json["spec"]["items"][0].to_string();
    wanted["spec"]["items"] = json!([{ "shard": 2 }, { "of": 4, "shard": 1 }, { "shard": 3 }]);
    let changed = world.put(&format!("{JOBS}/a"), &wanted).await;
    assert_eq!(changed.code, StatusCode::OK, "{}", changed.json);
    assert_eq!(changed.json["metadata"]["generation"], 2, "an item is new");
    assert_eq!(changed.json["spec"]["items"][1].to_string(), before);
    let spec = |object: &Value| serde_json::from_value(object["spec"].clone()).unwrap();
    let keys = |object: &Value| api::job::indexes::keys(&spec(object)).unwrap();
    assert!(keys(&changed.json).contains(&keys(&made.json)[0]), "it has the key that it had");
}
