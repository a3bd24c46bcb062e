//! What becomes of named tasks whose template changes.

use expect_test::expect;

use super::check;

#[test]
fn of_a_run_that_has_succeeded_the_changed_task_alone_runs_again() {
    check(
        r#"
        spec tasks=[{"name":"eu","template":{"image":"eu"}},{"name":"us","template":{"image":"us"}}]
        settle
        bind eu
        bind us
        end eu ok
        end us ok
        settle
        status
        spec tasks=[{"name":"eu","template":{"image":"eu"}},{"name":"us","template":{"image":"asia"}}]
        plan
        plan
        plan
        bind us
        end us ok
        settle
        status
        plan
        "#,
        expect![[r#"
            Succeeded run=1 p0 a0 s2 f0 c0 of 2
            plan
              Running run=1 p1 a0 s1 f0 c0 of 2
              remove j-us
              wakes at 86400s
              tells: TaskChanged: task us runs again with its changed template
            plan
              create j-us #2 run=1 {"name":"us","template":{"image":"asia"}}
              wakes at 86400s
            plan
              waits: 1 tasks have not ended
              wakes at 86400s
            Succeeded run=1 p0 a0 s2 f0 c0 of 2
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn in_a_run_that_goes_on_the_old_one_is_stopped_first() {
    check(
        r#"
        spec tasks=[{"name":"eu","template":{"image":"eu"}},{"name":"us","template":{"image":"us"}}]
        settle
        bind eu
        bind us
        run us
        settle
        spec tasks=[{"name":"eu","template":{"image":"eu"}},{"name":"us","template":{"image":"asia"}}]
        plan
        why us
        end us cancelled
        plan
        plan
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a1 s0 f0 c0 of 2
              j-us/1 evict Revision (job j has a changed template for this task)
              waits: 2 tasks have not ended
              tells: TaskChanged: task us runs again with its changed template; 1 running task is stopped
            us Stopping: stopping for 0s: job j has a changed template for this task
            plan
              record run=1 1=Cancelled + j-us/1 recorded
              waits: 1 tasks have not ended
            plan
              remove j-us
              waits: 1 tasks have not ended
            plan
              create j-us #2 run=1 {"name":"us","template":{"image":"asia"}}
              waits: 1 tasks have not ended
            plan
              waits: 2 tasks have not ended
        "#]],
    );
}

#[test]
fn after_a_failure_it_opens_another_run() {
    check(
        r#"
        spec retry={"maxAttempts":1} tasks=[{"name":"eu"},{"name":"us","template":{"image":"us"}}]
        settle
        bind eu
        bind us
        end eu ok
        end us 3
        settle
        status
        spec tasks=[{"name":"eu"},{"name":"us","template":{"image":"asia"}}]
        plan
        plan
        "#,
        expect![[r#"
            Failed ending Failed run=1 p0 a0 s1 f1 c0 of 2
            plan
              Pending run=2 p2 a0 s0 f0 c0 of 2
            plan
              j-eu/1 rerun run=2 #0 + j-us/1 rerun run=2 #1
        "#]],
    );
}

#[test]
fn with_ignore_it_stays_and_runs_again_once_that_is_taken_back() {
    check(
        r#"
        spec onChange="Ignore" tasks=[{"name":"us","template":{"image":"us"}}]
        settle
        spec tasks=[{"name":"us","template":{"image":"asia"},"placement":{"nodes":["n1"]}}]
        plan
        plan
        bind us
        end us ok
        settle
        status
        spec onChange="Rerun"
        plan
        plan
        plan
        "#,
        expect![[r#"
            plan
              Pending run=1 p1 a0 s0 f0 c0 of 1
              j-us/1 amend count=1
              waits: 1 tasks have not ended
            plan
              waits: 1 tasks have not ended
            Succeeded run=1 p0 a0 s1 f0 c0 of 1
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              remove j-us
              tells: TaskChanged: task us runs again with its changed template
            plan
              create j-us #1 run=1 {"name":"us","template":{"image":"asia"},"placement":{"nodes":["n1"]}}
            plan
              waits: 1 tasks have not ended
        "#]],
    );
}

#[test]
fn a_failed_attempt_of_an_ignored_change_is_tried_again_as_it_was() {
    check(
        r#"
        spec onChange="Ignore" tasks=[{"name":"us","template":{"image":"us"}}]
        settle
        bind us
        spec tasks=[{"name":"us","template":{"image":"asia"}}]
        plan
        end us 3
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p0 a1 s0 f0 c0 of 1
              waits: 1 tasks have not ended
            plan
              j-us/1 retry counted from 10s avoiding n1
              later: Running run=1 p1 a0 s0 f0 c0 of 1
              tells: TaskRetried: retrying: j-us (exit 3 on n1)
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1 (retrying task j-us: attempt 1 on n1: exit 3); 1 Retrying j-us until 10s: attempt 1 on n1: exit 3; retried: 1 exit 3
              waits: 1 tasks have not ended
        "#]],
    );
}
