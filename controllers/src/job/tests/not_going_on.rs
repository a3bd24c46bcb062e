//! A job that does not go on, or not with all of its tasks, says why.

use expect_test::expect;

use super::check;

#[test]
fn lost_tasks_are_active_and_told_of() {
    check(
        "
        spec count=5
        settle
        bind 0
        run 0
        bind 1
        run 1
        settle
        lose-waiting 0
        settle
        status
        lose-waiting 1
        settle
        status
        recover 0
        recover 1
        settle
        status
        lose 1
        settle
        status
        replaceable 1
        settle
        status
        ",
        expect![[r#"
            Running run=1 p3 a2 s0 f0 c0 of 5 (1 task is lost: n1 is silent; it waits for it)
            Running run=1 p3 a2 s0 f0 c0 of 5 (2 tasks are lost: n1 is silent; they wait for it)
            Running run=1 p3 a2 s0 f0 c0 of 5
            Running run=1 p3 a2 s0 f0 c0 of 5 (1 task is lost: n1 is silent)
            Running run=1 p4 a1 s0 f0 c0 of 5
        "#]],
    );
}

#[test]
fn why_a_task_fits_nowhere_is_said_while_others_run() {
    check(
        "
        spec count=3
        settle
        bind 0
        run 0
        settle
        nowhere 2 0 of 1 node: 1 without gpu
        plan
        bind 2
        settle
        status
        ",
        expect![[r#"
            plan
              later: Running run=1 p2 a1 s0 f0 c0 of 3 (0 of 1 node: 1 without gpu)
              waits: 3 tasks have not ended
            Running run=1 p1 a2 s0 f0 c0 of 3
        "#]],
    );
}
