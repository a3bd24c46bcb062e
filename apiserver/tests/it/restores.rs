//! Backups and what is made of them: whole or not at all, and told from the store that was lost.

use api::cluster::Cluster;
use apiserver::backup::{Damage, Reader, Restore, RestoreError, Summary};
use axum::body::Body;
use base::{Rng, Tasks, Timestamp};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::{Embedded, Fault, Simulated, Store};

use crate::harness::{JOBS, OURS, TASKS, World, task_of};

const NOW: &str = "2026-01-02T00:00:00Z";

/// A cluster with a job, two of its tasks, of which one is bound, a Secret and a node's lease.
async fn lived_in() -> World {
    let world = World::new().await;
    let job = world.job("a").await;
    for index in 0..2 {
        world.batch(&[json!({ "create": { "object": task_of(&job, index) } })]).await;
    }
    let node = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
    });
    assert_eq!(world.post(&format!("{OURS}/nodes"), &node).await.code, 201);
    let task = world.get(&format!("{TASKS}/a-0")).await.json;
    let bind = json!({ "task": {
        "key": { "namespace": "default", "name": "a-0" }, "uid": task["metadata"]["uid"],
        "attempt": 1, "change": { "bind": { "node": "n1" } },
    } });
    assert_eq!(world.batch(&[bind]).await[0]["outcome"], "Done");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" }, "data": { "k": "dg==" },
    });
    assert_eq!(world.post("/api/v1/namespaces/default/secrets", &secret).await.code, 201);
    grant(&world).await;
    world
}

async fn grant(world: &World) -> Value {
    let request = json!({ "node": "n1", "agent": "a", "bootId": "b" });
    world.post(&format!("{OURS}/nodeleases"), &request).await.json
}

async fn backup(world: &World) -> Bytes {
    let request = Request::get(format!("{OURS}/backup")).body(Bytes::new()).unwrap();
    world.send(request).await.into_body().collect().await.unwrap().to_bytes()
}

fn summary(backup: &[u8]) -> Result<(Vec<String>, Summary), Damage> {
    let mut reader = Reader::open(backup)?;
    let mut keys = Vec::new();
    while let Some((key, _)) = reader.next_record()? {
        keys.push(key);
    }
    Ok((keys, reader.summary().unwrap()))
}

/// Restores, but puts only the first `records` of the backup's.
async fn restore_some(
    store: &dyn Store,
    backup: &[u8],
    records: usize,
) -> Result<Cluster, RestoreError> {
    let (_, summary) = summary(backup).unwrap();
    let outside = (NOW.parse::<Timestamp>().unwrap(), &Rng::from_machine());
    let mut restore = Restore::begin(store, &summary, outside).await?;
    let mut reader = Reader::open(backup).unwrap();
    for _ in 0..records {
        let Some((key, value)) = reader.next_record().unwrap() else {
            return restore.finish().await;
        };
        restore.put(&key, value).await?;
    }
    Err(RestoreError::Store("it was interrupted".to_owned()))
}

async fn restore(store: &dyn Store, backup: &[u8]) -> Result<Cluster, RestoreError> {
    restore_some(store, backup, usize::MAX).await
}

async fn restored(backup: &[u8]) -> World {
    let store = Simulated::new();
    restore(&store, backup).await.unwrap();
    World::over(store).await
}

/// An object without what a restore may change.
async fn object(world: &World, path: &str) -> Value {
    let mut object = world.get(path).await.json;
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    object
}

/// Found before anything is written: in the restored store its work would stand still.
#[tokio::test(start_paused = true)]
async fn what_this_version_cannot_read_is_not_restored() {
    let world = lived_in().await;
    let key = "/heliox/v1/jobs/default/a";
    let record = world.store.get(key).await.unwrap().unwrap();
    let mut job: Value = serde_json::from_slice(&record.value[1..]).unwrap();
    let read = |job: &Value| {
        apiserver::backup::check("jobs/default/a", format!("\u{1}{job}").into()).map_err(|why| {
            assert!(matches!(why, RestoreError::Record { .. }), "{why:?}");
            why.to_string()
        })
    };
    job["spec"]["afterwards"] = json!("a newer version knows what this is");
    assert_eq!(read(&job), Ok(()));
    job["spec"]["count"] = json!("as many as needed");
    let refused = read(&job).unwrap_err();
    assert!(refused.starts_with("cannot restore record jobs/default/a: "), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_holds_what_the_backup_shows_in_a_new_life() {
    let world = lived_in().await;
    let bytes = backup(&world).await;
    let (keys, summary) = summary(&bytes).unwrap();
    assert!(keys.iter().all(|key| !key.starts_with("nodelease/") && !key.starts_with("meta/")));
    assert_eq!(summary.records, 7, "namespaces, a job, its tasks, a node and a Secret: {keys:?}");
    world.job("b").await;
    let again = restored(&bytes).await;
    for path in [&format!("{JOBS}/a"), "/api/v1/namespaces/default/secrets/s"] {
        assert_eq!(object(&again, path).await, object(&world, path).await);
    }
    assert_eq!(again.get(&format!("{JOBS}/b")).await.code, 404, "it is of after the backup");
    let ids = |info: &Value| (info["cluster"]["id"].clone(), info["cluster"]["epoch"].clone());
    let (id, epoch) = ids(&world.get(&format!("{OURS}/cluster")).await.json);
    assert_eq!(epoch, 1);
    assert_eq!(ids(&again.get(&format!("{OURS}/cluster")).await.json), (id, json!(2)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_nobody_has_spoken_of_gets_a_new_number() {
    let world = lived_in().await;
    let again = restored(&backup(&world).await).await;
    for (name, phase) in [("a-0", "Bound"), ("a-1", "Pending")] {
        let before = world.get(&format!("{TASKS}/{name}")).await.json;
        let after = again.get(&format!("{TASKS}/{name}")).await.json;
        assert_eq!(
            (&before["status"]["phase"], &before["spec"]["attempt"]),
            (&json!(phase), &json!(1))
        );
        assert_eq!(after["status"]["phase"], "Pending", "{after}");
        assert_eq!(after["spec"]["attempt"], 144_001, "a day into 2026");
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    }
}

#[tokio::test(start_paused = true)]
async fn agents_are_told_to_wait_until_a_person_confirms() {
    let world = lived_in().await;
    let again = restored(&backup(&world).await).await;
    let granted = grant(&again).await;
    assert_eq!((&granted["epoch"], &granted["unconfirmed"]), (&json!(2), &json!(true)));
    let leases = json!({ "node": "n1", "lease": granted["lease"] });
    let renew = format!("{OURS}/nodeleases/renew");
    assert_eq!(again.post(&renew, &leases).await.json["unconfirmed"], true);
    let path = format!("{OURS}/cluster");
    let mut info = again.get(&path).await.json;
    assert_eq!(
        (&info["confirmed"], &info["backupTakenAt"]),
        (&json!(false), &json!("1970-01-01T00:00:00Z"))
    );
    let confirm = |cluster: &Value| json!({ "cluster": cluster });
    let other = world.get(&path).await.json;
    let refused = again.post(&format!("{path}/confirm"), &confirm(&other["cluster"])).await;
    assert_eq!(refused.code, 409, "another life of the cluster is not confirmed with it");
    info = again.post(&format!("{path}/confirm"), &confirm(&info["cluster"])).await.json;
    assert_eq!(info["confirmed"], true);
    let renewed = again.post(&renew, &leases).await.json;
    assert_eq!((&renewed["alive"], renewed.get("unconfirmed")), (&json!(true), None));
    let second = World::over(again.store.clone()).await;
    assert_eq!(second.get(&path).await.json["confirmed"], true, "every apiserver knows");
    let twice = restored(&backup(&again).await).await;
    assert_eq!(twice.get(&path).await.json["confirmed"], false, "a third life is another one");
    assert_eq!(grant(&world).await.get("unconfirmed"), None, "a first life needs no word");
}

#[tokio::test(start_paused = true)]
async fn who_remembers_the_lost_store_reads_anew() {
    let world = lived_in().await;
    let bytes = backup(&world).await;
    world.job("b").await;
    let list = world.get(JOBS).await.json;
    let old = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let again = restored(&bytes).await;
    let watch = again.get(&format!("{JOBS}?watch=1&resourceVersion={old}")).await;
    assert_eq!((watch.code.as_u16(), &watch.json["reason"]), (410, &json!("Expired")));
    let new = again.get(JOBS).await.json["metadata"]["resourceVersion"].clone();
    let number = |version: &str| version.parse::<u64>().unwrap();
    assert!(number(new.as_str().unwrap()) > number(&old) + (1 << 50));
}

#[tokio::test(start_paused = true)]
async fn a_point_that_has_not_come_is_not_waited_for() {
    let world = World::new().await;
    let current = world.get(JOBS).await.json["metadata"]["resourceVersion"].clone();
    let ahead = current.as_str().unwrap().parse::<u64>().unwrap() + 1024;
    let watch = world.get(&format!("{JOBS}?watch=1&resourceVersion={ahead}")).await;
    assert_eq!((watch.code.as_u16(), &watch.json["reason"]), (410, &json!("Expired")));
    let many = format!("{OURS}/watch?kinds=jobs&resourceVersion={ahead}");
    assert_eq!(world.get(&many).await.code, 410);
    for how in ["", "&resourceVersionMatch=NotOlderThan"] {
        let list = world.get(&format!("{JOBS}?resourceVersion={ahead}{how}")).await;
        assert_eq!((list.code.as_u16(), &list.json["reason"]), (504, &json!("Timeout")));
        assert_eq!(list.json["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    }
    let exact = world.get(&format!("{JOBS}?resourceVersion={}", current.as_str().unwrap())).await;
    assert_eq!(exact.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_was_interrupted_anywhere_is_used_by_nobody_and_finished_by_the_same() {
    let world = lived_in().await;
    let bytes = backup(&world).await;
    let other = {
        world.job("b").await;
        backup(&world).await
    };
    for records in 0..=7 {
        let store = Simulated::new();
        let cut = restore_some(&store, &bytes, records).await;
        assert!(matches!(cut, Err(RestoreError::Store(_))), "{cut:?}");
        let started = World::try_over(store.clone()).await.map(drop).unwrap_err().to_string();
        assert!(
            started.contains("a restore into this store is not finished"),
            "after {records}: {started}"
        );
        let refused = restore(&store, &other).await;
        assert!(matches!(refused, Err(RestoreError::Unfinished(_))), "{refused:?}");
        restore(&store, &bytes).await.unwrap();
        let again = World::over(store).await;
        assert_eq!(again.get(TASKS).await.json["items"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_goes_on_over_answers_that_are_lost() {
    let world = lived_in().await;
    let bytes = backup(&world).await;
    for fault in [Fault::AnswerLost, Fault::RequestLost] {
        let store = Simulated::new();
        store.faults().next_groups(1, fault);
        let first = restore(&store, &bytes).await;
        let cluster = if first.is_err() { restore(&store, &bytes).await } else { first };
        assert_eq!(cluster.unwrap().epoch, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_holds_anything_is_left_as_it_is() {
    let world = lived_in().await;
    let bytes = backup(&world).await;
    let before = world.store.revision().await.unwrap();
    let refused = restore(&world.store, &bytes).await.unwrap_err().to_string();
    assert!(refused.contains("not empty") && refused.contains("epoch 1"), "{refused}");
    assert_eq!(world.store.revision().await, Ok(before), "nothing was written");
    let finished = restored(&bytes).await;
    let refused = restore(&finished.store, &bytes).await.unwrap_err().to_string();
    assert!(refused.contains("not empty") && refused.contains("epoch 2"), "{refused}");
}

/// Begins to read a backup of several pages.
async fn begin_long_backup(world: &World) -> Body {
    for number in 0..1_200 {
        world.job(&format!("job-{number}")).await;
    }
    let request = Request::get(format!("{OURS}/backup")).body(Bytes::new()).unwrap();
    world.send(request).await.into_body()
}

#[tokio::test(start_paused = true)]
async fn a_backup_whose_history_is_forgotten_meanwhile_says_so() {
    let world = World::new().await;
    let mut body = begin_long_backup(&world).await;
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
        // Another apiserver cuts history; this one would not.
        world.job("late").await;
        let current = world.store.revision().await.unwrap();
        world.store.compact(current).await.unwrap();
        world.delete(&format!("{JOBS}/late")).await;
    }
    let Err(Damage::Unfinished(why)) = summary(&bytes) else { panic!("it looks whole") };
    assert!(why.contains("was compacted"), "{why}");
}

#[tokio::test]
async fn a_backup_moves_between_stores_of_any_kind() {
    let world = lived_in().await;
    let bytes = backup(&world).await;
    let tasks = Tasks::new("store");
    let embedded = Embedded::in_memory(&tasks.spawner()).unwrap();
    restore(&embedded, &bytes).await.unwrap();
    let now: Timestamp = NOW.parse().unwrap();
    let mut lines = apiserver::backup::backup(std::sync::Arc::new(embedded), now).await.unwrap();
    let mut back = Vec::new();
    while let Some(some) = lines.next().await.unwrap() {
        back.extend_from_slice(&some);
    }
    let ((keys, first), (same, second)) = (summary(&bytes).unwrap(), summary(&back).unwrap());
    assert_eq!(keys, same);
    assert_eq!((first.header.epoch, second.header.epoch), (1, 2));
    let again = restored(&back).await;
    assert_eq!(
        object(&again, &format!("{JOBS}/a")).await,
        object(&world, &format!("{JOBS}/a")).await
    );
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_forgets_no_history_that_a_backup_of_its_own_still_reads() {
    let world = World::of_one().await;
    let mut body = begin_long_backup(&world).await;
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
        // A slow reader, in a cluster where much happens.
        for number in 0..20 {
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
            world.job(&format!("late-{}-{number}", bytes.len())).await;
        }
    }
    assert_eq!(summary(&bytes).unwrap().1.records, 1_202);
    let oldest = world.store.oldest().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert!(world.store.oldest().await.unwrap() > oldest, "it goes on afterwards");
}

/// A header whose numbers leave none to count on with is refused before anything is written.
#[tokio::test(start_paused = true)]
async fn a_backup_with_the_last_numbers_there_are_is_refused() {
    let world = lived_in().await;
    let (_, whole) = summary(&backup(&world).await).unwrap();
    let mut late = whole.clone();
    late.header.epoch = u64::MAX;
    let mut large = whole;
    large.header.revision = u64::MAX;
    for forged in [late, large] {
        let store = Simulated::new();
        let outside = (NOW.parse::<Timestamp>().unwrap(), &Rng::from_machine());
        let begun = Restore::begin(&store, &forged, outside).await.map(drop);
        assert!(matches!(begun, Err(RestoreError::Record { .. })), "{begun:?}");
        assert_eq!(store.revision().await.unwrap(), Simulated::new().revision().await.unwrap());
    }
}
