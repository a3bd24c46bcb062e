//! Nodes that keep tasks away: taints, and what is wrong with them.

use expect_test::expect;

use super::check;

#[test]
fn what_keeps_a_node_from_taking_tasks_is_named() {
    check(
        "
        node a broken=DiskPressure
        node b broken=EngineDown
        node c broken=DiskPressure
        node d broken=MemoryPressure
        node e broken
        template t
        task t-0 job=t
        place
        ",
        expect![[r#"
            t-0: 0 of 5 nodes: 2 have DiskPressure, 1 not ready, 1 has MemoryPressure, 1 has EngineDown
        "#]],
    );
}

#[test]
fn a_taint_keeps_away_what_does_not_tolerate_it() {
    check(
        "
        node a cpu=2 taint=dedicated=gpu:NoSchedule
        node b cpu=2 taint=dedicated=gpu:NoExecute taint=spot:NoSchedule
        node c cpu=2 taint=spot:PreferNoSchedule
        template t cpu=2
        template u cpu=2 tolerate=dedicated:gpu
        template v cpu=2 tolerate=dedicated:* tolerate=spot:
        task t-0 job=t
        place
        task t-1 job=t
        place
        task u-0 of=u job=u
        task u-1 of=u job=u
        place
        task v-0 of=v job=v
        place
        node c cpu=2
        node b cpu=2
        place
        ",
        expect![[r#"
            t-0 -> c
            --
            t-1: 0 of 3 nodes: 2 taint dedicated=gpu, 1 has cpu < 2
            --
            u-0 -> a
            u-1: 0 of 3 nodes: 2 have cpu < 2, 1 taint spot
            --
            v-0 -> b
            --
            t-1: 0 of 3 nodes: 2 have cpu < 2, 1 taint dedicated=gpu
            u-1: 0 of 3 nodes: 3 have cpu < 2
        "#]],
    );
}

#[test]
fn a_node_that_is_to_be_avoided_is_used_when_the_others_are_full() {
    check(
        "
        node a cpu=4 taint=spot:PreferNoSchedule
        node b cpu=2
        template t cpu=1
        template u cpu=1 tolerate=spot:*
        task t-0 job=t
        task t-1 job=t
        task t-2 job=t
        place
        task u-0 of=u job=u
        place
        ",
        expect![[r#"
            t-0 -> b
            t-1 -> b
            t-2 -> a
            --
            u-0 -> a
        "#]],
    );
}
