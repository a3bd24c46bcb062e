//! What is too large to be written at once comes in parts; what can never be written fails.

use api::size::{GROUP_BYTES_MAX, json_bytes};
use api::workflow::Param;
use api::workflow_run::RunPhase;
use expect_test::expect;
use serde_json::json;

use super::{World, check, workflow};
use crate::workflow_run::plan::{Plan, unwritable};

/// Fifty large jobs that all begin at once: no group is more than a transaction takes, and all come.
#[test]
fn large_jobs_are_made_in_groups_that_fit() {
    let names: Vec<String> = (0..50).map(|n| format!("job-{n}")).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut workflow = workflow(&words);
    let script = json!({ "template": { "args": ["x".repeat(30_000)] } });
    workflow.spec.defaults = Some(serde_json::from_value(script).unwrap());
    let mut world = World::new();
    world.workflow = Some(workflow);
    for _ in 0..10 {
        let plan = world.plan();
        for group in &plan.groups {
            let bytes: usize = group.to_batch().ops.iter().map(json_bytes).sum();
            assert!(bytes <= GROUP_BYTES_MAX, "{bytes} bytes fit no transaction");
        }
        world.act(&plan);
    }
    assert_eq!(world.jobs.len(), 50);
}

#[test]
fn a_job_that_can_never_be_written_fails_and_says_why() {
    check(
        "
        workflow a b<a c maxFailedJobs=1
        unwritable a it is too large
        plan
        job c Succeeded
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Failed (it is too large), b Skipped (job a failed), c Pending + create w-1-c
            plan
              Succeeded 1/1: a Failed (it is too large), b Skipped (job a failed), c Succeeded
              tells: Succeeded: 3 jobs
        "#]],
    );
    check(
        "
        workflow a b<a c
        unwritable a it is too large
        plan
        ",
        expect![[r#"
            plan
              Failed (job a failed: it is too large) 0/0: a Failed (it is too large), b Skipped (job a failed), c Cancelled (the run ended before this job started)
              tells: Failed: job a failed: it is too large
        "#]],
    );
}

#[test]
fn a_run_that_is_too_large_with_its_parameters_fails_and_says_by_how_much() {
    let mut world = World::new();
    let mut workflow = workflow(&["a"]);
    let params: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    workflow.spec.params =
        params.iter().map(|name| Param { name: name.clone(), ..Param::default() }).collect();
    world.workflow = Some(workflow);
    world.run.spec.params = params.iter().map(|name| (name.clone(), "x".repeat(60_000))).collect();
    world.act(&world.plan());
    let status = &world.run.status;
    assert_eq!(status.phase, RunPhase::Failed);
    let why = status.message.as_deref().unwrap();
    assert!(why.contains("more than can be stored"), "{why}");
    assert_eq!(world.plan(), Plan::default());
}

#[test]
fn a_run_whose_own_status_can_never_be_written_says_so() {
    let mut world = World::new();
    world.workflow = Some(workflow(&["a"]));
    let next = unwritable(&world.run, "it is too large", world.now).unwrap();
    assert_eq!(next.status.phase, RunPhase::Failed);
    assert_eq!(
        next.status.message.as_deref(),
        Some("the run's status cannot be stored: it is too large")
    );
    world.act(&world.plan());
    let begun = unwritable(&world.run, "it is too large", world.now).unwrap();
    assert!(begun.status.conditions.iter().any(|it| it.reason == "NotWritable"));
    assert_eq!(unwritable(&begun, "it is too large", world.now), None, "it is said once");
}
