//! Stories on virtual time: one fault each, and what must come of it.

use std::time::Duration;

use api::core::Lease;
use api::job::JobPhase;
use api::labels::SYSTEM_NAMESPACE;
use api::task::{TaskPhase, TaskState};
use api::{Job, Kind as _, Node, ObjectKey};
use client::DeletePropagation;
use runtime::Snapshot;
use serde_json::json;

use crate::cluster::Cluster;
use crate::network::Line;
use crate::promises::CONTACT_BOUND;

pub(crate) async fn job(cluster: &Cluster, name: &str, spec: serde_json::Value) -> Job {
    let job = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    });
    let job: Job = serde_json::from_value(job).unwrap();
    cluster.god.api::<Job>("default").create(&job).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_and_is_recorded() {
    let cluster = Cluster::start(1).await;
    job(
        &cluster,
        "a",
        json!({ "count": 5, "template": { "image": "x", "args": ["duration=1s"] } }),
    )
    .await;
    let seen = cluster
        .wait_for("the job has succeeded", Duration::from_secs(60), |seen| {
            seen.jobs.iter().any(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
    let status = &seen.jobs.iter().next().unwrap().status;
    assert_eq!((status.total, status.succeeded), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn work_of_a_lost_machine_starts_elsewhere() {
    let mut cluster = Cluster::start(2).await;
    let template = json!({ "image": "x", "args": ["duration=30s"] });
    job(&cluster, "a", json!({ "count": 3, "maxPerNode": 1, "template": template })).await;
    cluster
        .wait_for("all run", Duration::from_secs(30), |seen| {
            seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count() == 3
        })
        .await;
    cluster.lose_machine(0);
    let seen = cluster
        .wait_for("the job has succeeded", Duration::from_secs(180), |seen| {
            seen.jobs.iter().any(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
    let moved = seen.tasks.iter().filter(|task| task.spec.attempt == 2).count();
    assert_eq!(moved, 1, "only the lost one started anew");
    assert!(seen.tasks.iter().all(|task| task.spec.failures == 0), "a loss costs no retry");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_agent_is_back_right_after_it_was_lost_is_well_at_once() {
    let mut cluster = Cluster::start(3).await;
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    job(&cluster, "a", json!({ "count": 6, "template": template })).await;
    cluster
        .wait_for("all run", Duration::from_secs(30), |seen| {
            seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count() == 6
        })
        .await;
    let is_lost = |seen: &Snapshot| seen.nodes.iter().any(|node| node.status.lost.is_some());
    cluster.crash_agent(0);
    cluster.wait_for("the node is lost", Duration::from_secs(60), is_lost).await;
    cluster.start_agent(0);
    let well = |seen: &Snapshot| {
        let running = seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running);
        !is_lost(seen) && running.count() == 6
    };
    // Far less than after what a full look would find it anyway.
    cluster.wait_for("the node is well", Duration::from_secs(5), well).await;
}

/// The Node object is the agent's to make: while it is not there, nothing is bound to the node.
#[tokio::test(start_paused = true)]
async fn a_deleted_node_whose_agent_lives_is_back_with_the_next_heartbeat() {
    let cluster = Cluster::start(4).await;
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    job(&cluster, "a", json!({ "count": 3, "maxPerNode": 1, "template": template })).await;
    let running = |seen: &Snapshot| {
        let running = seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running);
        running.filter(|task| task.spec.attempt == 1).count()
    };
    cluster.wait_for("all run", Duration::from_secs(30), |seen| running(seen) == 3).await;
    let uid = |seen: &Snapshot| {
        let node = seen.nodes.iter().find(|node| node.name() == "node-1")?;
        node.status.ready_since.map(|_| node.uid().to_owned())
    };
    let before = uid(&cluster.look().await.unwrap()).unwrap();
    let nodes = cluster.god.api::<Node>("");
    nodes.delete("node-1", DeletePropagation::Background).await.unwrap();
    let is_back = |seen: &Snapshot| uid(seen).is_some_and(|uid| uid != before);
    cluster.wait_for("the node is back", Duration::from_secs(4), is_back).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(running(&cluster.look().await.unwrap()), 3, "its task was left alone");
    let template = json!({ "image": "x", "args": ["duration=forever"] });
    job(&cluster, "b", json!({ "count": 3, "maxPerNode": 1, "template": template })).await;
    cluster.wait_for("more runs there", Duration::from_secs(30), |seen| running(seen) == 6).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_name_another_one_has_taken_over_stands_back() {
    let mut cluster = Cluster::start(8).await;
    let spec = json!({
        "placement": { "nodes": ["node-1"] },
        "template": { "image": "x", "args": ["duration=forever"] },
    });
    job(&cluster, "a", spec).await;
    cluster
        .wait_for("it runs", Duration::from_secs(20), |seen| {
            seen.tasks.iter().any(|task| task.phase() == TaskPhase::Running)
        })
        .await;
    let speaker = |seen: &Snapshot| {
        let node = seen.nodes.iter().find(|node| node.name() == "node-1").unwrap();
        (node.status.lost.is_none(), node.status.boot_id.clone())
    };
    let first = speaker(&cluster.look().await.unwrap()).1;
    // The agent reaches nobody, and a second one is started under its name.
    cluster.hosts[0].line.cut(true);
    cluster.wait_for("it is lost", Duration::from_secs(60), |seen| !speaker(seen).0).await;
    cluster.add_host("node-1");
    let taken_over = |seen: &Snapshot| {
        let (is_well, boot_id) = speaker(seen);
        is_well && boot_id != first
    };
    cluster.wait_for("the name is taken over", Duration::from_secs(60), taken_over).await;
    cluster.hosts[0].line.cut(false);
    // For longer than it takes an agent to compare the Node object with what it should be.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let seen = cluster.look().await.unwrap();
        assert!(taken_over(&seen), "both speak for the node: {:?}", speaker(&seen));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_on_a_lost_node_is_stopped_when_it_is_heard_again() {
    let cluster = Cluster::start(6).await;
    let spec = json!({
        "placement": { "nodes": ["node-3"] },
        "template": { "image": "x", "args": ["duration=forever"] },
    });
    job(&cluster, "a", spec).await;
    cluster
        .wait_for("it runs", Duration::from_secs(20), |seen| {
            seen.tasks.iter().any(|task| task.phase() == TaskPhase::Running)
        })
        .await;
    let jobs = cluster.god.api::<Job>("default");
    // Lost, and not to be tried again: its end is recorded without anybody asking it to stop.
    jobs.merge_patch("a", &json!({ "spec": { "parallelism": 0 } })).await.unwrap();
    let node = &cluster.hosts[2];
    node.line.cut(true);
    cluster
        .wait_for("it may be replaced", Duration::from_secs(60), |seen| {
            let lost = |state| matches!(state, TaskState::Lost { replaceable: true, .. });
            seen.tasks.iter().any(|task| lost(task.state()))
        })
        .await;
    jobs.merge_patch("a", &json!({ "spec": { "cancel": true } })).await.unwrap();
    cluster
        .wait_for("the job is cancelled", Duration::from_secs(60), |seen| {
            seen.jobs.iter().any(|job| job.status.phase == JobPhase::Cancelled)
        })
        .await;
    assert_eq!(node.machine.running().len(), 1, "nobody could tell the agent yet");
    node.line.cut(false);
    tokio::time::sleep(CONTACT_BOUND).await;
    assert_eq!(node.machine.running(), [], "promise 7");
}

#[tokio::test(start_paused = true)]
async fn with_the_control_plane_away_containers_run_on() {
    let mut cluster = Cluster::start(3).await;
    let template = json!({ "image": "x", "args": ["duration=100s"] });
    job(&cluster, "a", json!({ "count": 3, "template": template })).await;
    cluster
        .wait_for("all run", Duration::from_secs(30), |seen| {
            seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count() == 3
        })
        .await;
    let running = |cluster: &Cluster| -> usize {
        cluster.hosts.iter().map(|host| host.machine.running().len()).sum()
    };
    cluster.crash_server();
    cluster.crash_leaders();
    cluster.crash_agent(1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running(&cluster), 3, "promise 5");
    cluster.heal(3).await;
    let seen = cluster
        .wait_for("the job has succeeded", Duration::from_secs(300), |seen| {
            seen.jobs.iter().any(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
    let again = seen.tasks.iter().filter(|task| task.spec.attempt > 1).count();
    assert_eq!(again, 0, "an agent restart adopts what runs");
}

#[tokio::test(start_paused = true)]
async fn a_wiped_store_kills_nothing() {
    let mut cluster = Cluster::start(5).await;
    let spec = json!({ "count": 3, "template": { "image": "x", "args": ["duration=forever"] } });
    job(&cluster, "a", spec.clone()).await;
    cluster
        .wait_for("all run", Duration::from_secs(30), |seen| {
            seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count() == 3
        })
        .await;
    let running = |cluster: &Cluster| -> Vec<_> {
        cluster.hosts.iter().flat_map(|host| host.machine.running()).collect()
    };
    let before = running(&cluster);
    cluster.wipe().await;
    // Work of the new cluster, which must not reach nodes that belong to the old one.
    job(&cluster, "a", spec).await;
    cluster
        .wait_for("every agent says so", Duration::from_secs(60), |seen| {
            let says = |problem: &String| problem.contains("not the one");
            let node = |node: &Node| node.status.problem.as_ref().is_some_and(says);
            seen.nodes.iter().filter(|object| node(object)).count() == 3
        })
        .await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(running(&cluster), before, "promise 5");
    for index in 0..3 {
        cluster.crash_agent(index);
        cluster.start_agent(index);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running(&cluster), before, "promise 5: over restarts of agents, too");
}

#[tokio::test(start_paused = true)]
async fn a_large_job_leaves_few_objects() {
    let cluster = Cluster::start(4).await;
    let count = 12_000;
    let template = json!({ "image": "x", "resources": { "requests": { "cpu": "10m" } } });
    job(&cluster, "a", json!({ "count": count, "template": template })).await;
    let seen = cluster
        .wait_for("the job has succeeded", Duration::from_secs(3600), |seen| {
            seen.jobs.iter().any(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
    let status = &seen.jobs.iter().next().unwrap().status;
    assert_eq!((status.total, status.succeeded), (count, count));
    cluster
        .wait_for("few task objects are left", Duration::from_secs(600), |seen| {
            seen.tasks.iter().filter(|task| !task.name().is_empty()).count() <= 2_000
        })
        .await;
}

fn has_succeeded(seen: &Snapshot, name: &str) -> bool {
    let job = seen.jobs.get(&ObjectKey::new("default", name));
    job.is_some_and(|job| job.status.phase == JobPhase::Succeeded)
}

/// Another process has taken the leadership of a component over.
async fn take_over(cluster: &Cluster, component: &str) {
    let leases = cluster.god.api::<Lease>(SYSTEM_NAMESPACE);
    let mut lease = leases.get(component).await.unwrap();
    let spec = lease.spec.as_mut().unwrap();
    spec.holder_identity = Some("another".to_owned());
    spec.lease_transitions = spec.lease_transitions.map(|term| term + 1);
    leases.replace(&lease).await.unwrap();
}

/// Somebody wrote the last number there is into the object that elects a leader: others are elected
/// all the same.
#[tokio::test(start_paused = true)]
async fn leaders_follow_the_last_term_there_is() {
    let cluster = Cluster::start(12).await;
    let limit = Duration::from_secs(60);
    job(&cluster, "first", json!({ "count": 1, "template": { "image": "x" } })).await;
    cluster.wait_for("leaders lead", limit, |seen| has_succeeded(seen, "first")).await;
    for component in ["controllers", "scheduler"] {
        let leases = cluster.god.api::<Lease>(SYSTEM_NAMESPACE);
        let mut lease = leases.get(component).await.unwrap();
        let spec = lease.spec.as_mut().unwrap();
        spec.holder_identity = Some("another".to_owned());
        spec.lease_transitions = Some(i32::MAX);
        leases.replace(&lease).await.unwrap();
    }
    job(&cluster, "late", json!({ "count": 3, "template": { "image": "x" } })).await;
    cluster.wait_for("the next lead", limit, |seen| has_succeeded(seen, "late")).await;
}

/// What leaders have sent arrives when they lead no more: nothing comes of it.
#[tokio::test(start_paused = true)]
async fn what_a_deposed_leader_has_sent_changes_nothing() {
    let limit = Duration::from_secs(60);
    let bound = |seen: &Snapshot| seen.tasks.iter().filter(|task| task.node().is_some()).count();
    for component in ["controllers", "scheduler"] {
        let mut cluster = Cluster::start(11).await;
        job(&cluster, "first", json!({ "count": 1, "template": { "image": "x" } })).await;
        cluster.wait_for("leaders lead", limit, |seen| has_succeeded(seen, "first")).await;
        let parts =
            if component == "scheduler" { &cluster.schedulers } else { &cluster.controllers };
        let lines: Vec<Line> = parts.iter().map(|part| part.line.clone()).collect();
        for line in &lines {
            line.delay(true).await;
        }
        job(&cluster, "late", json!({ "count": 3, "template": { "image": "x" } })).await;
        while lines.iter().all(|line| line.kept_writes() == 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before = cluster.look().await.unwrap();
        take_over(&cluster, component).await;
        for line in &lines {
            line.delay(false).await;
        }
        let after = cluster.look().await.unwrap();
        let counts = |seen: &Snapshot| (seen.tasks.len(), bound(seen));
        assert_eq!(counts(&after), counts(&before), "by a deposed {component}");
        cluster.wait_for("the next leads", limit, |seen| has_succeeded(seen, "late")).await;
        cluster.crash_leaders();
    }
}
