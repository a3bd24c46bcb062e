//! What a service plan does, as scripts: a few lines that happen to a service, and what it does about
//! them.

mod blips;
mod drains;
mod failures;
mod helios;
mod images;
mod nodes;
mod random;
mod requests;
mod rollouts;
mod stages;
mod switches;

use std::fmt::Write as _;
use std::sync::Arc;

use api::job::JobPhase;
use api::node::NodeSpec;
use api::object::Kind as _;
use api::service::{RolloutVerb, Service, ServiceSpec, ServiceStatus};
use api::task::transition::TaskChange;
use api::task::{ReportState, StopReason, Task};
use api::{Node, TaskTemplate};
use expect_test::Expect;
use serde_json::{Value, json};

use super::model::World;
use super::plan::{Plan, is_at_rest};
use crate::action::{Action, New};

/// Runs a script against a service and compares what its `plan` and `status` lines show.
///
/// `spec FIELD=JSON ...` changes the service, `plan` shows what the plan does and does it, `settle`
/// does so silently until nothing is left, `finish` also lets tasks start and stop until nothing is
/// left, `rest` says whether the service needs a look. `start|unready|fail|stopped|lose|replaceable|
/// recover|evict|delete TASK ...` are other writers, `undo [REVISION]`, `restart`, `promote` and `abort` what
/// people ask of the rollout, `succeeds|fails JOB` ends of its jobs, `nodes NAME ...`, `gone NODE`,
/// `away NODE`, `taint NODE TAINT ...` and `drain NODE` what happens to nodes, `start TASK@NODE` elsewhere,
/// `wait SECONDS` lets time pass.
fn check(script: &str, expected: Expect) {
    let rollout = json!({ "minReadySeconds": 0 });
    let mut world = service(json!({ "template": { "image": "one" }, "rollout": rollout }));
    let mut shown = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (verb, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
        assert!(step(&mut world, verb, &rest, &mut shown), "refused: {line}\n{shown}");
    }
    expected.assert_eq(&shown);
}

/// A world with a service of this spec.
fn service(spec: Value) -> World {
    let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
    World::new(Service::new("default", "web", spec))
}

fn step(world: &mut World, verb: &str, rest: &[&str], shown: &mut String) -> bool {
    let each = |world: &mut World, change: &dyn Fn(&mut World, &str) -> bool| {
        rest.iter().all(|name| change(world, &format!("web-{name}")))
    };
    match verb {
        "spec" => set_fields(world, rest),
        "plan" => {
            let plan = world.plan();
            show(world, &plan, shown);
            world.act(&plan).unwrap();
        }
        "status" => writeln!(shown, "{}", show_status(&world.service.status)).unwrap(),
        "settle" => drop(world.settle()),
        "finish" => world.finish(),
        "rest" => {
            let plan = world.plan();
            let until = plan.wake_at.map(|at| format!(" until {}s", at.as_second()));
            let is = if is_at_rest(&world.service, &plan) { "at rest" } else { "busy" };
            writeln!(shown, "{is}{}", until.unwrap_or_default()).unwrap();
        }
        "wait" => world.advance(rest[0].parse().unwrap()),
        "taken" => drop(world.taken.insert(format!("web-{}", rest[0]))),
        "undo" => {
            let to = rest.first().map(|number| number.parse().unwrap());
            return world.ask(RolloutVerb::Undo, to);
        }
        "restart" => return world.ask(RolloutVerb::Restart, None),
        "abort" => return world.ask(RolloutVerb::Abort, None),
        "promote" => return world.ask(RolloutVerb::Promote, None),
        "succeeds" => return each(world, &|world, it| world.end_job(it, JobPhase::Succeeded)),
        "fails" => return each(world, &|world, it| world.end_job(it, JobPhase::Failed)),
        "start" => return each(world, &|world, name| start(world, name, true)),
        "unready" => return each(world, &|world, name| start(world, name, false)),
        "fail" => return each(world, &|world, it| world.report(it, ReportState::Failed, false)),
        "stopped" => {
            return each(world, &|world, it| world.report(it, ReportState::Cancelled, false));
        }
        "lose" => return each(world, &|world, it| world.change(it, &TaskChange::Lose)),
        "replaceable" => {
            return each(world, &|world, it| world.change(it, &TaskChange::Replaceable));
        }
        "recover" => return each(world, &|world, it| world.change(it, &TaskChange::Recover)),
        "evict" => {
            let evict = TaskChange::evict(StopReason::Evict);
            return each(world, &|world, it| world.change(it, &evict));
        }
        "delete" => rest.iter().for_each(|name| world.delete(&format!("web-{name}"))),
        "nodes" => rest.iter().for_each(|name| set_node(world, name, true)),
        "away" => rest.iter().for_each(|name| set_node(world, name, false)),
        "drain" => world.draining.extend(rest.iter().map(|name| (*name).to_owned())),
        "taint" => {
            let node = world.nodes.get_mut(rest[0]).unwrap();
            node.spec.taints = rest[1..].iter().map(|text| text.parse().unwrap()).collect();
        }
        "gone" => rest.iter().for_each(|name| drop(world.nodes.remove(*name))),
        _ => panic!("no such verb: {verb}"),
    }
    true
}

fn start(world: &mut World, name: &str, ready: bool) -> bool {
    let (name, on) = name.split_once('@').unwrap_or((name, "n1"));
    let Some(task) = world.tasks.get(name).map(Arc::clone) else { return false };
    if task.node().is_none() {
        let pin = task.spec.overrides.placement.as_ref();
        let node = pin.and_then(|it| it["nodes"][0].as_str()).unwrap_or(on).to_owned();
        world.change(name, &TaskChange::Bind { node });
    }
    world.report(name, ReportState::Running, ready)
}

/// A node that accepts tasks, or one that does not.
fn set_node(world: &mut World, name: &str, accepts: bool) {
    let spec = NodeSpec { unschedulable: !accepts, ..NodeSpec::default() };
    let mut node = Node::new("", name, spec);
    node.status.ready_since = Some(api::Timestamp::UNIX_EPOCH);
    world.nodes.insert(name.to_owned(), node);
}

fn set_fields(world: &mut World, fields: &[&str]) {
    world.edit(|service| {
        let mut spec = json!(service.spec);
        for field in fields {
            let (path, value) = field.split_once('=').unwrap();
            let value: Value = serde_json::from_str(value).unwrap();
            let mut at = &mut spec;
            for part in path.split('.') {
                at = &mut at[part];
            }
            *at = value;
        }
        service.spec = serde_json::from_value(spec).unwrap();
    });
}

/// What a plan does, each thing in a line.
fn show(world: &World, plan: &Plan, shown: &mut String) {
    let lines: Vec<String> =
        plan.groups.iter().flat_map(|group| &group.actions).filter_map(show_action).collect();
    let notices = plan.notices.iter().map(|it| format!("{}: {}", it.reason, it.message));
    let all: Vec<String> = lines.into_iter().chain(notices).collect();
    let text = if all.is_empty() { "nothing".to_owned() } else { all.join("\n") };
    writeln!(shown, "{}", named(world, &text)).unwrap();
}

/// Without the hashes of templates.
fn named(world: &World, text: &str) -> String {
    let template = |of: &TaskTemplate| (of.name().to_owned(), of.spec.template.image.clone());
    let new = super::plan::template(&world.service);
    let all = world.templates.values().map(template).chain([template(&new)]);
    all.fold(text.to_owned(), |text, (name, image)| text.replace(&name, &format!("<{image}>")))
}

fn show_action(action: &Action) -> Option<String> {
    Some(match action {
        Action::Create(New::TaskTemplate(template)) => format!("template {}", template.name()),
        Action::Create(New::Job(job)) => {
            format!("job {}: {}", job.name(), job.spec.template.args.join(" "))
        }
        Action::Patch(patch) => format!("cancel {}", patch.object.key.name),
        Action::CreateTasks(tasks) => {
            let names: Vec<&str> = tasks.each.iter().map(|task| task.name.as_str()).collect();
            format!("create {} of {}", names.join(" "), tasks.alike.spec.template)
        }
        Action::Task { task, change: TaskChange::Evict { reason, .. }, .. } => {
            format!("stop {}: {reason}", task.key.name)
        }
        Action::Task { task, change: TaskChange::Retry(retry), .. } => {
            let at = retry.not_before.map_or(0, |at| at.as_second());
            format!("again {} at {at}s", task.key.name)
        }
        Action::Task { task, change, .. } => format!("change {}: {change:?}", task.key.name),
        Action::Remove { task } => format!("remove {}", task.key.name),
        Action::Delete { object, .. } => format!("delete {}", object.key.name),
        Action::Status(_) => return None,
        Action::Create(_) | Action::Record { .. } | Action::Emptied { .. } => {
            format!("{action:?}")
        }
    })
}

fn show_status(status: &ServiceStatus) -> String {
    let rollout = status.rollout.as_ref();
    let state = rollout.map(|it| format!("{:?}", it.state)).unwrap_or_default();
    let message = status.message.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    format!(
        "{} {}/{} ready, {} updated, revision {} of {} {state}{message}",
        status.phase,
        status.ready,
        status.replicas,
        status.updated,
        status.current_revision,
        status.update_revision,
    )
}

/// The tasks of a world, with what they run.
fn images(world: &World) -> String {
    let of = |task: &Arc<Task>| {
        format!("{}={}", task.name(), world.templates[&task.spec.template].spec.template.image)
    };
    world.tasks.values().map(of).collect::<Vec<_>>().join(" ")
}
