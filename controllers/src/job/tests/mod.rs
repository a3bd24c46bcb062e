//! What a job plan does, as scripts: a few lines that happen to a job, and what it does about them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

mod changes;
mod deleted;
mod ends;
mod lists;
mod not_going_on;
mod obstacles;
mod rest;
mod sizes;
mod stops;
mod waits;

use std::fmt::Write as _;

use api::job::{JobSpec, JobStatus};
use api::object::Kind as _;
use api::task::ReportState;
use api::task::report::Report;
use api::task::transition::TaskChange;
use api::template::Template;
use api::{Job, Task};
use expect_test::Expect;
use serde_json::json;

use super::model::World;
use super::plan::{Holder, Plan, is_at_rest};
use crate::action::{Action, Group, New, Status};

/// Runs a script against a job and compares what its `plan` lines show.
///
/// `spec FIELD=JSON ...` changes the job, `plan` shows what the plan does and does it, `settle`
/// does so silently until nothing is left, `rest` says whether the job needs a look, `why TASK`
/// shows the task's WHY, `bind|nowhere|run|end|lose|lose-waiting|replaceable|recover|evict|delete
/// TASK ...` are other writers, `done INDEX END` is the record alone, `wait SECONDS` lets time
/// pass.
fn check(script: &str, expected: Expect) {
    let spec = JobSpec { template: template("one"), ..JobSpec::default() };
    let mut world = World::new(Job::new("default", "j", spec));
    let mut shown = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (verb, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
        if verb == "rest" {
            writeln!(shown, "{}", rest_of(&world)).unwrap();
        } else {
            step(&mut world, verb, &rest, &mut shown);
        }
        world.check();
    }
    expected.assert_eq(&shown);
}

/// Whether the job needs a look although nothing happens, and when it will.
fn rest_of(world: &World) -> String {
    let plan = world.plan();
    let until = plan.wake_at.map(|at| format!(" until {}s", at.as_second()));
    let at_rest = || format!("at rest{}", until.unwrap_or_default());
    if is_at_rest(&world.job, &plan) { at_rest() } else { "busy".to_owned() }
}

fn template(image: &str) -> Template {
    Template { image: image.to_owned(), ..Template::default() }
}

fn step(world: &mut World, verb: &str, rest: &[&str], shown: &mut String) {
    let task = || format!("j-{}", rest[0]);
    let accepted = match verb {
        "spec" => {
            set_fields(world, rest);
            true
        }
        "set" => {
            let spec = serde_json::from_str(&rest.join(" ")).unwrap();
            world.partition_set = Some(api::PartitionSet::new("default", "mydb", spec));
            true
        }
        "taken" => world.taken.insert(task(), Holder::Another).is_none(),
        "leaving" => world.taken.insert(task(), Holder::Predecessor).is_none(),
        "done" => {
            let end = serde_json::from_value(json!(rest[1])).unwrap();
            world.record(rest[0].parse().unwrap(), end)
        }
        "plan" => {
            let plan = world.plan();
            show(&plan, shown);
            world.act(&plan).unwrap();
            true
        }
        "why" => {
            let task = &world.tasks[&task()];
            writeln!(shown, "{} {}: {}", rest[0], task.phase(), task.why(world.now)).unwrap();
            true
        }
        "settle" => {
            world.settle();
            true
        }
        "status" => {
            writeln!(shown, "{}", show_status(&world.job.status)).unwrap();
            true
        }
        "wait" => {
            world.advance(rest[0].parse().unwrap());
            true
        }
        "bind" => world.change(&task(), &TaskChange::Bind { node: "n1".to_owned() }),
        "nowhere" => {
            let message = rest[1..].join(" ");
            world.change(&task(), &TaskChange::Unschedulable { message })
        }
        "run" => report(world, &task(), ReportState::Running, None),
        "end" => match rest[1] {
            "ok" => report(world, &task(), ReportState::Succeeded, Some(0)),
            "timeout" => report(world, &task(), ReportState::TimedOut, None),
            "cancelled" => report(world, &task(), ReportState::Cancelled, None),
            code => report(world, &task(), ReportState::Failed, Some(code.parse().unwrap())),
        },
        "lose" => world.change(&task(), &TaskChange::Lose),
        "lose-waiting" => {
            let silent_since = world.now;
            world.change(&task(), &TaskChange::LoseNode { silent_since, waits: true })
        }
        "replaceable" => world.change(&task(), &TaskChange::Replaceable),
        "recover" => world.change(&task(), &TaskChange::Recover),
        "evict" => {
            let reason = serde_json::from_value(json!(rest[1])).unwrap();
            world.change(&task(), &TaskChange::evict(reason))
        }
        "delete" => {
            world.delete(&task());
            true
        }
        other => panic!("no such verb: {other}"),
    };
    assert!(accepted, "refused: {verb} {rest:?}");
}

fn report(world: &mut World, name: &str, state: ReportState, exit_code: Option<i32>) -> bool {
    let Some(binding) = world.tasks[name].binding() else { return false };
    let report = Report {
        binding: binding.number,
        boot_id: "boot".to_owned(),
        state,
        ready: false,
        restarts: 0,
        exit_code,
        reason: None,
        message: None,
        started_at: None,
        finished_at: state.is_terminal().then_some(world.now),
        ports: std::collections::BTreeMap::new(),
        last_exit: None,
        image_digest: None,
        restart_at: None,
    };
    world.change(name, &TaskChange::Report(Box::new(report)))
}

fn set_fields(world: &mut World, fields: &[&str]) {
    let mut document = serde_json::to_value(&world.job.spec).unwrap();
    for field in fields {
        let (name, value) = field.split_once('=').unwrap();
        match name {
            "image" => document["template"]["image"] = json!(value),
            _ => document[name] = serde_json::from_str(value).unwrap(),
        }
    }
    let spec: JobSpec = serde_json::from_value(document).unwrap();
    world.edit_job(|job| job.spec = spec);
}

fn show(plan: &Plan, shown: &mut String) {
    shown.push_str("plan\n");
    for group in &plan.groups {
        writeln!(shown, "  {}", show_group(group)).unwrap();
    }
    if let Some(job) = &plan.status {
        writeln!(shown, "  later: {}", show_status(&job.status)).unwrap();
    }
    for waiting in &plan.waiting {
        writeln!(shown, "  waits: {waiting}").unwrap();
    }
    if let Some(at) = plan.wake_at {
        writeln!(shown, "  wakes at {}s", at.as_second()).unwrap();
    }
    for notice in &plan.notices {
        writeln!(shown, "  tells: {}: {}", notice.reason, notice.message).unwrap();
    }
}

fn show_group(group: &Group) -> String {
    let actions: Vec<String> = group.actions.iter().map(show_action).collect();
    actions.join(" + ")
}

fn show_action(action: &Action) -> String {
    match action {
        Action::Create(New::TaskTemplate(_)) => "create template".to_owned(),
        Action::CreateTasks(tasks) => {
            let create = |task: Task| {
                let (name, spec) = (task.name(), &task.spec);
                let own = (!spec.overrides.is_empty()).then(|| json!(spec.overrides));
                let own = own.map(|own| format!(" {own}")).unwrap_or_default();
                format!("create {name} #{} run={}{own}", spec.index, spec.run)
            };
            tasks.objects().map(create).collect::<Vec<_>>().join(" + ")
        }
        Action::Status(Status::Job(job)) => show_status(&job.status),
        Action::Task { task, attempt, change } => {
            format!("{}/{attempt} {}", task.key.name, show_change(change))
        }
        Action::Record { run, ends, .. } => {
            let ends: Vec<String> =
                ends.iter().map(|(index, end)| format!("{index}={end:?}")).collect();
            format!("record run={run} {}", ends.join(" "))
        }
        Action::Remove { task } => format!("remove {}", task.key.name),
        other => format!("{other:?}"),
    }
}

fn show_change(change: &TaskChange) -> String {
    match change {
        TaskChange::Retry(retry) => {
            let counts = if retry.counts { "counted" } else { "free" };
            let from = retry.not_before.map(|at| format!(" from {}s", at.as_second()));
            let avoid = retry.avoid.as_ref().map(|node| format!(" avoiding {node}"));
            format!("retry {counts}{}{}", from.unwrap_or_default(), avoid.unwrap_or_default())
        }
        TaskChange::Rerun(rerun) => format!("rerun run={} #{}", rerun.run, rerun.index),
        TaskChange::Amend(amend) => format!("amend count={}", amend.count),
        TaskChange::Evict { reason, message } => {
            let message = message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("evict {reason}{message}")
        }
        TaskChange::Record => "recorded".to_owned(),
        other => format!("{other:?}"),
    }
}

fn show_status(status: &JobStatus) -> String {
    let JobStatus { phase, run, total, pending, active, succeeded, failed, cancelled, .. } = status;
    let ending = status.ending.map(|phase| format!(" ending {phase}")).unwrap_or_default();
    let message = status.message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    let waits = status.waiting.iter().map(|it| {
        let task = it.task.as_ref().map(|task| format!(" {task}")).unwrap_or_default();
        let until = it.until.map(|at| format!(" until {}s", at.as_second())).unwrap_or_default();
        format!("; {} {}{task}{until}: {}", it.count, it.reason, it.message)
    });
    let waits: String = waits.collect();
    let retried =
        status.retry_reasons.iter().map(|it| format!("; retried: {} {}", it.count, it.reason));
    let retried: String = retried.collect();
    format!(
        "{phase}{ending} run={run} p{pending} a{active} s{succeeded} f{failed} c{cancelled} of {total}{message}{waits}{retried}"
    )
}
