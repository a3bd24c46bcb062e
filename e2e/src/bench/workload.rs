//! What the figures are measured with: a cluster of simulated nodes, and jobs that run on it to their end.

use std::time::Duration;

use api::job::JobPhase;
use api::{Job, Kind as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::fleet::{ControlPlane, Fleet, Shape};

/// How often a state that ends a measurement is asked for.
pub(super) const LOOK: Duration = Duration::from_millis(10);
/// How long nothing happens before memory is read.
pub(super) const IDLE: Duration = Duration::from_secs(3);
/// Room for every task of a measurement at once: what is timed is us, not the nodes.
const CAPACITY: &str = "cpu=10000,memory=10000Gi";
pub(super) async fn fleet(agents: usize, control_plane: ControlPlane) -> Fleet {
    Fleet::start(Shape { runtime: "sim", agents, capacity: CAPACITY, control_plane }).await
}

pub(super) fn no_op(name: &str, count: u32) -> Job {
    let template = json!({ "image": "x", "resources": { "requests": { "cpu": "10m" } } });
    typed(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "count": count, "template": template },
    }))
}

pub(super) fn typed<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Runs a job to its end.
pub(super) async fn complete(fleet: &Fleet, job: &Job) -> Duration {
    let start = Instant::now();
    fleet.create(job).await;
    let jobs = fleet.client().api::<Job>("default");
    loop {
        let phase = jobs.get(job.name()).await.map(|job| job.status.phase);
        if phase.as_ref().is_ok_and(|phase| phase.is_final()) {
            assert_eq!(phase.unwrap(), JobPhase::Succeeded);
            return start.elapsed();
        }
        sleep(LOOK).await;
    }
}
