//! Making, reading, changing and deleting objects.

use api::KindId;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::harness::{JOBS, OURS, TASKS, World, job, task_of};

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_made_can_be_read_and_is_stamped() {
    let world = World::new().await;
    let made = world.job("a").await;
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    let read = world.get(&format!("{JOBS}/a")).await;
    assert_eq!(read.json, made);
    let list = world.get(JOBS).await.json;
    assert_eq!(list["items"], json!([made]));
    assert!(version(&list) > version(&made));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_used_once() {
    let world = World::new().await;
    world.job("a").await;
    let again = world.post(JOBS, &job("a")).await;
    assert_eq!((again.code.as_u16(), again.json["reason"].as_str()), (409, Some("AlreadyExists")));
}

#[tokio::test(start_paused = true)]
async fn a_missing_namespace_is_named() {
    let world = World::new().await;
    let answer = world.post(&format!("{OURS}/namespaces/nowhere/jobs"), &job("a")).await;
    assert_eq!(answer.code, StatusCode::NOT_FOUND);
    assert_eq!(answer.json["message"], "namespaces \"nowhere\" not found");
}

#[tokio::test(start_paused = true)]
async fn a_stale_update_conflicts_and_changes_nothing() {
    let world = World::new().await;
    let old = world.job("a").await;
    let path = format!("{JOBS}/a");
    let changed = world.merge(&path, &json!({ "spec": { "count": 3 } })).await;
    assert_eq!(changed.code, StatusCode::OK, "{}", changed.json);
    assert_eq!(changed.json["metadata"]["generation"], 2);
    let mut stale = old;
    stale["spec"]["count"] = 4.into();
    let answer = world.put(&path, &stale).await;
    assert_eq!((answer.code.as_u16(), answer.json["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(world.get(&path).await.json["spec"]["count"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_changes_nothing_writes_nothing() {
    let world = World::new().await;
    let made = world.job("a").await;
    let same = world.merge(&format!("{JOBS}/a"), &json!({ "spec": { "count": 2 } })).await;
    assert_eq!(same.json, made);
}

#[tokio::test(start_paused = true)]
async fn spec_and_status_are_written_apart() {
    let world = World::new().await;
    let mut object = world.job("a").await;
    let path = format!("{JOBS}/a");
    object["status"] = json!({ "phase": "Running", "run": 1 });
    let by_spec = world.put(&path, &object).await.json;
    assert_eq!(by_spec.get("status"), None, "a status is not written through the object");
    object["spec"]["count"] = 9.into();
    let by_status = world.put(&format!("{path}/status"), &object).await;
    assert_eq!(by_status.code, StatusCode::OK, "{}", by_status.json);
    assert_eq!(by_status.json["status"]["phase"], "Running");
    assert_eq!(by_status.json["spec"]["count"], 2, "a spec is not written through the status");
    assert_eq!(by_status.json["metadata"]["generation"], 1);
    let wrong = json!({ "status": { "phaze": "Running" } });
    let refused = world.merge(&format!("{path}/status"), &wrong).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.json);
}

#[tokio::test(start_paused = true)]
async fn everything_wrong_is_said_at_once_and_nothing_is_written() {
    let world = World::new().await;
    let mut wrong = job("a");
    wrong["spec"]["cuont"] = 3.into();
    wrong["spec"]["parallelism"] = "many".into();
    let answer = world.post(JOBS, &wrong).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    let causes = answer.json["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.cuont", "spec.parallelism"], "{}", answer.json);
    assert_eq!(world.get(&format!("{JOBS}/a")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn hostile_requests_are_refused_and_the_server_lives() {
    let world = World::new().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let large = vec![b' '; 3 * 1024 * 1024];
    for (path, body, code) in [
        (JOBS.to_owned(), b"{".to_vec(), 400),
        (JOBS.to_owned(), b"[]".to_vec(), 400),
        (JOBS.to_owned(), b"\xff\xfe".to_vec(), 400),
        (JOBS.to_owned(), deep, 400),
        (JOBS.to_owned(), large, 413),
        (JOBS.to_owned(), job("../../etc/passwd").to_string().into_bytes(), 422),
        (JOBS.to_owned(), job("-rf").to_string().into_bytes(), 422),
        (format!("{OURS}/namespaces/..%2F..%2Fx/jobs"), job("a").to_string().into_bytes(), 422),
        ("/apis/heliox.dev/v2/jobs".to_owned(), Vec::new(), 404),
        (format!("{OURS}/batches"), br#"{"groups": 3}"#.to_vec(), 400),
    ] {
        let size = body.len();
        let answer = world.ask(Method::POST, &path, "application/json", body).await;
        assert_eq!(answer.code.as_u16(), code, "{path} with {size} bytes: {}", answer.json);
        assert_eq!(answer.json["kind"], "Status", "{path}");
    }
    assert_eq!(world.get(JOBS).await.json["items"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_and_writes_nothing() {
    let world = World::new().await;
    let answer = world.post(&format!("{JOBS}?dryRun=All"), &job("a")).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    assert_eq!(world.get(&format!("{JOBS}/a")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_a_deletion_until_they_are_gone() {
    let world = World::new().await;
    world.job("a").await;
    let path = format!("{JOBS}/a");
    let marked = world.delete(&format!("{path}?propagationPolicy=Foreground")).await;
    assert_eq!(marked.json["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert!(marked.json["metadata"]["deletionTimestamp"].is_string());
    let freed = world.merge(&path, &json!({ "metadata": { "finalizers": null } })).await;
    assert_eq!(freed.code, StatusCode::OK, "{}", freed.json);
    assert_eq!(world.get(&path).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn lists_are_selected_and_paged() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        let mut object = job(name);
        object["metadata"]["labels"] = json!({ "odd": (name != "b").to_string() });
        world.post(JOBS, &object).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&world.get(&format!("{JOBS}?labelSelector=odd%3Dtrue")).await.json),
        ["a", "c"]
    );
    assert_eq!(
        names(&world.get(&format!("{JOBS}?fieldSelector=metadata.name%3Db")).await.json),
        ["b"]
    );
    let first = world.get(&format!("{JOBS}?limit=2")).await.json;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    // As in Kubernetes: with a selector nobody knows without looking at all of them.
    let selected = world.get(&format!("{JOBS}?limit=1&labelSelector=odd%3Dtrue")).await.json;
    assert!(selected["metadata"]["continue"].is_string());
    assert!(selected["metadata"].get("remainingItemCount").is_none());
    world.job("d").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let token: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let rest = world.get(&format!("{JOBS}?limit=2&continue={token}")).await.json;
    assert_eq!(names(&rest), ["c", "d"]);
    assert_eq!(version(&rest), version(&first), "a watch from there misses nothing");
}

#[tokio::test(start_paused = true)]
async fn each_kind_is_selected_by_the_fields_that_the_table_of_kinds_lists() {
    let world = World::new().await;
    for kind in KindId::ALL.into_iter().filter(|kind| !kind.info().internal) {
        let info = kind.info();
        let group = if info.group.is_empty() { "/api" } else { "/apis" };
        let path = format!("{group}/{}/{}", kind.api_version(), info.plural);
        for field in kind.selectable_fields() {
            let answer = world.get(&format!("{path}?fieldSelector={field}%3Dno-such-value")).await;
            // What a field can never be is refused: it would select nothing for ever.
            let Some(values) = kind.values(field) else {
                assert_eq!(answer.code, StatusCode::OK, "{kind} by {field}: {}", answer.json);
                assert_eq!(answer.json["items"], json!([]), "{kind} by {field}");
                continue;
            };
            assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{kind} by {field}: {}", answer.json);
            let message = answer.json["message"].as_str().unwrap();
            assert!(message.ends_with(&values.join(", ")), "{message}");
            for value in values {
                let possible = world.get(&format!("{path}?fieldSelector={field}%3D{value}")).await;
                assert_eq!(possible.code, StatusCode::OK, "{kind} by {field} {value}");
            }
        }
        let unknown = world.get(&format!("{path}?fieldSelector=spec.flurb%3D2")).await;
        assert_eq!(unknown.code, StatusCode::BAD_REQUEST, "{kind}");
        let message = unknown.json["message"].as_str().unwrap();
        assert!(message.contains("metadata.name, metadata.namespace"), "{message}");
    }
    let many = |selector: &str| {
        let path = format!("{OURS}/watch?kinds=nodes,tasks,secrets&timeoutSeconds=1");
        format!("{path}&fieldSelector=status.phase%3D{selector}")
    };
    let refused = world.get(&many("Bogus")).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST, "no kind is ever in it");
    let run = json!({
        "apiVersion": "heliox.dev/v1", "kind": "WorkflowRun", "metadata": { "name": "r" },
        "spec": { "workflow": "w" },
    });
    let runs = format!("{OURS}/namespaces/default/workflowruns");
    world.post(&runs, &run).await;
    for (workflow, found) in [("w", 1), ("v", 0)] {
        let path = format!("{runs}?fieldSelector=spec.workflow%3D{workflow}");
        let list = world.get(&path).await.json;
        assert_eq!(list["items"].as_array().unwrap().len(), found, "{list}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_task_is_deleted_gracefully() {
    let world = World::new().await;
    world.job("a").await;
    let owner = world.get(&format!("{JOBS}/a")).await.json;
    world.post(&format!("{OURS}/nodes"), &json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    })).await;
    assert_eq!(
        world.batch(&[json!({ "create": { "object": task_of(&owner, 0) } })]).await[0]["outcome"],
        "Done"
    );
    let path = format!("{TASKS}/a-0");
    let odd = world.post(&format!("{path}/binding"), &json!({ "node": {} })).await;
    assert_eq!(odd.code, StatusCode::BAD_REQUEST, "{}", odd.json);
    let why = "cannot parse the body: node: expected text, found an object";
    assert_eq!(odd.json["message"], why);
    let bound = world.post(&format!("{path}/binding"), &json!({ "node": "n1" })).await;
    assert_eq!(bound.json["status"]["phase"], "Bound", "{}", bound.json);
    assert_eq!(bound.json["spec"]["nodeName"], "n1");
    let marked = world.delete(&path).await;
    assert_eq!(marked.code, StatusCode::OK, "{}", marked.json);
    let task = world.get(&path).await.json;
    assert_eq!(task["status"]["phase"], "Stopping");
    assert_eq!(task["spec"]["stop"]["reason"], "Delete");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_nodes_shows_what_tasks_take() {
    let world = World::new().await;
    let owner = world.job("a").await;
    world.post(&format!("{OURS}/nodes"), &json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    })).await;
    let status = json!({ "status": { "allocatable": { "cpu": "4", "memory": "8Gi" } } });
    world.merge(&format!("{OURS}/nodes/n1/status"), &status).await;
    let resources = json!({ "requests": { "cpu": "500m", "memory": "1Gi" } });
    world
        .post(
            &format!("{OURS}/namespaces/default/tasktemplates"),
            &json!({
                "apiVersion": "heliox.dev/v1", "kind": "TaskTemplate",
                "metadata": { "name": "t", "namespace": "default" },
                "spec": { "owner": { "kind": "Job", "name": "a" }, "template": { "image": "x", "resources": resources } },
            }),
        )
        .await;
    for index in [0, 1] {
        world.batch(&[json!({ "create": { "object": task_of(&owner, index) } })]).await;
        world.post(&format!("{TASKS}/a-{index}/binding"), &json!({ "node": "n1" })).await;
    }
    let table = world.get_table(&format!("{OURS}/nodes")).await;
    let headings = table["columnDefinitions"].as_array().unwrap().iter();
    let cells = table["rows"][0]["cells"].as_array().unwrap().iter();
    let shown: Vec<(&str, &str)> = headings
        .zip(cells)
        .map(|(heading, cell)| (heading["name"].as_str().unwrap(), cell.as_str().unwrap()))
        .filter(|(heading, _)| ["CPU", "MEMORY", "GPU", "TASKS"].contains(heading))
        .collect();
    let wanted = [("CPU", "1/4(25%)"), ("MEMORY", "2/8Gi(25%)"), ("GPU", "-"), ("TASKS", "2")];
    assert_eq!(shown, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_not_rewritten_by_hand() {
    let world = World::new().await;
    let owner = world.job("a").await;
    world.batch(&[json!({ "create": { "object": task_of(&owner, 0) } })]).await;
    let answer = world.merge(&format!("{TASKS}/a-0"), &json!({ "spec": { "attempt": 7 } })).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
    let status = json!({ "status": { "state": "Succeeded" } });
    let answer = world.merge(&format!("{TASKS}/a-0/status"), &status).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn a_page_in_a_browser_changes_and_reads_nothing() {
    let world = World::new().await;
    for (method, body) in [("POST", job("a").to_string()), ("GET", String::new())] {
        let request = Request::builder().method(method).uri(JOBS).header("origin", "http://a.page");
        let response = world.send(request.body(body.into()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(world.get(&format!("{JOBS}/a")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn the_text_of_a_secret_is_kept_beside_its_data() {
    let world = World::new().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = |more: Value| {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" },
            "data": { "a": "eA==", "b": "eA==" },
        });
        for (field, value) in more.as_object().unwrap() {
            object[field] = value.clone();
        }
        object
    };
    let more = json!({ "stringData": { "b": "correct-horse" }, "immutable": true });
    let made = world.post(secrets, &secret(more)).await.json;
    assert_eq!(made["data"], json!({ "a": "eA==", "b": "Y29ycmVjdC1ob3JzZQ==" }));
    assert!(made.get("stringData").is_none(), "{made}");
    let read = world.get(&format!("{secrets}/s")).await.json;
    assert_eq!(read["data"], made["data"]);
    // What says the same changes nothing, and what does not is refused like any other change.
    let patch = async |text: &str| {
        let patch = json!({ "stringData": { "a": text } }).to_string().into_bytes();
        let form = "application/merge-patch+json";
        world.ask(Method::PATCH, &format!("{secrets}/s"), form, patch).await
    };
    let same = patch("x").await;
    assert_eq!(version(&same.json), version(&made), "{}", same.json);
    let other = patch("y").await;
    assert_eq!(other.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.json);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_of_the_object_that_was_meant() {
    let world = World::new().await;
    let made = world.job("a").await;
    let path = format!("{JOBS}/a");
    let delete = async |field: &str, value: &Value| {
        let options = json!({ "preconditions": { field: value } });
        world.json(Method::DELETE, &path, &options).await.code
    };
    assert_eq!(delete("uid", &json!("another")).await, StatusCode::CONFLICT);
    assert_eq!(delete("resourceVersion", &json!("1")).await, StatusCode::CONFLICT);
    let changed = world.merge(&path, &json!({ "spec": { "count": 3 } })).await.json;
    let old = &made["metadata"]["resourceVersion"];
    assert_eq!(delete("resourceVersion", old).await, StatusCode::CONFLICT, "it has changed");
    let new = &changed["metadata"]["resourceVersion"];
    assert_eq!(delete("resourceVersion", new).await, StatusCode::OK);
    let again = world.job("a").await;
    assert_eq!(delete("uid", &made["metadata"]["uid"]).await, StatusCode::CONFLICT);
    assert_eq!(delete("uid", &again["metadata"]["uid"]).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_version_has_all_that_clients_of_kubernetes_parse() {
    let world = World::new().await;
    let version = world.get("/version").await.json;
    for field in [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ] {
        assert!(version[field].is_string(), "{field}: {version}");
    }
}
