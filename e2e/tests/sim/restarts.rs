//! Tasks that are restarted in place, on virtual time: their container is started again within the
//! same attempt, whoever is away.

use std::collections::BTreeSet;
use std::time::Duration;

use api::batch::{Batch, Group, GroupResult, Op};
use api::task::transition::TaskChange;
use api::task::{StopReason, TaskPhase, TaskSpec, reason};
use api::{Kind as _, ObjectKey, Task, TaskTemplate, Timestamp};
use node_agent::engine::sim::{Fault, HistoryKind};
use runtime::Snapshot;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const WAIT: Duration = Duration::from_secs(60);

/// A task on the first node that runs with these arguments and is restarted in place by this rule.
/// It has one port.
async fn stays_up(cluster: &Cluster, args: &[&str], restart: Value, placement: Value) -> Task {
    let template: TaskTemplate = serde_json::from_value(json!({
        "apiVersion": "heliox.dev/v1", "kind": "TaskTemplate",
        "metadata": { "name": "web-1", "namespace": "default" },
        "spec": {
            "owner": { "kind": "Job", "name": "web" }, "placement": placement, "restart": restart,
            "template": { "image": "x", "args": args, "ports": [{ "name": "http" }] },
        },
    }))
    .unwrap();
    cluster.god.api::<TaskTemplate>("default").create(&template).await.unwrap();
    let spec = TaskSpec {
        template: "web-1".to_owned(),
        count: 1,
        run: 1,
        attempt: 1,
        ..TaskSpec::default()
    };
    let task = Task::new("default", "web-1-0", spec);
    cluster.god.api::<Task>("default").create(&task).await.unwrap()
}

/// So that what is given up may only come back to the first node.
fn on_first() -> Value {
    json!({ "nodes": ["node-1"] })
}

async fn wait_for(cluster: &Cluster, what: &str, holds: impl Fn(&Task) -> bool) -> Task {
    let found = |seen: &Snapshot| {
        seen.tasks.iter().find(|task| task.name() == "web-1-0").map(|task| Task::clone(task))
    };
    let seen = cluster.wait_for(what, WAIT, |seen| found(seen).is_some_and(|it| holds(&it))).await;
    found(&seen).unwrap()
}

fn is_waiting(task: &Task) -> bool {
    task.status.restart_at.is_some()
}

/// The restart numbers of the containers that have started on the first machine since the last
/// call.
fn begun(cluster: &Cluster) -> Vec<u32> {
    let history = cluster.hosts[0].machine.take_history();
    let started = |what: &HistoryKind| matches!(what, HistoryKind::Started { .. });
    let begun = history.into_iter().filter(|event| started(&event.what));
    begun.map(|event| event.identity.restart()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_task_that_stays_up_is_restarted_while_no_apiserver_answers() {
    let mut cluster = Cluster::start(1).await;
    let restart = json!({ "backoff": { "max": "4s" }, "rescheduleAfter": "1h" });
    stays_up(&cluster, &["duration=5s"], restart, json!({})).await;
    let before = wait_for(&cluster, "it was restarted", |task| task.status.restarts == 2).await;
    let ran_on = before.node().unwrap().to_owned();
    let host = cluster.hosts.iter().position(|host| host.name == ran_on).unwrap();
    cluster.hosts.swap(0, host);
    begun(&cluster);
    cluster.crash_server();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let numbers = begun(&cluster);
    assert!(numbers.len() >= 6, "{numbers:?}");
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert!(cluster.hosts[0].machine.running().len() <= 1);
    cluster.start_server().await;
    let now = wait_for(&cluster, "what happened meanwhile is told", |task| {
        task.status.restarts >= *numbers.last().unwrap()
    })
    .await;
    assert_eq!((now.spec.attempt, now.node()), (1, Some(ran_on.as_str())));
    assert_eq!(now.status.ports, before.status.ports, "it keeps its ports");
    assert_eq!(now.status.last_exit.as_ref().unwrap().exit_code, Some(0), "exit 0 is no end");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_killed_at_any_time_goes_on_with_the_restarts() {
    let mut cluster = Cluster::start(3).await;
    let restart = json!({ "backoff": { "max": "2s" }, "rescheduleAfter": "1h" });
    stays_up(&cluster, &["duration=1500ms", "exit=3"], restart, on_first()).await;
    wait_for(&cluster, "it was restarted", |task| task.status.restarts == 1).await;
    let mut begun_before = begun(&cluster);
    for step in 0..40_u64 {
        // Every moment of a run and of a pause comes.
        tokio::time::sleep(Duration::from_millis(173 * (step % 7) + 20)).await;
        cluster.crash_agent(0);
        assert!(cluster.hosts[0].machine.running().len() <= 1);
        tokio::time::sleep(Duration::from_millis(130 * (step % 3))).await;
        cluster.start_agent(0);
        begun_before.extend(begun(&cluster));
    }
    let restarts = wait_for(&cluster, "it was restarted", |task| task.status.restarts > 5).await;
    assert_eq!(restarts.spec.attempt, 1);
    begun_before.extend(begun(&cluster));
    let distinct: BTreeSet<u32> = begun_before.iter().copied().collect();
    let in_order: Vec<u32> = distinct.into_iter().collect();
    assert_eq!(begun_before, in_order, "each container is started once, in order");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_at_once_costs_less_and_less() {
    let cluster = Cluster::start(4).await;
    let restart = json!({ "backoff": { "max": "30s" }, "rescheduleAfter": "1h" });
    stays_up(&cluster, &["exit=1"], restart, json!({})).await;
    let all_begun = || -> usize {
        let histories = cluster.hosts.iter().map(|host| host.machine.take_history());
        let started = |what: &HistoryKind| matches!(what, HistoryKind::Started { .. });
        histories.flatten().filter(|event| started(&event.what)).count()
    };
    tokio::time::sleep(Duration::from_secs(300)).await;
    all_begun();
    let (mut versions, mut last) = (BTreeSet::new(), None);
    for _ in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let task = cluster.god.api::<Task>("default").get("web-1-0").await.unwrap();
        versions.insert(task.metadata.resource_version.clone());
        last = Some(task);
    }
    let (begun, task) = (all_begun(), last.unwrap());
    assert!((9..=11).contains(&begun), "{begun} starts in five minutes, one each 30 s");
    assert!(versions.len() <= begun + 2, "{} writes for {begun} starts", versions.len());
    assert_eq!(task.status.reason.as_deref(), Some(reason::FLAPPING));
    assert_eq!((task.spec.attempt, task.phase()), (1, TaskPhase::Starting));
    assert!(!task.is_ready());
    let why = task.why(cluster.clock.now());
    assert!(why.starts_with("Flapping: exit 1, again in"), "{why}");
    let running = cluster.hosts.iter().map(|host| host.machine.running().len());
    assert_eq!(running.sum::<usize>(), 0);
}

async fn evict(cluster: &Cluster, task: &Task) {
    let op = Op::Task {
        key: ObjectKey::new("default", "web-1-0"),
        uid: task.uid().to_owned(),
        attempt: task.spec.attempt,
        change: TaskChange::evict(StopReason::Evict),
    };
    let mut batch = Batch::default();
    batch.groups.push(Group::from(op));
    let answer = cluster.god.batch(&batch).await.unwrap();
    assert_eq!(answer.results, [GroupResult::Done]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_to_be_restarted_is_stopped_at_once() {
    let cluster = Cluster::start(5).await;
    let restart = json!({ "backoff": { "initial": "4m" } });
    stays_up(&cluster, &["exit=1"], restart, json!({})).await;
    let task = wait_for(&cluster, "it waits", is_waiting).await;
    evict(&cluster, &task).await;
    let asked = cluster.clock.now();
    let task = wait_for(&cluster, "it has ended", Task::has_ended).await;
    assert_eq!(task.phase(), TaskPhase::Cancelled);
    let took = cluster.clock.now().duration_since(asked);
    assert!(took < jiff::SignedDuration::from_secs(2), "{took}");
}

/// The old container may not have let go of its port when the next one starts.
#[tokio::test(start_paused = true)]
async fn a_port_that_is_still_held_is_waited_for() {
    let cluster = Cluster::start(6).await;
    let restart = json!({ "backoff": { "max": "4s" } });
    let args = ["duration=20s"];
    stays_up(&cluster, &args, restart, on_first()).await;
    let before = wait_for(&cluster, "it runs", Task::is_ready).await;
    cluster.hosts[0].machine.fail_next_create(Fault::PortTaken);
    let waits = wait_for(&cluster, "it waits for its port", |task| {
        task.status.reason.as_deref() == Some(reason::PORT_TAKEN) && is_waiting(task)
    })
    .await;
    assert_eq!(waits.status.restarts, 1);
    let after = wait_for(&cluster, "it runs again", Task::is_ready).await;
    assert_eq!((after.status.restarts, after.spec.attempt), (1, 1));
    assert_eq!(after.status.ports, before.status.ports);
    // A stranger holds it.
    for _ in 0..2 {
        cluster.hosts[0].machine.fail_next_create(Fault::PortTaken);
    }
    let after = wait_for(&cluster, "it runs once more", |task| {
        task.status.restarts == 2 && task.is_ready()
    })
    .await;
    assert_ne!(after.status.ports, before.status.ports, "one from the range is exchanged");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_stay_up_fails_so_that_another_node_may_run_it() {
    let cluster = Cluster::start(7).await;
    let restart = json!({ "rescheduleAfter": "40s" });
    stays_up(&cluster, &["exit=9"], restart, json!({})).await;
    let begun: Timestamp = cluster.clock.now();
    let task = wait_for(&cluster, "it has ended", Task::has_ended).await;
    let passed = cluster.clock.now().duration_since(begun).as_secs();
    assert!((40..45).contains(&passed), "after {passed} s");
    assert_eq!(task.phase(), TaskPhase::Failed);
    assert_eq!(task.status.reason.as_deref(), Some(reason::FLAPPING));
    assert_eq!(task.status.exit_code, Some(9));
    let message = "it did not stay up for 40s; its last container ended with exit 9";
    assert_eq!(task.status.message.as_deref(), Some(message));
    let running = cluster.hosts.iter().map(|host| host.machine.running().len());
    assert_eq!(running.sum::<usize>(), 0);
}
