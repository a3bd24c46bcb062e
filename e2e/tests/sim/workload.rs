//! What a cluster of the seeds has to do: jobs that succeed, one that fails, one that stays, and a
//! workflow beside partitions.

use std::sync::Arc;

use api::job::JobPhase;
use api::task::TaskPhase;
use api::workflow_run::RunPhase;
use api::{Job, Kind as _, PartitionSet, Task, Workflow};
use base::Rng;
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Jobs of the workload, those of its workflow included.
const JOBS: usize = 6;
/// The job that never ends by itself.
pub(crate) const STAYS: &str = "stay";

/// Makes all of it.
pub(crate) async fn start(cluster: &Cluster, rng: &Rng) {
    let jobs = cluster.god.api::<Job>("default");
    for job in [long(rng), flaky(rng), doomed(), stay()] {
        jobs.create(&job).await.unwrap();
    }
    let set: PartitionSet = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "PartitionSet",
        "metadata": { "name": "db", "namespace": "default" },
        "spec": {
            "partitions": 3, "stateModel": "LeaderStandby", "mode": "Manual",
            "assignment": {
                "db-0": { "node-1": "LEADER" }, "db-1": { "node-2": "LEADER" }, "db-2": { "node-1": "LEADER" },
            },
        },
    }))
    .unwrap();
    cluster.god.api::<PartitionSet>("default").create(&set).await.unwrap();
    let workflow: Workflow = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": "wf", "namespace": "default" },
        "spec": {
            "defaults": {
                "template": { "image": "sim", "resources": { "requests": { "cpu": "250m" } } },
                "retry": { "maxAttempts": 10, "backoff": { "initial": "1s" } },
            },
            "jobs": [
                { "name": "collect", "count": 3, "template": { "args": ["duration=2s"] } },
                { "name": "load", "dependsOn": [{ "job": "collect" }],
                  "target": { "partitionSet": "db", "states": ["LEADER"] },
                  "template": { "args": ["duration=3s"] } },
            ],
        },
    }))
    .unwrap();
    cluster.god.api::<Workflow>("default").create(&workflow).await.unwrap();
}

fn job(name: &str, spec: Value) -> Job {
    serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    }))
    .unwrap()
}

/// Tasks that are there when things happen, and need a port each.
fn long(rng: &Rng) -> Job {
    let args = [format!("duration={}s", 5 + rng.below(20)), "ignore-term=true".to_owned()];
    job(
        "long",
        json!({
            "count": 1 + rng.below(8),
            "retry": { "maxAttempts": 10, "backoff": { "initial": "1s", "max": "5s" } },
            "template": {
                "image": "sim", "args": args, "terminationGracePeriodSeconds": 3,
                "ports": [{ "name": "a" }, { "name": "b" }],
                "resources": { "requests": { "cpu": 1 + rng.below(3), "memory": "64Mi" } },
            },
        }),
    )
}

/// Tasks whose first attempt crashes, and that all want the same port of their node. Their objects
/// go soon after their end: only the record knows of them then.
fn flaky(rng: &Rng) -> Job {
    let args = [format!("duration={}s", rng.below(4)), "crash=1".to_owned()];
    job(
        "flaky",
        json!({
            "count": 1 + rng.below(5), "keepTasks": "5s",
            "retry": { "maxAttempts": 10, "backoff": { "initial": "1s", "max": "5s" } },
            "template": {
                "image": "sim", "args": args,
                "ports": [{ "name": "a", "hostPort": 8080 }],
                "resources": { "requests": { "cpu": "500m", "memory": "64Mi" } },
            },
        }),
    )
}

/// Its first task fails until it is given up, which ends the others.
fn doomed() -> Job {
    let fails = json!({ "args": ["duration=1s", "exit=3"] });
    job(
        "doomed",
        json!({
            "tasks": [{ "name": "fails", "template": fails }, { "name": "quick" }, { "name": "waits", "template": { "args": ["duration=forever"] } }],
            "retry": { "maxAttempts": 2, "backoff": { "initial": "1s" } },
            "template": {
                "image": "sim", "terminationGracePeriodSeconds": 3,
                "resources": { "requests": { "cpu": "250m" } },
            },
        }),
    )
}

/// Two tasks that run for ever, and one for which there is never room.
fn stay() -> Job {
    let huge = json!({ "resources": { "requests": { "cpu": "64" } } });
    let stubborn = json!({ "args": ["duration=forever", "ignore-term=true"] });
    job(
        STAYS,
        json!({
            "tasks": [{ "name": "a" }, { "name": "b", "template": stubborn }, { "name": "huge", "template": huge }],
            "retry": { "maxAttempts": 100, "backoff": { "initial": "1s", "max": "5s" } },
            "template": {
                "image": "sim", "args": ["duration=forever"], "terminationGracePeriodSeconds": 3,
                "resources": { "requests": { "cpu": "500m" } },
            },
        }),
    )
}

/// Whether all has been done that can be.
pub(crate) fn is_done(seen: &Snapshot) -> bool {
    let is_done = |job: &Job| job.name() == STAYS || job.status.phase.is_final();
    let stays = |task: &&Arc<Task>| belongs_to(task, STAYS);
    let runs = |task: &Arc<Task>| task.phase() == TaskPhase::Running;
    seen.jobs.len() == JOBS
        && seen.jobs.iter().all(|job| is_done(job))
        && seen.workflow_runs.iter().all(|run| run.status.phase.is_final())
        && seen.tasks.iter().filter(stays).filter(|task| runs(task)).count() == 2
        && seen.tasks.iter().all(|task| task.spec.recorded.is_some() || stays(&task))
}

fn belongs_to(task: &Task, job: &str) -> bool {
    task.controller().is_some_and(|owner| owner.name == job)
}

/// Whether the job that stays is gone, with all that was its own.
pub(crate) fn is_gone(seen: &Snapshot) -> bool {
    seen.jobs.len() == JOBS - 1 && !seen.tasks.iter().any(|task| belongs_to(task, STAYS))
}

/// Nothing of it fails, whatever happens to machines, but what is meant to.
pub(crate) fn ended_as_meant(seen: &Snapshot) {
    for job in seen.jobs.iter() {
        let wanted = match job.name() {
            "doomed" => JobPhase::Failed,
            STAYS => JobPhase::Running,
            _ => JobPhase::Succeeded,
        };
        assert_eq!(job.status.phase, wanted, "{}: {:?}", job.name(), job.status);
    }
    for run in seen.workflow_runs.iter() {
        assert_eq!(run.status.phase, RunPhase::Succeeded, "{:?}", run.status);
    }
}
