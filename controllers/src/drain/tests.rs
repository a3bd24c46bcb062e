//! What a drain plan does, as tables.

use std::fmt::Write as _;

use api::node::{Drain, NodeSpec};
use api::object::Kind as _;
use api::service::ServiceSpec;
use api::taint::{Taint, Toleration};
use api::task::transition::{Applied, TaskChange, apply};
use api::task::{Overrides, StopReason, TaskSpec};
use api::{Job, Node, Service, Task, Timestamp};
use expect_test::expect;
use serde_json::{Value, json};

use super::plan::{Placed, Plan, View, plan};
use crate::action::{Action, Status};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn changed(task: &Task, change: &TaskChange) -> Task {
    let Applied::Changed(next) = apply(task, 1, change, at(0)).unwrap() else {
        panic!("nothing changed")
    };
    *next
}

fn bound(name: &str) -> Task {
    let spec = TaskSpec { run: 1, attempt: 1, ..TaskSpec::default() };
    changed(&Task::new("default", name, spec), &TaskChange::Bind { node: "n1".to_owned() })
}

fn of_job(name: &str) -> Task {
    bound(name).with_controller(Job::new("default", "j", <_>::default()).as_controller())
}

fn service() -> Service {
    let spec: ServiceSpec =
        serde_json::from_value(json!({ "replicas": 3, "template": { "image": "x" } })).unwrap();
    let mut service = Service::new("default", "web", spec);
    (service.status.replicas, service.status.ready) = (3, 2);
    service
}

fn of_service(name: &str) -> Task {
    bound(name).with_controller(service().as_controller())
}

/// A task of a service with one task on each node.
fn of_each_node(name: &str) -> Task {
    let mut task = of_service(name);
    let placement = json!({ "nodes": ["n1"] }).as_object().cloned().map(Box::new);
    task.spec.overrides = Overrides { placement, ..Overrides::default() };
    task
}

fn show(plan: &Plan) -> String {
    let mut shown = String::new();
    for action in plan.groups.iter().flat_map(|group| &group.actions) {
        if let Action::Task { task, change: TaskChange::Evict { reason, message }, .. } = action {
            let message = message.as_deref().unwrap_or_default();
            writeln!(shown, "evict {}: {reason}, {message}", task.key.name).unwrap();
        } else if let Action::Status(Status::Node(node)) = action {
            let drain = node.status.drain.as_ref().map(|drain| {
                let (left, all) = (drain.remaining, drain.total);
                let waits = drain.waits_for.as_deref().unwrap_or("nothing");
                format!("{}, {left} of {all} left, waits for {waits}", drain.state)
            });
            writeln!(shown, "status: {}", drain.as_deref().unwrap_or("none")).unwrap();
        } else {
            panic!("{action:?}");
        }
    }
    for notice in &plan.notices {
        writeln!(shown, "{}: {}", notice.reason, notice.message).unwrap();
    }
    let wake = plan.wake_at.map(|at| format!("wake at {}s\n", at.as_second()));
    shown + &wake.unwrap_or_default()
}

#[test]
fn what_does_not_tolerate_a_taint_leaves_when_its_time_is_over() {
    let taint =
        |text: &str, added| Taint { time_added: Some(at(added)), ..text.parse::<Taint>().unwrap() };
    let mut node = Node::new("", "n1", NodeSpec::default());
    node.spec.taints = vec![taint("broken=fan:NoExecute", 100), taint("x:NoSchedule", 100)];
    let tolerations = |json: Value| -> Vec<Toleration> { serde_json::from_value(json).unwrap() };
    let for_60 = json!({
        "key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60,
    });
    let tasks = [
        (bound("none"), tolerations(json!([]))),
        (bound("all"), tolerations(json!([{ "operator": "Exists" }]))),
        (bound("for-60"), tolerations(json!([for_60]))),
        (changed(&bound("lost"), &TaskChange::Lose), Vec::new()),
        (changed(&bound("stops"), &TaskChange::evict(StopReason::Cancel)), Vec::new()),
    ];
    let placed: Vec<Placed<'_>> = tasks
        .iter()
        .map(|(task, tolerations)| Placed { task, tolerations, service: None })
        .collect();
    let shown = |node: &Node, now| show(&plan(&View { node, tasks: &placed, now: at(now) }));
    expect![[r#"
        evict none: Drain, node n1 has taint broken=fan:NoExecute
        wake at 160s
    "#]]
    .assert_eq(&shown(&node, 159));
    expect![[r#"
        evict none: Drain, node n1 has taint broken=fan:NoExecute
        evict for-60: Drain, node n1 has taint broken=fan:NoExecute
    "#]]
    .assert_eq(&shown(&node, 160));
    node.spec.taints.remove(0);
    assert_eq!(shown(&node, 160), "");
}

/// A node, its tasks, and the service that some belong to.
struct World {
    node: Node,
    tasks: Vec<Task>,
    service: Service,
}

impl World {
    fn new(drain: Drain) -> Self {
        let spec = NodeSpec { unschedulable: true, drain: Some(drain), ..NodeSpec::default() };
        let mut node = Node::new("", "n1", spec);
        node.status.ready_since = Some(at(0));
        let jobs = [of_job("j-0"), of_job("j-1")];
        let tasks = jobs.into_iter().chain([of_service("web-1-0"), of_each_node("log-n1")]);
        Self { node, tasks: tasks.collect(), service: service() }
    }

    /// Plans and acts.
    fn plan(&mut self, now: i64) -> String {
        let placed = |task| Placed { task, tolerations: &[], service: Some(&self.service) };
        let placed: Vec<Placed<'_>> = self.tasks.iter().map(placed).collect();
        let decided = plan(&View { node: &self.node, tasks: &placed, now: at(now) });
        for action in decided.groups.iter().flat_map(|group| &group.actions) {
            if let Action::Task { task: of, change, .. } = action {
                let is_it = |task: &&mut Task| task.name() == of.key.name;
                let task = self.tasks.iter_mut().find(is_it).unwrap();
                *task = changed(task, change);
            } else if let Action::Status(Status::Node(node)) = action {
                self.node = Node::clone(node);
            }
        }
        show(&decided)
    }

    /// These tasks have ended.
    fn end(&mut self, names: &[&str]) {
        self.tasks.retain(|task| !names.contains(&task.name()));
    }
}

#[test]
fn tasks_of_jobs_are_evicted_and_services_move_their_own() {
    let mut world = World::new(Drain::default());
    expect![[r#"
        evict j-0: Drain, node n1 is being drained
        evict j-1: Drain, node n1 is being drained
        status: Progressing, 3 of 3 left, waits for 2 tasks are being stopped, 1 task of service default/web (2 of 3 ready, at least 2 must be)
        wake at 10s
    "#]]
    .assert_eq(&world.plan(0));
    assert!(world.node.is_draining());
    assert_eq!(world.plan(1), "wake at 11s\n", "it is a fixpoint");
    world.end(&["j-0", "j-1"]);
    expect![[r#"
        status: Progressing, 1 of 3 left, waits for 1 task of service default/web (2 of 3 ready, at least 2 must be)
        wake at 15s
    "#]]
    .assert_eq(&world.plan(5));
    world.end(&["web-1-0"]);
    expect![[r#"
        status: Complete, 0 of 3 left, waits for nothing
        Drained: all 3 tasks have left the node
    "#]]
    .assert_eq(&world.plan(6));
    assert!(!world.node.is_draining());
    assert_eq!(world.plan(7), "");
    // The drain is taken back.
    world.node.spec.drain = None;
    assert_eq!(world.plan(8), "status: none\n");
    assert_eq!(world.plan(9), "");
}

#[test]
fn at_the_deadline_a_drain_gives_up_or_evicts_the_rest() {
    let asked = |force| Drain { deadline: Some(at(60)), force, by: None };
    let mut world = World::new(asked(false));
    world.end(&["j-0", "j-1"]);
    expect![[r#"
        status: Progressing, 1 of 1 left, waits for 1 task of service default/web (2 of 3 ready, at least 2 must be)
        wake at 10s
    "#]]
    .assert_eq(&world.plan(0));
    assert_eq!(world.plan(55), "wake at 60s\n");
    expect![[r#"
        status: GaveUp, 1 of 1 left, waits for 1 task of service default/web (2 of 3 ready, at least 2 must be)
        DrainGaveUp: at the deadline 1 of 1 tasks had not left: 1 task of service default/web (2 of 3 ready, at least 2 must be)
    "#]]
    .assert_eq(&world.plan(60));
    assert_eq!(world.plan(100), "", "it has given up");
    // Asked for again, by force.
    world.node.spec.drain = Some(asked(true));
    expect![[r#"
        evict web-1-0: Drain, the deadline of the drain of node n1 has passed
        status: Progressing, 1 of 1 left, waits for 1 task of service default/web (2 of 3 ready, at least 2 must be)
        wake at 110s
    "#]]
    .assert_eq(&world.plan(100));
    expect![[r#"
        status: Progressing, 1 of 1 left, waits for 1 task is being stopped
        wake at 111s
    "#]]
    .assert_eq(&world.plan(101));
}
