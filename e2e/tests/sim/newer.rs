//! A cluster of this version beside an apiserver of a newer one, which adds fields to every object that
//! there is. Every part goes about its work, and nobody takes one of these fields away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Tasks;
use serde_json::{Value, json};
use store::{Event, Expectation, Group, Key, List, Record, Revision, Simulated, Store as _};

use crate::cluster::Cluster;
use crate::workload;

/// Under which the objects are.
const PREFIX: &str = "/heliox/v1/";
/// They live under leases of the store: who writes one has to know its lease.
const NODE_LEASES: &str = "/heliox/v1/nodeleases/";
/// A field that this version does not know.
const ADDED: &str = "addedLater";
/// Where a newer version may add a field: not in maps, whose keys are names that people chose.
const PLACES: [&str; 7] =
    ["", "/metadata", "/spec", "/spec/template", "/spec/retry", "/status", "/status/report"];

/// What was taken away, by key.
#[derive(Debug, Clone, Default)]
struct Lost(Arc<Mutex<Vec<String>>>);

/// The object that a value holds; some keys hold other things.
fn document(value: &[u8]) -> Option<Value> {
    let (_form, json) = value.split_first()?;
    serde_json::from_slice(json).ok().filter(Value::is_object)
}

/// An object with a field more in each place; nothing if it has them all.
fn with_fields(mut object: Value) -> Option<Value> {
    let mut is_new = false;
    for place in PLACES {
        if let Some(Value::Object(fields)) = object.pointer_mut(place) {
            is_new |= fields.insert(ADDED.to_owned(), json!({ "in": place })).is_none();
        }
    }
    is_new.then_some(object)
}

/// Where one and the same object had the field before and has it no longer.
fn lost_between(before: &Value, now: &Value) -> Vec<&'static str> {
    if before.pointer("/metadata/uid") != now.pointer("/metadata/uid") {
        return Vec::new();
    }
    let has = |object: &Value, place: &str| {
        object.pointer(place).and_then(Value::as_object).map(|it| it.contains_key(ADDED))
    };
    let is_lost = |place: &&str| has(before, place) == Some(true) && has(now, place) == Some(false);
    PLACES.into_iter().filter(is_lost).collect()
}

/// Writes what the newer apiserver would, for ever, and notes what others take away of it.
async fn write(store: Simulated, lost: Lost) {
    let list = List { prefix: PREFIX.into(), at: None, after: None, limit: 1 };
    let begin = store.list(list).await.unwrap().revision;
    let mut watch = store.watch(PREFIX, Revision(begin.0 + 1)).await.unwrap();
    let mut last: BTreeMap<Key, Record> = BTreeMap::new();
    loop {
        for Event { key, now, .. } in watch.next().await.unwrap().events {
            let before = match &now {
                Some(now) => last.insert(key.clone(), now.clone()),
                None => last.remove(&key),
            };
            let Some(now) = now.filter(|_| !key.starts_with(NODE_LEASES)) else { continue };
            let Some(object) = document(&now.value) else { continue };
            let known = before.and_then(|before| document(&before.value)).unwrap_or_default();
            let places = lost_between(&known, &object);
            let notes = places.iter().map(|place| format!("{key}: {place}"));
            lost.0.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
            if let Some(object) = with_fields(object) {
                // Who was faster is met again.
                let expect = Expectation::Modified(now.modified);
                let group = Group::default().put(&*key, expect, format!("\u{1}{object}"));
                let _outcome = store.commit(vec![group]).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_part_works_on_objects_of_a_newer_version_and_takes_nothing_away() {
    let cluster = Cluster::start(21).await;
    let lost = Lost::default();
    let newer = Tasks::new("newer apiserver");
    newer.spawn("writes", write(cluster.store.clone(), lost.clone()));
    workload::start(&cluster, &cluster.rng.fork("workload")).await;
    let limit = Duration::from_secs(900);
    let seen = cluster.wait_for("all is done", limit, workload::is_done).await;
    workload::ended_as_meant(&seen);
    workload::delete_what_stays(&cluster).await;
    cluster.wait_for("the deleted job is gone", limit, workload::is_gone).await;
    let lost = lost.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(lost.is_empty(), "{lost:#?}");
    let all = List { prefix: PREFIX.into(), at: None, after: None, limit: 1_000 };
    let held = cluster.store.list(all).await.unwrap().records;
    let is_marked = |value: &[u8]| document(value).is_some_and(|it| it.get(ADDED).is_some());
    let marked = held.iter().filter(|it| is_marked(&it.value)).count();
    assert!(marked > 20, "{marked} of {}", held.len());
}
