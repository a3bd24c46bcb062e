//! Disturbances in the middle of rollouts, which say nothing of what is rolled out.

use expect_test::expect;

use super::*;

#[test]
fn a_task_that_was_available_has_time_to_become_so_again() {
    check(
        "spec replicas=3 rollout.timeout=\"1m\"
         finish
         spec template.image=\"two\"
         settle
         stopped 1-0
         settle
         wait 50
         start 2-0
         settle
         wait 40
         unready 2-0
         settle
         status
         wait 20
         plan
         status",
        expect![[r#"
            RollingOut 1/3 ready, 0 updated, revision 1 of 2 Progressing: 0 of 3 tasks are available in revision 2; web-2-0: Running
            RolloutFailed: the rollout of revision 2 failed: web-2-0: not ready within 1m
            Paused 1/3 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: web-2-0: not ready within 1m
        "#]],
    );
}

#[test]
fn a_lost_node_and_a_suspension_fail_no_rollout() {
    check(
        "spec replicas=2 rollout.timeout=\"1m\"
         finish
         spec template.image=\"two\"
         settle
         stopped 1-0
         settle
         start 2-0
         settle
         lose 2-0
         wait 120
         settle
         status
         replaceable 2-0
         plan
         spec suspend=true
         settle
         stopped 1-1
         wait 600
         settle
         spec suspend=false
         settle
         status
         finish
         status",
        expect![[r#"
            RollingOut 0/2 ready, 0 updated, revision 1 of 2 Progressing: 0 of 2 tasks are available in revision 2; web-2-0: Lost
            again web-2-0 at 120s
            TaskRetried: web-2-0 (Lost) starts again
            RollingOut 0/2 ready, 0 updated, revision 1 of 2 Progressing: 0 of 2 tasks are available in revision 2; web-2-0: Pending
            Running 2/2 ready, 2 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn a_task_that_ends_well_is_made_anew() {
    let mut world = service(json!({ "template": { "image": "one" }, "replicas": 2 }));
    world.finish();
    assert!(world.report("web-1-0", ReportState::Succeeded, false));
    world.finish();
    assert_eq!(images(&world), "web-1-0=one web-1-1=one");
    assert!(world.tasks.values().all(|task| task.is_ready()));
}

/// The new ones fail, and none of the old ones may be stopped: nothing may be created and stopped over
/// and over.
#[test]
fn new_tasks_that_fail_beside_the_old_ones_come_to_rest() {
    let mut world = service(json!({
        "template": { "image": "one" }, "replicas": 3, "maxUnavailable": 0,
        "rollout": { "order": "StartFirst", "maxFailedTasks": 1, "onFailure": "Continue" },
    }));
    world.finish();
    world.edit(|service| service.spec.template.image = "bad".to_owned());
    world.settle();
    start(&mut world, "web-2-3", false);
    world.report("web-2-3", ReportState::Failed, false);
    world.settle();
    assert!(world.tasks.len() <= 4, "{}", images(&world));
}

#[test]
fn more_tasks_than_it_is_the_turn_of_run_what_is_known_to_be_good() {
    check(
        "spec replicas=2
         finish
         spec template.image=\"two\"
         settle
         stopped 1-0
         settle
         spec replicas=5
         plan
         start 2-0 1-2 1-3 1-4
         settle
         status",
        expect![[r#"
            create web-1-2 web-1-3 web-1-4 of <one>
            Scaled: scaled from 2 to 5 tasks
            RollingOut 4/5 ready, 1 updated, revision 1 of 2 Progressing: 1 of 5 tasks are available in revision 2
        "#]],
    );
}

#[test]
fn tasks_of_another_placement_are_replaced_step_by_step() {
    check(
        "nodes n1 n2 n3 n4
         spec perNode=true placement={\"nodes\":[\"n1\",\"n2\"]}
         finish
         spec placement={\"nodes\":[\"n3\",\"n4\"]}
         settle
         status
         stopped 1-n1
         finish
         status",
        expect![[r#"
            RollingOut 0/2 ready, 0 updated, revision 1 of 2 Progressing: 0 of 2 tasks are available in revision 2; web-2-n3: Pending
            Running 2/2 ready, 2 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn deployments_that_fail_again_and_again_leave_no_trail() {
    let mut world = service(json!({
        "template": { "image": "good" }, "replicas": 1, "revisionHistoryLimit": 2,
        "rollout": { "timeout": "1m", "onFailure": "Rollback" },
    }));
    world.finish();
    for number in 0..8 {
        world.edit(|service| service.spec.template.image = format!("bad{number}"));
        world.settle();
        world.work_on_stops();
        world.settle();
        world.advance(60);
        world.settle();
        world.finish();
    }
    let status = &world.service.status;
    assert!(status.revisions.len() <= 5, "{:#?}", status.revisions);
    assert!(world.templates.len() <= 4, "{:?}", world.templates.keys());
}
