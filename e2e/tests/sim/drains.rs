//! Nodes in the simulated cluster that tasks have to leave: drains, and taints.

use std::time::Duration;

use api::node::{DrainState, Node, NodePhase};
use api::service::Service;
use api::task::TaskPhase;
use api::{Job, Kind as _, Task};
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(120);

fn template() -> Value {
    json!({
        "image": "i", "args": ["duration=forever"], "terminationGracePeriodSeconds": 1,
        "resources": { "requests": { "cpu": "500m" } },
    })
}

async fn service(cluster: &Cluster, name: &str, mut spec: Value) {
    spec["template"] = template();
    let service = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    });
    let service: Service = serde_json::from_value(service).unwrap();
    cluster.god.api::<Service>("default").create(&service).await.unwrap();
}

async fn job(cluster: &Cluster, count: u32) {
    let job = json!({
        "apiVersion": "heliox.dev/v1", "kind": "Job",
        "metadata": { "name": "long", "namespace": "default" },
        "spec": { "count": count, "retry": { "maxAttempts": 1 }, "template": template() },
    });
    let job: Job = serde_json::from_value(job).unwrap();
    cluster.god.api::<Job>("default").create(&job).await.unwrap();
}

async fn patch(cluster: &Cluster, node: &str, spec: Value) {
    let nodes = cluster.god.api::<Node>("");
    nodes.merge_patch(node, &json!({ "spec": spec })).await.unwrap();
}

fn of<'a>(seen: &'a Snapshot, owner: &str) -> Vec<&'a Task> {
    let is_its = |task: &&Task| task.controller().is_some_and(|it| it.name == owner);
    seen.tasks.iter().map(AsRef::as_ref).filter(is_its).collect()
}

fn ready(seen: &Snapshot, owner: &str) -> usize {
    of(seen, owner).iter().filter(|task| task.is_ready()).count()
}

fn running(seen: &Snapshot, owner: &str) -> usize {
    of(seen, owner).iter().filter(|task| task.phase() == TaskPhase::Running).count()
}

fn node<'a>(seen: &'a Snapshot, name: &str) -> &'a Node {
    seen.nodes.iter().find(|node| node.name() == name).unwrap()
}

/// How many tasks with this owner are on a node and have not ended.
fn on(seen: &Snapshot, name: &str, owner: &str) -> usize {
    let is_on = |task: &&&Task| task.node() == Some(name) && !task.has_ended();
    of(seen, owner).iter().filter(is_on).count()
}

fn state(seen: &Snapshot, name: &str) -> Option<DrainState> {
    node(seen, name).drain().map(|drain| drain.state)
}

/// Waits for a state, and holds that at no time fewer tasks of `web` are ready than `least`.
async fn meanwhile(cluster: &Cluster, least: usize, what: &str, is: impl Fn(&Snapshot) -> bool) {
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(seen) = cluster.look().await {
            let ready = ready(&seen, "web");
            assert!(ready >= least, "{what}: {ready} tasks are ready");
            if is(&seen) {
                return;
            }
        }
        assert!(tokio::time::Instant::now() < until, "{what}: it takes too long");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A service with three tasks, one with a task on each node, and a job.
async fn begin(seed: u64, web: Value) -> Cluster {
    let cluster = Cluster::start(seed).await;
    service(&cluster, "web", web).await;
    service(&cluster, "log", json!({ "perNode": true })).await;
    job(&cluster, 3).await;
    let is_up = |seen: &Snapshot| {
        (ready(seen, "web"), ready(seen, "log"), running(seen, "long")) == (3, 3, 3)
    };
    cluster.wait_for("all runs", LIMIT, is_up).await;
    cluster
}

fn is_drained(seen: &Snapshot, name: &str) -> bool {
    let is_left = on(seen, name, "web") + on(seen, name, "long") == 0;
    is_left && state(seen, name) == Some(DrainState::Complete) && on(seen, name, "log") == 1
}

fn is_whole(seen: &Snapshot) -> bool {
    (ready(seen, "web"), ready(seen, "log"), running(seen, "long")) == (3, 3, 3)
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_keeps_only_what_belongs_to_it() {
    let cluster = begin(41, json!({ "replicas": 3 })).await;
    patch(&cluster, "node-1", json!({ "drain": { "by": "ops" } })).await;
    meanwhile(&cluster, 2, "drained", |seen| is_drained(seen, "node-1") && is_whole(seen)).await;
    let seen = cluster.look().await.unwrap();
    assert_eq!(node(&seen, "node-1").phase(), NodePhase::Cordoned);
    assert!(of(&seen, "long").iter().all(|task| task.spec.failures == 0), "it counts for nothing");
    // As `kubectl uncordon` does it.
    patch(&cluster, "node-1", json!({ "unschedulable": false })).await;
    let is_open = |seen: &Snapshot| {
        let node = node(seen, "node-1");
        node.phase() == NodePhase::Ready && node.spec.drain.is_none() && node.status.drain.is_none()
    };
    cluster.wait_for("the node is open again", LIMIT, is_open).await;
}

#[tokio::test(start_paused = true)]
async fn with_start_first_no_task_is_missed_while_nodes_are_drained() {
    let cluster = begin(42, json!({ "replicas": 3, "rollout": { "order": "StartFirst" } })).await;
    for name in ["node-1", "node-2"] {
        patch(&cluster, name, json!({ "drain": {} })).await;
        meanwhile(&cluster, 3, name, |seen| is_drained(seen, name) && is_whole(seen)).await;
        patch(&cluster, name, json!({ "unschedulable": false })).await;
        let is_open = |seen: &Snapshot| node(seen, name).phase() == NodePhase::Ready;
        cluster.wait_for("the node is open again", LIMIT, is_open).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_drains_at_once_take_from_one_measure() {
    for seed in 50..56 {
        let cluster = begin(seed, json!({ "replicas": 3, "maxUnavailable": 1 })).await;
        patch(&cluster, "node-1", json!({ "drain": {} })).await;
        patch(&cluster, "node-2", json!({ "drain": {} })).await;
        let are_drained = |seen: &Snapshot| {
            is_drained(seen, "node-1") && is_drained(seen, "node-2") && is_whole(seen)
        };
        meanwhile(&cluster, 2, "both are drained", are_drained).await;
    }
}

#[tokio::test(start_paused = true)]
async fn leaders_that_crash_in_the_middle_of_a_drain_change_nothing_of_how_it_ends() {
    for seed in 60..66 {
        let mut cluster = begin(seed, json!({ "replicas": 3 })).await;
        patch(&cluster, "node-1", json!({ "drain": {} })).await;
        for _ in 0..6 {
            let millis = cluster.rng.below(1500);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let index = usize::try_from(cluster.rng.below(2)).unwrap();
            cluster.controllers[index].crash();
            cluster.schedulers[1 - index].crash();
            if cluster.rng.chance(300) {
                cluster.crash_server();
                cluster.start_server().await;
            }
            cluster.start_leaders();
            if let Some(seen) = cluster.look().await {
                let ready = ready(&seen, "web");
                assert!(ready >= 2, "seed {seed}: {ready} are ready");
            }
        }
        meanwhile(&cluster, 2, "drained", |seen| is_drained(seen, "node-1") && is_whole(seen))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_for_which_there_is_no_room_gives_up_at_its_deadline_or_takes_the_rest_by_force() {
    let cluster = begin(43, json!({ "replicas": 3, "rollout": { "order": "StartFirst" } })).await;
    for name in ["node-2", "node-3"] {
        patch(&cluster, name, json!({ "unschedulable": true })).await;
    }
    let deadline = |seconds| {
        let wait = jiff::SignedDuration::from_secs(seconds);
        cluster.clock.now().checked_add(wait).unwrap()
    };
    patch(&cluster, "node-1", json!({ "drain": { "deadline": deadline(20) } })).await;
    let has_given_up = |seen: &Snapshot| state(seen, "node-1") == Some(DrainState::GaveUp);
    meanwhile(&cluster, 3, "it gives up", has_given_up).await;
    let seen = cluster.look().await.unwrap();
    assert!(on(&seen, "node-1", "web") > 0, "there is no place for another one");
    let drain = json!({ "deadline": deadline(5), "force": true });
    patch(&cluster, "node-1", json!({ "drain": drain })).await;
    let is_empty = |seen: &Snapshot| is_drained(seen, "node-1");
    cluster.wait_for("the rest is evicted", LIMIT, is_empty).await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_drives_away_what_does_not_tolerate_it() {
    let cluster = begin(44, json!({ "replicas": 3 })).await;
    let taint = json!([{ "key": "broken", "effect": "NoExecute" }]);
    patch(&cluster, "node-1", json!({ "taints": taint })).await;
    let has_left = |seen: &Snapshot| {
        let there = ["web", "log", "long"].iter().map(|owner| on(seen, "node-1", owner));
        let elsewhere = (ready(seen, "web"), ready(seen, "log"), running(seen, "long"));
        there.sum::<usize>() == 0 && elsewhere == (3, 2, 3)
    };
    cluster.wait_for("all have left", LIMIT, has_left).await;
    let seen = cluster.look().await.unwrap();
    assert!(node(&seen, "node-1").spec.taints[0].time_added.is_some());
    patch(&cluster, "node-1", json!({ "taints": null })).await;
    let is_back = |seen: &Snapshot| ready(seen, "log") == 3;
    cluster.wait_for("what belongs to the node is back", LIMIT, is_back).await;
}
