//! Who has which host port, and nodes whose agents gave a task back.

use expect_test::expect;

use super::check;

/// Before, it waited for any node, and the end of a task could not have helped.
#[test]
fn a_task_whose_first_node_came_full_waits_for_room_there() {
    check(
        "
        template t cpu=500m
        template big cpu=2
        task web-0
        place
        node a cpu=2
        task big-0 of=big on=a state=Running
        place
        task big-0 of=big on=a state=Succeeded
        place
        ",
        expect![[r#"
            web-0: no node has joined: start one with heliox agent --server URL
            --
            web-0: 0 of 1 node: 1 has cpu < 500m
            --
            web-0 -> a
        "#]],
    );
}

#[test]
fn host_ports_are_given_away_once() {
    check(
        "
        node a range=20000-20002
        node b
        template t ports=http:80
        template u ports=x,y
        template v ports=z:20001
        task t-0 of=t job=t
        task t-1 of=t job=t
        task t-2 of=t job=t
        task u-0 of=u job=u
        task u-1 of=u job=u
        task v-0 of=v job=v
        place
        gone task u-0
        place
        ",
        expect![[r#"
            t-0 -> a
            t-1 -> b
            u-0 -> a
            v-0 -> b
            t-2: 0 of 2 nodes: 2 have port 80 taken
            u-1: 0 of 2 nodes: 2 have host ports in range < 2
            --
            u-1 -> a
            t-2: 0 of 2 nodes: 2 have port 80 taken
        "#]],
    );
}

#[test]
fn host_ports_conflict_only_where_protocol_and_address_overlap() {
    check(
        "
        node a
        template t ports=dns:53
        template u ports=dns:53/UDP
        template v ports=dns:53/UDP@127.0.0.1
        template w ports=x:80@127.0.0.1
        template x ports=x:80@127.0.0.2
        template y ports=x:80@0.0.0.0
        task t-0 of=t created=1
        task u-0 of=u created=2
        task v-0 of=v created=3
        task w-0 of=w created=4
        task x-0 of=x created=5
        task y-0 of=y created=6
        place
        ",
        expect![[r#"
            t-0 -> a
            u-0 -> a
            w-0 -> a
            x-0 -> a
            v-0: 0 of 1 node: 1 has port 127.0.0.1:53/UDP taken
            y-0: 0 of 1 node: 1 has port 80 taken
        "#]],
    );
}

#[test]
fn ports_of_what_a_returning_agent_has_to_stop_are_taken() {
    check(
        "
        node a range=20000-20001 leftover=1 leftport=80,20000
        template t ports=http:80
        template u ports=x,y
        task t-0 of=t
        task u-0 of=u
        place
        node a range=20000-20001
        place
        ",
        expect![[r#"
            t-0: 0 of 1 node: 1 has port 80 taken
            u-0: 0 of 1 node: 1 has host ports in range < 2
            --
            t-0 -> a
            u-0 -> a
        "#]],
    );
}

#[test]
fn a_node_that_gave_a_task_back_is_not_offered_it_again_at_once() {
    check(
        "
        node a
        node b
        template t
        task t-0 created=1 refused=a@99
        task t-1 created=2 refused=a@99,b@99
        task t-2 created=3
        place now=99
        place now=100
        ",
        expect![[r#"
            t-0 -> b
            t-2 -> a
            wake at 100
            --
            t-1 -> a
        "#]],
    );
}

#[test]
fn a_task_that_was_given_back_is_looked_at_again_before_its_wait_is_over() {
    check(
        "
        node a
        template t
        task t-0 refused=a@150
        place now=100
        node b
        place now=104
        place now=105
        ",
        expect![[r#"
            wake at 105
            --
            wake at 105
            --
            t-0 -> b
        "#]],
    );
}

#[test]
fn a_port_that_the_agent_gave_is_taken() {
    check(
        "
        node a range=20000-20009
        template u ports=x
        template v ports=z:20001
        task u-0 of=u on=a state=Running port=x:20001
        task v-0 of=v
        place
        task u-0 of=u on=a state=Succeeded port=x:20001
        place
        ",
        expect![[r#"
            v-0: 0 of 1 node: 1 has port 20001 taken
            --
            v-0 -> a
        "#]],
    );
}
