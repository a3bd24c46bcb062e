//! What a run says of its jobs while it has no message of its own.

use api::job::JobPhase;

use super::*;

#[test]
fn a_run_says_what_its_jobs_wait_for_and_which_one_failed() {
    let mut world = World::new();
    world.workflow = Some(workflow(&["a", "b"]));
    world.workflow.as_mut().unwrap().spec.max_failed_jobs = Some(1);
    world.act(&world.plan());
    let set = |world: &mut World, job: &str, phase: JobPhase, message: Option<&str>| {
        let status = &mut world.jobs.get_mut(&format!("w-1-{job}")).unwrap().status;
        status.phase = phase;
        status.message = message.map(str::to_owned);
        let plan = world.plan();
        world.act(&plan);
        (plan, world.run.status.waiting.clone())
    };
    assert_eq!(world.run.status.waiting, None);
    set(&mut world, "b", JobPhase::Running, None);
    let (plan, waiting) = set(&mut world, "b", JobPhase::Running, Some("retrying task b-0"));
    assert_eq!(waiting.as_deref(), Some("b: retrying task b-0"));
    assert!(plan.groups.is_empty() && plan.status.is_some(), "it may be written later: {plan:?}");
    let (_, waiting) = set(&mut world, "a", JobPhase::Failed, Some("exit 1 x1"));
    assert_eq!(waiting.as_deref(), Some("a Failed: exit 1 x1"), "a failure says more");
    let (_, waiting) = set(&mut world, "b", JobPhase::Failed, Some("exit 2 x1"));
    assert_eq!(waiting, None, "the run has ended, and says why itself");
    assert!(world.run.status.message.is_some());
}
