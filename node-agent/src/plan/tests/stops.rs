//! How attempts are stopped: what is asked for, what is enforced, and what ended before.

use super::*;

/// A world with a task that runs, which its apiserver has heard.
fn running() -> World {
    let mut world = world();
    world.has_running(0);
    world.hear();
    world
}

#[test]
fn a_stop_is_asked_for_then_enforced() {
    let mut world = running();
    world.change(0, &TaskChange::evict(StopReason::Cancel));
    world.check(expect![[r#"
        t-0: stopping [20000]
        SIGTERM t-0
        wake at 5000
    "#]]);
    world.now = 5_000;
    world.check(expect![[r#"
        t-0: stopping [20000]
        kill t-0
        wake at 10000
    "#]]);
    world.check(expect![[r#"
        wake at 10000
    "#]]);
    world.exits(0, 137, Some(9));
    world.check(expect![[r#"
        t-0: ended [20000], reports Cancelled 137
    "#]]);
}

/// A deletion with a grace period is not waited for any longer, even if the stop has already begun
/// with a longer one.
#[test]
fn the_grace_of_a_deletion_is_that_which_was_asked_for() {
    let mut world = running();
    world.delete(0, Some(2));
    world.check(expect![[r#"
        t-0: stopping [20000]
        SIGTERM t-0
        wake at 2000
    "#]]);
    world.now = 1_000;
    world.delete(0, Some(1));
    world.check(expect![[r#"
        t-0: stopping [20000]
        kill t-0
        wake at 6000
    "#]]);
    let mut forced = running();
    forced.change(0, &TaskChange::evict(StopReason::Cancel));
    forced.check(expect![[r#"
        t-0: stopping [20000]
        SIGTERM t-0
        wake at 5000
    "#]]);
    forced.delete(0, Some(0));
    forced.check(expect![[r#"
        t-0: stopping [20000]
        kill t-0
        wake at 5000
    "#]]);
    let mut unhurried = running();
    unhurried.delete(0, None);
    unhurried.check(expect![[r#"
        t-0: stopping [20000]
        SIGTERM t-0
        wake at 5000
    "#]]);
    unhurried.delete(0, Some(25));
    unhurried.check(expect![[r#"
        wake at 5000
    "#]]);
    let mut patient = running();
    patient.delete(0, Some(25));
    patient.check(expect![[r#"
        t-0: stopping [20000]
        SIGTERM t-0
        wake at 25000
    "#]]);
    patient.check(expect![[r#"
        wake at 25000
    "#]]);
}

#[test]
fn what_its_owner_gave_up_while_the_node_was_lost_is_stopped() {
    let mut world = world();
    world.has_running(1);
    world.hear();
    for change in [TaskChange::Lose, TaskChange::Replaceable, TaskChange::Record] {
        world.change(1, &change);
    }
    world.check(expect![[r#"
        t-1: stopping [20000]
        SIGTERM t-1
        leftover 1
        wake at 5000
    "#]]);
}

#[test]
fn what_ended_before_it_was_asked_to_has_its_own_end() {
    let mut world = world();
    world.has_running(0);
    let before = world.now;
    world.now = 100;
    world.change(0, &TaskChange::evict(StopReason::Cancel));
    world.write_down();
    world.now = before;
    world.exits(0, 0, None);
    world.check(expect![[r#"
        t-0: ended [20000], reports Succeeded 0
    "#]]);
}

#[test]
fn a_task_whose_time_is_up_is_stopped() {
    let mut world = world();
    world.has_running(0);
    world.now = 60_000;
    world.write_down();
    world.exits(0, 143, Some(15));
    world.check(expect![[r#"
        t-0: ended [20000], reports TimedOut 143 Timeout
    "#]]);
}

const HOUR: i64 = 3_600_000;

/// A restarted agent uses the wall clock, which somebody may have set back. Times in the future in
/// its journal must not make anything wait for them.
#[test]
fn no_wait_is_longer_after_the_clock_was_set_back() {
    let mut stopped = running();
    stopped.now = 10_000;
    stopped.change(0, &TaskChange::evict(StopReason::Cancel));
    stopped.check(expect![[r#"
        t-0: stopping [20000]
        SIGTERM t-0
        wake at 15000
    "#]]);
    stopped.set_back = HOUR;
    stopped.restart();
    stopped.check(expect![[r#"
        wake at -3585000
    "#]]);
    stopped.now += 5_000;
    stopped.check(expect![[r#"
        t-0: stopping [20000]
        kill t-0
        wake at -3580000
    "#]]);
    let mut timed = running();
    timed.now = 10_000;
    timed.set_back = HOUR;
    timed.restart();
    timed.check(expect![[r#"
        wake at -3530000
    "#]]);
}

/// A task that ends after it was stopped is cancelled, even if the clock was set back in between.
#[test]
fn a_task_that_was_stopped_is_cancelled_although_the_clock_was_set_back() {
    for is_restarted in [false, true] {
        let mut world = running();
        world.now = 100;
        world.change(0, &TaskChange::evict(StopReason::Cancel));
        world.write_down();
        world.now = 1_000;
        world.set_back = HOUR;
        if is_restarted {
            world.restart();
            world.now += 500;
        }
        world.exits(0, 143, Some(15));
        world.check(expect![[r#"
            t-0: ended [20000], reports Cancelled 143
        "#]]);
    }
    let mut little = running();
    little.now = 100;
    little.change(0, &TaskChange::evict(StopReason::Cancel));
    little.write_down();
    (little.now, little.set_back) = (120, 30);
    little.exits(0, 143, Some(15));
    little.check(expect![[r#"
        t-0: ended [20000], reports Cancelled 143
    "#]]);
}

/// The records of a container are damaged. It may be running, so it is neither stopped, nor treated
/// as gone, nor started.
#[test]
fn what_is_damaged_is_told_and_left_as_it_is() {
    let damaged = || ContainerState::Unreadable { why: "spec.json is damaged".to_owned() };
    let mut world = running();
    world.containers.insert(id(0), damaged());
    world.check(expect![[r#"
        t-0: running [20000], reports Running: spec.json is damaged
    "#]]);
    world.hear();
    world.now = 70_000;
    world.change(0, &TaskChange::evict(StopReason::Cancel));
    world.check(expect![[""]]);
    world.runs(0);
    world.check(expect![[r#"
        t-0: stopping [20000], reports Running
        SIGTERM t-0
        wake at 75000
    "#]]);
    world.containers.insert(id(0), damaged());
    world.now = 80_000;
    world.check(expect![[r#"
        t-0: stopping [20000], reports Running not ready: spec.json is damaged
    "#]]);
    world.exits(0, 0, None);
    world.check(expect![[r#"
        t-0: ended [20000], reports Cancelled 0
    "#]]);
    let mut unwanted = running();
    unwanted.tasks.clear();
    unwanted.containers.insert(id(0), damaged());
    unwanted.check(expect![[r#"
        leftover 0
    "#]]);
    let mut fresh = super::world();
    fresh.bind(0);
    fresh.containers.insert(id(0), damaged());
    fresh.check(expect![[""]]);
    fresh.runs(0);
    fresh.check(expect![[r#"
        t-0: running [], reports Running
        wake at 60000
    "#]]);
}
