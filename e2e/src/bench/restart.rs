//! How soon a server answers again that was killed in the middle of its work.

use api::{Job, Kind as _};
use http::Method;
use tokio::time::{Instant, sleep};

use super::workload::{LOOK, fleet, no_op};
use super::{Figure, millis};
use crate::fleet::ControlPlane;

/// The time from the restart of a killed server until it reports that it is ready. `count` tasks run.
/// They have just been created, bound and started, so the store's history holds all versions of them,
/// which is the most that a server ever reads at its start.
pub(super) async fn figure(count: u32) -> Figure {
    let mut fleet = fleet(1, ControlPlane::Embedded).await;
    let mut job = no_op("running", count);
    job.spec.template.args = vec!["duration=3600s".to_owned()];
    fleet.create(&job).await;
    let client = fleet.client();
    let jobs = client.api::<Job>("default");
    while !jobs.get(job.name()).await.is_ok_and(|job| job.status.active == count) {
        sleep(LOOK).await;
    }
    fleet.kill("server");
    let start = Instant::now();
    fleet.run("server").await;
    while client.bytes(Method::GET, "/readyz", None).await.is_err() {
        sleep(LOOK).await;
    }
    let what = format!("server killed with {count} tasks to ready again");
    Figure::new(what, ("-", "1000 ms"), (millis(start.elapsed()), "ms"))
}
