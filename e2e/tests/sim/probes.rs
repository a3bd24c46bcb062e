//! Probes in the simulated cluster: what is ready when, rollouts that wait for it, and agents that
//! are killed meanwhile.

use std::time::Duration;

use api::service::{Service, ServicePhase};
use api::task::TaskPhase;
use api::{Job, Kind as _, Task};
use node_agent::engine::sim::Fault;
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(120);

/// A container that runs for ever and answers probes as these words say.
fn template(words: &[&str]) -> Value {
    let args: Vec<&str> = ["duration=forever"].iter().chain(words).copied().collect();
    json!({
        "image": "x", "args": args, "terminationGracePeriodSeconds": 1,
        "readinessProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 1, "failureThreshold": 1 },
    })
}

async fn service(cluster: &Cluster, spec: Value) {
    let service = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "default" }, "spec": spec,
    });
    let service: Service = serde_json::from_value(service).unwrap();
    cluster.god.api::<Service>("default").create(&service).await.unwrap();
}

async fn patch(cluster: &Cluster, spec: Value) {
    let services = cluster.god.api::<Service>("default");
    services.merge_patch("web", &json!({ "spec": spec })).await.unwrap();
}

fn web(seen: &Snapshot) -> &Service {
    seen.services.iter().find(|service| service.name() == "web").expect("it is there")
}

fn is_up(seen: &Snapshot, revision: u32, tasks: usize) -> bool {
    let status = &web(seen).status;
    status.phase == ServicePhase::Running
        && status.current_revision == revision
        && seen.tasks.len() == tasks
        && seen.tasks.iter().all(|task| task.is_ready())
}

fn ready(seen: &Snapshot) -> usize {
    seen.tasks.iter().filter(|task| task.is_ready()).count()
}

/// Looks at the cluster again and again for this long.
async fn during(cluster: &Cluster, time: Duration, mut see: impl FnMut(&Snapshot)) {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        if let Some(seen) = cluster.look().await {
            see(&seen);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Without `minReadySeconds`: with a probe nothing is waited for beside it.
#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_when_new_tasks_are_ready() {
    let cluster = Cluster::start(31).await;
    service(&cluster, json!({ "replicas": 3, "template": template(&["ready=4s"]) })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 3)).await;
    patch(&cluster, json!({ "template": template(&["ready=10s"]) })).await;
    let began = tokio::time::Instant::now();
    while !is_up(&cluster.look().await.unwrap(), 2, 3) {
        assert!(ready(&cluster.look().await.unwrap()) >= 2, "one at a time");
        assert!(began.elapsed() < LIMIT, "it takes too long");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(30), "three after each other: {began:?}");
}

/// Trap A3, and promise 10a: agents are killed while the probes of a new revision fail.
#[tokio::test(start_paused = true)]
async fn a_rollout_does_not_go_on_while_a_probe_fails_whoever_is_killed() {
    for seed in 40..44 {
        let mut cluster = Cluster::start(seed).await;
        let rollout = json!({ "timeout": "5m" });
        let spec = json!({ "replicas": 4, "rollout": rollout, "template": template(&[]) });
        service(&cluster, spec).await;
        cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 4)).await;
        patch(&cluster, json!({ "template": template(&["ready=1h"]) })).await;
        let is_new = |task: &Task| task.spec.run == 2;
        let begun = |seen: &Snapshot| {
            seen.tasks.iter().any(|task| is_new(task) && task.phase() == TaskPhase::Running)
        };
        cluster.wait_for("a new task runs", LIMIT, begun).await;
        for _ in 0..6 {
            for host in 0..3 {
                cluster.crash_agent(host);
            }
            let pause = cluster.rng.below(3_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            for host in 0..3 {
                cluster.start_agent(host);
            }
            let time = Duration::from_millis(cluster.rng.below(6_000));
            during(&cluster, time, |seen| {
                assert_eq!(ready(seen), 3, "seed {seed}: the old ones stay ready");
                let new: Vec<_> = seen.tasks.iter().filter(|task| is_new(task)).collect();
                assert_eq!(new.len(), 1, "seed {seed}: one is tried");
                assert!(new.iter().all(|task| !task.status.ready), "seed {seed}: it is not ready");
            })
            .await;
        }
        let seen = cluster.look().await.unwrap();
        let new = seen.tasks.iter().find(|task| is_new(task)).unwrap();
        assert_eq!(new.status.message.as_deref(), Some("readiness probe fails: simulated"));
        patch(&cluster, json!({ "template": template(&["ready=1s"]) })).await;
        cluster.wait_for("the next revision is up", LIMIT, |seen| is_up(seen, 3, 4)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_container_is_started_again_in_place_in_a_service() {
    let cluster = Cluster::start(33).await;
    let mut template = template(&["unhealthy=20s"]);
    template["livenessProbe"] =
        json!({ "tcpSocket": { "port": 1 }, "periodSeconds": 2, "failureThreshold": 2 });
    service(&cluster, json!({ "template": template })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 1)).await;
    let again = |seen: &Snapshot| {
        seen.tasks.iter().any(|task| task.status.restarts == 2 && task.is_ready())
    };
    let seen = cluster.wait_for("it was started again twice", LIMIT, again).await;
    let task = seen.tasks.iter().next().unwrap();
    assert_eq!(task.spec.attempt, 1);
    let last = task.status.last_exit.as_ref().unwrap();
    assert_eq!(last.reason.as_deref(), Some("Unhealthy"));
    let expected = "liveness probe failed 2 times: simulated";
    assert_eq!(last.message.as_deref(), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_attempt_of_a_job_has_failed_and_rules_match_it() {
    let cluster = Cluster::start(34).await;
    let job: Job = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": "j", "namespace": "default" },
        "spec": {
            "retry": {
                "maxAttempts": 5, "backoff": { "initial": "1s" },
                "rules": [{ "reasons": ["Unhealthy"], "action": "FailTask" }],
            },
            "template": {
                "image": "x", "args": ["duration=forever", "ready=1h"],
                "startupProbe":
                    { "tcpSocket": { "port": 1 }, "periodSeconds": 1, "failureThreshold": 5 },
            },
        },
    }))
    .unwrap();
    cluster.god.api::<Job>("default").create(&job).await.unwrap();
    let has_failed =
        |seen: &Snapshot| seen.tasks.iter().any(|task| task.phase() == TaskPhase::Failed);
    let seen = cluster.wait_for("it has failed", LIMIT, has_failed).await;
    let task = seen.tasks.iter().next().unwrap();
    assert_eq!(task.spec.attempt, 1, "the rule says so");
    let expected = "Unhealthy (exit 143): startup probe failed 5 times: simulated";
    assert_eq!(task.why(cluster.clock.now()), expected);
}

/// A probe that changes each second, for ten minutes.
#[tokio::test(start_paused = true)]
async fn readiness_that_keeps_changing_costs_few_writes() {
    let cluster = Cluster::start(35).await;
    service(&cluster, json!({ "replicas": 1, "template": template(&["flap=1s"]) })).await;
    let runs = |seen: &Snapshot| seen.tasks.iter().any(|task| task.phase() == TaskPhase::Running);
    let seen = cluster.wait_for("it runs", LIMIT, runs).await;
    let version = |seen: &Snapshot| seen.tasks.iter().next().unwrap().resource_version().to_owned();
    let (mut last, mut writes) = (version(&seen), 0);
    during(&cluster, Duration::from_secs(600), |seen| {
        let now = version(seen);
        writes += u32::from(now != last);
        last = now;
    })
    .await;
    assert!((10..80).contains(&writes), "{writes} writes");
}

/// The agent is killed in the drain delay, and the next one goes on with it.
#[tokio::test(start_paused = true)]
async fn a_task_is_drained_before_it_is_asked_to_end() {
    let mut cluster = Cluster::start(36).await;
    let mut template = template(&[]);
    template["drainDelay"] = json!("20s");
    service(&cluster, json!({ "replicas": 3, "template": template })).await;
    cluster.wait_for("it is up", LIMIT, |seen| is_up(seen, 1, 3)).await;
    patch(&cluster, json!({ "replicas": 0 })).await;
    let began = tokio::time::Instant::now();
    let running = |cluster: &Cluster| -> usize {
        cluster.hosts.iter().map(|host| host.machine.running().len()).sum()
    };
    let unready = |seen: &Snapshot| seen.tasks.iter().all(|task| !task.status.ready);
    cluster.wait_for("none is ready", Duration::from_secs(2), unready).await;
    assert_eq!(running(&cluster), 3, "they run on");
    for host in 0..3 {
        cluster.crash_agent(host);
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    for host in 0..3 {
        cluster.start_agent(host);
    }
    during(&cluster, Duration::from_secs(19).saturating_sub(began.elapsed()), |_| ()).await;
    assert_eq!(running(&cluster), 3, "they are drained still");
    cluster.wait_for("none is left", LIMIT, |seen| seen.tasks.is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(running(&cluster), 0);
}

/// An engine that keeps failing has its starts tried at growing intervals, and a stop does not wait
/// for the next one.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_next_try_of_a_start() {
    let cluster = Cluster::start(37).await;
    for host in &cluster.hosts {
        (0..9).for_each(|_| host.machine.fail_next_create(Fault::Unavailable));
    }
    let job: Job = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": "j", "namespace": "default" },
        "spec": { "template": { "image": "x", "args": ["duration=forever"] } },
    }))
    .unwrap();
    let jobs = cluster.god.api::<Job>("default");
    jobs.create(&job).await.unwrap();
    // By then the ninth try has failed, and the next one is half a minute away.
    let slow = |seen: &Snapshot| {
        let said = |task: &Task| task.status.message.clone().unwrap_or_default();
        seen.tasks.iter().any(|task| said(task).contains("will try again"))
    };
    cluster.wait_for("its start fails", LIMIT, slow).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    jobs.merge_patch("j", &json!({ "spec": { "cancel": true } })).await.unwrap();
    let ended = |seen: &Snapshot| seen.tasks.iter().all(|task| task.has_ended());
    cluster.wait_for("it is stopped", Duration::from_secs(2), ended).await;
}
