//! Jobs that wait for a failure.

use expect_test::expect;

use super::check;

/// A clean-up runs, and the run has failed all the same.
#[test]
fn a_job_that_waits_for_a_failure_runs_although_the_run_fails() {
    check(
        "
        workflow d x clean<d:Failed,Cancelled notify<clean after<d late<x<clean
        plan
        job d Failed exit 3
        plan
        job clean Running
        plan
        job x Cancelled
        job clean Succeeded
        plan
        job notify Succeeded
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: d Pending, x Pending, clean Pending (waits for job d), notify Pending (waits for job clean), after Pending (waits for job d), late Pending (waits for jobs x, clean) + create w-1-d + create w-1-x
            plan
              change w-1-x [Cancel(true), CancelReason("job d failed: exit 3")]
              create w-1-clean
              Running (job d failed: exit 3) 0/1: d Failed (exit 3), x Pending, clean Pending, notify Pending (waits for job clean), after Skipped (job d failed), late Pending (waits for jobs x, clean)
            plan
              later: Running (job d failed: exit 3) 0/2: d Failed (exit 3), x Pending, clean Running, notify Pending (waits for job clean), after Skipped (job d failed), late Pending (waits for jobs x, clean)
            plan
              create w-1-notify
              Running (job d failed: exit 3) 1/3: d Failed (exit 3), x Cancelled, clean Succeeded, notify Pending, after Skipped (job d failed), late Skipped (job x was cancelled)
            plan
              Failed (job d failed: exit 3) 2/4: d Failed (exit 3), x Cancelled, clean Succeeded, notify Succeeded, after Skipped (job d failed), late Skipped (job x was cancelled)
              tells: Failed: job d failed: exit 3
        "#]],
    );
}

#[test]
fn a_clean_up_waits_for_what_is_being_stopped() {
    check(
        "
        workflow a b clean<b:Succeeded,Failed,Cancelled
        plan
        job a Failed
        job b Running
        plan
        job b Cancelled
        plan
        job clean Failed
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, b Pending, clean Pending (waits for job b) + create w-1-a + create w-1-b
            plan
              change w-1-b [Cancel(true), CancelReason("job a failed")]
              Running (job a failed) 0/2: a Failed, b Running, clean Pending (waits for job b)
            plan
              create w-1-clean
              Running (job a failed) 0/2: a Failed, b Cancelled, clean Pending
            plan
              Failed (job a failed; job clean failed) 0/3: a Failed, b Cancelled, clean Failed
              tells: Failed: job a failed; job clean failed
        "#]],
    );
}

#[test]
fn a_clean_up_ends_with_a_cancelled_run_and_with_its_time() {
    check(
        "
        workflow d clean<d:Failed timeout=\"10s\"
        plan
        job d Failed
        plan
        job clean Running
        wait 10
        plan
        job clean Cancelled
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: d Pending, clean Pending (waits for job d) + create w-1-d
              wakes at 10s
            plan
              create w-1-clean
              Running (job d failed) 0/1: d Failed, clean Pending
              wakes at 10s
            plan
              change w-1-clean [Cancel(true), CancelReason("job d failed")]
              later: Running (job d failed) 0/2: d Failed, clean Running
            plan
              Failed (job d failed) 0/2: d Failed, clean Cancelled
              tells: Failed: job d failed
        "#]],
    );
    check(
        "
        workflow d clean<d:Failed
        plan
        job d Failed
        plan
        job clean Running
        run cancel=true
        plan
        job clean Cancelled
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: d Pending, clean Pending (waits for job d) + create w-1-d
            plan
              create w-1-clean
              Running (job d failed) 0/1: d Failed, clean Pending
            plan
              change w-1-clean [Cancel(true), CancelReason("the run was cancelled")]
              Running (cancelled on request) 0/2: d Failed, clean Running
            plan
              Cancelled (cancelled on request) 0/2: d Failed, clean Cancelled
              tells: Cancelled: cancelled on request
        "#]],
    );
}

/// What depends on the failure is skipped by it, so what waits for just that runs. What could still
/// have run, but for the run's end, is cancelled.
#[test]
fn what_depends_on_a_failure_is_skipped_and_its_clean_up_runs() {
    check(
        "
        workflow a x b<a c<b other<x clean<c:Succeeded,Failed,Skipped
        plan
        job x Running
        job a Failed exit 3
        plan
        job x Cancelled
        job clean Succeeded
        plan
        ",
        expect![[r#"
            plan
              Running 0/0: a Pending, x Pending, b Pending (waits for job a), c Pending (waits for job b), other Pending (waits for job x), clean Pending (waits for job c) + create w-1-a + create w-1-x
            plan
              change w-1-x [Cancel(true), CancelReason("job a failed: exit 3")]
              create w-1-clean
              Running (job a failed: exit 3) 0/2: a Failed (exit 3), x Running, b Skipped (job a failed), c Skipped (job b was skipped), other Cancelled (the run ended before this job started), clean Pending
            plan
              Failed (job a failed: exit 3) 1/3: a Failed (exit 3), x Cancelled, b Skipped (job a failed), c Skipped (job b was skipped), other Cancelled (the run ended before this job started), clean Succeeded
              tells: Failed: job a failed: exit 3
        "#]],
    );
}
