//! How tasks and jobs end.

use api::Job;
use api::job::{JobPhase, JobSpec};
use api::task::transition::TaskChange;
use api::task::{ReportState, StopReason};
use expect_test::expect;

use super::{check, report, template};
use crate::job::model::World;

#[test]
fn a_job_opens_with_its_template_and_first_tasks_in_one_write() {
    check(
        "
        spec count=3 parallelism=2
        plan
        plan
        ",
        expect![[r#"
            plan
              Pending run=1 p3 a0 s0 f0 c0 of 3; 1 Parallelism: parallelism is 2 + create template + create j-0 #0 run=1 + create j-1 #1 run=1
              waits: parallelism is 2
            plan
              waits: parallelism is 2
        "#]],
    );
}

#[test]
fn a_job_says_why_a_task_fits_nowhere_and_goes_on_saying_it_when_another_runs() {
    check(
        "
        spec count=2
        settle
        nowhere 0 0 of 3 nodes: 3 have cpu < 64
        plan
        status
        bind 1
        plan
        status
        ",
        expect![[r#"
            plan
              Pending run=1 p2 a0 s0 f0 c0 of 2 (0 of 3 nodes: 3 have cpu < 64); 1 Unschedulable j-0: 0 of 3 nodes: 3 have cpu < 64
              waits: 2 tasks have not ended
            Pending run=1 p2 a0 s0 f0 c0 of 2 (0 of 3 nodes: 3 have cpu < 64); 1 Unschedulable j-0: 0 of 3 nodes: 3 have cpu < 64
            plan
              Running run=1 p1 a1 s0 f0 c0 of 2 (0 of 3 nodes: 3 have cpu < 64); 1 Unschedulable j-0: 0 of 3 nodes: 3 have cpu < 64
              waits: 2 tasks have not ended
            Running run=1 p1 a1 s0 f0 c0 of 2 (0 of 3 nodes: 3 have cpu < 64); 1 Unschedulable j-0: 0 of 3 nodes: 3 have cpu < 64
        "#]],
    );
}

#[test]
fn the_last_end_and_the_jobs_end_are_one_write() {
    check(
        "
        spec count=2
        settle
        bind 0
        bind 1
        run 0
        plan
        end 0 ok
        end 1 ok
        plan
        plan
        wait 86400
        plan
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p0 a2 s0 f0 c0 of 2
              waits: 2 tasks have not ended
            plan
              record run=1 0=Succeeded 1=Succeeded + j-0/1 recorded + j-1/1 recorded + Succeeded run=1 p0 a0 s2 f0 c0 of 2
              tells: JobSucceeded: 2 of 2 tasks succeeded
            plan
              wakes at 86400s
            plan
              remove j-0 + remove j-1
            plan
        "#]],
    );
}

#[test]
fn a_failure_is_tried_again_after_a_wait_and_given_up_in_the_end() {
    check(
        r#"
        spec retry={"maxAttempts":2}
        settle
        bind 0
        end 0 3
        plan
        bind 0
        end 0 timeout
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              j-0/1 retry counted from 10s avoiding n1
              tells: TaskRetried: retrying: j-0 (exit 3 on n1)
            plan
              record run=1 0=Failed + j-0/2 recorded + Failed ending Failed run=1 p0 a0 s0 f1 c0 of 1; retried: 1 exit 3
              tells: JobFailed: Timeout x1; 0 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn a_task_that_somebody_evicts_goes_to_another_node() {
    check(
        "
        spec count=2
        settle
        bind 0
        bind 1
        evict 0 Evict
        evict 1 Suspend
        end 0 cancelled
        end 1 cancelled
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p2 a0 s0 f0 c0 of 2
              j-0/1 retry free avoiding n1
              j-1/1 retry free
              tells: TaskRetried: retrying: j-0 (evicted from n1)
        "#]],
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    check(
        r#"
        spec count=4 maxFailedTasks=4 retry={"maxAttempts":1,"rules":[{"exitCodes":[1],"action":"Ignore"},{"exitCodes":[1,2],"action":"FailTask"},{"reasons":["Timeout"],"action":"FailJob"}]}
        settle
        bind 0
        bind 1
        bind 2
        bind 3
        end 0 1
        end 1 2
        plan
        end 2 timeout
        plan
        plan
        end 3 cancelled
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a2 s0 f1 c0 of 4
              record run=1 1=Failed + j-1/1 recorded
              j-0/1 retry free from 10s avoiding n1
              waits: 2 tasks have not ended
              tells: TaskRetried: retrying: j-0 (exit 1 on n1)
            plan
              Running ending Failed run=1 p1 a1 s0 f2 c0 of 4 (task j-2 failed the job: Timeout)
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 2=Failed + j-2/1 recorded
              j-0/2 evict JobEnded (task j-2 failed the job: Timeout)
              j-3/1 evict JobEnded (task j-2 failed the job: Timeout)
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 0=Cancelled 3=Cancelled + j-0/2 recorded + j-3/1 recorded + Failed ending Failed run=1 p0 a0 s0 f2 c2 of 4 (task j-2 failed the job: Timeout)
              wakes at 86400s
              tells: JobFailed: task j-2 failed the job: Timeout; 0 of 4 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

/// The job counts as failed the same tasks that are listed as failed: a task whose last attempt
/// failed, and which the job's end keeps from being tried again, is one of them. One that has begun
/// to wait for its next attempt is cancelled, in its phase and in the counts.
#[test]
fn what_failed_and_is_not_tried_again_since_the_job_ends_counts_as_failed() {
    check(
        r#"
        spec count=4 retry={"maxAttempts":2,"rules":[{"exitCodes":[9],"action":"FailTask"}]}
        settle
        bind 0
        bind 1
        bind 2
        bind 3
        end 3 1
        plan
        end 0 9
        end 1 1
        end 2 timeout
        plan
        settle
        why 0
        why 1
        why 2
        why 3
        status
        "#,
        expect![[r#"
            plan
              Running run=1 p1 a3 s0 f0 c0 of 4
              j-3/1 retry counted from 10s avoiding n1
              waits: 3 tasks have not ended
              tells: TaskRetried: retrying: j-3 (exit 1 on n1)
            plan
              Running ending Failed run=1 p1 a0 s0 f3 c0 of 4; retried: 1 exit 1
              waits: 1 tasks have not ended
            0 Failed: exit 9
            1 Failed: exit 1
            2 TimedOut: timed out
            3 Cancelled: stopped: task j-0 failed
            Failed ending Failed run=1 p0 a0 s0 f3 c1 of 4; retried: 1 exit 1
        "#]],
    );
}

#[test]
fn a_lost_task_costs_no_retry_unless_the_job_says_so() {
    check(
        r#"
        spec retry={"maxAttempts":1}
        settle
        bind 0
        lose 0
        plan
        replaceable 0
        plan
        bind 0
        lose 0
        replaceable 0
        spec retry={"maxAttempts":1,"countDisruptions":true}
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p0 a1 s0 f0 c0 of 1 (1 task is lost: n1 is silent)
              waits: 1 tasks have not ended
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              j-0/1 retry free
              tells: TaskRetried: retrying: j-0 (node n1 was lost)
            plan
              record run=1 0=Failed + j-0/2 recorded + Failed ending Failed run=1 p0 a0 s0 f1 c0 of 1
              tells: JobFailed: NodeLost x1; 0 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn too_many_given_up_tasks_end_the_job_and_stop_the_rest() {
    check(
        r#"
        spec count=5 parallelism=3 maxFailedTasks=1 retry={"maxAttempts":1}
        settle
        bind 0
        bind 1
        bind 2
        end 0 1
        plan
        plan
        end 1 1
        plan
        plan
        end 2 cancelled
        plan
        plan
        "#,
        expect![[r#"
            plan
              Running run=1 p2 a2 s0 f1 c0 of 5; 1 Parallelism: parallelism is 3
              record run=1 0=Failed + j-0/1 recorded
              create j-3 #3 run=1
              waits: parallelism is 3
            plan
              waits: parallelism is 3
              wakes at 86400s
            plan
              Running ending Failed run=1 p1 a1 s0 f2 c1 of 5
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 1=Failed + j-1/1 recorded
              j-2/1 evict JobEnded (2 tasks failed)
              j-3/1 evict JobEnded (2 tasks failed)
              waits: 2 tasks have not ended
              wakes at 86400s
            plan
              record run=1 2=Cancelled 3=Cancelled + j-2/1 recorded + j-3/1 recorded + Failed ending Failed run=1 p0 a0 s0 f2 c3 of 5
              wakes at 86400s
              tells: JobFailed: exit 1 x2; 0 of 5 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn a_timeout_does_not_count_suspended_time() {
    check(
        r#"
        spec timeout="60s"
        settle
        bind 0
        settle
        wait 30
        spec suspend=true
        plan
        end 0 cancelled
        wait 100
        plan
        spec suspend=false
        plan
        bind 0
        wait 29
        plan
        wait 1
        plan
        plan
        "#,
        expect![[r#"
            plan
              Suspended run=1 p0 a1 s0 f0 c0 of 1
              j-0/1 evict Suspend
              waits: the job is suspended
            plan
              later: Suspended run=1 p1 a0 s0 f0 c0 of 1
              waits: the job is suspended
            plan
              Running run=1 p1 a0 s0 f0 c0 of 1
              j-0/1 retry free
              wakes at 160s
            plan
              later: Running run=1 p0 a1 s0 f0 c0 of 1
              waits: 1 tasks have not ended
              wakes at 160s
            plan
              Running ending TimedOut run=1 p0 a1 s0 f0 c0 of 1 (longer than timeout (1m))
              waits: 1 tasks have not ended
            plan
              j-0/2 evict JobEnded (job timed out after 1m)
              waits: 1 tasks have not ended
        "#]],
    );
}

#[test]
fn cancel_is_final_for_the_run() {
    check(
        "
        spec count=2 parallelism=1
        settle
        bind 0
        spec cancel=true
        plan
        plan
        lose 0
        replaceable 0
        plan
        spec cancel=false
        plan
        spec image=two
        plan
        ",
        expect![[r#"
            plan
              Running ending Cancelled run=1 p0 a1 s0 f0 c1 of 2 (cancelled on request)
              waits: 1 tasks have not ended
            plan
              j-0/1 evict Cancel
              waits: 1 tasks have not ended
            plan
              record run=1 0=Cancelled + j-0/1 recorded + Cancelled ending Cancelled run=1 p0 a0 s0 f0 c2 of 2 (cancelled on request)
              tells: JobCancelled: cancelled on request; 0 of 2 tasks succeeded
            plan
              Cancelled ending Cancelled run=1 p0 a0 s0 f0 c2 of 2 (cancelled on request)
              wakes at 86400s
            plan
              Pending run=2 p2 a0 s0 f0 c0 of 2; 1 Parallelism: parallelism is 1 + create template + create j-1 #1 run=2
              waits: parallelism is 1
        "#]],
    );
}

#[test]
fn a_new_run_does_not_inherit_the_cancel_of_the_one_before() {
    check(
        "
        spec cancel=true
        settle
        status
        spec image=two
        plan
        bind 0
        end 0 ok
        settle
        status
        spec cancel=true
        settle
        status
        ",
        expect![[r#"
            Cancelled ending Cancelled run=1 p0 a0 s0 f0 c1 of 1 (cancelled on request)
            plan
              Pending run=2 p1 a0 s0 f0 c0 of 1 + create template + create j-0 #0 run=2
            Succeeded run=2 p0 a0 s1 f0 c0 of 1
            Succeeded run=2 p0 a0 s1 f0 c0 of 1
        "#]],
    );
}

#[test]
fn a_cancel_that_was_not_seen_yet_is_not_of_the_run_that_comes_with_a_change() {
    check(
        "
        settle
        bind 0
        run 0
        spec cancel=true
        spec image=two
        plan
        plan
        ",
        expect![[r#"
            plan
              Pending run=2 p1 a0 s0 f0 c0 of 1
              tells: RunReplaced: run 2 replaces run 1
            plan
              j-0/1 evict Revision (replaced by run 2)
              waits: 1 tasks have not ended
        "#]],
    );
}

#[test]
fn an_ended_task_whose_job_ends_is_recorded_although_it_was_lost_while_being_drained() {
    check(
        r#"
        settle
        bind 0
        evict 0 Drain
        lose 0
        spec cancel=true
        settle
        status
        replaceable 0
        plan
        plan
        "#,
        expect![[r#"
            Running ending Cancelled run=1 p0 a1 s0 f0 c0 of 1 (cancelled on request)
            plan
              record run=1 0=Cancelled + j-0/1 recorded + Cancelled ending Cancelled run=1 p0 a0 s0 f0 c1 of 1 (cancelled on request)
              tells: JobCancelled: cancelled on request; 0 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn what_the_record_says_is_done_stays_done_whatever_a_task_says() {
    check(
        "
        settle
        bind 0
        done 0 Succeeded
        plan
        end 0 1
        plan
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p0 a0 s1 f0 c0 of 1
              j-0/1 evict Cancel (its end is recorded already)
              waits: 1 tasks have not ended
            plan
              record run=1 0=Succeeded + j-0/1 recorded + Succeeded run=1 p0 a0 s1 f0 c0 of 1
              tells: JobSucceeded: 1 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn a_task_of_an_earlier_run_is_not_taken_into_a_run_that_has_its_end() {
    check(
        "
        settle
        bind 0
        end 0 ok
        settle
        spec image=two
        plan
        done 0 Succeeded
        plan
        plan
        ",
        expect![[r#"
            plan
              Pending run=2 p1 a0 s0 f0 c0 of 1
            plan
              Succeeded run=2 p0 a0 s1 f0 c0 of 1
              wakes at 86400s
              tells: JobSucceeded: 1 of 1 tasks succeeded
            plan
              wakes at 86400s
        "#]],
    );
}

#[test]
fn another_attempt_takes_the_place_of_the_one_that_ended() {
    check(
        "
        spec count=3 parallelism=1
        settle
        bind 0
        end 0 1
        plan
        plan
        ",
        expect![[r#"
            plan
              Running run=1 p3 a0 s0 f0 c0 of 3; 2 Parallelism: parallelism is 1
              j-0/1 retry counted from 10s avoiding n1
              waits: parallelism is 1
              tells: TaskRetried: retrying: j-0 (exit 1 on n1)
            plan
              Running run=1 p3 a0 s0 f0 c0 of 3 (retrying task j-0: attempt 1 on n1: exit 1); 2 Parallelism: parallelism is 1; 1 Retrying j-0 until 10s: attempt 1 on n1: exit 1; retried: 1 exit 1
              waits: parallelism is 1
        "#]],
    );
}

#[test]
fn a_job_ends_only_when_all_its_ends_are_recorded() {
    let spec = JobSpec { count: Some(160), template: template("one"), ..JobSpec::default() };
    let mut world = World::new(Job::new("default", "j", spec));
    world.settle();
    let names: Vec<String> = world.tasks.keys().cloned().collect();
    for name in names {
        world.change(&name, &TaskChange::evict(StopReason::Cancel));
    }
    let plan = world.plan();
    world.act(&plan).unwrap();
    assert!(!world.job.status.phase.is_final(), "two groups, either of which may fail");
    let plan = world.plan();
    world.act(&plan).unwrap();
    assert_eq!(world.job.status.phase, JobPhase::Cancelled);
}

#[test]
fn many_successes_of_a_chunk_are_recorded_in_one_write() {
    let spec = JobSpec { count: Some(300), template: template("one"), ..JobSpec::default() };
    let mut world = World::new(Job::new("default", "j", spec));
    world.settle();
    let names: Vec<String> = world.tasks.keys().cloned().collect();
    for name in &names {
        world.change(name, &TaskChange::Bind { node: "n1".to_owned() });
        report(&mut world, name, ReportState::Succeeded, Some(0));
    }
    let plan = world.plan();
    assert_eq!(plan.groups.len(), 1, "the record, and the job's end with it");
    assert_eq!(plan.groups[0].ops(), 2);
    assert_eq!(
        plan.wake_at,
        Some(world.now),
        "to tell the tasks, since no event comes of a record"
    );
    world.act(&plan).unwrap();
    assert_eq!(world.job.status.phase, JobPhase::Succeeded);
    world.settle();
    let told = world.tasks.values().filter(|task| task.spec.recorded == Some(1)).count();
    assert_eq!(told, names.len(), "each task says that it is recorded");
}
