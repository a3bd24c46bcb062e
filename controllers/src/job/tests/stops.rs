//! What a stopped task says of why it was stopped.

use expect_test::expect;

use super::check;

#[test]
fn of_a_job_that_timed_out() {
    check(
        r#"
        spec count=2 timeout="10s"
        settle
        bind 0
        settle
        wait 10
        settle
        why 0
        why 1
        end 0 cancelled
        settle
        why 0
        "#,
        expect![[r#"
            0 Stopping: stopping for 0s: job timed out after 10s
            1 Cancelled: stopped: job timed out after 10s
            0 Cancelled: stopped: job timed out after 10s
        "#]],
    );
}

#[test]
fn of_a_job_of_which_another_task_failed() {
    check(
        r#"
        spec tasks=[{"name":"low"},{"name":"high"}] retry={"maxAttempts":1}
        settle
        bind low
        bind high
        end low 3
        settle
        why low
        why high
        "#,
        expect![[r#"
            low Failed: exit 3
            high Stopping: stopping for 0s: task j-low failed
        "#]],
    );
    check(
        r#"
        spec count=4 maxFailedTasks=1 retry={"maxAttempts":1}
        settle
        bind 0
        bind 1
        bind 2
        end 1 3
        settle
        end 2 4
        settle
        why 0
        why 3
        "#,
        expect![[r#"
            0 Stopping: stopping for 0s: 2 tasks failed
            3 Cancelled: stopped: 2 tasks failed
        "#]],
    );
    check(
        r#"
        spec count=2 retry={"rules":[{"exitCodes":[42],"action":"FailJob"}]}
        settle
        bind 0
        bind 1
        end 0 42
        settle
        why 1
        "#,
        expect![[r#"
            1 Stopping: stopping for 0s: task j-0 failed the job: exit 42
        "#]],
    );
}

#[test]
fn of_a_job_that_was_cancelled() {
    check(
        r#"
        spec count=1
        settle
        bind 0
        spec cancel=true
        settle
        why 0
        "#,
        expect![[r#"
            0 Stopping: stopping for 0s: cancelled
        "#]],
    );
    check(
        r#"
        spec count=1
        settle
        bind 0
        spec cancel=true cancelReason="job_load_failed"
        settle
        why 0
        "#,
        expect![[r#"
            0 Stopping: stopping for 0s: job_load_failed
        "#]],
    );
}

#[test]
fn of_a_job_that_was_scaled_down() {
    check(
        r#"
        spec count=4
        settle
        bind 1
        bind 2
        settle
        spec count=1
        plan
        why 1
        why 3
        settle
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              j-1/1 evict ScaleDown (job j was scaled down to 1 task)
              j-2/1 evict ScaleDown (job j was scaled down to 1 task)
              j-3/1 evict ScaleDown (job j was scaled down to 1 task)
              j-0/1 amend count=1
              waits: 4 tasks have not ended
              tells: ScaledDown: scaled down from 4 to 1 task; 2 running tasks are stopped
            1 Stopping: stopping for 0s: job j was scaled down to 1 task
            3 Cancelled: stopped: job j was scaled down to 1 task
        "#]],
    );
    check(
        r#"
        spec tasks=[{"name":"low"},{"name":"high"}]
        settle
        bind high
        settle
        spec tasks=[{"name":"low"}]
        plan
        why high
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              j-high/1 evict ScaleDown (job j no longer has this task)
              j-low/1 amend count=1
              waits: 2 tasks have not ended
              tells: ScaledDown: scaled down from 2 to 1 task; 1 running task is stopped
            high Stopping: stopping for 0s: job j no longer has this task
        "#]],
    );
}

#[test]
fn of_a_run_that_was_replaced() {
    check(
        "
        spec count=2
        settle
        bind 0
        bind 1
        settle
        spec image=two count=1
        settle
        why 0
        why 1
        end 0 cancelled
        settle
        why 0
        ",
        expect![[r#"
            0 Stopping: stopping for 0s: replaced by run 2
            1 Stopping: stopping for 0s: replaced by run 2
            0 Pending: 
        "#]],
    );
}

#[test]
fn of_a_job_that_is_held_back() {
    check(
        "
        spec count=3
        settle
        spec parallelism=1
        settle
        why 2
        spec suspend=true
        settle
        why 0
        ",
        expect![[r#"
            2 Cancelled: stopped: parallelism is 1
            0 Cancelled: stopped: its job is suspended
        "#]],
    );
}
