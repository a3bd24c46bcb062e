//! What a cluster of the seeds has to do: jobs that succeed, one that fails, one that stays, a
//! workflow beside partitions, and a service that is changed all the time.

use std::sync::Arc;

use api::job::JobPhase;
use api::task::TaskPhase;
use api::workflow_run::RunPhase;
use api::{Job, Kind as _, PartitionSet, Service, Task, Workflow};
use base::Rng;
use client::DeletePropagation;
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Jobs of the workload, those of its workflow included.
const JOBS: usize = 6;
/// The job that never ends by itself.
const STAYS: &str = "stay";

/// The service.
const WEB: &str = "web";

/// Makes all of it.
pub(crate) async fn start(cluster: &Cluster, rng: &Rng) {
    cluster.god.api::<Service>("default").create(&web(rng)).await.unwrap();
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

/// A service whose tasks may stop being ready only one at a time.
fn web(rng: &Rng) -> Service {
    serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service",
        "metadata": { "name": WEB, "namespace": "default" },
        "spec": {
            "replicas": 3, "maxUnavailable": 1, "template": serving(rng),
            "rollout": { "minReadySeconds": rng.below(3), "parallelism": 1 + rng.below(3) },
        },
    }))
    .unwrap()
}

/// A container of the service: most run for ever, some end after a while and are started again.
fn serving(rng: &Rng) -> Value {
    let lasts =
        if rng.chance(700) { "forever".to_owned() } else { format!("{}s", 5 + rng.below(20)) };
    json!({
        "image": format!("web-{}", rng.below(5)), "args": [format!("duration={lasts}")],
        "terminationGracePeriodSeconds": 2,
        "resources": { "requests": { "cpu": "100m" } },
    })
}

/// Changes the service, also in the middle of a rollout. That no server answers does not matter: it is
/// tried again later, or never.
pub(crate) async fn change_service(cluster: &Cluster, rng: &Rng) {
    let change = match rng.below(6) {
        0 | 1 => json!({ "template": serving(rng) }),
        2 => json!({ "replicas": 2 + rng.below(3) }),
        3 => json!({ "rollout": { "order": "StartFirst", "parallelism": 1 + rng.below(3) } }),
        4 => json!({ "rollout": { "order": "StopFirst", "onFailure": "Rollback" } }),
        _ => json!({ "suspend": rng.chance(500) }),
    };
    let services = cluster.god.api::<Service>("default");
    let _ = services.merge_patch(WEB, &json!({ "spec": change })).await;
}

/// Changes the service for the last time: what it runs lasts from now on.
pub(crate) async fn settle_service(cluster: &Cluster) {
    let template = json!({ "image": "web-last", "args": ["duration=forever"] });
    let change = json!({ "spec": { "suspend": false, "template": template } });
    cluster.god.api::<Service>("default").merge_patch(WEB, &change).await.unwrap();
}

/// Deletes what never ends by itself.
pub(crate) async fn delete_what_stays(cluster: &Cluster) {
    let jobs = cluster.god.api::<Job>("default");
    jobs.delete(STAYS, DeletePropagation::Background).await.unwrap();
    let services = cluster.god.api::<Service>("default");
    services.delete(WEB, DeletePropagation::Background).await.unwrap();
}

/// Whether the service has all its tasks, and nothing of an earlier revision.
fn is_up(seen: &Snapshot) -> bool {
    let Some(web) = seen.services.iter().find(|service| service.name() == WEB) else {
        return false;
    };
    let tasks: Vec<&Arc<Task>> = seen.tasks.iter().filter(|task| belongs_to(task, WEB)).collect();
    let is_current = web.status.update_revision == web.status.current_revision;
    let wanted = web.spec.replicas.unwrap_or(1) as usize;
    is_current && tasks.len() == wanted && tasks.iter().all(|task| task.is_ready())
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
        && seen
            .tasks
            .iter()
            .all(|task| task.spec.recorded.is_some() || stays(&task) || belongs_to(task, WEB))
        && is_up(seen)
}

fn belongs_to(task: &Task, job: &str) -> bool {
    task.controller().is_some_and(|owner| owner.name == job)
}

/// Whether the job that stays and the service are gone, with all that was their own.
pub(crate) fn is_gone(seen: &Snapshot) -> bool {
    let is_theirs = |task: &Arc<Task>| belongs_to(task, STAYS) || belongs_to(task, WEB);
    seen.jobs.len() == JOBS - 1 && seen.services.is_empty() && !seen.tasks.iter().any(is_theirs)
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
