//! What a server costs while nothing happens, with much that has ended and with nothing.

use std::time::Duration;

use api::{Job, Kind as _, Task};
use client::{Client, ListOptions};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Figure;
use super::workload::{IDLE, fleet, typed};
use crate::fleet::{ControlPlane, Fleet};

/// Requests for new jobs that are on their way at the same time.
const CREATED_AT_ONCE: usize = 64;

/// Processor time of a server over `window`, in a cluster of one node: without any job, and beside that
/// with `finished` jobs that have ended. What the server does for what is finished, it does once a
/// minute or less often, so that a shorter window tells little.
pub(super) async fn figures(finished: u32, window: Duration) -> [Figure; 2] {
    let fleet = fleet(1, ControlPlane::Embedded).await;
    let empty = spent(&fleet, window).await;
    finish(&fleet, finished).await;
    let full = spent(&fleet, window).await;
    let what = |jobs: &str| format!("idle server's processor time, {jobs}");
    let figure = |what, goal, number| Figure::new(what, ("-", goal), (number, "us/s"));
    [
        figure(what("no jobs"), "-", empty),
        figure(what(&format!("{finished} finished jobs")), "1.2 x no jobs", full)
            .beside(empty, "the same server without jobs".to_owned()),
    ]
}

/// Microseconds of processor time that the server needs in a second of doing nothing.
async fn spent(fleet: &Fleet, window: Duration) -> u64 {
    sleep(IDLE).await;
    let before = fleet.cpu_millis_of("server");
    sleep(window).await;
    let spent = fleet.cpu_millis_of("server") - before;
    spent * 1000 / window.as_secs().max(1)
}

/// Jobs of one task each, whose task objects are gone with their ends.
async fn finish(fleet: &Fleet, count: u32) {
    let client = fleet.client();
    let job = move |number: u32| -> Job {
        typed(json!({
            "apiVersion": "heliox.dev/v1", "kind": "Job",
            "metadata": { "name": format!("done-{number}"), "namespace": "default" },
            "spec": { "count": 1, "keepTasks": "0s", "template": { "image": "x" } },
        }))
    };
    let mut writers = JoinSet::new();
    for first in (0..count).take(CREATED_AT_ONCE) {
        let jobs = client.api::<Job>("default");
        writers.spawn(async move {
            for number in (first..count).step_by(CREATED_AT_ONCE) {
                jobs.create(&job(number)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    all_succeeded(&client, count).await;
    // Nor is it idle as long as it removes their tasks.
    let first = ListOptions { limit: Some(1), ..ListOptions::default() };
    let tasks = client.api::<Task>("default");
    while !tasks.list(&first).await.unwrap().items.is_empty() {
        sleep(Duration::from_secs(1)).await;
    }
}

async fn all_succeeded(client: &Client, count: u32) {
    loop {
        let jobs = client.api::<Job>("default").list(&ListOptions::default()).await.unwrap().items;
        if jobs.iter().all(|job| job.status.phase.is_final()) {
            assert_eq!(
                u32::try_from(jobs.len()),
                Ok(count),
                "the last is {:?}",
                jobs.last().map(Job::name)
            );
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}
