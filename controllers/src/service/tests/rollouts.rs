//! Rollouts that go well.

use expect_test::expect;
use serde_json::json;

use super::*;

#[test]
fn a_new_service_gets_all_its_tasks_at_once() {
    check(
        "spec replicas=3
         plan
         plan
         status
         plan
         start 1-0 1-1 1-2
         plan
         status
         rest",
        expect![[r#"
            template <one>
            RolloutStarted: rolling out revision 1: one
            create web-1-0 web-1-1 web-1-2 of <one>
            RollingOut 0/3 ready, 0 updated, revision 0 of 1 Progressing: 0 of 3 tasks are available in revision 1
            nothing
            RolledOut: revision 1 is rolled out, in 0s
            Running 3/3 ready, 3 updated, revision 1 of 1 Complete
            at rest
        "#]],
    );
}

#[test]
fn one_task_at_a_time_is_stopped_and_replaced() {
    check(
        "spec replicas=3
         finish
         spec template.image=\"two\"
         plan
         status
         plan
         plan
         stopped 1-0
         plan
         plan
         start 2-0
         plan
         plan
         stopped 1-1
         settle
         start 2-1
         settle
         stopped 1-2
         settle
         start 2-2
         plan
         plan
         status",
        expect![[r#"
            template <two>
            RolloutStarted: rolling out revision 2: two
            RollingOut 3/3 ready, 0 updated, revision 1 of 2 Progressing: 0 of 3 tasks are available in revision 2
            stop web-1-0: Revision
            nothing
            remove web-1-0
            create web-2-0 of <two>
            nothing
            stop web-1-1: Revision
            nothing
            RolledOut: revision 2 is rolled out, in 0s
            nothing
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn new_tasks_start_first_if_that_is_asked_for() {
    check(
        "spec replicas=2 rollout.order=\"StartFirst\"
         finish
         spec template.image=\"two\"
         settle
         status
         start 2-2
         plan
         stopped 1-0
         plan
         plan
         start 2-0
         plan
         stopped 1-1
         finish
         status",
        expect![[r#"
            RollingOut 2/2 ready, 0 updated, revision 1 of 2 Progressing: 0 of 2 tasks are available in revision 2; web-2-2: Pending
            stop web-1-0: Revision
            remove web-1-0
            create web-2-0 of <two>
            nothing
            stop web-1-1: Revision
            Running 2/2 ready, 2 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn batches_wait_for_each_other_and_a_window_does_not() {
    let script = |batches: bool| {
        format!(
            "spec replicas=4 rollout.parallelism=2 rollout.batches={batches}
             finish
             spec template.image=\"two\"
             settle
             stopped 1-0 1-1
             settle
             start 2-0
             plan"
        )
    };
    check(
        &script(true),
        expect![[r#"
        nothing
    "#]],
    );
    check(
        &script(false),
        expect![[r#"
            stop web-1-2: Revision
        "#]],
    );
}

#[test]
fn a_task_is_available_only_after_a_while() {
    check(
        "spec replicas=2 rollout.minReadySeconds=10
         settle
         start 1-0 1-1
         settle
         status
         rest
         wait 10
         plan
         status",
        expect![[r#"
            RollingOut 2/2 ready, 0 updated, revision 0 of 1 Progressing: 0 of 2 tasks are available in revision 1; web-1-0: ready, for less than minReadySeconds
            busy until 10s
            RolledOut: revision 1 is rolled out, in 10s
            Running 2/2 ready, 2 updated, revision 1 of 1 Complete
        "#]],
    );
}

#[test]
fn no_ready_task_is_stopped_while_too_few_are_ready() {
    check(
        "spec replicas=3 rollout.parallelism=3 maxUnavailable=1
         finish
         spec template.image=\"two\"
         settle
         status
         lose 1-1
         stopped 1-0
         plan
         plan
         start 2-0
         plan",
        expect![[r#"
            RollingOut 2/3 ready, 0 updated, revision 1 of 2 Progressing: 0 of 3 tasks are available in revision 2
            remove web-1-0
            stop web-1-1: Revision
            create web-2-0 of <two>
            nothing
            nothing
        "#]],
    );
}

#[test]
fn a_change_in_the_middle_goes_straight_to_the_newest_revision() {
    check(
        "spec replicas=3
         finish
         spec template.image=\"two\"
         settle
         stopped 1-0
         settle
         spec template.image=\"three\"
         plan
         plan
         finish
         status",
        expect![[r#"
            template <three>
            RolloutStarted: rolling out revision 3: three
            stop web-2-0: Revision
            Running 3/3 ready, 3 updated, revision 3 of 3 Complete
        "#]],
    );
    let mut world = service(json!({ "template": { "image": "one" }, "replicas": 3 }));
    world.finish();
    for image in ["two", "three"] {
        world.edit(|service| service.spec.template.image = image.to_owned());
        world.settle();
    }
    world.finish();
    assert_eq!(images(&world), "web-3-0=three web-3-1=three web-3-2=three");
}

#[test]
fn what_is_no_new_revision_changes_nothing_that_runs() {
    check(
        "spec replicas=2
         finish
         spec rollout.parallelism=2 maxUnavailable=2 priority=5
         plan
         plan
         spec replicas=3
         plan
         spec priority=7
         plan
         start 1-2
         settle
         spec replicas=1
         plan
         stopped 1-1 1-2
         plan
         status",
        expect![[r#"
            nothing
            nothing
            create web-1-2 of <one>
            Scaled: scaled from 2 to 3 tasks
            change web-1-2: Amend(Amend { template: "<one>", count: 3, priority: 7, overrides: Overrides { name: None, item: None, partition: None, template: None, placement: None } })
            stop web-1-2: ScaleDown
            stop web-1-1: ScaleDown
            Scaled: scaled from 3 to 1 tasks
            remove web-1-1
            remove web-1-2
            Running 1/1 ready, 1 updated, revision 1 of 1 Complete
        "#]],
    );
}

#[test]
fn a_service_that_goes_back_has_a_new_number_and_keeps_what_runs_already() {
    check(
        "spec replicas=2
         finish
         spec template.image=\"two\"
         settle
         stopped 1-0
         settle
         spec template.image=\"one\"
         plan
         plan
         finish
         status",
        expect![[r#"
            RolloutStarted: rolling out revision 3: one
            stop web-2-0: Revision
            Running 2/2 ready, 2 updated, revision 3 of 3 Complete
        "#]],
    );
}

#[test]
fn old_revisions_are_forgotten_beyond_the_limit() {
    let mut world = service(json!({
        "template": { "image": "i0" }, "replicas": 1, "revisionHistoryLimit": 2,
    }));
    for number in 0..6 {
        world.edit(|service| service.spec.template.image = format!("i{number}"));
        world.finish();
    }
    let numbers: Vec<u32> = world.service.status.revisions.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [4, 5, 6]);
    assert_eq!(world.templates.len(), 3);
}
