//! Objects that another version has written: what it added is kept, and what this one cannot read is
//! there all the same. Taken for deleted, its work would be stopped and what it owns collected.

use http::StatusCode;
use serde_json::{Value, json};
use store::{Expectation, Group, Store as _};

use crate::harness::{JOBS, World};

const KEY: &str = "/heliox/v1/jobs/default/a";
const JOB: &str = "/apis/heliox.dev/v1/namespaces/default/jobs/a";

/// A job as the store holds it, in the form of this version.
async fn stored(world: &World) -> Value {
    let record = world.store.get(KEY).await.unwrap().unwrap();
    let (form, json) = record.value.split_first().unwrap();
    assert_eq!(*form, 1);
    serde_json::from_slice(json).unwrap()
}

async fn put(world: &World, value: Vec<u8>) {
    let group = Group::default().put(KEY, Expectation::Any, value);
    assert!(world.store.commit(vec![group]).await[0].is_done());
}

async fn put_job(world: &World, job: &Value) {
    put(world, format!("\u{1}{job}").into_bytes()).await;
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
    let is_kept = |document: &Value| {
        for way in ways {
            assert_eq!(document.pointer(way), job.pointer(way), "{way}: {document}");
        }
    };
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

    let mut odd = changed.json;
    odd["spec"]["cuont"] = 3.into();
    let refused = world.put(JOB, &odd).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.json);
    let message = refused.json["message"].as_str().unwrap();
    assert!(message.contains("spec.cuont") && !message.contains("pace"), "{message}");
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
