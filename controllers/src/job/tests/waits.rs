//! What a job's status says its tasks wait for, and why attempts were tried again.

use std::fmt::Write as _;

use expect_test::expect;

use super::check;

#[test]
fn the_reasons_of_waiting_tasks_are_counted_and_the_rarer_ones_together() {
    let mut script = "spec count=12 parallelism=10\nsettle\nnowhere 0 no gpu\nbind 1\n".to_owned();
    for task in 3..6 {
        writeln!(script, "nowhere {task} too small").unwrap();
    }
    for task in 6..10 {
        writeln!(script, "nowhere {task} other {task}").unwrap();
    }
    script.push_str("settle\nstatus\nspec suspend=true\nsettle\nstatus\n");
    check(
        &script,
        expect![[r#"
        Running run=1 p11 a1 s0 f0 c0 of 12 (no gpu); 3 Unschedulable j-3: too small; 2 Parallelism: parallelism is 10; 1 Unschedulable j-0: no gpu; 1 Unschedulable j-6: other 6; 1 Unschedulable j-7: other 7; 2 Other: 
        Suspended run=1 p11 a1 s0 f0 c0 of 12
    "#]],
    );
}

#[test]
fn a_retry_says_when_and_a_status_keeps_why_attempts_were_tried_again() {
    check(
        "
        spec count=3 retry={\"maxAttempts\":3}
        settle
        bind 0
        bind 1
        end 0 3
        end 1 3
        settle
        status
        wait 100
        bind 0
        end 0 timeout
        settle
        status
        spec count=1
        settle
        status
        ",
        expect![[r#"
            Running run=1 p3 a0 s0 f0 c0 of 3 (retrying task j-0: attempt 1 on n1: exit 3); 2 Retrying j-0 until 10s: attempt 1 on n1: exit 3; retried: 2 exit 3
            Running run=1 p3 a0 s0 f0 c0 of 3 (retrying task j-0: attempt 2 on n1: Timeout); 1 Retrying j-1 until 10s: attempt 1 on n1: exit 3; 1 Retrying j-0 until 120s: attempt 2 on n1: Timeout; retried: 2 exit 3; retried: 1 Timeout
            Running run=1 p1 a0 s0 f0 c0 of 1 (retrying task j-0: attempt 2 on n1: Timeout); 1 Retrying j-0 until 120s: attempt 2 on n1: Timeout; retried: 2 exit 3; retried: 1 Timeout
        "#]],
    );
}
