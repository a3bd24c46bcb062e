//! Partition sets that tasks go by: which of their nodes, and what while one is missing.

use expect_test::expect;

use super::check;

#[test]
fn a_target_holds_the_task_to_the_nodes_of_its_partition() {
    check(
        "
        node a
        node b
        node c
        set mydb mydb-0=a:LEADER,b:STANDBY mydb-1=b:LEADER,a:STANDBY mydb-2=c:OFFLINE
        template t target=mydb:LEADER
        task load-0 partition=mydb-0
        task load-1 partition=mydb-1
        task load-2 partition=mydb-2
        template s target=mydb
        task scan-2 of=s partition=mydb-2
        place
        set mydb mydb-0=a:LEADER,b:STANDBY mydb-1=b:LEADER,a:STANDBY mydb-2=c:LEADER
        place
        ",
        expect![[r#"
            load-0 -> a
            load-1 -> b
            scan-2: 0 of 3 nodes: 3 do not serve mydb-2
            load-2: 0 of 3 nodes: 3 do not hold LEADER of mydb-2
            --
            scan-2 -> c
            load-2 -> c
        "#]],
    );
}

#[test]
fn what_is_missing_is_named_and_waited_for() {
    check(
        "
        node a
        task web-0
        place
        template t
        task web-1 of=u partition=mydb-0
        template u target=mydb:LEADER
        place
        set mydb mydb-0=a:LEADER
        place
        ",
        expect![[r#"
            web-0: task template t not found
            --
            web-0 -> a
            web-1: PartitionSet mydb does not exist
            --
            web-1 -> a
        "#]],
    );
}

/// A message that no node holds a replica would make people look at the nodes. A set that is only
/// preferred is not waited for.
#[test]
fn a_set_that_a_task_has_to_be_near_is_named_while_it_is_missing() {
    check(
        "
        node a
        node b
        template t near=data:LEADER
        template u nearby=data
        task web-0
        task web-1 of=u
        place
        set data p=b:STANDBY
        place
        set data p=b:LEADER
        place
        ",
        expect![[r#"
            web-1 -> a
            web-0: PartitionSet data does not exist
            --
            web-0: 0 of 2 nodes: 2 do not hold LEADER of data
            --
            web-0 -> b
        "#]],
    );
}
