//! Strangers that hold host ports of a node, on virtual time.

use std::time::Duration;

use api::task::{TaskPhase, reason};
use api::{Kind as _, Task};
use node_agent::engine::sim::Fault;
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::stories::job;

const WAIT: Duration = Duration::from_secs(60);
/// The first port of a node's range.
const FIRST: u16 = 20_000;
/// So often an attempt gets other ports.
const TRIES: u16 = 5;

/// A task on the first node with one port.
async fn task_with_port(cluster: &Cluster, name: &str, port: Value) {
    let spec = json!({
        "placement": { "nodes": ["node-1"] }, "retry": { "maxAttempts": 1 },
        "template": { "image": "x", "args": ["duration=300s"], "ports": [port] },
    });
    job(cluster, name, spec).await;
}

fn strangers_hold(cluster: &Cluster, ports: u16) {
    (0..ports).for_each(|_| cluster.hosts[0].machine.fail_next_create(Fault::PortTaken));
}

async fn wait_for(cluster: &Cluster, name: &str, phase: TaskPhase) -> Task {
    let is_so = |task: &Task| task.name() == format!("{name}-0") && task.phase() == phase;
    let what = format!("{name} is {phase}");
    let is_there = |seen: &Snapshot| seen.tasks.iter().any(|task| is_so(task));
    let seen = cluster.wait_for(&what, WAIT, is_there).await;
    Task::clone(seen.tasks.iter().find(|task| is_so(task)).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_port_that_a_stranger_holds_costs_no_attempt_and_is_given_to_nobody_else() {
    let cluster = Cluster::start(5).await;
    strangers_hold(&cluster, 2);
    task_with_port(&cluster, "a", json!({ "name": "http" })).await;
    let task = wait_for(&cluster, "a", TaskPhase::Running).await;
    assert_eq!((task.spec.attempt, task.status.ports["http"]), (1, FIRST + 2));
    task_with_port(&cluster, "b", json!({ "name": "http" })).await;
    let task = wait_for(&cluster, "b", TaskPhase::Running).await;
    assert_eq!(task.status.ports["http"], FIRST + 3, "the strangers' are not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_task_for_which_no_port_helps_ends_with_the_reason() {
    let cluster = Cluster::start(5).await;
    strangers_hold(&cluster, TRIES + 1);
    task_with_port(&cluster, "any", json!({ "name": "http" })).await;
    let task = wait_for(&cluster, "any", TaskPhase::Failed).await;
    assert_eq!(task.status.reason.as_deref(), Some(reason::PORT_TAKEN));
    // Other numbers are no help where the number is named.
    strangers_hold(&cluster, 1);
    task_with_port(&cluster, "named", json!({ "name": "http", "hostPort": 15_353 })).await;
    let task = wait_for(&cluster, "named", TaskPhase::Failed).await;
    assert_eq!(task.status.reason.as_deref(), Some(reason::PORT_TAKEN));
    assert_eq!(task.status.message.as_deref(), Some("port is already allocated"));
}
