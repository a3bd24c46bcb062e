//! Two hundred seeds: a workload, faults of every kind, and the promises after every step.

use std::time::Duration;

use api::core::Namespace;
use api::job::JobPhase;
use api::workflow_run::RunPhase;
use api::{Job, Kind as _, PartitionSet, Workflow};
use base::Rng;
use serde_json::json;
use store::Fault;

use crate::cluster::Cluster;
use crate::promises::{Watcher, nothing_runs};

/// Steps with faults, each some seconds long.
const STEPS: u32 = 12;
/// When faults have stopped, everything has ended within this: the longest back-off, the longest
/// task, and a node's loss, several times over.
const LIVENESS: Duration = Duration::from_secs(900);

/// Runs a cluster from a seed. Panics with the promise that was broken.
async fn run(seed: u64) {
    let mut cluster = Cluster::start(seed).await;
    let rng = cluster.rng.fork("faults");
    let mut watcher = Watcher::default();
    workload(&cluster, &rng).await;
    for _ in 0..STEPS {
        fault(&mut cluster, &rng).await;
        tokio::time::sleep(Duration::from_millis(rng.below(6000))).await;
        if let Some(seen) = cluster.look().await {
            watcher.check(&seen, &cluster.hosts);
        }
    }
    cluster.heal().await;
    let seen = cluster
        .wait_for("every job and run has ended", LIVENESS, |seen| {
            seen.jobs.len() == 4
                && seen.jobs.iter().all(|job| job.status.phase.is_final())
                && seen.workflow_runs.iter().all(|run| run.status.phase.is_final())
        })
        .await;
    watcher.check(&seen, &cluster.hosts);
    // Nothing in this workload fails for good, whatever happens to machines.
    for job in seen.jobs.iter() {
        assert_eq!(job.status.phase, JobPhase::Succeeded, "{}: {:?}", job.name(), job.status);
    }
    for run in seen.workflow_runs.iter() {
        assert_eq!(run.status.phase, RunPhase::Succeeded, "{:?}", run.status);
    }
    cluster
        .wait_for("every task is recorded", LIVENESS, |seen| {
            seen.tasks.iter().all(|task| task.spec.recorded == Some(task.spec.run))
        })
        .await;
    // What an agent no longer wants is stopped and removed within its next looks.
    for _ in 0..60 {
        if cluster.hosts.iter().all(|host| host.machine.running().is_empty()) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    nothing_runs(&cluster);
}

/// Two jobs, and a workflow of two whose second runs beside partitions.
async fn workload(cluster: &Cluster, rng: &Rng) {
    let plain = |name: &str, count: u64, seconds: u64, crash: u64| {
        json!({
            "apiVersion": "heliox.dev/v1", "kind": "Job",
            "metadata": { "name": name, "namespace": "default" },
            "spec": {
                "count": count,
                "retry": { "maxAttempts": 10, "backoff": { "initial": "1s", "max": "5s" } },
                "template": {
                    "image": "sim",
                    "args": [format!("duration={seconds}s"), format!("crash={crash}")],
                    "resources": { "requests": { "cpu": "1", "memory": "64Mi" } },
                },
            },
        })
    };
    let job = |value: serde_json::Value| serde_json::from_value::<Job>(value).unwrap();
    let jobs = cluster.god.api::<Job>("default");
    jobs.create(&job(plain("long", 1 + rng.below(8), 5 + rng.below(20), 0))).await.unwrap();
    jobs.create(&job(plain("flaky", 1 + rng.below(5), rng.below(4), 1))).await.unwrap();
    let set: PartitionSet = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "PartitionSet",
        "metadata": { "name": "db", "namespace": "default" },
        "spec": {
            "partitions": 3, "stateModel": "LeaderStandby", "mode": "Manual",
            "assignment": {
                "db-0": { "node-1": "LEADER" }, "db-1": { "node-2": "LEADER" }, "db-2": { "node-3": "LEADER" },
            },
        },
    }))
    .unwrap();
    cluster.god.api::<PartitionSet>("default").create(&set).await.unwrap();
    let workflow: Workflow = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Workflow",
        "metadata": { "name": "wf", "namespace": "default" },
        "spec": {
            "defaults": { "template": { "image": "sim" }, "retry": { "maxAttempts": 10, "backoff": { "initial": "1s" } } },
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
    // A namespace of its own kind of name, so that listings have more than one.
    let other: Namespace = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "other" },
    }))
    .unwrap();
    cluster.god.api::<Namespace>("").create(&other).await.unwrap();
}

/// One fault, or one mend.
async fn fault(cluster: &mut Cluster, rng: &Rng) {
    let host = usize::try_from(rng.below(3)).unwrap();
    match rng.below(14) {
        0 => cluster.crash_server(),
        1 | 2 => cluster.start_server().await,
        3 => cluster.crash_scheduler(),
        4 => cluster.start_scheduler(),
        5 => cluster.crash_controllers(),
        6 => cluster.start_controllers(),
        7 => cluster.crash_agent(host),
        8 => cluster.start_agent(host),
        9 => cluster.lose_machine(host),
        10 => cluster.hosts[host].line.cut(true),
        11 => cluster.hosts[host].line.cut(false),
        12 => cluster.network.lose(rng.below(200)),
        _ => {
            let faults = cluster.store.faults();
            let kind = match rng.below(3) {
                0 => Fault::AnswerLost,
                1 => Fault::RequestLost,
                _ => Fault::Late(Duration::from_millis(rng.below(3000))),
            };
            faults.next_groups(5, kind);
        }
    }
}

/// Runs one seed on virtual time; names it when it fails.
#[expect(clippy::print_stderr, reason = "whoever sees it fail wants to see it again")]
fn seed(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
    if let Err(panic) = outcome {
        eprintln!("run it again with: make replay SEED={seed}");
        std::panic::resume_unwind(panic);
    }
}

fn seeds(range: std::ops::Range<u64>) {
    range.for_each(seed);
}

#[test]
fn seeds_0_to_49() {
    seeds(0..50);
}

#[test]
fn seeds_50_to_99() {
    seeds(50..100);
}

#[test]
fn seeds_100_to_149() {
    seeds(100..150);
}

#[test]
fn seeds_150_to_199() {
    seeds(150..200);
}

/// `make replay SEED=n`: the seed of the environment with its log, or seed 0.
#[test]
fn a_seed_that_is_named() {
    let named = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok());
    if named.is_some() {
        tracing_subscriber::fmt().with_env_filter("debug").with_test_writer().init();
    }
    seed(named.unwrap_or(0));
}
