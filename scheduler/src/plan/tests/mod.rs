//! What is decided in given worlds.

mod room;
mod sets;
mod taints;

use expect_test::{Expect, expect};

use crate::world;

fn check(world: &str, expect: Expect) {
    expect.assert_eq(&world::run(world).1);
}

#[test]
fn without_nodes_it_is_said_how_to_get_one() {
    check(
        "template t cpu=500m\ntask web-0\nplace",
        expect![[r#"
        web-0: no node has joined: start one with heliox agent --server URL
    "#]],
    );
}

#[test]
fn tasks_of_a_job_are_spread_evenly_and_then_by_room() {
    check(
        "
        node a cpu=4
        node b cpu=2
        node c cpu=2
        template t cpu=500m
        task web-0
        task web-1
        task web-2
        task web-3
        place
        ",
        expect![[r#"
            web-0 -> a
            web-1 -> b
            web-2 -> c
            web-3 -> a
        "#]],
    );
}

/// Numbers of classes are reused.
#[test]
fn what_was_found_out_for_tasks_that_are_gone_serves_no_others() {
    check(
        "
        node a zone=a
        node b zone=b
        template t constraint=zone_in_(a)
        task web-0
        place
        gone task web-0
        gone template t
        template u constraint=zone_in_(b)
        task api-0 of=u
        place
        ",
        expect![[r#"
            web-0 -> a
            --
            api-0 -> b
        "#]],
    );
}

#[test]
fn a_task_without_room_says_what_is_short() {
    check(
        "
        node a cpu=400m
        node b cpu=2 cordoned
        node c cpu=100m
        template t cpu=500m
        task web-0
        place
        ",
        expect![[r#"
            web-0: 0 of 3 nodes: 2 have cpu < 500m, 1 cordoned
        "#]],
    );
}

#[test]
fn every_constraint_says_its_part() {
    check(
        "
        node a lost
        node b new
        node c broken
        node d disk=ssd zone=b
        node e disk=ssd zone=a
        node f disk=ssd zone=a spot=yes gen=3
        node g disk=ssd zone=a gen=3
        node h disk=hdd zone=a gen=3
        node i disk=ssd zone=a gen=3
        template t selector=disk:ssd constraint=zone_in_(a,c) constraint=gen_>=_3 constraint=!spot near=data nodes=a,b,c,d,e,f,g,h target=mydb:LEADER
        set data p=f:ONLINE,i:ONLINE
        set mydb mydb-0=g:STANDBY
        task web-0 partition=mydb-0
        place
        template u constraint=exists_gpu max=1 target=mydb:LEADER
        task web-1 of=u
        place
        ",
        expect![[r#"
            web-0: 0 of 9 nodes: 2 not ready, 1 lost, 1 not listed in placement.nodes, 1 not disk = ssd, 1 not gen >= 3, 1 spot, 1 not zone in (a, c), 1 does not serve data
            --
            web-1: 0 of 9 nodes: 6 without gpu, 2 not ready, 1 lost
        "#]],
    );
}

#[test]
fn data_and_wishes_beat_some_room() {
    check(
        "
        node a cpu=2 gen=4
        node b cpu=2 gen=3
        node c cpu=8 gen=3
        node d cpu=8 gen=3 images=app
        set data p=b:ONLINE
        template t cpu=1 nearby=data
        template u cpu=1 prefer=50:gen_>=_4
        template v cpu=1 image=app
        template w cpu=1
        task t-0 of=t job=t
        task t-1 of=t job=t
        task t-2 of=t job=t
        task u-0 of=u job=u
        task v-0 of=v job=v
        task w-0 of=w job=w
        place
        ",
        expect![[r#"
            t-0 -> b
            t-1 -> b
            t-2 -> c
            u-0 -> a
            v-0 -> d
            w-0 -> c
        "#]],
    );
}

/// How the tasks of a job of this size are spread over the nodes.
fn spread(nodes: &str, template: &str, tasks: u32) -> String {
    let tasks: String = (0..tasks).map(|n| format!("task web-{n:03} of=t created=1\n")).collect();
    let world = format!("{nodes}\ntemplate t {template}\n{tasks}place");
    let (_, text) = world::run(&world);
    let mut of_node = std::collections::BTreeMap::<&str, u32>::new();
    for node in text.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, node)| node) {
        *of_node.entry(node).or_default() += 1;
    }
    let each: Vec<String> = of_node.iter().map(|(node, tasks)| format!("{node}={tasks}")).collect();
    each.join(" ")
}

#[test]
fn a_wish_is_a_head_start_of_some_tasks() {
    let nodes = "node a images=app gen=4\nnode b\nnode c\nnode d";
    assert_eq!(spread(nodes, "image=app", 2), "a=2", "the image is worth two tasks");
    assert_eq!(spread(nodes, "image=app", 30), "a=9 b=7 c=7 d=7");
    assert_eq!(spread(nodes, "prefer=100:gen_>=_4", 10), "a=10");
    assert_eq!(spread(nodes, "prefer=100:gen_>=_4", 50), "a=20 b=10 c=10 d=10");
    assert_eq!(spread(nodes, "prefer=1:gen_>=_4", 41), "a=11 b=10 c=10 d=10");
    let wishes = "prefer=100:gen_>=_4 prefer=100:gen_>=_3 prefer=100:gen_>=_2";
    assert_eq!(spread(nodes, wishes, 60), "a=30 b=10 c=10 d=10", "twenty tasks at most");
    let near = format!("set data p=a:ONLINE\n{nodes}");
    assert_eq!(spread(&near, "near=data:ONLINE", 3), "a=3", "what is required wins always");
    assert_eq!(spread(&near, "nearby=data", 50), "a=20 b=10 c=10 d=10");
    let all = "node a images=app\nnode b images=app\nnode c images=app";
    assert_eq!(spread(all, "image=app", 7), spread(all, "", 7), "what holds everywhere is nothing");
}

#[test]
fn a_wish_is_weighed_with_room() {
    let nodes = "node a cpu=10 images=app gen=4\nnode b cpu=10";
    // As many jobs with one task each, so that only the room distinguishes nodes.
    let jobs = |template: &str, count: u32| {
        let tasks: String =
            (0..count).map(|n| format!("task web-{n:03} of=t job=j{n:03} created=1\n")).collect();
        let (_, text) = world::run(&format!("{nodes}\ntemplate t {template}\n{tasks}place"));
        text.lines().filter(|line| line.ends_with(" -> a")).count()
    };
    assert_eq!(jobs("image=app", 100), 54, "eight tasks of others");
    assert_eq!(jobs("image=app cpu=100m", 100), 55, "a tenth of the node");
    assert_eq!(jobs("prefer=100:gen_>=_4 cpu=100m", 100), 75, "half of the node");
}

#[test]
fn tasks_go_where_the_job_before_left_its_output() {
    check(
        "
        node a
        node b
        template s
        template t1 run=r1 nearjob=split
        template t2 run=r2 nearjob=split
        template t3 run=r3 nearjob=split
        task split-0 of=s job=r1-split on=b state=Succeeded
        task split-1 of=s job=r2-split on=a state=Succeeded
        task load-0 of=t1 job=r1-load
        task load-1 of=t2 job=r2-load
        task load-2 of=t3 job=r3-load
        place
        task split-2 of=s job=r3-split on=a state=Succeeded
        place
        ",
        expect![[r#"
            load-0 -> b
            load-1 -> a
            load-2: 0 of 2 nodes: 2 have no succeeded task of split
            --
            load-2 -> a
        "#]],
    );
}

#[test]
fn a_node_where_it_failed_is_the_last_choice_but_a_choice() {
    check(
        "
        node a cpu=8
        node b cpu=1
        template t cpu=1
        task web-0 avoid=a
        task web-1 avoid=a,b
        task web-2 avoid=c,a
        place
        ",
        expect![[r#"
            web-0 -> b
            web-1 -> a
            web-2 -> a
        "#]],
    );
    check(
        "
        node a cpu=8
        node b cpu=1
        template t cpu=1
        task web-0 avoid=b,a
        place
        ",
        expect![[r#"
            web-0 -> b
        "#]],
    );
}

/// Both jobs have the same requirements and share an index. (With so few nodes, a job with tasks on
/// three of them gets an index of its own.)
#[test]
fn jobs_of_one_shape_spread_each_for_itself() {
    check(
        "
        node a cpu=8
        node b cpu=6
        node c cpu=4
        node d cpu=2
        template t cpu=100m
        task x-0 job=x created=1
        task y-0 job=y created=2
        task x-1 job=x created=3
        task x-2 job=x created=4
        task y-1 job=y created=5
        task x-3 job=x created=6
        task y-2 job=y created=7
        task x-4 job=x created=8
        task y-3 job=y created=9
        place
        ",
        expect![[r#"
            x-0 -> a
            y-0 -> b
            x-1 -> c
            x-2 -> b
            y-1 -> a
            x-3 -> d
            y-2 -> c
            x-4 -> a
            y-3 -> d
        "#]],
    );
}

#[test]
fn a_job_stays_below_its_most_per_node() {
    check(
        "
        node a
        node b
        template t max=1
        task web-0 job=web
        task web-1 job=web
        task web-2 job=web
        task api-0 job=api
        place
        task web-1 job=web on=b state=Failed
        place
        ",
        expect![[r#"
            api-0 -> a
            web-0 -> b
            web-1 -> a
            web-2: 0 of 2 nodes: 2 at maxPerNode 1
            --
            web-2 -> a
        "#]],
    );
}

#[test]
fn what_a_returning_agent_has_to_stop_is_taken() {
    check(
        "
        node a cpu=1 leftover=600m
        template t cpu=500m
        task web-0
        place
        node a cpu=1
        place
        ",
        expect![[r#"
            web-0: 0 of 1 node: 1 has cpu < 500m
            --
            web-0 -> a
        "#]],
    );
}

#[test]
fn a_lost_task_takes_its_place_until_it_may_be_replaced() {
    check(
        "
        node a cpu=1
        template t cpu=1
        task old-0 on=a state=Running lost=yes
        task web-0
        place
        task old-0 on=a state=Running stop
        place
        task old-0 on=a state=Running lost=replaceable
        place
        ",
        expect![[r#"
            web-0: 0 of 1 node: 1 has cpu < 1
            --
            nothing
            --
            web-0 -> a
        "#]],
    );
}

#[test]
fn higher_priority_goes_first_then_the_older() {
    check(
        "
        node a cpu=1
        template t cpu=1
        task old created=10
        task new created=20
        task first created=30 priority=1
        task never created=1 priority=-1
        place
        gone task first
        place
        gone task old
        place
        ",
        expect![[r#"
            first -> a
            old new never: 0 of 1 node: 1 has cpu < 1
            --
            old -> a
            new never: 0 of 1 node: 1 has cpu < 1
            --
            new -> a
            never: 0 of 1 node: 1 has cpu < 1
        "#]],
    );
}

#[test]
fn a_class_that_cannot_be_placed_holds_up_no_other() {
    check(
        "
        node a cpu=1
        template big cpu=4
        template small cpu=100m
        task big-0 of=big priority=9
        task big-1 of=big priority=9
        task small-0 of=small
        place
        place
        task big-2 of=big
        place
        node b cpu=8
        place
        ",
        expect![[r#"
            small-0 -> a
            big-0 big-1: 0 of 1 node: 1 has cpu < 4
            --
            nothing
            --
            big-0 big-1 big-2: 0 of 1 node: 1 has cpu < 4
            --
            big-0 -> b
            big-1 -> b
            big-2: 0 of 2 nodes: 2 have cpu < 4
        "#]],
    );
}

#[test]
fn a_task_waits_for_its_time() {
    check(
        "
        node a
        template t
        task web-0 after=200
        task web-1 after=150
        place now=100
        place now=150
        place now=500
        ",
        expect![[r#"
            wake at 150
            --
            web-1 -> a
            wake at 200
            --
            web-0 -> a
        "#]],
    );
}

#[test]
fn a_promise_lasts_until_the_cache_shows_what_became_of_it() {
    check(
        "
        node a cpu=1
        template t cpu=1
        task web-0
        task web-1
        place
        task web-0 priority=1
        place
        task web-0 on=a
        task web-0 on=-
        place
        ",
        expect![[r#"
            web-0 -> a
            web-1: 0 of 1 node: 1 has cpu < 1
            --
            nothing
            --
            web-0 -> a
            web-1: 0 of 1 node: 1 has cpu < 1
        "#]],
    );
}

#[test]
fn a_refused_binding_puts_its_task_back() {
    check(
        "
        node a cpu=1
        template t cpu=1
        task web-0
        place
        refuse web-0
        place
        ",
        expect![[r#"
            web-0 -> a
            --
            web-0 -> a
        "#]],
    );
}

#[test]
fn a_tasks_own_part_is_laid_over_the_template() {
    check(
        "
        node a cpu=1
        node b cpu=4
        template t cpu=500m
        task web-0 over=cpu:3
        task web-1 over=cpu:6
        place
        ",
        expect![[r#"
            web-0 -> b
            web-1: 0 of 2 nodes: 2 have cpu < 6
        "#]],
    );
}

#[test]
fn a_call_decides_no_more_than_it_may() {
    check(
        "
        node a
        node b
        template t
        task web-0
        task web-1
        task web-2
        place max=2
        place max=2
        ",
        expect![[r#"
            web-0 -> a
            web-1 -> b
            more
            --
            web-2 -> a
        "#]],
    );
}
