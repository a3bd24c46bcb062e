//! Jobs of a workflow that wait for a partition set which nobody makes: nothing waits for them for ever.

use std::time::Duration;

use api::job::JobPhase;
use api::workflow_run::RunPhase;
use api::{Kind as _, Workflow, WorkflowRun};
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

async fn workflow(cluster: &Cluster, name: &str, mut spec: Value) {
    let noset = json!({ "name": "noset", "target": { "partitionSet": "none" },
        "template": { "image": "x" } });
    spec["jobs"].as_array_mut().unwrap().push(noset);
    let workflow = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    });
    let workflow: Workflow = serde_json::from_value(workflow).unwrap();
    cluster.god.api::<Workflow>("default").create(&workflow).await.unwrap();
}

fn run<'a>(seen: &'a Snapshot, workflow: &str) -> Option<&'a WorkflowRun> {
    seen.workflow_runs.iter().map(|run| &**run).find(|run| run.spec.workflow == workflow)
}

async fn ends(cluster: &Cluster, workflow: &str, phase: RunPhase, within: u64) {
    let what = format!("the run of {workflow} is {phase}");
    let is_so = |seen: &Snapshot| run(seen, workflow).is_some_and(|it| it.status.phase == phase);
    cluster.wait_for(&what, Duration::from_secs(within), is_so).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_by_failure_by_timeout_and_by_a_person() {
    let cluster = Cluster::start(1).await;
    let bad = json!({ "name": "bad", "retry": { "maxAttempts": 1 },
        "template": { "image": "x", "args": ["duration=1s", "exit=3"] } });
    workflow(&cluster, "fails", json!({ "timeout": "1h", "jobs": [bad] })).await;
    workflow(&cluster, "late", json!({ "timeout": "15s", "jobs": [] })).await;
    workflow(&cluster, "stopped", json!({ "jobs": [] })).await;
    let waits = |seen: &Snapshot| {
        let begun = |name: &str| run(seen, name).is_some_and(|run| run.status.jobs.len() == 1);
        begun("late") && begun("stopped")
    };
    cluster.wait_for("runs have begun", Duration::from_secs(10), waits).await;
    let seen = cluster.look().await.unwrap();
    let stopped = run(&seen, "stopped").unwrap();
    let runs = cluster.god.api::<WorkflowRun>("default");
    runs.merge_patch(stopped.name(), &json!({ "spec": { "cancel": true } })).await.unwrap();
    ends(&cluster, "stopped", RunPhase::Cancelled, 10).await;
    ends(&cluster, "fails", RunPhase::Failed, 20).await;
    ends(&cluster, "late", RunPhase::TimedOut, 30).await;
    let seen = cluster.look().await.unwrap();
    let waiting = seen.jobs.iter().filter(|job| job.spec.target.is_some());
    let phases: Vec<JobPhase> = waiting.map(|job| job.status.phase).collect();
    assert_eq!(phases, [JobPhase::Cancelled; 3]);
}
