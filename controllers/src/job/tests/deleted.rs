//! Tasks that a person deletes while their job goes on.

use expect_test::expect;

use super::check;

/// As in Kubernetes: who deletes a task does not take its work out of the job.
#[test]
fn a_deleted_task_is_run_again_by_a_new_one() {
    check(
        "
        spec count=2 retry={\"maxAttempts\":1}
        settle
        bind 0
        run 0
        delete 0
        delete 1
        plan
        plan
        end 0 cancelled
        plan
        plan
        settle
        status
        ",
        expect![[r#"
            plan
              Running run=1 p1 a1 s0 f0 c0 of 2
              remove j-1
              waits: 1 tasks have not ended
              tells: TaskDeleted: deleted by a user, running again: j-1
            plan
              create j-1 #1 run=1
              waits: 1 tasks have not ended
            plan
              remove j-0
              later: Running run=1 p2 a0 s0 f0 c0 of 2
              waits: 1 tasks have not ended
              tells: TaskDeleted: deleted by a user, running again: j-0
            plan
              create j-0 #0 run=1
              waits: 1 tasks have not ended
            Running run=1 p2 a0 s0 f0 c0 of 2
        "#]],
    );
}

/// What a deleted task did before it was stopped stands, as far as there is anything.
#[test]
fn a_deleted_task_that_ended_by_itself_is_recorded() {
    check(
        "
        spec count=3 retry={\"maxAttempts\":2} maxFailedTasks=1
        settle
        bind 0
        bind 1
        bind 2
        delete 0
        end 0 ok
        end 1 1
        delete 1
        plan
        settle
        wait 100
        settle
        status
        ",
        expect![[r#"
            plan
              Running run=1 p1 a1 s1 f0 c0 of 3
              record run=1 0=Succeeded + j-0/1 recorded
              remove j-1
              waits: 1 tasks have not ended
              tells: TaskDeleted: deleted by a user, running again: j-1
            Running run=1 p1 a1 s1 f0 c0 of 3
        "#]],
    );
}

/// Where nothing is started any more, a deleted task is recorded like all others, and then goes.
#[test]
fn a_task_deleted_while_its_job_ends_is_recorded_before_it_goes() {
    check(
        "
        spec count=1
        settle
        bind 0
        delete 0
        spec cancel=true
        plan
        end 0 cancelled
        plan
        plan
        ",
        expect![[r#"
            plan
              Running ending Cancelled run=1 p0 a1 s0 f0 c0 of 1 (cancelled on request)
              waits: 1 tasks have not ended
            plan
              record run=1 0=Cancelled + j-0/1 recorded + Cancelled ending Cancelled run=1 p0 a0 s0 f0 c1 of 1 (cancelled on request)
              tells: JobCancelled: cancelled on request; 0 of 1 tasks succeeded
            plan
              remove j-0
        "#]],
    );
}

/// Before this its name was never free, and the new run waited for it for ever.
#[test]
fn a_task_of_an_earlier_run_that_was_deleted_makes_room_for_the_new_run() {
    check(
        "
        settle
        bind 0
        run 0
        spec image=two
        settle
        delete 0
        end 0 cancelled
        plan
        plan
        status
        ",
        expect![[r#"
            plan
              remove j-0
              tells: TaskDeleted: deleted by a user, running again: j-0
            plan
              create template + create j-0 #0 run=2
            Pending run=2 p1 a0 s0 f0 c0 of 1
        "#]],
    );
}
