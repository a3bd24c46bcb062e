//! What a job plan does, as scripts: a few lines that happen to a job, and what it does about them.

use std::fmt::Write as _;
use std::sync::Arc;

use api::Job;
use api::batch::{Group, Op};
use api::job::{JobSpec, JobStatus, ListedTask, Target};
use api::object::Kind as _;
use api::task::transition::{Report, TaskChange};
use api::task::{ReportState, StopReason};
use api::template::Template;
use expect_test::{Expect, expect};
use serde_json::json;

use super::model::World;
use super::plan::Plan;

/// Runs a script against a job and compares what its `plan` lines show.
///
/// `spec FIELD=JSON ...` changes the job, `plan` shows what the plan does and does it, `settle` does
/// so silently until nothing is left, `bind|run|end|lose|replaceable|recover|evict|delete TASK ...`
/// are other writers, `wait SECONDS` lets time pass.
fn check(script: &str, expected: Expect) {
    let spec = JobSpec { template: template("one"), ..JobSpec::default() };
    let mut world = World::new(Job::new("default", "j", spec));
    let mut shown = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (verb, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
        step(&mut world, verb, &rest, &mut shown);
        world.check();
    }
    expected.assert_eq(&shown);
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
        "taken" => world.taken.insert(task()),
        "plan" => {
            let plan = world.plan();
            show(&plan, &world.job.status, shown);
            world.act(&plan).unwrap();
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
        "run" => report(world, &task(), ReportState::Running, None),
        "end" => match rest[1] {
            "ok" => report(world, &task(), ReportState::Succeeded, Some(0)),
            "timeout" => report(world, &task(), ReportState::TimedOut, None),
            "cancelled" => report(world, &task(), ReportState::Cancelled, None),
            code => report(world, &task(), ReportState::Failed, Some(code.parse().unwrap())),
        },
        "lose" => world.change(&task(), &TaskChange::Lose),
        "replaceable" => world.change(&task(), &TaskChange::Replaceable),
        "recover" => world.change(&task(), &TaskChange::Recover),
        "evict" => {
            let reason = serde_json::from_value(json!(rest[1])).unwrap();
            world.change(&task(), &TaskChange::Evict { reason })
        }
        "delete" => {
            let at = api::Time(world.now);
            let found = world.tasks.get_mut(&task()).unwrap();
            Arc::make_mut(found).metadata.deletion_timestamp = Some(at);
            world.change(&task(), &TaskChange::Evict { reason: StopReason::Delete });
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

fn show(plan: &Plan, before: &JobStatus, shown: &mut String) {
    shown.push_str("plan\n");
    for group in &plan.groups {
        writeln!(shown, "  {}", show_group(group, before)).unwrap();
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

fn show_group(group: &Group, _before: &JobStatus) -> String {
    let ops: Vec<String> = group.ops.iter().map(show_op).collect();
    ops.join(" + ")
}

fn show_op(op: &Op) -> String {
    match op {
        Op::Create { object } if object["kind"] == "TaskTemplate" => "create template".to_owned(),
        Op::Create { object } => {
            let spec = &object["spec"];
            let own = spec.get("overrides").map(|own| format!(" {own}")).unwrap_or_default();
            let name = object["metadata"]["name"].as_str().unwrap();
            format!("create {name} #{} run={}{own}", spec["index"], spec["run"])
        }
        Op::Status { object } => {
            let job: Job = serde_json::from_value(object.clone()).unwrap();
            show_status(&job.status)
        }
        Op::Task { key, attempt, change, .. } => {
            format!("{}/{attempt} {}", key.name, show_change(change))
        }
        Op::Record { run, ends, .. } => {
            let ends: Vec<String> =
                ends.iter().map(|(index, end)| format!("{index}={end:?}")).collect();
            format!("record run={run} {}", ends.join(" "))
        }
        Op::Remove { key, .. } => format!("remove {}", key.name),
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
        TaskChange::Evict { reason } => format!("evict {reason}"),
        TaskChange::Record => "recorded".to_owned(),
        other => format!("{other:?}"),
    }
}

fn show_status(status: &JobStatus) -> String {
    let JobStatus { phase, run, total, pending, active, succeeded, failed, cancelled, .. } = status;
    let ending = status.ending.map(|phase| format!(" ending {phase}")).unwrap_or_default();
    let message = status.message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
    format!(
        "{phase}{ending} run={run} p{pending} a{active} s{succeeded} f{failed} c{cancelled} of {total}{message}"
    )
}

#[test]
fn a_job_opens_with_its_template_and_first_tasks_in_one_write() {
    check(
        "
        spec count=3 parallelism=2
        plan
        plan
        ",
        expect![[r#"
            plan
              Pending run=1 p3 a0 s0 f0 c0 of 3 + create template + create j-0 #0 run=1 + create j-1 #1 run=1
            plan
              waits: parallelism is 2
        "#]],
    );
}

#[test]
fn the_last_end_and_the_jobs_end_are_one_write() {
    check(
        "
        spec count=2
        settle
        bind 0
        bind 1
        run 0
        plan
        end 0 ok
        end 1 ok
        plan
        plan
        wait 86400
        plan
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p0 a2 s0 f0 c0 of 2
              waits: 2 tasks have not ended
            plan
              record run=1 0=Succeeded 1=Succeeded + j-0/1 recorded + j-1/1 recorded + Succeeded run=1 p0 a0 s2 f0 c0 of 2
              tells: JobSucceeded: 2 of 2 tasks succeeded
            plan
              wakes at 86400s
            plan
              remove j-0 + remove j-1
            plan
        "#]],
    );
}

#[test]
fn a_failure_is_tried_again_after_a_wait_and_given_up_in_the_end() {
    check(
        r#"
        spec retry={"maxAttempts":2}
        settle
        bind 0
        end 0 3
        plan
        bind 0
        end 0 timeout
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              j-0/1 retry counted from 10s avoiding n1
              tells: TaskRetried: tried again: j-0 (exit 3)
            plan
              record run=1 0=Failed + j-0/2 recorded + Failed ending Failed run=1 p0 a0 s0 f1 c0 of 1 (1 task was given up; 0 are allowed)
              tells: JobFailed: 1 task was given up; 0 are allowed; 0 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    check(
        r#"
        spec count=4 maxFailedTasks=4 retry={"maxAttempts":1,"rules":[{"exitCodes":[1],"action":"Ignore"},{"exitCodes":[1,2],"action":"FailTask"},{"reasons":["Timeout"],"action":"FailJob"}]}
        settle
        bind 0
        bind 1
        bind 2
        bind 3
        end 0 1
        end 1 2
        plan
        end 2 timeout
        plan
        plan
        end 3 cancelled
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a2 s0 f1 c0 of 4
              record run=1 1=Failed + j-1/1 recorded
              j-0/1 retry free from 10s avoiding n1
              waits: 2 tasks have not ended
              tells: TaskRetried: tried again: j-0 (exit 1)
            plan
              Running ending Failed run=1 p1 a1 s0 f2 c0 of 4 (task j-2 failed the job: Timeout)
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 2=Failed + j-2/1 recorded
              j-0/2 evict Cancel
              j-3/1 evict Cancel
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 0=Cancelled 3=Cancelled + j-0/2 recorded + j-3/1 recorded + Failed ending Failed run=1 p0 a0 s0 f2 c2 of 4 (task j-2 failed the job: Timeout)
              wakes at 86400s
              tells: JobFailed: task j-2 failed the job: Timeout; 0 of 4 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn a_lost_task_costs_no_retry_unless_the_job_says_so() {
    check(
        r#"
        spec retry={"maxAttempts":1}
        settle
        bind 0
        lose 0
        plan
        replaceable 0
        plan
        bind 0
        lose 0
        replaceable 0
        spec retry={"maxAttempts":1,"countDisruptions":true}
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              waits: 1 tasks have not ended
            plan
              j-0/1 retry free
            plan
              record run=1 0=Failed + j-0/2 recorded + Failed ending Failed run=1 p0 a0 s0 f1 c0 of 1 (1 task was given up; 0 are allowed)
              tells: JobFailed: 1 task was given up; 0 are allowed; 0 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn too_many_given_up_tasks_end_the_job_and_stop_the_rest() {
    check(
        r#"
        spec count=5 parallelism=3 maxFailedTasks=1 retry={"maxAttempts":1}
        settle
        bind 0
        bind 1
        bind 2
        end 0 1
        plan
        plan
        end 1 1
        plan
        plan
        end 2 cancelled
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p2 a2 s0 f1 c0 of 5
              record run=1 0=Failed + j-0/1 recorded
              create j-3 #3 run=1
              waits: 2 tasks have not ended
            plan
              waits: parallelism is 3
              wakes at 86400s
            plan
              Running ending Failed run=1 p1 a1 s0 f2 c1 of 5 (2 tasks were given up; 1 are allowed)
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 1=Failed + j-1/1 recorded
              j-2/1 evict Cancel
              j-3/1 evict Cancel
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 2=Cancelled 3=Cancelled + j-2/1 recorded + j-3/1 recorded + Failed ending Failed run=1 p0 a0 s0 f2 c3 of 5 (2 tasks were given up; 1 are allowed)
              wakes at 86400s
              tells: JobFailed: 2 tasks were given up; 1 are allowed; 0 of 5 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn a_timeout_does_not_count_suspended_time() {
    check(
        r#"
        spec timeout="60s"
        settle
        bind 0
        settle
        wait 30
        spec suspend=true
        plan
        end 0 cancelled
        wait 100
        plan
        spec suspend=false
        plan
        bind 0
        wait 29
        plan
        wait 1
        plan
        plan
        "#,
        expect![[r#"
            plan
              Suspended run=1 p0 a1 s0 f0 c0 of 1
              j-0/1 evict Suspend
              waits: the job is suspended
            plan
              later: Suspended run=1 p1 a0 s0 f0 c0 of 1
              waits: the job is suspended
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              j-0/1 retry free
              wakes at 160s
            plan
              later: Running run=1 p0 a1 s0 f0 c0 of 1
              waits: 1 tasks have not ended
              wakes at 160s
            plan
              Running ending TimedOut run=1 p0 a1 s0 f0 c0 of 1 (not done within 1m)
              waits: 1 tasks have not ended
            plan
              j-0/2 evict Cancel
              waits: 1 tasks have not ended
        "#]],
    );
}

#[test]
fn parallelism_holds_pending_tasks_back_and_leaves_running_ones() {
    check(
        "
        spec count=4
        settle
        bind 0
        spec parallelism=2
        plan
        plan
        spec parallelism=0
        plan
        plan
        spec parallelism=9
        plan
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p3 a1 s0 f0 c0 of 4
              j-3/1 evict Suspend
              j-2/1 evict Suspend
              waits: 4 tasks have not ended
            plan
              waits: parallelism is 2
            plan
              Running run=1 p3 a1 s0 f0 c0 of 4
              j-1/1 evict Suspend
              waits: parallelism is 0
            plan
              waits: parallelism is 0
            plan
              Running run=1 p3 a1 s0 f0 c0 of 4
              j-1/1 retry free
              j-2/1 retry free
              j-3/1 retry free
              waits: 1 tasks have not ended
            plan
              waits: 4 tasks have not ended
        "#]],
    );
}

#[test]
fn a_changed_template_opens_a_new_run() {
    check(
        "
        spec count=3
        settle
        bind 0
        bind 1
        end 0 ok
        settle
        spec image=two
        plan
        plan
        end 1 cancelled
        plan
        plan
        ",
        expect![[r#"
            plan
              Pending run=2 p3 a0 s0 f0 c0 of 3
            plan
              j-1/1 evict Revision
              j-2/1 evict Revision
              create template + j-0/1 rerun run=2 #0
              waits: 2 tasks have not ended
            plan
              j-1/1 rerun run=2 #1 + j-2/1 rerun run=2 #2
              waits: 1 tasks have not ended
            plan
              waits: 3 tasks have not ended
        "#]],
    );
}

#[test]
fn with_ignore_a_changed_template_is_for_new_tasks_only() {
    check(
        r#"
        spec count=1 onChange="Ignore"
        settle
        spec image=two count=2
        plan
        plan
        "#,
        expect![[r#"
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2
              create template + create j-1 #1 run=1
              waits: 1 tasks have not ended
            plan
              waits: 2 tasks have not ended
        "#]],
    );
}

#[test]
fn what_else_changes_reaches_pending_tasks_in_place() {
    check(
        r#"
        spec count=2
        settle
        bind 0
        settle
        spec priority=7 maxPerNode=1
        plan
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a1 s0 f0 c0 of 2
              create template + j-1/1 amend count=2
              waits: 2 tasks have not ended
            plan
              waits: 2 tasks have not ended
            plan
              waits: 2 tasks have not ended
        "#]],
    );
}

#[test]
fn a_lowered_count_cancels_the_surplus_and_a_raised_one_goes_on() {
    check(
        "
        spec count=3
        settle
        bind 0
        end 0 ok
        bind 2
        spec count=1
        plan
        plan
        end 2 cancelled
        plan
        spec count=4
        plan
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p0 a0 s1 f0 c0 of 1
              record run=1 0=Succeeded + j-0/1 recorded
              j-1/1 evict Cancel
              j-2/1 evict Cancel
              waits: 2 tasks have not ended
            plan
              record run=1 1=Cancelled + j-1/1 recorded
              waits: 1 tasks have not ended
              wakes at 86400s
            plan
              record run=1 2=Cancelled + j-2/1 recorded + Succeeded run=1 p0 a0 s1 f0 c0 of 1
              wakes at 86400s
              tells: JobSucceeded: 1 of 1 tasks succeeded
            plan
              Running run=1 p1 a0 s1 f0 c2 of 4
              create j-3 #3 run=1
              wakes at 86400s
            plan
              waits: 1 tasks have not ended
              wakes at 86400s
        "#]],
    );
}

#[test]
fn listed_tasks_keep_their_indexes_and_removed_ones_do_not_come_back() {
    check(
        r#"
        spec tasks=[{"name":"a"},{"name":"b"}]
        plan
        spec tasks=[{"name":"c"},{"name":"b","placement":{"nodes":["n1"]}}]
        plan
        plan
        spec tasks=[{"name":"a"},{"name":"b","placement":{"nodes":["n1"]}}]
        plan
        plan
        plan
        plan
        "#,
        expect![[r#"
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2 + create template + create j-a #0 run=1 {"name":"a"} + create j-b #1 run=1 {"name":"b"}
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2
              j-a/1 evict Cancel
              create j-c #2 run=1 {"name":"c"}
              j-b/1 amend count=2
              waits: 2 tasks have not ended
            plan
              record run=1 0=Cancelled + j-a/1 recorded
              waits: 2 tasks have not ended
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2
              j-c/1 evict Cancel
              remove j-a
              waits: 2 tasks have not ended
            plan
              record run=1 2=Cancelled + j-c/1 recorded
              create j-a #3 run=1 {"name":"a"}
              waits: 1 tasks have not ended
            plan
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              waits: 2 tasks have not ended
              wakes at 86400s
        "#]],
    );
}

#[test]
fn equal_items_are_told_apart_and_keep_their_indexes() {
    check(
        r#"
        spec items=["x","x","y"]
        plan
        spec items=["y","x"]
        plan
        plan
        "#,
        expect![[r#"
            plan
              Pending run=1 p3 a0 s0 f0 c0 of 3 + create template + create j-0 #0 run=1 {"item":"x"} + create j-1 #1 run=1 {"item":"x"} + create j-2 #2 run=1 {"item":"y"}
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2
              j-1/1 evict Cancel
              j-0/1 amend count=2
              j-2/1 amend count=2
              waits: 3 tasks have not ended
            plan
              record run=1 1=Cancelled + j-1/1 recorded
              waits: 2 tasks have not ended
        "#]],
    );
}

#[test]
fn a_targets_partitions_are_tasks_once_the_set_is_there() {
    check(
        r#"
        spec target={"partitionSet":"mydb","states":["LEADER"]}
        plan
        plan
        set {"partitions":2,"stateModel":"LeaderStandby"}
        plan
        spec target={"partitionSet":"mydb","partitions":["mydb-7"]}
        plan
        "#,
        expect![[r#"
            plan
              Pending run=0 p0 a0 s0 f0 c0 of 0 (PartitionSet mydb does not exist)
              waits: PartitionSet mydb does not exist
            plan
              waits: PartitionSet mydb does not exist
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2 + create template + create j-0 #0 run=1 {"partition":"mydb-0"} + create j-1 #1 run=1 {"partition":"mydb-1"}
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2 (PartitionSet mydb has no partition mydb-7)
              waits: PartitionSet mydb has no partition mydb-7
        "#]],
    );
}

#[test]
fn a_name_that_another_owner_has_is_reported_and_left_alone() {
    check(
        "
        spec count=2
        taken 0
        plan
        plan
        plan
        ",
        expect![[r#"
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2 (Task j-0 exists and belongs to another owner) + create template + create j-1 #1 run=1
              waits: Task j-0 exists and belongs to another owner
            plan
              waits: Task j-0 exists and belongs to another owner
              waits: 1 tasks have not ended
            plan
              waits: Task j-0 exists and belongs to another owner
              waits: 1 tasks have not ended
        "#]],
    );
}

#[test]
fn a_deleted_task_is_recorded_before_it_goes() {
    check(
        "
        spec count=2
        settle
        bind 0
        delete 0
        delete 1
        plan
        plan
        end 0 cancelled
        plan
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p0 a1 s0 f0 c1 of 2
              record run=1 1=Cancelled + j-1/1 recorded
              waits: 1 tasks have not ended
            plan
              remove j-1
              waits: 1 tasks have not ended
            plan
              record run=1 0=Cancelled + j-0/1 recorded + Cancelled run=1 p0 a0 s0 f0 c2 of 2 (2 of 2 tasks were cancelled)
              tells: JobCancelled: 2 of 2 tasks were cancelled; 0 of 2 tasks succeeded
            plan
              remove j-0
        "#]],
    );
}

#[test]
fn cancel_is_final_for_the_run() {
    check(
        "
        spec count=2 parallelism=1
        settle
        bind 0
        spec cancel=true
        plan
        plan
        lose 0
        replaceable 0
        plan
        spec cancel=false
        plan
        spec image=two
        plan
        ",
        expect![[r#"
            plan
              Running ending Cancelled run=1 p0 a1 s0 f0 c1 of 2 (cancelled on request)
              waits: 1 tasks have not ended
            plan
              j-0/1 evict Cancel
              waits: 1 tasks have not ended
            plan
              record run=1 0=Cancelled + j-0/1 recorded + Cancelled ending Cancelled run=1 p0 a0 s0 f0 c2 of 2 (cancelled on request)
              tells: JobCancelled: cancelled on request; 0 of 2 tasks succeeded
            plan
              Cancelled ending Cancelled run=1 p0 a0 s0 f0 c2 of 2 (cancelled on request)
              wakes at 86400s
            plan
              Pending run=2 p2 a0 s0 f0 c0 of 2 + create template + create j-1 #1 run=2
        "#]],
    );
}

#[test]
fn a_job_of_no_tasks_has_succeeded() {
    check(
        "spec items=[]\nplan\nplan",
        expect![[r#"
        plan
          Succeeded run=1 p0 a0 s0 f0 c0 of 0
          tells: JobSucceeded: 0 of 0 tasks succeeded
        plan
    "#]],
    );
}

#[test]
fn an_ended_task_whose_job_ends_is_recorded_although_it_was_lost_while_being_drained() {
    check(
        r#"
        settle
        bind 0
        evict 0 Drain
        lose 0
        spec cancel=true
        settle
        status
        replaceable 0
        plan
        plan
        "#,
        expect![[r#"
            Running ending Cancelled run=1 p1 a0 s0 f0 c0 of 1 (cancelled on request)
            plan
              record run=1 0=Cancelled + j-0/1 recorded + Cancelled ending Cancelled run=1 p0 a0 s0 f0 c1 of 1 (cancelled on request)
              tells: JobCancelled: cancelled on request; 0 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn names_that_collide_when_shortened_block_the_job() {
    let name = |end: &str| format!("{}{end}", "n".repeat(100));
    let listed = |end| ListedTask { name: name(end), ..ListedTask::default() };
    let spec = JobSpec {
        tasks: vec![listed("a"), listed("b"), listed("a")],
        template: template("one"),
        target: None::<Target>,
        ..JobSpec::default()
    };
    let mut world = World::new(Job::new("default", "j", spec));
    world.settle();
    assert_eq!(world.tasks.len(), 0, "the same name twice is never two tasks");
    assert!(world.job.status.message.as_ref().unwrap().starts_with("two tasks would be named"));
}

#[test]
fn a_large_job_keeps_a_window_of_task_objects() {
    let spec = JobSpec { count: Some(12_000), template: template("one"), ..JobSpec::default() };
    let mut world = World::new(Job::new("default", "j", spec));
    let mut most = 0;
    for _ in 0..1_000 {
        let plan = world.plan();
        world.act(&plan).unwrap();
        world.check();
        most = most.max(world.tasks.len());
        if world.job.status.phase.is_final() {
            break;
        }
        let open: Vec<String> = world
            .tasks
            .values()
            .filter(|task| !task.has_ended())
            .map(|task| task.name().to_owned())
            .collect();
        for name in open {
            world.change(&name, &TaskChange::Bind { node: "n1".to_owned() });
            report(&mut world, &name, ReportState::Succeeded, Some(0));
        }
    }
    world.settle();
    assert_eq!(world.job.status.succeeded, 12_000);
    assert!(most <= 3_000, "{most} objects");
    assert_eq!(world.tasks.len(), 1_000);
}
