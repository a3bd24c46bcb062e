//! What a look at the nodes reads, and when it is made.

use std::sync::Arc;
use std::time::Duration;

use api::node::NodeLease;
use api::task::transition::{Applied, TaskChange, apply};
use api::task::{StopReason, TaskSpec};
use api::{Node, Task, Timestamp};
use runtime::{Any, Controller as _, Requeue, Snapshot};
use tokio::time::Instant;

use super::super::{CanaryCage, Controller};
use crate::obedient;

fn node(name: &str, is_lost: bool) -> Any {
    let mut node = Node::new("", name, Default::default());
    node.status.ready_since = Some(Timestamp::UNIX_EPOCH);
    node.status.lost = is_lost.then_some(Timestamp::UNIX_EPOCH);
    Any::Node(Arc::new(node))
}

fn lease(name: &str) -> Any {
    Any::NodeLease(Arc::new(NodeLease::new("", name, Default::default())))
}

/// A task on a node, after these changes.
fn task(name: &str, node: &str, changes: &[TaskChange]) -> Task {
    let spec = TaskSpec { run: 1, attempt: 1, ..TaskSpec::default() };
    let mut task = Task::new("default", name, spec);
    let bind = TaskChange::Bind { node: node.to_owned() };
    for change in [&bind].into_iter().chain(changes) {
        let Applied::Changed(next) = apply(&task, 1, change, Timestamp::UNIX_EPOCH).unwrap() else {
            panic!("{change:?} changes nothing")
        };
        task = *next;
    }
    task
}

fn any(task: Task) -> Any {
    Any::Task(Arc::new(task))
}

const REPLACED: [TaskChange; 2] = [TaskChange::Lose, TaskChange::Replaceable];

/// What a look answers, and how many objects it reads, in a cluster of a node that works and one that
/// has been away for long.
async fn look(on_the_absent_node: Vec<Task>) -> (Requeue, u64) {
    let works = (0..1_000).map(|at| any(task(&format!("w-{at}"), "works", &[])));
    let nodes = [node("works", false), lease("works"), node("absent", true)];
    let objects = nodes.into_iter().chain(works).chain(on_the_absent_node.into_iter().map(any));
    let (tools, asked) = obedient::tools(objects.collect(), Timestamp::UNIX_EPOCH);
    let controller = Controller::new(tools.clone(), CanaryCage::default(), Instant::now());
    let requeue = controller.reconcile(&()).await.unwrap();
    assert_eq!(asked.groups(), 0);
    (requeue, tools.metrics.objects_viewed("node"))
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_away_costs_its_own_tasks_and_no_looks_once_they_are_replaced() {
    assert_eq!(look(Vec::new()).await, (Requeue::OnChange, 2));
    let waits = TaskChange::LoseNode { silent_since: Timestamp::UNIX_EPOCH, waits: true };
    let settled = vec![task("a", "absent", &REPLACED), task("b", "absent", &[waits])];
    // One is read twice: it is lost, and on a silent node.
    assert_eq!(look(settled).await, (Requeue::OnChange, 2 + 4));
    let (requeue, _) = look(vec![task("c", "absent", &[TaskChange::Lose])]).await;
    assert_eq!(requeue, Requeue::After(Duration::from_millis(500)), "it is to be replaced in time");
}

/// These were found by a look at everything twice a second.
#[test]
fn what_happens_to_a_task_of_a_silent_node_brings_a_look() {
    let mut snapshot = Snapshot::default();
    for object in [node("works", false), lease("works"), node("absent", true)] {
        snapshot.insert(object);
    }
    let looks = |task: &Task| {
        let task = any(task.clone());
        Controller::keys(None, Some(&task), &snapshot).len()
    };
    assert_eq!(looks(&task("t", "works", &[])), 0);
    assert_eq!(looks(&task("t", "absent", &[])), 1, "bound while the node fell silent");
    let waits = TaskChange::LoseNode { silent_since: Timestamp::UNIX_EPOCH, waits: true };
    let evicted = [waits, TaskChange::evict(StopReason::Evict)];
    assert_eq!(looks(&task("t", "absent", &evicted)), 1);
    assert_eq!(looks(&task("t", "works", &[TaskChange::Lose])), 1, "its node came back");
    assert_eq!(looks(&Task::new("default", "t", TaskSpec::default())), 0);
}
