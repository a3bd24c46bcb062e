//! What is said of nodes that are silent, and of tasks on them.

use expect_test::expect;

use super::check;

/// 3 of 4: the first two are lost before there are too many.
#[test]
fn a_silent_node_that_is_not_declared_lost_says_so_and_takes_nothing_new() {
    check(
        "
        nodes a b c d
        gone a b
        plan
        gone c
        wait 14
        plan
        why a
        why c
        wait 10
        plan
        why c
        gone d
        plan
        why d
        back c d
        plan
        why c
        plan
        ",
        expect![[r#"
            plan
              a is Lost
              b is Lost
            plan
              c is Held(Brake { missing: 3, of: 4 })
              waits: Brake { missing: 3, of: 4 }
            a Lost, takes no tasks: no heartbeat for 20s
            c NotReady, takes no tasks: no heartbeat for 6s; not declared lost: 3 of 4 nodes are silent
            plan
              waits: Brake { missing: 3, of: 4 }
            c NotReady, takes no tasks: no heartbeat for 16s; not declared lost: 3 of 4 nodes are silent
            plan
              d is Held(Brake { missing: 4, of: 4 })
              waits: Brake { missing: 4, of: 4 }
            d NotReady, takes no tasks: no heartbeat for 6s; not declared lost: 4 of 4 nodes are silent
            plan
              c is Heard
              d is Heard
            c Ready, takes tasks: 
            plan
        "#]],
    );
}

#[test]
fn silence_counts_from_the_last_heartbeat() {
    check(
        "
        nodes a b
        task t a
        wait 30
        gone a
        wait 2
        plan
        why a
        why t
        wait 2
        plan
        why t
        ",
        expect![[r#"
            plan
              a is Lost
              t Lose
            a Lost, takes no tasks: no heartbeat for 6s
            t Lost: node silent for 6s
            plan
            t Lost: node silent for 8s
        "#]],
    );
    check(
        "
        nodes a b c d e
        task t a
        wait 30
        gone a b c
        plan
        wait 60
        plan
        back b
        plan
        why a
        why t
        ",
        expect![[r#"
            plan
              a is Held(Brake { missing: 3, of: 5 })
              b is Held(Brake { missing: 3, of: 5 })
              c is Held(Brake { missing: 3, of: 5 })
              waits: Brake { missing: 3, of: 5 }
            plan
              waits: Brake { missing: 3, of: 5 }
            plan
              a is Lost
              b is Heard
              c is Lost
              t LoseNode { silent_since: 1970-01-01T00:00:44Z, waits: false }
            a Lost, takes no tasks: no heartbeat for 66s
            t Lost: node silent for 66s
        "#]],
    );
}

#[test]
fn a_task_that_waits_for_its_node_says_how_to_end_that() {
    check(
        "
        nodes a b
        task t a wait
        wait 30
        gone a
        plan
        wait 60
        plan
        why t
        evict t
        why t
        plan
        why t
        plan
        ",
        expect![[r#"
            plan
              a is Lost
              t LoseNode { silent_since: 1970-01-01T00:00:44Z, waits: true }
            plan
            t Lost: node silent for 66s; the task waits for a to come back; to stop waiting: hctl evict t or hctl delete node a
            t Lost: node silent for 66s; to be stopped: evicted; the task waits for a to come back; to stop waiting: hctl delete node a
            plan
              t Replaceable
            t Lost: node silent for 66s; to be stopped: evicted
            plan
        "#]],
    );
}
