//! What a drain plan does, as tables.

use std::fmt::Write as _;

use api::node::NodeSpec;
use api::taint::{Taint, Toleration};
use api::task::transition::{Applied, TaskChange, apply};
use api::task::{StopReason, TaskSpec};
use api::{Node, Task, Timestamp};
use expect_test::expect;
use serde_json::{Value, json};

use super::plan::{Placed, Plan, View, plan};
use crate::action::Action;

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

fn show(plan: &Plan) -> String {
    let mut shown = String::new();
    for action in plan.groups.iter().flat_map(|group| &group.actions) {
        let Action::Task { task, change: TaskChange::Evict { reason, message }, .. } = action
        else {
            panic!("{action:?}")
        };
        let message = message.as_deref().unwrap_or_default();
        writeln!(shown, "evict {}: {reason}, {message}", task.key.name).unwrap();
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
    let placed: Vec<Placed<'_>> =
        tasks.iter().map(|(task, tolerations)| Placed { task, tolerations }).collect();
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
