//! What the node controller decides, as scripts.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

mod cost;
mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use api::node::NodeSpec;
use api::object::Kind as _;
use api::placement::{LossAction, OnNodeLoss};
use api::task::report::Report;
use api::task::transition::{Applied, TaskChange, apply};
use api::task::{ReportState, StopReason, TaskSpec};
use api::{Node, Task, Timestamp};
use expect_test::{Expect, expect};
use jiff::SignedDuration;

use super::plan::{Canary, Missing, Placed, Plan, View, plan};
use crate::action::{Action, Status};

#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Node>,
    leased: BTreeSet<String>,
    tasks: BTreeMap<String, (Task, OnNodeLoss)>,
    canary: Option<Canary>,
    /// Whether the canary is renewed as time passes.
    canary_lives: bool,
    missing: Missing,
    elapsed: Duration,
    now: Timestamp,
}

/// Runs a script and compares what its `plan` lines show. `nodes a b` are there with leases;
/// `task T NODE [wait]` runs, `end T` has ended, `evict T` is to stop; the template of `forget T` is
/// gone, and what it said of losses with it; `gone|back|delete NODE`,
/// `canary on|off`, `wait SECONDS`, `set-back SECONDS` of the clock; `why NODE|T` shows its WHY.
fn check(script: &str, expected: Expect) {
    let mut world = World::default();
    world.step("canary", &["on"]);
    world.step("wait", &["20"]);
    let mut shown = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (verb, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
        if verb == "plan" {
            let plan = world.plan();
            show(&plan, &mut shown);
            world.act(&plan);
        } else if verb == "why" {
            writeln!(shown, "{}", world.why(rest[0])).unwrap();
        } else {
            world.step(verb, &rest);
        }
    }
    expected.assert_eq(&shown);
}

impl World {
    fn step(&mut self, verb: &str, rest: &[&str]) {
        match verb {
            "nodes" => {
                for name in rest {
                    let mut node = Node::new("", name, NodeSpec::default());
                    node.status.ready_since = Some(self.now);
                    self.nodes.insert((*name).to_owned(), node);
                    self.leased.insert((*name).to_owned());
                }
            }
            "task" => {
                let spec = TaskSpec { run: 1, attempt: 1, ..TaskSpec::default() };
                let task = Task::new("default", rest[0], spec);
                let bind = TaskChange::Bind { node: rest[1].to_owned() };
                let Applied::Changed(task) = apply(&task, 1, &bind, self.now).unwrap() else {
                    panic!("not bound")
                };
                let wait = rest.get(2) == Some(&"wait");
                let action = if wait { LossAction::Wait } else { LossAction::Replace };
                let on_loss = OnNodeLoss { action, after: None };
                self.tasks.insert(rest[0].to_owned(), (*task, on_loss));
            }
            "end" => {
                let (task, _) = &self.tasks[rest[0]];
                let report = Report {
                    binding: task.binding().unwrap().number,
                    boot_id: "boot".to_owned(),
                    state: ReportState::Succeeded,
                    ready: false,
                    restarts: 0,
                    exit_code: Some(0),
                    reason: None,
                    message: None,
                    started_at: None,
                    finished_at: Some(self.now),
                    ports: BTreeMap::new(),
                    last_exit: None,
                    image_digest: None,
                    restart_at: None,
                };
                self.change(rest[0], &TaskChange::Report(Box::new(report)));
            }
            "evict" => self.change(rest[0], &TaskChange::evict(StopReason::Evict)),
            "forget" => {
                self.tasks.get_mut(rest[0]).unwrap().1 = OnNodeLoss::default();
            }
            "gone" => self.leased.retain(|node| !rest.contains(&node.as_str())),
            "back" => self.leased.extend(rest.iter().map(|node| (*node).to_owned())),
            "delete" => drop(self.nodes.remove(rest[0])),
            "set-back" => {
                let by = SignedDuration::from_secs(rest[0].parse().unwrap());
                self.now = self.now.saturating_sub(by).unwrap();
            }
            "canary" => self.canary_lives = rest[0] == "on",
            "wait" => {
                for _ in 0..rest[0].parse().unwrap() {
                    self.elapsed += Duration::from_secs(1);
                    self.now = self.now.saturating_add(SignedDuration::from_secs(1)).unwrap();
                    if self.canary_lives {
                        self.canary = Some(Canary::renewed(self.canary, self.elapsed));
                    }
                }
            }
            other => panic!("no such verb: {other}"),
        }
    }

    /// Changes one part of a task, as its writer would.
    fn change(&mut self, name: &str, change: &TaskChange) {
        let (task, _) = self.tasks.get_mut(name).unwrap();
        let Applied::Changed(next) = apply(task, 1, change, self.now).unwrap() else {
            panic!("{change:?} changes nothing")
        };
        *task = *next;
    }

    fn why(&self, name: &str) -> String {
        if let Some(node) = self.nodes.get(name) {
            let why = node.why(self.now);
            let takes = if node.is_schedulable() { "takes tasks" } else { "takes no tasks" };
            return format!("{name} {}, {takes}: {why}", node.phase());
        }
        let (task, _) = &self.tasks[name];
        format!("{name} {}: {}", task.phase(), task.why(self.now))
    }

    fn plan(&self) -> Plan {
        let nodes: Vec<&Node> = self.nodes.values().collect();
        let placed = |(task, on_loss): &'_ (Task, OnNodeLoss)| (task.clone(), *on_loss);
        let tasks: Vec<(Task, OnNodeLoss)> = self.tasks.values().map(placed).collect();
        let tasks: Vec<Placed<'_>> =
            tasks.iter().map(|(task, on_loss)| Placed { task, on_loss: *on_loss }).collect();
        plan(&View {
            nodes: &nodes,
            leased: &self.leased,
            tasks: &tasks,
            canary: self.canary,
            missing: &self.missing,
            elapsed: self.elapsed,
            now: self.now,
        })
    }

    fn act(&mut self, plan: &Plan) {
        self.missing = plan.missing.clone();
        for action in plan.groups.iter().flat_map(|group| &group.actions) {
            match action {
                Action::Status(Status::Node(node)) => {
                    self.nodes.insert(node.name().to_owned(), Node::clone(node));
                }
                Action::Task { task: of, attempt, change } => {
                    let (task, _) = self.tasks.get_mut(&of.key.name).unwrap();
                    let Applied::Changed(next) = apply(task, *attempt, change, self.now).unwrap()
                    else {
                        panic!("asked for twice: {change:?}")
                    };
                    *task = *next;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn show(plan: &Plan, shown: &mut String) {
    shown.push_str("plan\n");
    for (node, verdict) in &plan.verdicts {
        writeln!(shown, "  {node} is {verdict:?}").unwrap();
    }
    for action in plan.groups.iter().flat_map(|group| &group.actions) {
        if let Action::Task { task, change, .. } = action {
            writeln!(shown, "  {} {change:?}", task.key.name).unwrap();
        }
    }
    if let Some(waiting) = plan.waiting {
        writeln!(shown, "  waits: {waiting:?}").unwrap();
    }
}

#[test]
fn a_node_whose_lease_is_gone_is_lost_and_its_tasks_are_replaced_in_time() {
    check(
        "
        nodes a b c
        task t a
        task w a wait
        plan
        gone a
        plan
        plan
        wait 3
        plan
        wait 1
        plan
        plan
        ",
        expect![[r#"
            plan
            plan
              a is Lost
              t Lose
              w LoseNode { silent_since: 1970-01-01T00:00:14Z, waits: true }
            plan
            plan
            plan
              t Replaceable
            plan
        "#]],
    );
}

#[test]
fn a_task_that_has_ended_is_not_lost_with_its_node() {
    check(
        "
        nodes a b
        task ended a
        task runs a
        end ended
        plan
        gone a
        plan
        ",
        expect![[r#"
            plan
            plan
              a is Lost
              runs Lose
        "#]],
    );
}

#[test]
fn nothing_is_lost_while_the_canary_is_not_well() {
    check(
        "
        nodes a b c
        task t a
        canary off
        wait 4
        gone a
        plan
        canary on
        wait 6
        plan
        wait 1
        plan
        ",
        expect![[r#"
            plan
              waits: Canary
            plan
              waits: Canary
            plan
              a is Lost
              t LoseNode { silent_since: 1970-01-01T00:00:18Z, waits: false }
        "#]],
    );
}

#[test]
fn a_node_heard_again_gets_its_tasks_back_before_it_takes_new_ones() {
    check(
        "
        nodes a b c
        task t a
        gone a
        plan
        plan
        wait 5
        plan
        back a
        plan
        plan
        plan
        ",
        expect![[r#"
            plan
              a is Lost
              t Lose
            plan
            plan
              t Replaceable
            plan
              t Recover
            plan
              a is Heard
            plan
        "#]],
    );
}

#[test]
fn when_too_many_nodes_are_gone_at_once_none_is_lost_until_some_come_back() {
    check(
        "
        nodes a b c d e
        gone a b c
        plan
        back c
        plan
        ",
        expect![[r#"
            plan
              a is Held(Brake { missing: 3, of: 5 })
              b is Held(Brake { missing: 3, of: 5 })
              c is Held(Brake { missing: 3, of: 5 })
              waits: Brake { missing: 3, of: 5 }
            plan
              a is Lost
              b is Lost
              c is Heard
        "#]],
    );
}

/// Its job is deleted while the node is lost: a job of the same name must not run it beside the one that
/// may still run there.
#[test]
fn a_task_that_waits_for_its_node_does_so_when_its_job_is_gone() {
    check(
        "
        nodes a b c d
        task t a wait
        gone a
        wait 10
        plan
        plan
        forget t
        wait 60
        plan
        evict t
        plan
        ",
        expect![[r#"
            plan
              a is Lost
              t LoseNode { silent_since: 1970-01-01T00:00:24Z, waits: true }
            plan
            plan
            plan
              t Replaceable
        "#]],
    );
}

#[test]
fn when_all_nodes_are_gone_a_person_may_say_which_will_not_come_back() {
    check(
        "
        nodes a b c
        task t a wait
        gone a b c
        plan
        wait 100
        plan
        delete a
        plan
        plan
        plan
        ",
        expect![[r#"
            plan
              a is Held(Brake { missing: 3, of: 3 })
              b is Held(Brake { missing: 3, of: 3 })
              c is Held(Brake { missing: 3, of: 3 })
              waits: Brake { missing: 3, of: 3 }
            plan
              waits: Brake { missing: 3, of: 3 }
            plan
              t LoseNode { silent_since: 1970-01-01T00:00:14Z, waits: true }
              waits: Brake { missing: 2, of: 2 }
            plan
              t Replaceable
              waits: Brake { missing: 2, of: 2 }
            plan
              waits: Brake { missing: 2, of: 2 }
        "#]],
    );
}

#[test]
fn the_brake_lets_losses_pass_that_are_few_or_far_between() {
    check(
        "
        nodes a
        gone a
        plan
        nodes b c d
        gone b
        plan
        wait 61
        gone c
        plan
        wait 61
        gone d
        plan
        ",
        expect![[r#"
            plan
              a is Lost
            plan
              b is Lost
            plan
              c is Lost
            plan
              d is Lost
        "#]],
    );
}

/// Nodes that were lost long ago by a clock that was set back since are not recent for as long as it
/// takes to come to that time again. A little ahead is the clock of another machine, which led before.
#[test]
fn the_brake_lets_losses_pass_although_the_clock_was_set_back() {
    check(
        "
        nodes a
        gone a
        plan
        nodes b c d
        gone b
        plan
        set-back 5
        gone c
        plan
        set-back 3600
        plan
        ",
        expect![[r#"
            plan
              a is Lost
            plan
              b is Lost
            plan
              c is Held(Brake { missing: 3, of: 4 })
              waits: Brake { missing: 3, of: 4 }
            plan
              c is Lost
        "#]],
    );
}

#[test]
fn a_node_that_was_never_heard_is_not_lost() {
    let mut world = World::default();
    world.step("canary", &["on"]);
    world.step("wait", &["20"]);
    world.nodes.insert("a".to_owned(), Node::new("", "a", NodeSpec::default()));
    assert!(world.plan().groups.is_empty());
}
