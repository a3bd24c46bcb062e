//! Services on nodes that are being drained.

use expect_test::expect;

use super::*;

#[test]
fn tasks_leave_as_many_at_a_time_as_may_be_unavailable() {
    check(
        "spec replicas=3
         finish
         drain n1
         plan
         status
         stopped 1-0
         plan
         plan
         start 1-0@n2
         plan
         finish
         status",
        expect![[r#"
            stop web-1-0: Drain
            Running 3/3 ready, 3 updated, revision 1 of 1 Complete
            again web-1-0 at 0s
            TaskRetried: web-1-0 (Cancelled) starts again
            nothing
            stop web-1-1: Drain
            Running 3/3 ready, 3 updated, revision 1 of 1 Complete
        "#]],
    );
}

#[test]
fn where_new_ones_start_first_none_leaves_before_another_is_available() {
    check(
        "spec replicas=2 rollout.order=\"StartFirst\"
         finish
         drain n1
         plan
         plan
         unready 1-2@n2
         plan
         start 1-2@n2
         plan
         stopped 1-0
         plan
         start 1-3@n2
         plan
         stopped 1-1
         finish
         status",
        expect![[r#"
            create web-1-2 of <one>
            nothing
            nothing
            stop web-1-0: ScaleDown
            remove web-1-0
            create web-1-3 of <one>
            stop web-1-1: ScaleDown
            Running 2/2 ready, 2 updated, revision 1 of 1 Complete
        "#]],
    );
}

#[test]
fn a_drain_and_a_rollout_take_from_the_same_measure() {
    check(
        "spec replicas=3
         finish
         spec template.image=\"two\"
         settle
         drain n1
         plan
         finish
         status",
        expect![[r#"
            nothing
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn a_task_that_belongs_to_its_node_stays_there() {
    check(
        "nodes n1 n2
         spec perNode=true
         finish
         drain n1
         plan
         status",
        expect![[r#"
            nothing
            Running 2/2 ready, 2 updated, revision 1 of 1 Complete
        "#]],
    );
}
