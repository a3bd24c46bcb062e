//! Workflows on virtual time: what the parts of one say together really happens.

use std::collections::BTreeMap;
use std::time::Duration;

use api::Workflow;
use api::job::JobPhase;
use api::workflow_run::{RunPhase, WorkflowRunStatus};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Applies a workflow and waits until its run has ended; how it did.
async fn run(cluster: &Cluster, spec: Value) -> WorkflowRunStatus {
    let workflow = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": "w", "namespace": "default" }, "spec": spec,
    });
    let workflow: Workflow = serde_json::from_value(workflow).unwrap();
    cluster.god.api::<Workflow>("default").create(&workflow).await.unwrap();
    let seen = cluster
        .wait_for("the run has ended", Duration::from_secs(300), |seen| {
            seen.workflow_runs.iter().any(|run| run.status.phase.is_final())
        })
        .await;
    seen.workflow_runs.iter().next().unwrap().status.clone()
}

fn phase_of(status: &WorkflowRunStatus, job: &str) -> JobPhase {
    status.jobs.iter().find(|it| it.name == job).unwrap().phase
}

/// Together they are more than a transaction takes: they are made one after the other.
#[tokio::test(start_paused = true)]
async fn fifty_jobs_with_a_large_script_all_run() {
    let cluster = Cluster::start(11).await;
    let jobs: Vec<Value> = (0..50).map(|n| json!({ "name": format!("j{n}") })).collect();
    let args = ["duration=1s".to_owned(), format!("script={}", "x".repeat(30_000))];
    let defaults = json!({ "template": { "image": "x", "args": args } });
    let status = run(&cluster, json!({ "defaults": defaults, "jobs": jobs })).await;
    assert_eq!((status.phase, status.succeeded), (RunPhase::Succeeded, 50));
}

/// The run has failed, and what is there to clean up after a failure has run.
#[tokio::test(start_paused = true)]
async fn a_clean_up_runs_and_the_run_fails() {
    let cluster = Cluster::start(12).await;
    let job = |name: &str, args: &[&str], depends_on: Value| {
        json!({
            "name": name, "template": { "args": args }, "dependsOn": depends_on,
            "retry": { "maxAttempts": 1 },
        })
    };
    let ended_badly = json!([{ "job": "d", "phases": ["Failed", "Cancelled"] }]);
    let jobs = [
        job("d", &["duration=1s", "exit=3"], json!([])),
        job("next", &["duration=1s"], json!([{ "job": "d" }])),
        job("clean", &["duration=5s"], ended_badly),
        job("tell", &["duration=1s"], json!([{ "job": "clean" }])),
        job("undo", &["duration=1s"], json!([{ "job": "next", "phases": ["Failed", "Skipped"] }])),
    ];
    let defaults = json!({ "template": { "image": "x" } });
    let status = run(&cluster, json!({ "defaults": defaults, "jobs": jobs })).await;
    assert_eq!(status.phase, RunPhase::Failed, "{:?}", status.message);
    assert_eq!(phase_of(&status, "clean"), JobPhase::Succeeded);
    assert_eq!(phase_of(&status, "tell"), JobPhase::Succeeded);
    assert_eq!(phase_of(&status, "next"), JobPhase::Skipped);
    assert_eq!(phase_of(&status, "undo"), JobPhase::Succeeded);
}

/// Its tasks have the labels of the template and some of Heliox's: more than an object may have. The
/// controller learns of it from the apiserver alone, and says it where people look.
#[tokio::test(start_paused = true)]
async fn what_can_never_be_written_fails_and_says_why() {
    let cluster = Cluster::start(13).await;
    let value = "v".repeat(63);
    let labels: BTreeMap<String, &str> =
        (0..3_855).map(|n| (format!("l{n:04}"), value.as_str())).collect();
    let job = json!({
        "name": "large", "template": { "image": "x", "labels": labels, "args": ["duration=1s"] },
    });
    let status = run(&cluster, json!({ "jobs": [job] })).await;
    assert_eq!(status.phase, RunPhase::Failed);
    let why = status.message.as_deref().unwrap();
    assert!(why.contains("cannot be stored") && why.contains("bytes; at most"), "{why}");
    let seen = cluster
        .wait_for("the job has ended", Duration::from_secs(60), |seen| {
            seen.jobs.iter().any(|job| job.status.phase.is_final())
        })
        .await;
    let job = seen.jobs.iter().next().unwrap();
    assert_eq!((job.status.phase, job.status.cancelled), (JobPhase::Failed, 1));
    assert!(job.status.conditions.iter().any(|it| it.kind == "Stalled" && it.status == "True"));
}
