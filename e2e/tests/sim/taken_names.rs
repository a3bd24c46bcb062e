//! A run, or a job, that found a name in use goes on as soon as the object is gone that has it.

use std::time::Duration;

use api::{Job, Kind, Workflow};
use client::DeletePropagation;
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Less than the controllers' full look at everything takes to come around.
const SOON: Duration = Duration::from_secs(10);

async fn create<K: Kind>(cluster: &Cluster, kind: &str, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": "heliox.dev/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    });
    let object: K = serde_json::from_value(object).unwrap();
    cluster.god.api::<K>("default").create(&object).await.unwrap();
}

fn job<'a>(seen: &'a Snapshot, name: &str) -> Option<&'a Job> {
    seen.jobs.iter().map(|job| &**job).find(|job| job.name() == name)
}

fn is_stalled(conditions: &[api::conditions::Condition]) -> bool {
    api::conditions::stalled(conditions).is_some_and(|it| it.reason == "NameTaken")
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_name_goes_on_when_it_is_free() {
    let cluster = Cluster::start(1).await;
    let nowhere = json!({ "nodes": ["nowhere"] });
    let idle = json!({ "placement": nowhere, "template": { "image": "x" } });
    create::<Job>(&cluster, "Job", "w-1-a", idle.clone()).await;
    // The only task of this job is called as the second one's would be.
    create::<Job>(&cluster, "Job", "j-1", idle).await;
    let has_task = |seen: &Snapshot| seen.tasks.iter().any(|task| task.name() == "j-1-0");
    cluster.wait_for("the task is there", SOON, has_task).await;
    let quick = json!({ "image": "x", "args": ["duration=1s"] });
    let named = json!({ "tasks": [{ "name": "1-0" }], "template": quick });
    create::<Job>(&cluster, "Job", "j", named).await;
    let jobs = json!({ "jobs": [{ "name": "a", "template": quick }] });
    create::<Workflow>(&cluster, "Workflow", "w", jobs).await;
    let wait = |seen: &Snapshot| {
        seen.workflow_runs.iter().any(|run| is_stalled(&run.status.conditions))
            && job(seen, "j").is_some_and(|job| is_stalled(&job.status.conditions))
    };
    cluster.wait_for("both wait for a name", 2 * SOON, wait).await;
    let jobs = cluster.god.api::<Job>("default");
    for name in ["w-1-a", "j-1"] {
        jobs.delete(name, DeletePropagation::Background).await.unwrap();
    }
    let have_ended = |seen: &Snapshot| {
        seen.workflow_runs.iter().any(|run| run.status.phase.is_final())
            && job(seen, "j").is_some_and(|job| job.status.phase.is_final())
    };
    cluster.wait_for("both have gone on", SOON, have_ended).await;
}
