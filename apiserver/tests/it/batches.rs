//! Batches: groups of facts-guarded operations.

use std::collections::BTreeSet;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::Store as _;

use crate::harness::{JOBS, OURS, TASKS, World, task_of};

fn create(task: Value) -> Value {
    json!({ "create": { "object": task } })
}

fn record(job: &Value, run: u32, ends: &Value) -> Value {
    let key = json!({ "namespace": "default", "name": job["metadata"]["name"] });
    json!({ "record": { "job": key, "uid": job["metadata"]["uid"], "run": run, "ends": ends } })
}

#[tokio::test(start_paused = true)]
async fn one_bad_group_never_fails_another() {
    let world = World::new().await;
    let job = world.job("a").await;
    let results = world
        .batch(&[
            create(task_of(&job, 0)),
            create(json!({ "apiVersion": "heliox.dev/v1", "kind": "Nothing" })),
            create(task_of(&job, 1)),
        ])
        .await;
    let outcomes: Vec<&str> = results.iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["Done", "Invalid", "Done"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_all_or_nothing() {
    let world = World::new().await;
    let job = world.job("a").await;
    let mut stranger = task_of(&job, 1);
    stranger["metadata"]["ownerReferences"][0]["uid"] = "somebody-else".into();
    let groups = json!([{ "ops": [create(task_of(&job, 0)), create(stranger)] }]);
    assert_eq!(world.groups(&groups).await[0]["outcome"], "Refused");
    assert_eq!(world.get(&format!("{TASKS}/a-0")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_create_is_asked_twice_without_harm() {
    let world = World::new().await;
    let job = world.job("a").await;
    for _ in 0..2 {
        assert_eq!(world.batch(&[create(task_of(&job, 0))]).await[0]["outcome"], "Done");
    }
    assert_eq!(world.get(TASKS).await.json["items"].as_array().unwrap().len(), 1);
    // What has no controller may be anybody's.
    let mut nobodys = task_of(&job, 1);
    nobodys["metadata"]["ownerReferences"] = json!([]);
    for outcome in ["Done", "Refused"] {
        assert_eq!(world.batch(&[create(nobodys.clone())]).await[0]["outcome"], outcome);
    }
}

fn create_tasks(like: &Value, indexes: &Value) -> Value {
    json!({ "createTasks": { "task": like, "indexes": indexes } })
}

/// A task but for what no two have alike.
fn without_identity(mut task: Value) -> Value {
    for field in ["name", "uid", "resourceVersion"] {
        task["metadata"].as_object_mut().unwrap().shift_remove(field).unwrap();
    }
    task["spec"].as_object_mut().unwrap().shift_remove("index").unwrap();
    task
}

#[tokio::test(start_paused = true)]
async fn tasks_that_are_made_by_one_operation_are_as_if_each_was_made_by_itself() {
    let world = World::new().await;
    let job = world.job("a").await;
    let mut like = task_of(&job, 0);
    like["metadata"]["labels"] = json!({ "team": "blue" });
    let one = like.clone();
    like["metadata"]["name"] = "whatever".into();
    // What is not for whoever makes tasks to say is left out of all of them.
    like["status"] = json!({ "message": "done" });
    let many = create_tasks(&like, &json!([[1, 2], [7, 1]]));
    for time in ["first", "second"] {
        let results = world.batch(&[create(one.clone()), many.clone()]).await;
        let done = results.iter().filter(|result| result["outcome"] == "Done").count();
        assert_eq!(done, 2, "the {time} time: {results:?}");
    }
    let tasks = world.get(TASKS).await.json["items"].as_array().unwrap().clone();
    let of = |task: &Value| (task["metadata"]["name"].clone(), task["spec"]["index"].clone());
    let expected = [("a-0", 0), ("a-1", 1), ("a-2", 2), ("a-7", 7)];
    assert_eq!(
        tasks.iter().map(of).collect::<Vec<_>>(),
        expected.map(|(name, index)| (json!(name), json!(index)))
    );
    let uids: BTreeSet<&str> =
        tasks.iter().map(|task| task["metadata"]["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), tasks.len());
    let mut rest = tasks.into_iter().map(without_identity);
    let first = rest.next().unwrap();
    assert!(rest.all(|task| task == first));
}

#[tokio::test(start_paused = true)]
async fn each_of_many_tasks_is_guarded_and_all_are_made_or_none() {
    let world = World::new().await;
    let job = world.job("a").await;
    world.merge(&format!("{JOBS}/a/status"), &json!({ "status": { "run": 1 } })).await;
    world.batch(&[record(&job, 1, &json!([[3, "Succeeded"]]))]).await;
    let like = task_of(&job, 0);
    let of_another = create(task_of(&world.job("b").await, 9));
    let mut taken = task_of(&job, 5);
    taken["metadata"]["ownerReferences"] = json!([]);
    assert_eq!(world.batch(&[of_another, create(taken)]).await[1]["outcome"], "Done");
    let mut gone = like.clone();
    gone["metadata"]["ownerReferences"][0]["uid"] = "another".into();
    let mut nobodys = like.clone();
    nobodys["metadata"]["ownerReferences"] = json!([]);
    let mut mistaken = like.clone();
    mistaken["spec"]["run"] = 0.into();
    let ops = [
        ("recorded", create_tasks(&like, &json!([[2, 3]])), "Refused"),
        ("a name is taken", create_tasks(&like, &json!([[4, 2]])), "Refused"),
        ("the owner is gone", create_tasks(&gone, &json!([[0, 2]])), "Refused"),
        ("no owner", create_tasks(&nobodys, &json!([[0, 2]])), "Invalid"),
        ("not a task", create_tasks(&job, &json!([[0, 2]])), "Invalid"),
        ("against the rules", create_tasks(&mistaken, &json!([[0, 2]])), "Invalid"),
        ("an index twice", create_tasks(&like, &json!([[0, 1], [0, 1]])), "Invalid"),
        ("more than a group", create_tasks(&like, &json!([[10, 111]])), "Invalid"),
        ("as many as a group", create_tasks(&like, &json!([[10, 110]])), "Done"),
    ];
    let results = world.batch(&ops.clone().map(|(_, op, _)| op)).await;
    for ((what, _, outcome), result) in ops.iter().zip(&results) {
        assert_eq!(result["outcome"], *outcome, "{what}: {result}");
    }
    let made = world.get(TASKS).await.json["items"].as_array().unwrap().len();
    assert_eq!(made, 2 + 110, "nothing of what was refused");
    let mut large = like.clone();
    large["spec"]["overrides"]["item"] = "x".repeat(20_000).into();
    let refused = &world.batch(&[create_tasks(&large, &json!([[200, 110]]))]).await[0];
    assert_eq!(refused["why"], "RequestEntityTooLarge");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("; create fewer at once"), "before each was encoded: {message}");
    let groups = json!({ "groups": [{ "ops": [create_tasks(&like, &json!([[0, 1001]]))] }] });
    let answer = world.post(&format!("{OURS}/batches"), &groups).await;
    assert_eq!(answer.json["message"], "too many operations: 1001 (maximum 1000)");
}

/// A person's run of a workflow has the name that the workflow's own next run would have, and its owner.
#[tokio::test(start_paused = true)]
async fn what_the_same_owner_has_for_another_reason_is_not_taken_for_what_is_made() {
    let world = World::new().await;
    let job = world.job("a").await;
    let mut task = task_of(&job, 0);
    assert_eq!(world.batch(&[create(task.clone())]).await[0]["outcome"], "Done");
    task["metadata"]["labels"]["heliox.dev/revision"] = "another".into();
    let answer = world.batch(&[create(task)]).await;
    assert_eq!(answer[0]["outcome"], "Refused", "{answer:?}");
}

/// A controller waits until its cache has come to what its batch answers. The end of a revision is
/// told by the next bookmark alone, so a batch that answered with that held every look for seconds.
#[tokio::test(start_paused = true)]
async fn a_batch_answers_with_the_point_of_its_last_event() {
    let world = World::new().await;
    let job = world.job("a").await;
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let record = record(&job, 1, &json!([[5, "Succeeded"]]));
    for (what, op) in [("create", create(task_of(&job, 0))), ("record", record)] {
        // The second time it is so already, and nothing is written.
        for time in ["first", "second"] {
            let groups = json!({ "groups": [{ "ops": [op] }] });
            let answer = world.post(&format!("{OURS}/batches"), &groups).await.json;
            assert_eq!(answer["results"][0]["outcome"], "Done", "{answer}");
            let changed = match what {
                "create" => version(&world.get(&format!("{TASKS}/a-0")).await.json),
                _ => last_event(&world, &job).await,
            };
            assert_eq!(answer["resourceVersion"], changed.as_str(), "{what}, the {time} time");
        }
    }
}

/// The version of the last event that a watcher of every kind is sent, of those after `since`.
async fn last_event(world: &World, since: &Value) -> String {
    let from = since["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!(
        "{OURS}/watch?kinds=jobs,tasks,done&resourceVersion={from}&timeoutSeconds=1&allowWatchBookmarks=false"
    );
    let request = Request::get(&path).body(bytes::Bytes::new()).unwrap();
    let body = world.send(request).await.into_body().collect().await.unwrap().to_bytes();
    let lines = std::str::from_utf8(&body).unwrap().lines();
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    last["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn recorded_work_is_never_made_again() {
    let world = World::new().await;
    let job = world.job("a").await;
    world.merge(&format!("{JOBS}/a/status"), &json!({ "status": { "run": 1 } })).await;
    let results = world.batch(&[record(&job, 1, &json!([[0, "Succeeded"]]))]).await;
    assert_eq!(results[0]["outcome"], "Done", "{results:?}");
    let results = world.batch(&[create(task_of(&job, 0)), create(task_of(&job, 1))]).await;
    assert_eq!(results[0]["outcome"], "Refused", "{results:?}");
    assert_eq!(results[1]["outcome"], "Done", "{results:?}");
    let results = world.batch(&[record(&job, 1, &json!([[0, "Failed"]]))]).await;
    assert_eq!(results[0]["outcome"], "Refused", "what is done stays done");
    let answer = world.get(&format!("{JOBS}/a/record")).await.json;
    assert_eq!((answer["succeeded"].as_u64(), answer["failed"].as_u64()), (Some(1), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_job_that_was_made_anew_is_refused() {
    let world = World::new().await;
    let old = world.job("a").await;
    world.delete(&format!("{JOBS}/a")).await;
    world.job("a").await;
    let results = world.batch(&[create(task_of(&old, 0))]).await;
    assert_eq!(results[0]["outcome"], "Refused", "{results:?}");
}

/// The new job of that name records nothing of it.
#[tokio::test(start_paused = true)]
async fn a_task_of_a_job_that_was_made_anew_can_be_removed() {
    let world = World::new().await;
    let old = world.job("a").await;
    world.batch(&[create(task_of(&old, 0))]).await;
    let task = world.get(&format!("{TASKS}/a-0")).await.json;
    let key = json!({ "namespace": "default", "name": "a-0" });
    let remove = json!({ "remove": { "key": key, "uid": task["metadata"]["uid"] } });
    assert_eq!(world.batch(std::slice::from_ref(&remove)).await[0]["outcome"], "Refused");
    world.delete(&format!("{JOBS}/a")).await;
    world.job("a").await;
    assert_eq!(world.batch(&[remove]).await[0]["outcome"], "Done");
    assert_eq!(world.get(&format!("{TASKS}/a-0")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_writes_nothing() {
    let world = World::new().await;
    let lease = |holder: &str, term: u32| {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": "scheduler", "namespace": "heliox-system" },
            "spec": { "holderIdentity": holder, "leaseTransitions": term },
        })
    };
    let leases = "/apis/coordination.k8s.io/v1/namespaces/heliox-system/leases";
    assert_eq!(world.post(leases, &lease("one", 1)).await.code, StatusCode::CREATED);
    let job = world.job("a").await;
    let as_leader = async |claim: &str, index: u32| {
        let body = json!({ "groups": [{ "ops": [create(task_of(&job, index))] }] });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{OURS}/batches"))
            .header("heliox-leader", claim)
            .body(body.to_string().into())
            .unwrap();
        let bytes = world.send(request).await.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        answer["results"][0]["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(as_leader("scheduler/one/1", 0).await, "Done");
    let path = format!("{leases}/scheduler");
    // Whoever takes a Lease without saying which state of it was read may have it beside another.
    let mut taken = lease("two", 2);
    let blind = world.put(&path, &taken).await;
    assert_eq!(blind.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", blind.json);
    assert_eq!(blind.json["details"]["causes"][0]["field"], "metadata.resourceVersion");
    taken["metadata"]["resourceVersion"] =
        world.get(&path).await.json["metadata"]["resourceVersion"].clone();
    assert_eq!(world.put(&path, &taken).await.code, StatusCode::OK);
    assert_eq!(as_leader("scheduler/one/1", 1).await, "Deposed");
    assert_eq!(world.get(&format!("{TASKS}/a-1")).await.code, StatusCode::NOT_FOUND);
    assert_eq!(as_leader("scheduler/two/2", 1).await, "Done");
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_refused_while_the_node_lease_is_there() {
    let world = World::new().await;
    let job = world.job("a").await;
    world.post(&format!("{OURS}/nodes"), &json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    })).await;
    let grant = json!({ "node": "n1", "agent": "x", "bootId": "b" });
    let granted = world.post(&format!("{OURS}/nodeleases"), &grant).await;
    assert_eq!(granted.code, StatusCode::CREATED, "{}", granted.json);
    world.batch(&[create(task_of(&job, 0))]).await;
    world.post(&format!("{TASKS}/a-0/binding"), &json!({ "node": "n1" })).await;
    let task = world.get(&format!("{TASKS}/a-0")).await.json;
    let lose = json!({ "task": {
        "key": { "namespace": "default", "name": "a-0" }, "uid": task["metadata"]["uid"],
        "attempt": 1, "change": "lose",
    }});
    let refused = world.batch(std::slice::from_ref(&lose)).await.remove(0);
    assert_eq!((&refused["outcome"], &refused["why"]), (&json!("Refused"), &json!("Conflict")));
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(world.batch(&[lose]).await[0]["outcome"], "Done");
    assert_eq!(world.get(&format!("{TASKS}/a-0")).await.json["status"]["phase"], "Lost");
}

#[tokio::test(start_paused = true)]
async fn a_second_agent_under_the_same_name_is_refused() {
    let world = World::new().await;
    let grant = |agent: &str| json!({ "node": "n1", "agent": agent, "bootId": "b" });
    let path = format!("{OURS}/nodeleases");
    assert_eq!(world.post(&path, &grant("x")).await.code, StatusCode::CREATED);
    assert_eq!(world.post(&path, &grant("y")).await.code, StatusCode::CONFLICT);
    let again = world.post(&path, &grant("x")).await;
    assert_eq!(again.code, StatusCode::CREATED, "the same agent may restart");
    let other = json!({ "node": "n2", "agent": "z", "bootId": "b" });
    let other = world.post(&path, &other).await.json["lease"].clone();
    let own = again.json["lease"].clone();
    for (lease, is_alive) in [(own, true), (json!(999), false), (other, false)] {
        let renew = json!({ "node": "n1", "lease": lease });
        let answer = world.post(&format!("{path}/renew"), &renew).await.json;
        assert_eq!(answer["alive"], is_alive, "{renew}: no agent renews the lease of another node");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_meant_for_another_cluster_is_refused() {
    let world = World::new().await;
    let ask = json!({ "node": "n1", "agent": "a", "bootId": "b" }).to_string().into_bytes();
    let form = "application/json";
    let granted = world.ask(Method::POST, &format!("{OURS}/nodeleases"), form, ask).await.json;
    let named = |id: &str, epoch: u64| {
        let request = Request::get(JOBS).header("heliox-cluster", format!("{id}/{epoch}"));
        world.send(request.body(bytes::Bytes::new()).unwrap())
    };
    let id = granted["cluster"].as_str().unwrap();
    let epoch = granted["epoch"].as_u64().unwrap();
    assert_eq!(named(id, epoch).await.status(), 200);
    assert_eq!(named("another", epoch).await.status(), 409);
    assert_eq!(named(id, epoch + 1).await.status(), 409);
}

/// An agent does not say again what was refused: its task would run for ever. Others decide anew.
#[tokio::test(start_paused = true)]
async fn what_an_agent_says_of_a_task_that_cannot_be_read_now_is_not_refused() {
    let world = World::of_one().await;
    let job = world.job("a").await;
    world.batch(&[create(task_of(&job, 0))]).await;
    let task = world.get(&format!("{TASKS}/a-0")).await.json;
    let of_newer_version = vec![2];
    let key = "/heliox/v1/tasks/default/a-0";
    let group = store::Group::default().put(key, store::Expectation::Any, of_newer_version);
    assert!(world.store.commit(vec![group]).await[0].is_done());
    let change = |change: Value| {
        let key = json!({ "namespace": "default", "name": "a-0" });
        let uid = &task["metadata"]["uid"];
        json!({ "task": { "key": key, "uid": uid, "attempt": 1, "change": change } })
    };
    let report = json!({ "report": { "binding": 1, "bootId": "b", "state": "Succeeded" } });
    let give_back = json!({ "refuse": { "binding": 1, "message": "no room" } });
    let results = world
        .batch(&[change(report), change(give_back), change(json!({ "bind": { "node": "n1" } }))])
        .await;
    for result in results {
        assert_eq!(
            (&result["outcome"], &result["why"]),
            (&json!("Unknown"), &json!("InternalError"))
        );
    }
}
