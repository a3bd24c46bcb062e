//! What it costs to delete a job with many tasks, beside one with fewer.

use std::time::Duration;

use api::{Job, Kind as _, Task};
use client::{DeletePropagation, ListOptions};
use serde_json::json;
use tokio::time::sleep;

use super::Figure;
use super::workload::{IDLE, fleet, typed};
use crate::fleet::{ControlPlane, Fleet};

/// How many times as many tasks the larger job has.
const TIMES: u32 = 4;
/// How often it is asked whether the tasks are gone.
const POLL: Duration = Duration::from_millis(200);

/// Processor time of all processes for each task of a job that is deleted. It is the same for both
/// sizes where each task is looked at as often as it changes, and grows with the size where each one
/// that goes has all others looked at.
pub(super) async fn figure(tasks: u32) -> Figure {
    let fleet = fleet(1, ControlPlane::Embedded).await;
    let fewer = (tasks / TIMES).max(1);
    let small = removed(&fleet, "small", fewer).await;
    let large = removed(&fleet, "large", tasks).await;
    let what = format!("processor time a task of deleting a job of {tasks}");
    Figure::new(what, ("-", "1.2 x"), (large, "us")).beside(small, format!("a job of {fewer}"))
}

/// Microseconds a task.
async fn removed(fleet: &Fleet, name: &str, count: u32) -> u64 {
    // No node has this label, so that the tasks are there and nothing else happens to them.
    let job: Job = typed(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "count": count, "template": { "image": "x" },
            "placement": { "constraints": ["nobody = here"] },
        },
    }));
    fleet.create(&job).await;
    let client = fleet.client();
    let (jobs, tasks) = (client.api::<Job>("default"), client.api::<Task>("default"));
    while u32::try_from(tasks.list(&ListOptions::default()).await.unwrap().items.len()) != Ok(count)
    {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(IDLE).await;
    let before = fleet.cpu_millis();
    jobs.delete(job.name(), DeletePropagation::Background).await.unwrap();
    // One that is left is enough to know: what asks for all of them would be measured, too.
    let first = ListOptions { limit: Some(1), ..ListOptions::default() };
    while !tasks.list(&first).await.unwrap().items.is_empty() {
        sleep(POLL).await;
    }
    (fleet.cpu_millis() - before) * 1000 / u64::from(count)
}
