//! What the engine answers, and what a node does then.

use super::*;
use crate::engine::Reason;

#[test]
fn the_grace_begins_when_the_signal_was_delivered() {
    let mut world = world();
    world.has_running(0);
    world.hear();
    world.change(0, &TaskChange::evict(StopReason::Cancel));
    world.is_engine_away = true;
    world.check(expect![[r#"
        t-0: stopping [20000]
        SIGTERM t-0
        wake at 5000
    "#]]);
    // Engine or agent are back after longer than the grace period.
    world.now = 60_000;
    world.restart();
    world.is_engine_away = false;
    world.check(expect![[r#"
        SIGTERM t-0
    "#]]);
    world.check(expect![[r#"
        wake at 65000
    "#]]);
    world.restart();
    world.now = 64_999;
    world.check(expect![[r#"
        wake at 65000
    "#]]);
    world.now = 65_000;
    world.check(expect![[r#"
        t-0: stopping [20000]
        kill t-0
        wake at 70000
    "#]]);
}

#[test]
fn a_signal_that_the_engine_cannot_deliver_saves_nobody_from_kill() {
    for (error, tries) in [
        (EngineError::refused(Reason::Invalid, "no such signal"), 1),
        (EngineError::failed("no such signal"), 3),
    ] {
        let mut world = world();
        world.has_running(0);
        world.hear();
        world.change(0, &TaskChange::evict(StopReason::Cancel));
        world.write_down();
        for at in 0..tries {
            world.now = at;
            world.answer(0, &ActionKind::Signal, Err(&error));
        }
        world.now = 5_000;
        world.check(expect![[r#"
            t-0: stopping [20000], reports Running not ready: cannot send the stop signal: no such signal
            kill t-0
            wake at 10000
        "#]]);
    }
}

#[test]
fn what_is_in_the_way_of_a_start_is_said_and_given_up_some_time() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.now = 2_000;
    for _ in 0..20 {
        world.answer(0, &start(), Err(&EngineError::unavailable("connection refused")));
    }
    world.check(expect![[r#"
        t-0: starting [20000], reports Starting: cannot start the container, will try again: engine unavailable: connection refused
        start t-0
    "#]]);
    world.hear();
    let no_space = EngineError::failed("no space left on device");
    world.answer(0, &start(), Err(&no_space));
    world.check(expect![[r#"
        t-0: starting [20000], reports Starting: try 1 of 8 failed: no space left on device
        start t-0
    "#]]);
    for _ in 1..8 {
        world.answer(0, &start(), Err(&no_space));
    }
    let attempt = world.ledger.get(&id(0)).unwrap();
    assert_eq!(show_attempt(attempt), "ended [20000], reports Failed StartFailed");
    world.hear();
    let task = &world.tasks[&id(0)];
    assert_eq!(
        task.status.message.as_deref(),
        Some("given up after 8 tries: no space left on device")
    );
}

#[test]
fn what_was_not_begun_when_the_disk_filled_is_given_back() {
    let not_begun = [
        EngineError::NeedsImage,
        EngineError::failed("no space left on device"),
        EngineError::unavailable("no space left on device"),
    ];
    for error in not_begun {
        let mut world = world();
        world.bind(0);
        world.write_down();
        world.now = 2_000;
        world.answer(0, &start(), Err(&error));
        // The report that it is starting was acknowledged.
        world.write_down();
        world.hear();
        assert_eq!(world.tasks[&id(0)].phase(), api::task::TaskPhase::Starting);
        world.shortage = Some("no room");
        world.check(expect![[r#"
            t-0: refused [], refuses: no room
        "#]]);
        world.hear();
        let task = &world.tasks[&id(0)];
        assert_eq!((task.phase(), task.spec.attempt), (api::task::TaskPhase::Pending, 1));
        assert!(task.why(at(0)).contains("no room"), "{}", task.why(at(0)));
    }
}

#[test]
fn what_may_have_begun_when_the_disk_filled_is_not_given_back() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.answer(0, &start(), Err(&EngineError::unavailable("connection refused")));
    world.answer(0, &start(), Err(&EngineError::unknown("the answer was lost")));
    world.shortage = Some("no room");
    world.check(expect![[r#"
        start t-0
        wake at 1000
    "#]]);
    // That nothing was done this time says nothing about a start whose answer was lost, or one that
    // an earlier agent requested.
    let nothing_done = [
        EngineError::NeedsImage,
        EngineError::failed("no space left on device"),
        EngineError::unavailable("connection refused"),
    ];
    for error in nothing_done {
        for is_restarted in [false, true] {
            let mut world = world.clone();
            if is_restarted {
                world.restart();
            }
            world.answer(0, &start(), Err(&error));
            world.write_down();
            let attempt = world.ledger.get(&id(0)).unwrap();
            assert!(matches!(attempt.progress, Progress::Starting { .. }), "{error}: {attempt:?}");
        }
    }
    let mut stopped = world.clone();
    stopped.answer(0, &start(), Err(&EngineError::unavailable("connection refused")));
    stopped.change(0, &TaskChange::evict(StopReason::Cancel));
    stopped.check(expect![[r#"
        t-0: ended [20000], reports Cancelled
    "#]]);
    world.containers.insert(id(0), ContainerState::Created);
    world.answer(0, &start(), Err(&EngineError::unavailable("connection refused")));
    world.check(expect![[r#"
        start t-0
        wake at 1000
    "#]]);
}

#[test]
fn a_task_that_waits_for_its_image_ends_when_it_is_asked_to() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.answer(0, &start(), Err(&EngineError::NeedsImage));
    world.now = 2_000;
    world.check(expect![[r#"
        t-0: starting [20000], reports Starting: pulling image busybox
    "#]]);
    world.hear();
    world.check(expect![""]);
    let mut fetched = world.clone();
    fetched.pulled(0, Ok(()));
    fetched.check(expect![[r#"
        t-0: starting [20000], reports Starting
        start t-0
    "#]]);
    let mut failed = world.clone();
    let refused = EngineError::refused(Reason::ImagePull, "image busybox: no such image");
    failed.pulled(0, Err(&refused));
    failed.check(expect![""]);
    assert_eq!(
        show_attempt(failed.ledger.get(&id(0)).unwrap()),
        "ended [20000], reports Failed ImagePull"
    );
    world.change(0, &TaskChange::evict(StopReason::Cancel));
    world.check(expect![[r#"
        t-0: ended [20000], reports Cancelled
    "#]]);
}

#[test]
fn an_image_that_is_not_there_although_it_was_fetched_is_not_fetched_for_ever() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    for _ in 0..8 {
        assert!(world.ledger.get(&id(0)).unwrap().holds());
        world.answer(0, &start(), Err(&EngineError::NeedsImage));
        world.pulled(0, Ok(()));
        world.answer(0, &start(), Err(&EngineError::NeedsImage));
    }
    let attempt = world.ledger.get(&id(0)).unwrap();
    assert_eq!(show_attempt(attempt), "ended [20000], reports Failed StartFailed");
}

#[test]
fn what_is_in_the_way_of_a_stop_is_said() {
    let mut world = world();
    world.has_running(0);
    world.hear();
    world.change(0, &TaskChange::evict(StopReason::Cancel));
    world.write_down();
    let away = EngineError::unavailable("connection refused");
    world.answer(0, &ActionKind::Signal, Err(&away));
    world.is_engine_away = true;
    world.check(expect![[r#"
        t-0: stopping [20000], reports Running not ready: cannot send the stop signal: engine unavailable: connection refused
        SIGTERM t-0
    "#]]);
    world.hear();
    assert_eq!(
        world.tasks[&id(0)].why(at(0)),
        "stopping for 0s: cancelled: cannot send the stop signal: engine unavailable: connection refused"
    );
    world.is_engine_away = false;
    world.answer(0, &ActionKind::Signal, Ok(()));
    world.check(expect![[r#"
        t-0: stopping [20000], reports Running not ready
        wake at 5000
    "#]]);
}
