//! What rollouts wait for: the job before, and canaries.

use expect_test::expect;

use super::*;

#[test]
fn a_job_runs_before_the_first_task_changes() {
    check(
        r#"spec replicas=2 rollout.before={"template":{"args":["migrate"]}}
         plan
         plan
         status
         rest
         succeeds before-1
         plan
         finish
         status
         spec template.image="two"
         plan
         plan
         lose 1-0
         replaceable 1-0
         plan
         status
         succeeds before-2
         plan
         finish
         status
         undo
         finish
         status"#,
        expect![[r#"
            template <one>
            RolloutStarted: rolling out revision 1: one
            job web-before-1: migrate
            RollingOut 0/2 ready, 0 updated, revision 0 of 1 Progressing: 0 of 2 tasks are available in revision 1; waits for job web-before-1
            busy
            create web-1-0 web-1-1 of <one>
            Running 2/2 ready, 2 updated, revision 1 of 1 Complete
            template <two>
            RolloutStarted: rolling out revision 2: two
            job web-before-2: migrate
            again web-1-0 at 0s
            TaskRetried: web-1-0 (Lost) starts again
            RollingOut 1/2 ready, 0 updated, revision 1 of 2 Progressing: 0 of 2 tasks are available in revision 2; waits for job web-before-2: Pending
            stop web-1-0: Revision
            Running 2/2 ready, 2 updated, revision 2 of 2 Complete
            Running 2/2 ready, 2 updated, revision 3 of 3 Complete: runs what revision 1 ran, since revision 2, the manifest's, was undone
        "#]],
    );
}

#[test]
fn the_failure_of_the_job_before_is_that_of_the_rollout() {
    let script = |on_failure: &str| {
        format!(
            r#"spec replicas=1 rollout.onFailure="{on_failure}"
             finish
             spec rollout.before={{"template":{{"args":["migrate"]}}}} template.image="two"
             settle
             fails before-2
             plan
             finish
             status"#
        )
    };
    check(
        &script("Pause"),
        expect![[r#"
        RolloutFailed: the rollout of revision 2 failed: job web-before-2: Failed
        Paused 1/1 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: job web-before-2: Failed
    "#]],
    );
    check(
        &script("Rollback"),
        expect![[r#"
        RolloutFailed: the rollout of revision 2 failed: job web-before-2: Failed; back to what revision 1 ran
        Running 1/1 ready, 1 updated, revision 3 of 3 Complete: went back to an earlier revision, since revision 2 failed: job web-before-2: Failed
    "#]],
    );
}

#[test]
fn a_job_that_is_no_longer_needed_is_cancelled() {
    check(
        r#"spec rollout.before={"template":{"args":["migrate"]}}
         finish
         spec template.image="two"
         settle
         spec template.image="three"
         plan
         plan
         abort
         plan
         plan
         spec rollout.before={"template":{"args":["migrate"]}} template.image="four"
         settle
         spec rollout.before=null
         plan
         finish
         status"#,
        expect![[r#"
            template <three>
            RolloutStarted: rolling out revision 3: three
            cancel web-before-2
            job web-before-3: migrate
            cancel web-before-3
            RolloutFailed: the rollout of revision 3 failed: aborted by ann
            nothing
            cancel web-before-4
            stop web-1-0: Revision
            Running 1/1 ready, 1 updated, revision 4 of 4 Complete
        "#]],
    );
}

#[test]
fn a_job_of_another_owner_keeps_the_rollout_waiting_and_is_named() {
    check(
        r#"taken before-1
         spec rollout.before={"template":{"args":["migrate"]}}
         settle
         status"#,
        expect![[r#"
            RollingOut 0/1 ready, 0 updated, revision 0 of 1 Progressing: job web-before-1 exists and belongs to another owner
        "#]],
    );
}

#[test]
fn canaries_start_beside_the_others_and_are_promoted_by_hand() {
    check(
        r#"spec replicas=3 rollout.canary={"count":1}
         finish
         status
         spec template.image="two"
         plan
         plan
         status
         start 2-3
         plan
         status
         rest
         promote
         plan
         plan
         stopped 1-2
         plan
         finish
         status"#,
        expect![[r#"
            Running 3/3 ready, 3 updated, revision 1 of 1 Complete
            template <two>
            RolloutStarted: rolling out revision 2: two
            create web-2-3 of <two>
            RollingOut 3/3 ready, 0 updated, revision 1 of 2 Progressing: 0 of 3 tasks are available in revision 2; waits for 1 to be available as canary
            nothing
            RollingOut 4/3 ready, 1 updated, revision 1 of 2 Progressing: 1 of 3 tasks are available in revision 2; canary is available; waits for hctl rollout promote
            busy
            stop web-1-2: Revision
            stop web-1-0: Revision
            RolloutPromoted: revision 2 was promoted by ann
            nothing
            remove web-1-2
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn canaries_are_checked_and_promoted_after_a_while() {
    check(
        r#"spec replicas=3 rollout.canary={"count":2,"promoteAfter":"1m","check":{"template":{"args":["check"]}}} rollout.parallelism=2
         finish
         spec template.image="two"
         settle
         start 2-3 2-4
         plan
         status
         wait 30
         succeeds check-2
         plan
         status
         rest
         unready 2-4
         plan
         status
         start 2-4
         plan
         wait 59
         plan
         wait 1
         plan
         finish
         status"#,
        expect![[r#"
            job web-check-2: check
            RollingOut 5/3 ready, 2 updated, revision 1 of 2 Progressing: 2 of 3 tasks are available in revision 2; canary is available; waits for job web-check-2
            nothing
            RollingOut 5/3 ready, 2 updated, revision 1 of 2 Progressing: 2 of 3 tasks are available in revision 2; canary is available; goes on at 1970-01-01T00:01:00Z
            busy until 60s
            nothing
            RollingOut 4/3 ready, 1 updated, revision 1 of 2 Progressing: 1 of 3 tasks are available in revision 2; waits for 2 to be available as canary
            nothing
            nothing
            stop web-1-2: Revision
            stop web-1-1: Revision
            stop web-1-0: Revision
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn the_failure_of_the_check_is_that_of_the_rollout() {
    check(
        r#"spec replicas=2 rollout.canary={"check":{"template":{"args":["check"]}}}
         finish
         spec template.image="two"
         settle
         start 2-2
         settle
         fails check-2
         plan
         finish
         status"#,
        expect![[r#"
            stop web-2-2: ScaleDown
            RolloutFailed: the rollout of revision 2 failed: job web-check-2: Failed
            Paused 2/2 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: job web-check-2: Failed
        "#]],
    );
}

/// With a canary that always ends, the old tasks stay as they are until the rollout has failed and after
/// it, and whatever takes the place of a canary is one.
#[test]
fn a_canary_that_ends_again_and_again_costs_no_good_task() {
    for on_failure in ["Pause", "Rollback", "Continue"] {
        let mut world = service(json!({
            "template": { "image": "one" }, "replicas": 3,
            "rollout": {
                "canary": { "count": 1 }, "onFailure": on_failure, "maxFailedTasks": 0,
                "timeout": "1m", "minReadySeconds": 5,
            },
        }));
        world.finish();
        world.edit(|service| service.spec.template.image = "bad".to_owned());
        let mut replaced = 0;
        for second in 0..300 {
            world.settle();
            let bad: Vec<String> = world
                .tasks
                .values()
                .filter(|task| world.templates[&task.spec.template].spec.template.image == "bad")
                .map(|task| task.name().to_owned())
                .collect();
            assert!(bad.len() <= 1, "{on_failure}, {second} s: {bad:?}");
            for name in &bad {
                let labels = world.tasks[name].metadata.labels.as_ref().unwrap();
                assert_eq!(labels.get(api::labels::CANARY).map(String::as_str), Some("true"));
                // Now and then somebody deletes it, too.
                if second % 40 == 20 {
                    replaced += 1;
                    world.delete(name);
                }
                start(&mut world, name, false);
                world.report(name, ReportState::Failed, false);
            }
            world.work_on_stops();
            let is_good = |task: &&Arc<Task>| {
                task.is_ready() && world.templates[&task.spec.template].spec.template.image == "one"
            };
            let good = world.tasks.values().filter(is_good).count();
            assert_eq!(good, 3, "{on_failure}, {second} s: {:#?}", world.service.status);
            world.advance(1);
        }
        let failed = world.service.status.revision(2).unwrap().failure.is_some();
        assert_eq!(failed, on_failure != "Continue", "{on_failure}");
        assert!(replaced > 0 || on_failure != "Continue");
    }
}

#[test]
fn where_there_is_one_task_at_a_place_a_canary_takes_its_place() {
    check(
        r#"spec perNode=true rollout.canary={"count":1}
         nodes a b c
         finish
         spec template.image="two"
         settle
         stopped 1-a
         settle
         status
         start 2-a
         plan
         status
         promote
         plan
         plan
         finish
         status"#,
        expect![[r#"
            RollingOut 2/3 ready, 0 updated, revision 1 of 2 Progressing: 0 of 3 tasks are available in revision 2; waits for 1 to be available as canary
            nothing
            RollingOut 3/3 ready, 1 updated, revision 1 of 2 Progressing: 1 of 3 tasks are available in revision 2; canary is available; waits for hctl rollout promote
            stop web-1-b: Revision
            RolloutPromoted: revision 2 was promoted by ann
            nothing
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}
