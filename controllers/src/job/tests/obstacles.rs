//! What keeps a job from making its tasks keeps nobody from ending, holding or deleting it.

use std::collections::BTreeMap;

use api::job::{JobPhase, JobSpec};
use api::{Job, PartitionSet};
use expect_test::expect;
use serde_json::{Value, json};

use super::super::model::World;
use super::super::plan::Holder;
use super::{check, template};

/// A job that cannot make its tasks, or not all of them, and why.
fn worlds() -> BTreeMap<&'static str, World> {
    let of = |fields: Value| {
        let mut spec = json!({ "template": template("one"), "timeout": "60s" });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let spec: JobSpec = serde_json::from_value(spec).unwrap();
        World::new(Job::new("default", "j", spec))
    };
    let set = || {
        let spec = json!({ "partitions": 2, "stateModel": "OnlineOffline" });
        PartitionSet::new("default", "mydb", serde_json::from_value(spec).unwrap())
    };
    let mut no_partition = of(json!({ "target": { "partitionSet": "mydb", "partitions": ["x"] } }));
    no_partition.partition_set = Some(set());
    let no_state = json!({ "target": { "partitionSet": "mydb", "states": ["MASTER"] } });
    let mut no_state = of(no_state);
    no_state.partition_set = Some(set());
    let mut name_taken = of(json!({ "count": 2 }));
    name_taken.taken.insert("j-0".to_owned(), Holder::Another);
    let mut leaving = of(json!({ "count": 2 }));
    leaving.taken.insert("j-0".to_owned(), Holder::Predecessor);
    let mut template_taken = of(json!({ "count": 2 }));
    template_taken.take_template();
    let long = |end: &str| json!({ "name": format!("{}{end}", "n".repeat(100)) });
    BTreeMap::from([
        ("no set", of(json!({ "target": { "partitionSet": "mydb" } }))),
        ("no partition", no_partition),
        ("no state", no_state),
        ("name taken", name_taken),
        ("predecessor stopping", leaving),
        ("template taken", template_taken),
        ("same name", of(json!({ "tasks": [long("a"), long("a")] }))),
        ("nowhere", of(json!({ "count": 1 }))),
    ])
}

fn settled(mut world: World, edit: impl FnOnce(&mut JobSpec)) -> World {
    world.settle();
    world.edit_job(|job| edit(&mut job.spec));
    world.settle();
    world.check();
    world
}

#[test]
fn whatever_a_job_waits_for_it_is_cancelled() {
    for (why, world) in worlds() {
        let phase = settled(world, |spec| spec.cancel = true).job.status.phase;
        assert_eq!(phase, JobPhase::Cancelled, "{why}");
    }
}

#[test]
fn whatever_a_job_waits_for_it_rests_and_goes_on() {
    for (why, world) in worlds() {
        let held = settled(world.clone(), |spec| spec.suspend = Some(true));
        let status = &held.job.status;
        assert_eq!(status.phase, JobPhase::Suspended, "{why}: {status:#?}");
        let cancelled = settled(held.clone(), |spec| spec.cancel = true);
        assert_eq!(cancelled.job.status.phase, JobPhase::Cancelled, "{why}: held, then cancelled");
        let resumed = settled(held, |spec| spec.suspend = None);
        let (status, mut before) = (&resumed.job.status, world);
        before.settle();
        assert_eq!(status.phase, JobPhase::Pending, "{why}: {status:#?}");
        assert_eq!(status.suspended_at, None, "{why}");
        assert_eq!(status.message, before.job.status.message, "{why}");
        assert_eq!(resumed.tasks.len(), before.tasks.len(), "{why}");
    }
}

/// A run that has begun goes on to its time limit although what it is to add cannot be made.
#[test]
fn whatever_a_job_waits_for_its_time_runs_out() {
    for (why, mut world) in worlds() {
        world.settle();
        if world.job.status.run == 0 {
            // `timeout` counts from when the first task gets a node.
            continue;
        }
        world.job.status.started_at = Some(world.now);
        world.advance(61);
        world.settle();
        assert_eq!(world.job.status.phase, JobPhase::TimedOut, "{why}");
    }
}

#[test]
fn a_job_without_its_set_says_how_it_ended() {
    check(
        r#"
        spec target={"partitionSet":"mydb"}
        plan
        spec cancel=true cancelReason="job_bad_failed"
        plan
        plan
        "#,
        expect![[r#"
            plan
              Pending run=0 p0 a0 s0 f0 c0 of 0 (PartitionSet mydb does not exist)
              waits: PartitionSet mydb does not exist
            plan
              Cancelled ending Cancelled run=1 p0 a0 s0 f0 c0 of 0 (cancelled: job_bad_failed)
              tells: JobCancelled: cancelled: job_bad_failed; 0 of 0 tasks succeeded
            plan
        "#]],
    );
    check(
        r#"
        spec target={"partitionSet":"mydb"}
        plan
        spec suspend=true
        plan
        plan
        wait 10
        spec suspend=false
        plan
        set {"partitions":1,"stateModel":"OnlineOffline"}
        plan
        plan
        "#,
        expect![[r#"
            plan
              Pending run=0 p0 a0 s0 f0 c0 of 0 (PartitionSet mydb does not exist)
              waits: PartitionSet mydb does not exist
            plan
              Suspended run=1 p0 a0 s0 f0 c0 of 0
              waits: the job is suspended
            plan
              waits: the job is suspended
            plan
              Pending run=1 p0 a0 s0 f0 c0 of 0 (PartitionSet mydb does not exist)
              waits: PartitionSet mydb does not exist
            plan
              Pending run=1 p1 a0 s0 f0 c0 of 1
              create template + create j-0 #0 run=1 {"partition":"mydb-0"}
            plan
              waits: 1 tasks have not ended
        "#]],
    );
}

/// The run's list gets a partition that its set does not have: the rest goes on, and ends as always.
#[test]
fn a_run_that_has_begun_goes_on_without_what_is_missing() {
    check(
        r#"
        set {"partitions":2,"stateModel":"OnlineOffline"}
        spec onChange="Ignore" retry={"maxAttempts":1} target={"partitionSet":"mydb","partitions":["mydb-0"]}
        settle
        bind 0
        spec target={"partitionSet":"mydb","partitions":["mydb-0","mydb-7"]}
        settle
        status
        end 0 3
        plan
        plan
        "#,
        expect![[r#"
            Running run=1 p0 a1 s0 f0 c0 of 1 (PartitionSet mydb has no partition mydb-7)
            plan
              record run=1 0=Failed + j-0/1 recorded + Failed ending Failed run=1 p0 a0 s0 f1 c0 of 1
              tells: JobFailed: exit 3 x1; 0 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

/// Whoever looks at the job between two of its tasks is told the same as while they run.
#[test]
fn a_taken_name_is_told_of_while_other_tasks_run() {
    let spec = json!({ "template": template("one"), "count": 5, "parallelism": 2 });
    let mut world = World::new(Job::new("default", "j", serde_json::from_value(spec).unwrap()));
    world.taken.insert("j-0".to_owned(), Holder::Another);
    world.settle();
    let waits = |world: &World| crate::freed::waits_for_a_name(&world.job.status.conditions);
    assert_eq!((world.tasks.len(), waits(&world)), (2, true));
    world.settle();
    assert_eq!((world.tasks.len(), waits(&world)), (2, true));
    world.taken.clear();
    world.settle();
    assert_eq!((world.tasks.len(), waits(&world)), (2, false), "it is free");
}
