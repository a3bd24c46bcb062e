//! What people ask of rollouts: undo, restart, abort.

use expect_test::expect;

use super::*;

#[test]
fn an_undo_runs_an_earlier_revision_and_leaves_the_manifest_as_it_is() {
    check(
        "spec replicas=2
         finish
         spec template.image=\"two\"
         finish
         undo
         plan
         plan
         status
         finish
         status
         rest
         spec replicas=3
         finish
         status
         undo
         finish
         undo 2
         finish
         status
         spec template.image=\"three\"
         finish
         undo
         finish
         spec template.image=\"two\"
         plan
         finish
         status",
        expect![[r#"
            RolloutStarted: rolling out revision 3: what revision 1 ran
            stop web-2-0: Revision
            RollingOut 2/2 ready, 0 updated, revision 2 of 3 Progressing: 0 of 2 tasks are available in revision 3
            Running 2/2 ready, 2 updated, revision 3 of 3 Complete: runs what revision 1 ran, since revision 2, the manifest's, was undone
            at rest
            Running 3/3 ready, 3 updated, revision 3 of 3 Complete: runs what revision 1 ran, since revision 2, the manifest's, was undone
            Running 3/3 ready, 3 updated, revision 4 of 4 Complete
            nothing
            Running 3/3 ready, 3 updated, revision 6 of 6 Complete
        "#]],
    );
}

#[test]
fn a_manifest_that_asks_for_what_was_gone_back_to_ends_an_undo() {
    check(
        "finish
         spec template.image=\"two\"
         finish
         undo
         finish
         status
         spec template.image=\"one\"
         plan
         status
         spec template.image=\"two\"
         plan",
        expect![[r#"
            Running 1/1 ready, 1 updated, revision 3 of 3 Complete: runs what revision 1 ran, since revision 2, the manifest's, was undone
            nothing
            Running 1/1 ready, 1 updated, revision 3 of 3 Complete
            RolloutStarted: rolling out revision 4: two
        "#]],
    );
}

#[test]
fn a_restart_replaces_all_tasks_one_after_another() {
    check(
        "spec replicas=2
         finish
         restart
         plan
         plan
         plan
         stopped 1-0
         plan
         plan
         start 2-0
         plan
         stopped 1-1
         settle
         status
         finish
         status
         rest
         spec replicas=3
         finish
         restart
         finish
         status",
        expect![[r#"
            RolloutStarted: rolling out revision 2: all tasks anew
            stop web-1-0: Revision
            nothing
            remove web-1-0
            create web-2-0 of <one>
            nothing
            stop web-1-1: Revision
            RollingOut 1/2 ready, 1 updated, revision 1 of 2 Progressing: 1 of 2 tasks are available in revision 2; web-2-1: Pending
            Running 2/2 ready, 2 updated, revision 2 of 2 Complete
            at rest
            Running 3/3 ready, 3 updated, revision 3 of 3 Complete
        "#]],
    );
}

#[test]
fn a_restart_that_fails_stops_although_failures_are_rolled_back() {
    check(
        "spec replicas=2 rollout.timeout=\"1m\" rollout.onFailure=\"Rollback\"
         finish
         restart
         settle
         stopped 1-0
         settle
         unready 2-0
         wait 60
         plan
         plan
         status",
        expect![[r#"
            RolloutFailed: the rollout of revision 2 failed: web-2-0: not ready within 1m
            nothing
            Paused 1/2 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: web-2-0: not ready within 1m
        "#]],
    );
}

#[test]
fn an_aborted_rollout_ends_as_if_it_had_failed() {
    let script = |on_failure: &str| {
        format!(
            "spec replicas=3 rollout.onFailure=\"{on_failure}\"
             finish
             spec template.image=\"two\"
             settle
             stopped 1-0
             settle
             abort
             plan
             settle
             status
             finish
             status"
        )
    };
    check(
        &script("Pause"),
        expect![[r#"
        RolloutFailed: the rollout of revision 2 failed: aborted by ann
        Paused 2/3 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: aborted by ann
        Paused 3/3 ready, 1 updated, revision 1 of 2 Failed: rollout of revision 2 failed: aborted by ann
    "#]],
    );
    check(
        &script("Continue"),
        expect![[r#"
        RolloutFailed: the rollout of revision 2 failed: aborted by ann
        Paused 2/3 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: aborted by ann
        Paused 3/3 ready, 1 updated, revision 1 of 2 Failed: rollout of revision 2 failed: aborted by ann
    "#]],
    );
    check(
        &script("Rollback"),
        expect![[r#"
        RolloutFailed: the rollout of revision 2 failed: aborted by ann; back to what revision 1 ran
        RollingOut 2/3 ready, 2 updated, revision 1 of 3 Progressing: revision 2 failed; 2 of 3 tasks are available in revision 3; web-3-0: Pending
        Running 3/3 ready, 3 updated, revision 3 of 3 Complete: went back to an earlier revision, since revision 2 failed: aborted by ann
    "#]],
    );
}

#[test]
fn a_suspended_rollout_can_be_aborted_and_undone() {
    check(
        "spec replicas=2
         finish
         spec rollout.suspend=true template.image=\"two\"
         settle
         status
         abort
         settle
         status
         undo
         settle
         status
         spec rollout.suspend=false
         finish
         status",
        expect![[r#"
            Paused 2/2 ready, 0 updated, revision 1 of 2 Suspended: rollout of revision 2 is suspended: 0 of 2 tasks run it
            Paused 2/2 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: aborted by ann
            Paused 2/2 ready, 2 updated, revision 1 of 3 Suspended: rollout of revision 3 is suspended: 2 of 2 tasks run it
            Running 2/2 ready, 2 updated, revision 3 of 3 Complete: runs what revision 1 ran, since revision 2, the manifest's, was undone
        "#]],
    );
}

#[test]
fn what_no_longer_fits_is_dropped_and_an_event_says_so() {
    let mut world = service(json!({ "template": { "image": "one" } }));
    world.finish();
    world.edit(|service| service.spec.template.image = "two".to_owned());
    world.finish();
    assert!(world.ask(RolloutVerb::Undo, Some(1)));
    let first = world.templates.keys().next().unwrap().clone();
    let first = if world.templates[&first].spec.template.image == "one" {
        first
    } else {
        world.templates.keys().nth(1).unwrap().clone()
    };
    world.templates.remove(&first);
    let plan = world.plan();
    let mut shown = String::new();
    show(&world, &plan, &mut shown);
    world.act(&plan).unwrap();
    assert!(shown.contains("RolloutRefused: undo was asked for and not done"), "{shown}");
    assert_eq!(world.service.status.request, None);
    assert_eq!(world.settle(), 0);
}

/// What was asked for is there until the write that carries it out: a plan that could not be written
/// changes nothing, and the next one does the same.
#[test]
fn a_plan_that_was_lost_loses_no_request() {
    let mut world = service(json!({ "template": { "image": "one" }, "replicas": 2 }));
    world.finish();
    assert!(world.ask(RolloutVerb::Restart, None));
    let lost = world.plan();
    assert_eq!(world.plan(), lost);
    world.finish();
    assert_eq!(world.service.status.update_revision, 2);
    assert_eq!(images(&world), "web-2-0=one web-2-1=one");
    // A plan of before is refused: it was made on another version.
    assert!(lost.groups.iter().all(|group| world.commit(group).is_err()));
}

#[test]
fn a_change_of_the_manifest_ends_what_was_asked_before_it() {
    check(
        "finish
         spec template.image=\"two\"
         settle
         abort
         spec template.image=\"three\"
         plan
         plan
         finish
         status",
        expect![[r#"
            template <three>
            RolloutStarted: rolling out revision 3: three
            nothing
            Running 1/1 ready, 1 updated, revision 3 of 3 Complete
        "#]],
    );
}
