//! Images that come slowly, on virtual time.

use std::time::Duration;

use api::Job;
use api::job::JobPhase;
use api::task::TaskPhase;
use runtime::Snapshot;
use serde_json::json;

use crate::cluster::Cluster;
use crate::stories::job;

/// More than images are fetched, and containers made, at the same time.
const SLOW: usize = 12;

/// A job on the first node.
async fn on_first_node(cluster: &Cluster, name: &str, image: &str, count: usize) {
    let spec = json!({
        "count": count, "placement": { "nodes": ["node-1"] }, "template": { "image": image },
    });
    job(cluster, name, spec).await;
}

fn waiting(seen: &Snapshot) -> usize {
    let waits = |task: &api::Task| {
        let message = task.status.message.as_deref().unwrap_or_default();
        task.phase() == TaskPhase::Starting && message.starts_with("pulling image")
    };
    seen.tasks.iter().filter(|task| waits(task)).count()
}

fn has_phase(seen: &Snapshot, name: &str, phase: JobPhase) -> bool {
    seen.jobs
        .iter()
        .any(|job| job.metadata.name.as_deref() == Some(name) && job.status.phase == phase)
}

#[tokio::test(start_paused = true)]
async fn images_that_come_slowly_hold_up_nothing_else_and_can_be_cancelled() {
    let cluster = Cluster::start(11).await;
    for number in 0..SLOW {
        let image = format!("slow-{number}");
        cluster.hosts[0].machine.make_slow(&image, Duration::from_secs(3600));
        on_first_node(&cluster, &format!("slow-{number}"), &image, 1).await;
    }
    cluster
        .wait_for("all say what they wait for", Duration::from_secs(30), |seen| {
            waiting(seen) == SLOW
        })
        .await;
    on_first_node(&cluster, "quick", "x", 3).await;
    cluster
        .wait_for("another task runs beside them", Duration::from_secs(20), |seen| {
            has_phase(seen, "quick", JobPhase::Succeeded)
        })
        .await;
    let jobs = cluster.god.api::<Job>("default");
    for number in 0..SLOW {
        let cancel = json!({ "spec": { "cancel": true } });
        jobs.merge_patch(&format!("slow-{number}"), &cancel).await.unwrap();
    }
    cluster
        .wait_for("all are cancelled at once", Duration::from_secs(20), |seen| {
            (0..SLOW).all(|number| has_phase(seen, &format!("slow-{number}"), JobPhase::Cancelled))
        })
        .await;
    // What was given up holds no place.
    cluster.hosts[0].machine.make_slow("shared", Duration::from_secs(60));
    on_first_node(&cluster, "shared", "shared", SLOW).await;
    cluster
        .wait_for("an image is fetched once for all", Duration::from_secs(90), |seen| {
            has_phase(seen, "shared", JobPhase::Succeeded)
        })
        .await;
}
