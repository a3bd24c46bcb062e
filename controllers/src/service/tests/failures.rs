//! Rollouts that fail, and tasks that end.

use expect_test::expect;

use super::*;

#[test]
fn a_rollout_that_fails_is_paused_and_what_is_healthy_stays() {
    check(
        "spec replicas=3 rollout.timeout=\"1m\"
         finish
         spec template.image=\"bad\"
         settle
         stopped 1-0
         settle
         unready 2-0
         wait 59
         plan
         wait 1
         plan
         status
         rest
         lose 1-1
         replaceable 1-1
         plan
         spec template.image=\"good\"
         settle
         status",
        expect![[r#"
            nothing
            RolloutFailed: the rollout of revision 2 failed: web-2-0: not ready within 1m
            Paused 2/3 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: web-2-0: not ready within 1m
            at rest
            again web-1-1 at 60s
            TaskRetried: web-1-1 (Lost) starts again
            RollingOut 1/3 ready, 0 updated, revision 1 of 3 Progressing: 0 of 3 tasks are available in revision 3; web-1-1: Pending
        "#]],
    );
}

#[test]
fn a_rollout_that_fails_goes_back_if_that_is_asked_for() {
    check(
        "spec replicas=3 rollout.timeout=\"1m\" rollout.onFailure=\"Rollback\"
         finish
         spec template.image=\"bad\"
         settle
         stopped 1-0
         settle
         wait 60
         plan
         plan
         status
         finish
         status
         spec replicas=4
         finish
         status
         spec template.image=\"good\"
         settle
         status",
        expect![[r#"
            RolloutFailed: the rollout of revision 2 failed: web-2-0: not ready within 1m; back to what revision 1 ran
            stop web-2-0: Revision
            RollingOut 2/3 ready, 2 updated, revision 1 of 3 Progressing: revision 2 failed; 2 of 3 tasks are available in revision 3; web-2-0: Pending
            Running 3/3 ready, 3 updated, revision 3 of 3 Complete: went back to an earlier revision, since revision 2 failed: web-2-0: not ready within 1m
            Running 4/4 ready, 4 updated, revision 3 of 3 Complete: went back to an earlier revision, since revision 2 failed: web-2-0: not ready within 1m
            RollingOut 3/4 ready, 0 updated, revision 3 of 4 Progressing: 0 of 4 tasks are available in revision 4
        "#]],
    );
}

#[test]
fn a_rollout_that_fails_goes_on_if_that_is_asked_for() {
    check(
        "spec replicas=2 rollout.timeout=\"1m\" rollout.onFailure=\"Continue\"
         finish
         spec template.image=\"bad\"
         settle
         stopped 1-0
         settle
         wait 60
         plan
         stopped 1-1
         settle
         wait 60
         plan
         status",
        expect![[r#"
            nothing
            nothing
            RollingOut 0/2 ready, 0 updated, revision 1 of 2 Progressing: 0 of 2 tasks are available in revision 2; web-2-0: Pending
        "#]],
    );
}

#[test]
fn some_tasks_may_fail() {
    check(
        "spec replicas=3 rollout.timeout=\"1m\" rollout.maxFailedTasks=1
         finish
         spec template.image=\"two\"
         settle
         stopped 1-0
         settle
         start 2-0
         fail 2-0
         plan
         status
         rest
         wait 60
         plan
         status",
        expect![[r#"
            again web-2-0 at 10s
            TaskRetried: web-2-0 (exit 3) starts again
            RollingOut 2/3 ready, 0 updated, revision 1 of 2 Progressing: 0 of 3 tasks are available in revision 2; web-2-0: Failed (exit 3)
            busy until 60s
            RolloutFailed: the rollout of revision 2 failed: web-2-0 failed, and maxUnavailable lets no other task be stopped
            Paused 2/3 ready, 0 updated, revision 1 of 2 Failed: rollout of revision 2 failed: web-2-0 failed, and maxUnavailable lets no other task be stopped
        "#]],
    );
}

#[test]
fn the_first_rollout_has_nothing_to_go_back_to() {
    check(
        "spec replicas=1 rollout.timeout=\"1m\" rollout.onFailure=\"Rollback\"
         settle
         wait 60
         plan
         status",
        expect![[r#"
            RolloutFailed: the rollout of revision 1 failed: web-1-0: not ready within 1m
            Paused 0/1 ready, 0 updated, revision 0 of 1 Failed: rollout of revision 1 failed: web-1-0: not ready within 1m
        "#]],
    );
}

#[test]
fn a_task_that_ends_starts_again_later_each_time() {
    check(
        "spec replicas=1
         finish
         fail 1-0
         plan
         start 1-0
         fail 1-0
         plan
         start 1-0
         settle
         evict 1-0
         stopped 1-0
         plan",
        expect![[r#"
            again web-1-0 at 10s
            TaskRetried: web-1-0 (exit 3) starts again
            again web-1-0 at 20s
            TaskRetried: web-1-0 (exit 3) starts again
            again web-1-0 at 0s
            TaskRetried: web-1-0 (Cancelled) starts again
        "#]],
    );
}

/// Trap A1: what takes the place of a task that was lost in the middle of a rollout must not be more
/// tasks of a revision that nobody knows to be good.
#[test]
fn an_old_task_that_is_lost_in_a_rollout_stays_what_it_was() {
    check(
        "spec replicas=4
         finish
         spec template.image=\"bad\"
         settle
         stopped 1-0
         settle
         lose 1-2 1-3
         replaceable 1-2 1-3
         plan
         status",
        expect![[r#"
            again web-1-2 at 0s
            again web-1-3 at 0s
            TaskRetried: web-1-2 (Lost), web-1-3 (Lost) start again
            RollingOut 1/4 ready, 0 updated, revision 1 of 2 Progressing: 0 of 4 tasks are available in revision 2; web-2-0: Pending
        "#]],
    );
}

#[test]
fn a_name_of_another_owner_is_told_and_not_taken() {
    check(
        "spec replicas=2
         taken 1-1
         settle
         start 1-0
         settle
         status",
        expect![[r#"
            RollingOut 1/2 ready, 1 updated, revision 0 of 1 Progressing: task web-1-1 exists and belongs to another owner
        "#]],
    );
}

#[test]
fn a_deleted_task_is_made_anew() {
    check(
        "spec replicas=2
         finish
         delete 1-1
         plan
         stopped 1-1
         plan
         plan",
        expect![[r#"
            nothing
            remove web-1-1
            create web-1-2 of <one>
            nothing
        "#]],
    );
}

/// Were it, a rollback would go to it.
#[test]
fn a_revision_that_never_ran_is_not_taken_for_good() {
    check(
        "spec replicas=2 rollout.timeout=\"1m\" rollout.onFailure=\"Rollback\"
         finish
         spec replicas=0
         finish
         spec template.image=\"bad\"
         settle
         status
         spec replicas=2
         settle
         wait 60
         settle
         finish
         status",
        expect![[r#"
            Running 0/0 ready, 0 updated, revision 1 of 2 Progressing
            Running 2/2 ready, 2 updated, revision 3 of 3 Complete: went back to an earlier revision, since revision 2 failed: web-2-0: not ready within 1m and 1 more
        "#]],
    );
}

/// What is ready for a moment makes room for nothing.
#[test]
fn a_task_that_ends_right_after_its_start_lets_no_other_be_stopped() {
    check(
        "spec replicas=4 rollout.minReadySeconds=5 maxUnavailable=1
         finish
         spec template.image=\"bad\"
         settle
         stopped 1-0
         settle
         start 2-0
         plan
         wait 1
         unready 2-0
         plan
         status",
        expect![[r#"
            nothing
            nothing
            RollingOut 3/4 ready, 0 updated, revision 1 of 2 Progressing: 0 of 4 tasks are available in revision 2; web-2-0: Running
        "#]],
    );
}
