//! An agent whose disk is full: its containers run on, its node says why it takes nothing new, and
//! it works again as soon as there is room.

use std::time::Duration;

use api::Kind as _;
use api::job::JobPhase;
use api::node::NodePhase;
use api::task::TaskPhase;
use runtime::Snapshot;
use serde_json::json;

use crate::cluster::Cluster;
use crate::stories::job;

/// Time in which everything that can happen does.
const WAIT: Duration = Duration::from_secs(60);

fn running(seen: &Snapshot) -> usize {
    seen.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count()
}

fn problem_of(seen: &Snapshot, name: &str) -> Option<String> {
    let node = seen.nodes.iter().find(|node| node.name() == name)?;
    node.status.problem.clone().filter(|_| node.phase() == NodePhase::NotReady)
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_and_its_containers_run_on_until_there_is_room() {
    let mut cluster = Cluster::start(7).await;
    let template = json!({ "image": "x", "args": ["duration=300s"] });
    job(&cluster, "long", json!({ "count": 3, "maxPerNode": 1, "template": template })).await;
    cluster.wait_for("all run", WAIT, |seen| running(seen) == 3).await;
    cluster.fill_disk(0, true);
    let running_there = cluster.hosts[0].machine.running();
    // Something must be written for the disk to be missed.
    let template = json!({ "image": "x", "args": ["duration=100s"] });
    job(&cluster, "short", json!({ "count": 6, "template": template })).await;
    let seen = cluster
        .wait_for("the node says why it takes nothing new", WAIT, |seen| {
            problem_of(seen, "node-1").is_some_and(|it| it.contains("starts and stops nothing"))
        })
        .await;
    let problem = problem_of(&seen, "node-1").unwrap();
    assert!(problem.contains("no storage space"), "{problem}");
    tokio::time::sleep(WAIT).await;
    let seen = cluster.look().await.unwrap();
    let long = |task: &&std::sync::Arc<api::Task>| task.name().starts_with("long");
    assert!(
        seen.tasks.iter().filter(long).all(|task| task.phase() == TaskPhase::Running),
        "its containers run on, and the node is not taken for lost"
    );
    let now_there = cluster.hosts[0].machine.running();
    assert_eq!(now_there, running_there, "what is not on disk is not done");
    cluster.fill_disk(0, false);
    cluster
        .wait_for("the node works again, and all that was bound there has run", 4 * WAIT, |seen| {
            let short = seen.jobs.iter().find(|job| job.name() == "short");
            problem_of(seen, "node-1").is_none()
                && short.is_some_and(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
    // What was decided while the disk was full is on disk: a new agent finds all of it.
    cluster.crash_agent(0);
    cluster.start_agent(0);
    cluster
        .wait_for("the long job has succeeded in its first attempts", 8 * WAIT, |seen| {
            let long = seen.jobs.iter().find(|job| job.name() == "long");
            long.is_some_and(|job| job.status.phase == JobPhase::Succeeded)
                && seen.tasks.iter().all(|task| task.spec.attempt == 1)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_whose_disk_is_full_says_so_until_there_is_room() {
    let cluster = Cluster::start(7).await;
    let is_ready = |seen: &Snapshot| {
        let node = seen.nodes.iter().find(|node| node.name() == "node-1");
        node.is_some_and(|node| node.phase() == NodePhase::Ready)
    };
    cluster.wait_for("it is ready", WAIT, is_ready).await;
    cluster.fill_disk(0, true);
    let says_so = |seen: &Snapshot| {
        problem_of(seen, "node-1").is_some_and(|it| it.contains("starts nothing new"))
    };
    cluster.wait_for("the idle node says so", WAIT, says_so).await;
    cluster.fill_disk(0, false);
    cluster.wait_for("it is ready again", WAIT, is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_without_room_was_given_and_never_started_runs_elsewhere() {
    let cluster = Cluster::start(7).await;
    let template = json!({ "image": "x", "args": ["duration=300s"] });
    job(&cluster, "long", json!({ "count": 3, "maxPerNode": 1, "template": template })).await;
    cluster.wait_for("all run", WAIT, |seen| running(seen) == 3).await;
    cluster.run_short_of_disk(0, true);
    // It comes before the node has looked at its disk, and is given back.
    let template = json!({ "image": "x", "args": ["duration=10s"] });
    job(&cluster, "short", json!({ "count": 6, "template": template })).await;
    let seen = cluster
        .wait_for("all of it has run, and the node is still short", 2 * WAIT, |seen| {
            let short = seen.jobs.iter().find(|job| job.name() == "short");
            problem_of(seen, "node-1").is_some()
                && short.is_some_and(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
    let short = seen.tasks.iter().filter(|task| task.name().starts_with("short"));
    let nodes: Vec<_> = short.map(|task| (task.node(), task.spec.attempt)).collect();
    assert!(
        nodes.iter().all(|(node, attempt)| *node != Some("node-1") && *attempt == 1),
        "{nodes:?}"
    );
    assert_eq!(running(&seen), 3, "what ran there runs on");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_image_when_the_disk_fills_runs_elsewhere() {
    let cluster = Cluster::start(7).await;
    for host in &cluster.hosts {
        host.machine.make_slow("slow", if host.name == "node-1" { 60 * WAIT } else { WAIT });
    }
    let template = json!({ "image": "slow", "args": ["duration=10s"] });
    job(&cluster, "waits", json!({ "count": 3, "maxPerNode": 1, "template": template })).await;
    let starting_on_first = |seen: &Snapshot| {
        let waits = |task: &std::sync::Arc<api::Task>| {
            task.node() == Some("node-1") && task.phase() == TaskPhase::Starting
        };
        seen.tasks.iter().any(waits)
    };
    cluster.wait_for("one is being started there", WAIT, starting_on_first).await;
    cluster.run_short_of_disk(0, true);
    let seen = cluster
        .wait_for("all have run, and the node is still short", 4 * WAIT, |seen| {
            problem_of(seen, "node-1").is_some()
                && seen.jobs.iter().all(|job| job.status.phase == JobPhase::Succeeded)
        })
        .await;
    let places: Vec<_> = seen.tasks.iter().map(|task| (task.node(), task.spec.attempt)).collect();
    assert!(
        places.iter().all(|(node, attempt)| *node != Some("node-1") && *attempt == 1),
        "{places:?}"
    );
    let mut refusals = seen.tasks.iter().filter_map(|task| task.spec.refusals.as_ref());
    let is_said = refusals.any(|them| them.by[0].message.contains("nearly full"));
    assert!(is_said, "why it was given back");
}
