//! Many who change one object at once.

use std::time::Duration;

use base::Rng;
use futures_util::future::{join, join_all};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{JOBS, World};

/// More than an apiserver tries a decision anew.
const WRITERS: usize = 50;

/// An object in a store whose answers take their time, so that many decide at once.
async fn world_of_one_job() -> (World, Value) {
    let world = World::of_one().await;
    let made = world.job("a").await;
    world.store.faults().delay_answers(Rng::seeded(1), Duration::from_millis(20));
    (world, made)
}

/// A patch names no version, so nothing that others change is a conflict: each happens.
#[tokio::test(start_paused = true)]
async fn patches_of_one_object_do_not_refuse_each_other() {
    let (world, _) = world_of_one_job().await;
    let path = format!("{JOBS}/a");
    let patches = (0..WRITERS).map(async |n| {
        let label = json!({ "metadata": { "labels": { (format!("l{n}")): "x" } } });
        world.merge(&path, &label).await
    });
    for answer in join_all(patches).await {
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    }
    let labels = world.get(&path).await.json["metadata"]["labels"].clone();
    assert_eq!(labels.as_object().map(serde_json::Map::len), Some(WRITERS));
}

/// The same of those who replace or delete whatever is there.
#[tokio::test(start_paused = true)]
async fn whoever_replaces_or_deletes_whatever_is_there_is_not_refused_either() {
    let (world, made) = world_of_one_job().await;
    let path = format!("{JOBS}/a");
    let replaces = (0..WRITERS).map(async |n| {
        let mut next: Value = made.clone();
        next["spec"]["count"] = json!(n + 1);
        next["metadata"].as_object_mut().unwrap().shift_remove("resourceVersion");
        world.put(&path, &next).await
    });
    for answer in join_all(replaces).await {
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
    }
    let patches = (0..WRITERS).map(async |n| {
        let label = json!({ "metadata": { "labels": { (format!("l{n}")): "x" } } });
        world.merge(&path, &label).await.code
    });
    let delete = async { world.delete(&path).await.code };
    let (codes, deleted) = join(join_all(patches), delete).await;
    assert_eq!(deleted, StatusCode::OK);
    let is_told = |code: &StatusCode| [StatusCode::OK, StatusCode::NOT_FOUND].contains(code);
    assert!(codes.iter().all(is_told), "{codes:?}");
}
