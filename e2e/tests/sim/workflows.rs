//! Workflows on virtual time: what the parts of one say together really happens.

use std::collections::BTreeMap;
use std::time::Duration;

use api::Kind as _;
use api::Workflow;
use api::job::JobPhase;
use api::workflow_run::{RunPhase, WorkflowRunStatus};
use expect_test::expect;
use runtime::Any;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::history::{Change, History};

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

/// What one revision changed of the objects of a step, such as `job w-1-b, task w-1-b-0 Pending`.
fn told(changes: &[Change]) -> Option<String> {
    let told = changes.iter().filter_map(|change| {
        let now = change.now.as_ref()?;
        Some(match now {
            Any::Task(task) => format!("task {} {}", task.name(), task.phase()),
            Any::Job(job) => format!("job {} {}", job.name(), job.status.phase),
            Any::WorkflowRun(run) => format!("run {}", run.name()),
            Any::TaskTemplate(_) => "template".to_owned(),
            Any::CompletionChunk(_) => "record".to_owned(),
            Any::Namespace(_)
            | Any::ConfigMap(_)
            | Any::Secret(_)
            | Any::Event(_)
            | Any::Lease(_)
            | Any::Node(_)
            | Any::NodeLease(_)
            | Any::Service(_)
            | Any::Workflow(_)
            | Any::PartitionSet(_) => return None,
        })
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// From the end of a job to the start of the next: each line is a wait for the disk. A line more is a
/// step that takes longer.
#[tokio::test(start_paused = true)]
async fn a_step_of_a_workflow_takes_these_commits() {
    let cluster = Cluster::start(14).await;
    let job = |name: &str, before: &[&str]| {
        let depends_on: Vec<Value> = before.iter().map(|job| json!({ "job": job })).collect();
        let template = json!({ "image": "x", "args": ["duration=10s"] });
        json!({ "name": name, "template": template, "dependsOn": depends_on })
    };
    let jobs = [job("a", &[]), job("b", &["a"]), job("c", &["b"])];
    let status = run(&cluster, json!({ "jobs": jobs })).await;
    assert_eq!(status.phase, RunPhase::Succeeded);
    let mut commits = Vec::new();
    let mut history = History::new();
    history.read(&cluster.store, |moment| commits.extend(told(moment.changes))).await;
    let end =
        |job: &str| commits.iter().position(|it| it.contains(&format!("w-1-{job}-0 Succeeded")));
    let step = &commits[end("b").unwrap()..];
    let started = step.iter().position(|it| it.contains("w-1-c-0 Running")).unwrap();
    expect![[r#"
        task w-1-b-0 Succeeded
        job w-1-c Pending, template, task w-1-c-0 Pending, record, task w-1-b-0 Succeeded, job w-1-b Succeeded
        run w-1
        task w-1-c-0 Bound
        job w-1-c Running
        run w-1
        task w-1-c-0 Running"#]]
    .assert_eq(&step[..=started].join("\n"));
}
