//! What is too large to be written at once comes in parts; what can never be written fails the job.

use api::job::{JobPhase, JobSpec};
use api::size::OBJECT_BYTES_MAX;
use api::task::ReportState;
use api::task::transition::TaskChange;
use api::{Job, PartitionSet};
use serde_json::{Value, json};

use super::{World, report};
use crate::job::plan::unwritable;

fn world(spec: Value) -> World {
    let spec: JobSpec = serde_json::from_value(spec).unwrap();
    World::new(Job::new("default", "j", spec))
}

fn set(names: &[String]) -> PartitionSet {
    let spec = json!({ "stateModel": "OnlineOffline", "partitionNames": names });
    PartitionSet::new("default", "set", serde_json::from_value(spec).unwrap())
}

/// Brings every task to its end; the model refuses a group that fits no transaction.
fn run_to_the_end(world: &mut World) {
    world.settle();
    let names: Vec<String> = world.tasks.keys().cloned().collect();
    for name in &names {
        assert!(world.change(name, &TaskChange::Bind { node: "n1".to_owned() }));
        assert!(report(world, name, ReportState::Failed, Some(3)));
    }
    world.settle();
    world.check();
}

#[test]
fn a_job_that_fills_a_group_comes_before_its_template_and_its_tasks() {
    let args = vec!["x".repeat(100_000); 9];
    let mut world = world(json!({
        "count": 200,
        "maxFailedTasks": 200,
        "retry": { "maxAttempts": 1 },
        "template": { "image": "one", "args": args },
    }));
    run_to_the_end(&mut world);
    assert_eq!(world.job.status.phase, JobPhase::Succeeded);
    assert_eq!(world.job.status.failed, 200);
}

#[test]
fn tasks_with_large_items_are_made_recorded_and_run_again_in_parts() {
    let items: Vec<String> = (0..45).map(|n| format!("{n}{}", "x".repeat(20_000))).collect();
    let mut world = world(json!({
        "items": items,
        "maxFailedTasks": 45,
        "retry": { "maxAttempts": 1 },
        "template": { "image": "one", "labels": { "a": "b" } },
    }));
    run_to_the_end(&mut world);
    assert_eq!(world.job.status.phase, JobPhase::Succeeded);
    world.edit_job(|job| job.spec.template.image = "two".to_owned());
    run_to_the_end(&mut world);
    assert_eq!((world.job.status.run, world.job.status.failed), (2, 45));
}

#[test]
fn a_run_that_outgrows_what_can_be_stored_fails_and_says_by_how_much() {
    let names: Vec<String> = (0..10_000).map(|n| format!("{n}{}", "x".repeat(50))).collect();
    let args = vec!["x".repeat(100_000); 5];
    let mut world = world(json!({
        "target": { "partitionSet": "set" },
        "template": { "image": "one", "args": args },
    }));
    world.partition_set = Some(set(&names[..100]));
    world.settle();
    assert_eq!(world.job.status.total, 100);
    world.partition_set = Some(set(&names));
    let plan = world.plan();
    let told: Vec<&str> = plan.notices.iter().map(|notice| notice.reason).collect();
    assert_eq!(told, ["NotWritable"]);
    world.settle();
    world.check();
    let status = &world.job.status;
    assert_eq!((status.phase, status.total), (JobPhase::Failed, 100));
    let why = status.message.as_deref().unwrap();
    assert!(why.contains("more than can be stored"), "{why}");
    assert!(serde_json::to_vec(&world.job).unwrap().len() < OBJECT_BYTES_MAX);
}

#[test]
fn a_job_of_which_something_can_never_be_written_ends_and_says_why() {
    let mut world = world(json!({ "count": 3, "template": { "image": "one" } }));
    let failed = unwritable(&world.job, "it is too large", world.now).unwrap();
    world.job.status = failed.status;
    world.settle();
    world.check();
    let status = &world.job.status;
    assert_eq!((status.phase, status.run, status.cancelled), (JobPhase::Failed, 1, 3));
    assert_eq!(
        status.message.as_deref(),
        Some("the job's next step cannot be stored: it is too large")
    );
    assert!(world.tasks.is_empty());
    assert_eq!(unwritable(&world.job, "it is too large", world.now), None, "it is said once");
    // The same while its tasks run: they are stopped first.
    world.edit_job(|job| job.spec.template.image = "two".to_owned());
    world.settle();
    assert_eq!((world.job.status.run, world.tasks.len()), (2, 3));
    let failed = unwritable(&world.job, "it is too large", world.now).unwrap();
    world.job.status = failed.status;
    world.settle();
    assert_eq!(world.job.status.phase, JobPhase::Failed);
}
