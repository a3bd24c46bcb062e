//! Services with one task on each node.

use expect_test::expect;

use super::*;

#[test]
fn each_node_has_one_task_now_and_later() {
    check(
        "nodes n1 n2 n10
         spec perNode=true
         settle
         plan
         finish
         status
         nodes n3
         plan
         gone n2
         plan
         plan
         status",
        expect![[r#"
            nothing
            Running 3/3 ready, 3 updated, revision 1 of 1 Complete
            create web-1-n3 of <one>
            stop web-1-n2: ScaleDown
            nothing
            Degraded 2/3 ready, 2 updated, revision 1 of 1 Complete: 2 of 3 tasks are ready; web-1-n3: Pending
        "#]],
    );
}

#[test]
fn nodes_are_taken_in_the_order_of_their_names() {
    check(
        "nodes n1 n2 n10
         spec perNode=true
         finish
         spec template.image=\"two\"
         settle
         stopped 1-n1
         finish
         status",
        expect![[r#"
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn a_node_that_is_away_holds_nothing_up_and_follows_later() {
    check(
        "nodes n1 n2 n3
         spec perNode=true
         finish
         away n1
         lose 1-n1
         spec template.image=\"two\"
         finish
         status
         nodes n1
         recover 1-n1
         plan
         status
         stopped 1-n1
         finish
         status",
        expect![[r#"
            Running 2/2 ready, 2 updated, revision 2 of 2 Complete: 1 task is left as before, on nodes that accept none now: web-1-n1
            stop web-1-n1: Revision
            Running 3/3 ready, 2 updated, revision 2 of 2 Complete
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn a_taint_lets_no_task_come_and_one_that_drives_away_stops_what_runs() {
    check(
        "nodes n1 n2 n3
         taint n3 gpu:NoSchedule
         spec perNode=true
         finish
         status
         taint n1 gpu:NoSchedule
         plan
         status
         evict 1-n1
         stopped 1-n1
         plan
         taint n2 gpu:NoExecute
         plan
         evict 1-n2
         stopped 1-n2
         plan
         taint n3
         plan",
        expect![[r#"
            Running 2/2 ready, 2 updated, revision 1 of 1 Complete
            nothing
            Running 1/1 ready, 1 updated, revision 1 of 1 Complete
            remove web-1-n1
            nothing
            remove web-1-n2
            create web-1-n3 of <one>
        "#]],
    );
}

#[test]
fn a_node_that_no_longer_fits_loses_its_task() {
    check(
        "nodes n1 n2
         spec perNode=true placement={\"nodes\":[\"n1\",\"n2\"]}
         finish
         spec placement={\"nodes\":[\"n1\"]}
         settle
         status
         stopped 1-n1 1-n2
         finish
         status",
        expect![[r#"
            RollingOut 0/1 ready, 0 updated, revision 1 of 2 Progressing: 0 of 1 tasks are available in revision 2
            Running 1/1 ready, 1 updated, revision 2 of 2 Complete
        "#]],
    );
}
