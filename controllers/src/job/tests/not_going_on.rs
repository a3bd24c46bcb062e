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
            Running run=1 p3 a2 s0 f0 c0 of 5 (1 task is lost: n1 is silent; the task waits for n1 to come back; to stop waiting: hctl evict j-0 or hctl delete node n1)
            Running run=1 p3 a2 s0 f0 c0 of 5 (2 tasks are lost: n1 is silent; the tasks wait for n1 to come back; to stop waiting: hctl evict TASK or hctl delete node n1)
            Running run=1 p3 a2 s0 f0 c0 of 5
            Running run=1 p3 a2 s0 f0 c0 of 5 (1 task is lost: n1 is silent)
            Running run=1 p4 a1 s0 f0 c0 of 5; 1 Retrying j-1: attempt 1: node n1 was lost
        "#]],
    );
}

/// Its set comes after it, so the apiserver could not refuse it.
#[test]
fn a_state_that_no_partition_can_be_in_is_named() {
    check(
        r#"
        spec target={"partitionSet":"mydb","states":["MASTER"]}
        plan
        set {"partitions":1,"stateModel":"LeaderStandby"}
        plan
        plan
        set {"partitions":1,"stateModel":"MasterSlave"}
        plan
        "#,
        expect![[r#"
            plan
              Pending run=0 p0 a0 s0 f0 c0 of 0 (PartitionSet mydb does not exist)
              waits: PartitionSet mydb does not exist
            plan
              Pending run=0 p0 a0 s0 f0 c0 of 0 (no partition of mydb can be in state MASTER)
              waits: no partition of mydb can be in state MASTER
            plan
              waits: no partition of mydb can be in state MASTER
            plan
              Pending run=1 p1 a0 s0 f0 c0 of 1 + create template + create j-0 #0 run=1 {"partition":"mydb-0"}
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
              later: Running run=1 p2 a1 s0 f0 c0 of 3 (0 of 1 node: 1 without gpu); 1 Unschedulable j-2: 0 of 1 node: 1 without gpu
              waits: 3 tasks have not ended
            Running run=1 p1 a2 s0 f0 c0 of 3
        "#]],
    );
}
