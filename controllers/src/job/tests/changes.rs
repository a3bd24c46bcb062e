//! Which tasks there are, and what a change of the job means for them.

use std::sync::Arc;

use api::Job;
use api::job::{JobPhase, JobSpec, ListedTask};
use api::object::Kind as _;
use api::task::ReportState;
use api::task::transition::TaskChange;
use expect_test::expect;
use serde_json::json;

use super::{check, report, step, template};
use crate::action::Action;
use crate::job::model::World;

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
              j-3/1 evict Suspend (parallelism is 2)
              j-2/1 evict Suspend (parallelism is 2)
              waits: 4 tasks have not ended
            plan
              later: Running run=1 p3 a1 s0 f0 c0 of 4; 2 Parallelism: parallelism is 2
              waits: parallelism is 2
            plan
              Running run=1 p3 a1 s0 f0 c0 of 4; 3 Parallelism: parallelism is 0
              j-1/1 evict Suspend (parallelism is 0)
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
              tells: RunReplaced: run 2 replaces run 1; 1 running task is stopped
            plan
              j-1/1 evict Revision (replaced by run 2)
              j-2/1 evict Revision (replaced by run 2)
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
              j-1/1 evict ScaleDown (job j was scaled down to 1 task)
              j-2/1 evict ScaleDown (job j was scaled down to 1 task)
              waits: 2 tasks have not ended
              tells: ScaledDown: scaled down from 3 to 1 task; 1 running task is stopped
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

/// A lowered count is taken back: the job has attempts left, and must not fail of the task that it
/// was not allowed to try again meanwhile.
#[test]
fn a_task_that_failed_as_the_count_was_lowered_does_not_fail_the_job_when_it_is_raised_again() {
    check(
        "
        spec count=3
        settle
        bind 0
        bind 1
        bind 2
        end 2 1
        spec count=2
        settle
        status
        spec count=3
        settle
        status
        ",
        expect![[r#"
            Running run=1 p0 a2 s0 f0 c0 of 2
            Running run=1 p0 a2 s0 f0 c1 of 3
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
              j-a/1 evict ScaleDown (job j no longer has this task)
              create j-c #2 run=1 {"name":"c"}
              j-b/1 amend count=2
              waits: 2 tasks have not ended
            plan
              record run=1 0=Cancelled + j-a/1 recorded
              waits: 2 tasks have not ended
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2
              j-c/1 evict ScaleDown (job j no longer has this task)
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
              j-1/1 evict ScaleDown (job j no longer has this task)
              j-0/1 amend count=2
              j-2/1 amend count=2
              waits: 3 tasks have not ended
              tells: ScaledDown: scaled down from 3 to 2 tasks
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
              Pending run=1 p2 a0 s0 f0 c0 of 2 (task j-0 exists and belongs to another owner) + create template + create j-1 #1 run=1
              waits: task j-0 exists and belongs to another owner
            plan
              waits: task j-0 exists and belongs to another owner
              waits: 1 tasks have not ended
            plan
              waits: task j-0 exists and belongs to another owner
              waits: 1 tasks have not ended
        "#]],
    );
}

#[test]
fn a_name_that_a_deleted_job_of_the_same_name_still_has_is_waited_for() {
    check(
        "
        spec count=2
        leaving 0
        plan
        plan
        ",
        expect![[r#"
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2 (waits for task j-0 of the deleted job of this name to stop) + create template + create j-1 #1 run=1
              waits: waits for task j-0 of the deleted job of this name to stop
            plan
              waits: waits for task j-0 of the deleted job of this name to stop
              waits: 1 tasks have not ended
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
fn names_that_collide_when_shortened_block_the_job() {
    let name = |end: &str| format!("{}{end}", "n".repeat(100));
    let listed = |end| ListedTask { name: name(end), ..ListedTask::default() };
    let spec = JobSpec {
        tasks: vec![listed("a"), listed("b"), listed("a")],
        template: template("one"),
        ..JobSpec::default()
    };
    let mut world = World::new(Job::new("default", "j", spec));
    world.settle();
    assert_eq!(world.tasks.len(), 0, "the same name twice is never two tasks");
    assert!(
        world.job.status.message.as_ref().unwrap().starts_with("two tasks would have the name")
    );
}

#[test]
fn a_large_job_keeps_a_window_of_task_objects() {
    let spec = JobSpec { count: Some(12_000), template: template("one"), ..JobSpec::default() };
    let mut world = World::new(Job::new("default", "j", spec));
    let (mut most, mut marks) = (0, 0);
    for _ in 0..1_000 {
        let plan = world.plan();
        let actions = plan.groups.iter().flat_map(|group| &group.actions);
        let is_mark =
            |action: &&Action| matches!(action, Action::Task { change: TaskChange::Record, .. });
        marks += actions.filter(is_mark).count();
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
    assert!(most <= 4_000, "open, to be recorded, to be removed, and kept: {most} objects");
    assert_eq!(world.tasks.len(), 1_000);
    assert_eq!(marks, 0, "tasks that are removed anyway are not marked as recorded first");
    assert!(world.tasks.values().all(|task| task.is_recorded()), "those that are kept are");
}

/// Other words for the same template run nothing anew, whether a version before hashed what was
/// written or this one what is meant; a real change does.
#[test]
fn other_words_for_the_same_template_run_nothing() {
    let resources = |cpu: &str| {
        let limits = json!({ "limits": { "cpu": cpu } });
        let spec = json!({ "template": { "image": "one", "resources": limits } });
        serde_json::from_value::<JobSpec>(spec).unwrap()
    };
    let mut world = World::new(Job::new("default", "j", resources("1000m")));
    world.settle();
    let spec = &world.job.spec;
    let written = serde_json::to_vec(&(&spec.template, &spec.target, "count")).unwrap();
    for before in [api::names::hash(&written), api::job::revision(spec)] {
        world.job.status.revision = before;
        world.settle();
        assert_eq!((world.job.status.run, world.job.generation()), (1, 1));
        // The apiserver does not count it.
        world.job.spec = resources("1");
        world.settle();
        assert_eq!((world.job.status.run, world.tasks.len()), (1, 1));
        world.job.spec = resources("1000m");
    }
    world.settle();
    world.edit_job(|job| job.spec = JobSpec { priority: Some(3), ..resources("1") });
    world.settle();
    assert_eq!(world.job.status.run, 1, "what is changed in place is");
    world.edit_job(|job| job.spec = resources("2"));
    world.settle();
    assert_eq!(world.job.status.run, 2);
}

/// A version before hashed what was written. From the first look on, the run is known by what that
/// means, so other words may come with any change, also with one that is counted.
#[test]
fn a_revision_of_words_is_known_by_what_it_means_from_the_first_look_on() {
    let spec = |cpu: &str, more: serde_json::Value| {
        let limits = json!({ "limits": { "cpu": cpu } });
        let mut spec = json!({ "template": { "image": "one", "resources": limits } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<JobSpec>(spec).unwrap()
    };
    for on_change in ["Rerun", "Ignore"] {
        let mode = json!({ "onChange": on_change });
        let mut world = World::new(Job::new("default", "j", spec("1000m", mode.clone())));
        world.settle();
        let written = (&world.job.spec.template, &world.job.spec.target, "count");
        world.job.status.revision = api::names::hash(&serde_json::to_vec(&written).unwrap());
        world.settle();
        assert_eq!(world.job.status.revision, api::job::revision(&world.job.spec), "{on_change}");
        world.edit_job(|job| job.spec = spec("1", json!({ "priority": 3 })));
        world.settle();
        assert_eq!(world.job.status.run, 1, "{on_change}");
        world.edit_job(|job| job.spec = spec("2", json!({})));
        world.settle();
        assert_eq!(world.job.status.run, 2, "{on_change}");
    }
}

/// A run that cannot begin yet is not forgotten: the generation that asks for it is not observed.
#[test]
fn a_new_run_that_waits_for_its_set_comes_when_the_set_does() {
    let spec = |image: &str| {
        let spec = json!({ "template": { "image": image }, "target": { "partitionSet": "set" } });
        serde_json::from_value::<JobSpec>(spec).unwrap()
    };
    let set = json!({ "stateModel": "OnlineOffline", "partitions": 1 });
    let set = api::PartitionSet::new("default", "set", serde_json::from_value(set).unwrap());
    let mut world = World::new(Job::new("default", "j", spec("one")));
    world.partition_set = Some(set.clone());
    world.settle();
    world.partition_set = None;
    world.edit_job(|job| job.spec = spec("two"));
    world.settle();
    assert_eq!(world.job.status.run, 1);
    world.partition_set = Some(set);
    world.settle();
    assert_eq!(world.job.status.run, 2);
}

/// What somebody wrote by hand, or an old store holds, kills no controller.
#[test]
fn numbers_at_the_end_of_their_range_kill_no_plan() {
    let job = || {
        let spec = JobSpec { template: template("one"), ..JobSpec::default() };
        World::new(Job::new("default", "j", spec))
    };
    let mut world = job();
    world.edit_job(|job| job.status.run = u32::MAX);
    world.plan();
    // It was suspended for ever before, and is resumed: it has all the time there is.
    for suspended in [u64::MAX, i64::MAX.cast_unsigned()] {
        let mut world = job();
        world.edit_job(|job| {
            job.spec.timeout = Some("60s".parse().unwrap());
            job.status.suspended_seconds = suspended;
            job.status.suspended_at = Some(api::Timestamp::UNIX_EPOCH);
            (job.status.run, job.status.started_at) = (1, Some(api::Timestamp::UNIX_EPOCH));
            job.status.revision = api::job::revision(&job.spec);
        });
        step(&mut world, "wait", &["1000"], &mut String::new());
        world.settle();
        assert!(world.job.status.suspended_seconds >= suspended);
        assert_eq!(world.job.status.suspended_at, None);
        assert_eq!(world.job.status.ending, None);
    }
    // A failure that would be tried again, were there a number for the next attempt.
    for (attempt, failures) in [(u32::MAX, 0), (1, u32::MAX)] {
        let mut world = job();
        world.settle();
        let task = Arc::make_mut(world.tasks.get_mut("j-0").unwrap());
        (task.spec.attempt, task.spec.failures) = (attempt, failures);
        for line in ["bind 0", "run 0", "end 0 3", "settle"] {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest: Vec<&str> = rest.split_whitespace().collect();
            step(&mut world, verb, &rest, &mut String::new());
        }
        assert_eq!(world.job.status.phase, JobPhase::Failed, "attempt {attempt}");
    }
}
