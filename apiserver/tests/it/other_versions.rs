//! Objects that another version has written: what it added is kept, and what this one cannot read is
//! there all the same. Taken for deleted, its work would be stopped and what it owns collected.

use http::StatusCode;
use serde_json::{Value, json};
use store::{Expectation, Group, List, Store as _};

use crate::harness::{JOBS, OURS, TASKS, World, task_of};

const KEY: &str = "/heliox/v1/jobs/default/a";
const TASK_KEY: &str = "/heliox/v1/tasks/default/a-0";
const JOB: &str = "/apis/heliox.dev/v1/namespaces/default/jobs/a";

/// The job as the store holds it, in the form of this version.
async fn stored(world: &World) -> Value {
    stored_at(world, KEY).await
}

async fn stored_at(world: &World, key: &str) -> Value {
    let record = world.store.get(key).await.unwrap().unwrap();
    let (form, json) = record.value.split_first().unwrap();
    assert_eq!(*form, 1);
    serde_json::from_slice(json).unwrap()
}

async fn put(world: &World, value: Vec<u8>) {
    put_at(world, KEY, value).await;
}

async fn put_at(world: &World, key: &str, value: Vec<u8>) {
    let group = Group::default().put(key, Expectation::Any, value);
    assert!(world.store.commit(vec![group]).await[0].is_done());
}

async fn put_job(world: &World, job: &Value) {
    put_object(world, KEY, job).await;
}

async fn put_object(world: &World, key: &str, object: &Value) {
    put_at(world, key, format!("\u{1}{object}").into_bytes()).await;
}

/// Whether a document holds what another holds there.
fn holds_of(document: &Value, of: &Value, ways: &[&str]) {
    for way in ways {
        assert_eq!(document.pointer(way), of.pointer(way), "{way}: {document}");
        assert!(of.pointer(way).is_some(), "{way}: {of}");
    }
}

#[tokio::test]
async fn what_a_newer_version_added_is_read_and_kept() {
    let world = World::new().await;
    world.job("a").await;
    let mut job = stored(&world).await;
    let ways = ["/spec/afterwards", "/spec/template/pace", "/status/outlook"];
    job["spec"]["afterwards"] = json!({ "then": ["x"] });
    job["spec"]["template"]["pace"] = json!("slow");
    job["status"]["outlook"] = json!(7);
    put_job(&world, &job).await;
    let is_kept = |document: &Value| holds_of(document, &job, &ways);
    let read = world.get(JOB).await;
    assert_eq!(read.code, StatusCode::OK);
    is_kept(&read.json);

    let labelled = world.merge(JOB, &json!({ "metadata": { "labels": { "team": "a" } } })).await;
    assert_eq!(labelled.code, StatusCode::OK, "{}", labelled.json);
    is_kept(&labelled.json);
    is_kept(&stored(&world).await);

    let mut changed = labelled.json;
    changed["spec"]["count"] = 3.into();
    let changed = world.put(JOB, &changed).await;
    assert_eq!(changed.code, StatusCode::OK, "{}", changed.json);
    is_kept(&stored(&world).await);

    let mut odd = changed.json.clone();
    odd["spec"]["cuont"] = 3.into();
    let refused = world.put(JOB, &odd).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.json);
    let message = refused.json["message"].as_str().unwrap();
    assert!(message.contains("spec.cuont") && !message.contains("pace"), "{message}");

    // Who knows the older types alone sends it back without: that is no wish to take it away.
    let mut plain = changed.json;
    plain["spec"].as_object_mut().unwrap().shift_remove("afterwards");
    plain["spec"]["template"].as_object_mut().unwrap().shift_remove("pace");
    plain["spec"]["count"] = 4.into();
    let plain = world.put(JOB, &plain).await;
    assert_eq!((plain.code, &plain.json["spec"]["count"]), (StatusCode::OK, &json!(4)));
    is_kept(&stored(&world).await);
    let mut status = plain.json;
    status["status"] = json!({ "phase": "Running" });
    let status = world.put(&format!("{JOB}/status"), &status).await;
    assert_eq!(status.code, StatusCode::OK, "{}", status.json);
    is_kept(&stored(&world).await);
    let removal = json!({ "spec": { "afterwards": null, "template": { "pace": null } } });
    let removed = world.merge(JOB, &removal).await;
    assert_eq!(removed.code, StatusCode::OK, "{}", removed.json);
    assert_eq!(removed.json.pointer("/spec/afterwards"), None, "a patch removes what it names");
}

/// The agent, the scheduler and the controllers change tasks and records as types, through changes that
/// have names: what they do not know stays where it is, and is seen by clients that know it.
#[tokio::test(start_paused = true)]
async fn what_a_newer_version_added_to_a_task_and_to_its_record_is_kept() {
    let world = World::new().await;
    let job = world.job("a").await;
    let (path, key) = (format!("{TASKS}/a-0"), json!({ "namespace": "default", "name": "a-0" }));
    world.batch(&[json!({ "create": { "object": task_of(&job, 0) } })]).await;
    let mut task = stored_at(&world, TASK_KEY).await;
    task["spec"]["pace"] = json!({ "name": "slow" });
    task["status"]["outlook"] = json!(7);
    task["metadata"]["origin"] = json!("elsewhere");
    task["more"] = json!({ "x": {} });
    put_object(&world, TASK_KEY, &task).await;
    let ways = ["/spec/pace", "/status/outlook", "/metadata/origin", "/more"];
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    world.post(&format!("{OURS}/nodes"), &node).await;
    let change = async |change: Value, phase: &str| {
        let uid = &task["metadata"]["uid"];
        let change = json!({ "task": { "key": key, "uid": uid, "attempt": 1, "change": change } });
        let answer = world.batch(&[change]).await;
        assert_eq!(answer[0]["outcome"], "Done", "{answer:?}");
        holds_of(&stored_at(&world, TASK_KEY).await, &task, &ways);
        let read = world.get(&path).await.json;
        assert_eq!(read["status"]["phase"], phase);
        assert!(read["status"]["conditions"].is_array(), "{read}");
        holds_of(&read, &task, &ways);
        let watched = world.text(&format!("{OURS}/watch?kinds=tasks&timeoutSeconds=1")).await;
        assert!(watched.contains("elsewhere"), "{watched}");
    };
    change(json!({ "bind": { "node": "n1" } }), "Bound").await;
    let report = |state: &str| json!({ "report": { "binding": 1, "bootId": "b", "state": state } });
    change(report("Running"), "Running").await;
    change(report("Succeeded"), "Succeeded").await;

    let uid = &job["metadata"]["uid"];
    let record = |index: u32| {
        let of = json!({ "namespace": "default", "name": "a" });
        json!({ "record": { "job": of, "uid": uid, "run": 1, "ends": [[index, "Succeeded"]] } })
    };
    assert_eq!(world.batch(&[record(0)]).await[0]["outcome"], "Done");
    let prefix = "/heliox/v1/done/".into();
    let list = List { prefix, at: None, after: None, limit: 10 };
    let chunks = world.store.list(list).await.unwrap();
    let [chunk] = chunks.records.as_slice() else { panic!("{}", chunks.records.len()) };
    let chunk_key = chunk.key.to_string();
    let mut chunk = stored_at(&world, &chunk_key).await;
    chunk["spec"]["sum"] = json!(3);
    put_object(&world, &chunk_key, &chunk).await;
    assert_eq!(world.batch(&[record(1)]).await[0]["outcome"], "Done");
    let after = stored_at(&world, &chunk_key).await;
    holds_of(&after, &chunk, &["/spec/sum", "/metadata"]);
    assert_ne!(after, chunk, "the second end is recorded");
}

/// What this version does not know meets none of its rules, wherever the item that has it moves.
#[tokio::test]
async fn what_a_newer_version_added_moves_with_its_item_and_refuses_nothing() {
    let world = World::new().await;
    world.job("a").await;
    let mut job = stored(&world).await;
    job["status"]["failures"] = json!([{ "reason": "exit 3", "count": 1, "later": 3 }]);
    job["spec"]["pace"] = json!("slow");
    put_job(&world, &job).await;
    let mut status = world.get(JOB).await.json;
    let first = status["status"]["failures"][0].as_object().unwrap().clone();
    let own = [("reason", json!("exit 2")), ("count", json!(1))];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let known = first.into_iter().filter(|(name, _)| name != "later").collect();
    status["status"]["failures"] = json!([Value::Object(own), Value::Object(known)]);
    let status = world.put(&format!("{JOB}/status"), &status).await;
    assert_eq!(status.code, StatusCode::OK, "{}", status.json);
    let failures = &stored(&world).await["status"]["failures"];
    assert_eq!((&failures[0]["reason"], &failures[1]["later"]), (&json!("exit 2"), &json!(3)));
    // What a change takes back by itself takes only that back.
    let cancelled = world.merge(JOB, &json!({ "spec": { "cancelReason": "for no cancel" } })).await;
    assert_eq!(cancelled.code, StatusCode::OK, "{}", cancelled.json);
    assert_eq!(stored(&world).await["spec"]["pace"], "slow");
}

#[tokio::test]
async fn however_much_a_newer_version_added_all_of_it_stays_and_no_slip_hides_behind_it() {
    const FLOW: &str = "/apis/heliox.dev/v1/namespaces/default/workflows/w";
    const FLOW_KEY: &str = "/heliox/v1/workflows/default/w";
    let world = World::new().await;
    let job = |n: u32| json!({ "name": format!("j{n}"), "template": { "image": "busybox" } });
    let jobs: Vec<Value> = (0..150).map(job).collect();
    let flow = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": "w", "namespace": "default" }, "spec": { "jobs": jobs },
    });
    let made = world.post("/apis/heliox.dev/v1/namespaces/default/workflows", &flow).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.json);
    let mut newer = stored_at(&world, FLOW_KEY).await;
    for job in newer["spec"]["jobs"].as_array_mut().unwrap() {
        job["later"] = json!({ "x": job["name"] });
    }
    put_object(&world, FLOW_KEY, &newer).await;
    let all_are_there = async || {
        let jobs = stored_at(&world, FLOW_KEY).await["spec"]["jobs"].take();
        let is_there = |job: &&Value| job["later"]["x"] == job["name"];
        assert_eq!(jobs.as_array().unwrap().iter().filter(is_there).count(), 150);
    };
    let labelled = world.merge(FLOW, &json!({ "metadata": { "labels": { "team": "a" } } })).await;
    assert_eq!(labelled.code, StatusCode::OK, "{}", labelled.json);
    all_are_there().await;
    // Sent back by who knows it, with a job before the others, and by who does not, in another order.
    let mut whole = labelled.json;
    whole["spec"]["jobs"].as_array_mut().unwrap().insert(0, job(999));
    let added = world.put(FLOW, &whole).await;
    assert_eq!(added.code, StatusCode::OK, "{}", added.json);
    all_are_there().await;
    let mut plain = added.json;
    let jobs = plain["spec"]["jobs"].as_array_mut().unwrap();
    jobs.iter_mut().for_each(|job| drop(job.as_object_mut().unwrap().shift_remove("later")));
    jobs.reverse();
    let reversed = world.put(FLOW, &plain).await;
    assert_eq!(reversed.code, StatusCode::OK, "{}", reversed.json);
    all_are_there().await;
    let mut slip = reversed.json;
    slip["spec"]["jobs"][149]["tempalte"] = json!({});
    let refused = world.put(FLOW, &slip).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.json);
    let message = refused.json["message"].as_str().unwrap();
    assert!(message.contains("spec.jobs[149].tempalte") && !message.contains("later"), "{message}");
}

/// Fields that are written always may be missing: another version leaves them out.
#[tokio::test(start_paused = true)]
async fn what_another_version_leaves_out_is_not_taken_for_nothing() {
    let world = World::new().await;
    let job = world.job("a").await;
    world.batch(&[json!({ "create": { "object": task_of(&job, 0) } })]).await;
    let mut task = stored_at(&world, TASK_KEY).await;
    task["spec"].as_object_mut().unwrap().shift_remove("index");
    task["spec"]["pace"] = json!("slow");
    put_object(&world, TASK_KEY, &task).await;
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    world.post(&format!("{OURS}/nodes"), &node).await;
    let bound = world.post(&format!("{TASKS}/a-0/binding"), &json!({ "node": "n1" })).await;
    assert_eq!(bound.json["status"]["phase"], "Bound", "{}", bound.json);
    let stored = stored_at(&world, TASK_KEY).await;
    assert_eq!((&stored["spec"]["pace"], stored["spec"].get("index")), (&json!("slow"), None));
}

/// Seen by all that may ask: named, listed, in a table, under a selector.
async fn is_there(world: &World) {
    let read = world.get(JOB).await;
    assert_eq!(read.code, StatusCode::OK, "{}", read.json);
    assert_eq!(read.json["metadata"]["name"], "a");
    assert_eq!(read.json["kind"], "Job");
    assert!(read.json["metadata"]["resourceVersion"].is_string());
    let list = world.get(JOBS).await;
    assert_eq!(list.json["items"].as_array().unwrap().len(), 1, "{}", list.json);
    let table = world.get_table(JOBS).await;
    let cells: Vec<&str> =
        table["rows"][0]["cells"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(cells.first(), Some(&"a"));
    let why = cells.last().unwrap();
    assert!(why.starts_with("this version cannot read it: "), "{cells:?}");
    let again = world.post(JOBS, &crate::harness::job("a")).await;
    assert_eq!(again.code, StatusCode::CONFLICT, "{}", again.json);
}

#[tokio::test]
async fn what_cannot_be_read_is_there_and_can_be_deleted() {
    let world = World::new().await;
    let uid = world.job("a").await["metadata"]["uid"].clone();
    let mut job = stored(&world).await;
    job["spec"]["count"] = json!("as many as needed");
    job["metadata"]["labels"] = json!({ "team": "a" });
    put_job(&world, &job).await;
    is_there(&world).await;
    let read = world.get(JOB).await.json;
    assert_eq!((&read["metadata"]["uid"], &read["spec"]), (&uid, &job["spec"]), "as it is stored");
    let selected = world.get(&format!("{JOBS}?labelSelector=team%3Da")).await;
    assert_eq!(selected.json["items"].as_array().unwrap().len(), 1);
    let deleted = world.delete(JOB).await;
    assert_eq!(deleted.code, StatusCode::OK, "{}", deleted.json);
    assert_eq!(world.get(JOB).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_in_another_form_altogether_is_there_by_name_and_can_be_deleted() {
    for value in [&b"\x63another form"[..], b"\x01not JSON", b"\x01[]", b""] {
        let world = World::new().await;
        put(&world, value.to_vec()).await;
        is_there(&world).await;
        // And to a server that starts.
        is_there(&World::over(world.store.clone()).await).await;
        let deleted = world.delete(JOB).await;
        assert_eq!(deleted.code, StatusCode::OK, "{value:?}: {}", deleted.json);
        assert_eq!(world.get(JOB).await.code, StatusCode::NOT_FOUND);
        assert_eq!(world.store.get(KEY).await.unwrap().map(|record| record.value), None);
    }
}

/// This version does not know what the owner records of it, so nobody may take its end away.
#[tokio::test]
async fn a_task_of_an_owner_that_a_newer_version_knows_stays() {
    let world = World::new().await;
    let job = world.job("a").await;
    world.batch(&[json!({ "create": { "object": task_of(&job, 0) } })]).await;
    let mut task = stored_at(&world, TASK_KEY).await;
    let owner = &mut task["metadata"]["ownerReferences"][0];
    owner["kind"] = json!("Machine");
    put_object(&world, TASK_KEY, &task).await;
    let key = json!({ "namespace": "default", "name": "a-0" });
    let remove = json!({ "remove": { "key": key, "uid": task["metadata"]["uid"] } });
    let refused = &world.batch(&[remove]).await[0];
    assert_eq!(refused["outcome"], "Refused", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("Machine"), "{refused}");
    // A label, too, can still be given.
    let patch = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(world.merge(&format!("{TASKS}/a-0"), &patch).await.code, StatusCode::OK);
}

/// An agent that has lost its lease is granted another one, perhaps by an older apiserver.
#[tokio::test(start_paused = true)]
async fn what_a_newer_version_added_to_a_node_lease_is_kept_when_it_is_granted_anew() {
    let world = World::new().await;
    let key = "/heliox/v1/nodelease/n1";
    let grant = json!({ "node": "n1", "agent": "x", "bootId": "b" });
    let granted = world.post(&format!("{OURS}/nodeleases"), &grant).await;
    let mut lease = stored_at(&world, key).await;
    lease["spec"]["zone"] = json!("east");
    lease["more"] = json!({ "x": 1 });
    put_object(&world, key, &lease).await;
    let again = world.post(&format!("{OURS}/nodeleases"), &grant).await;
    assert_ne!(again.json["lease"], granted.json["lease"], "{}", again.json);
    let stored = stored_at(&world, key).await;
    holds_of(&stored, &lease, &["/spec/zone", "/more"]);
    assert_eq!(stored["spec"]["lease"], again.json["lease"]);
}
