//! Worlds whose containers are probed, and drained before they are stopped.

use api::template::ProbeKind;
use serde_json::{Value, json};

use super::*;
use crate::engine::MAIN;
use crate::health::Finding;

/// A world whose tasks have these fields in their template.
fn probed(fields: Value) -> World {
    let mut world = world();
    let mut template = serde_json::to_value(&world.template.template).unwrap();
    template.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    world.template.template = serde_json::from_value(template).unwrap();
    world.template.attempt_timeout = None;
    world
}

/// The same, of a service.
fn service(fields: Value) -> World {
    let mut world = probed(fields);
    world.template.restart = Some(Default::default());
    world
}

fn exec(failures: u32) -> Value {
    json!({ "exec": { "command": ["x"] }, "periodSeconds": 1, "failureThreshold": failures })
}

impl World {
    /// A result of a probe of the first task.
    fn finds(&mut self, kind: ProbeKind, passes: bool) {
        let attempt = self.ledger.current(&id(0)).unwrap().clone();
        let finding = if passes { Finding::Passed } else { Finding::Failed("no".to_owned()) };
        match after_probe(&attempt, kind, finding) {
            After::Known(attempt) => self.ledger.put(*attempt),
            After::Nothing => (),
            After::Ended(ending) => panic!("{ending:?}"),
        }
    }

    /// What its task shows, once all is heard.
    fn shows(&mut self) -> String {
        self.hear();
        let task = &self.tasks[&id(0)];
        let ready = if task.is_ready() { "ready" } else { "not ready" };
        format!("{} {ready}: {}", task.phase(), task.why(self.wall()))
    }

    fn runs_first(&mut self) {
        self.bind(0);
        self.write_down();
        self.runs(0);
    }
}

#[test]
fn a_task_is_ready_when_its_probe_has_succeeded() {
    let mut world = probed(json!({ "readinessProbe": exec(2) }));
    world.runs_first();
    world.check(expect![[r#"
        t-0: running [20000], reports Running not ready: its readiness probe has not succeeded yet
        probe t-0 readiness
        wake at 1000
    "#]]);
    world.check(expect![[r#"
        wake at 1000
    "#]]);
    world.finds(ProbeKind::Readiness, true);
    world.check(expect![[r#"
        t-0: running [20000], reports Running
        wake at 1000
    "#]]);
    assert_eq!(world.shows(), "Running ready: ");
    for now in [1_000, 2_000] {
        world.now = now;
        world.write_down();
        world.finds(ProbeKind::Readiness, false);
    }
    world.check(expect![[r#"
        t-0: running [20000], reports Running not ready: readiness probe fails: no
        wake at 3000
    "#]]);
    assert_eq!(world.shows(), "Running not ready: readiness probe fails: no");
}

/// Trap A3: a failing check counted as passed once its agent had been restarted.
#[test]
fn another_process_takes_nothing_for_ready_that_was_not() {
    let mut world = service(json!({ "readinessProbe": exec(3), "startupProbe": exec(30) }));
    world.runs_first();
    for now in [0, 1_000, 2_000] {
        world.now = now;
        world.write_down();
        world.finds(ProbeKind::Startup, false);
        world.hear();
        world.restart();
        world.write_down();
        assert!(world.shows().starts_with("Running not ready: "), "{}", world.shows());
    }
    world.finds(ProbeKind::Startup, true);
    world.write_down();
    world.restart();
    world.check(expect![[r#"
        t-0: running [20000]
        probe t-0 readiness
        wake at 3000
    "#]]);
    world.finds(ProbeKind::Readiness, true);
    world.write_down();
    assert_eq!(world.shows(), "Running ready: ");
    // What was ready stays ready until its probe has failed as often as it has to.
    world.restart();
    world.write_down();
    assert_eq!(world.shows(), "Running ready: ");
    // A journal that is lost knows of no success, whether the template has been read or not.
    world.ledger = Ledger::default();
    world.is_template_read = false;
    world.write_down();
    assert_eq!(world.shows(), "Running not ready: ");
    world.is_template_read = true;
    world.write_down();
    assert_eq!(world.shows(), "Running not ready: ");
    for kind in [ProbeKind::Startup, ProbeKind::Readiness] {
        world.finds(kind, true);
        world.write_down();
    }
    assert_eq!(world.shows(), "Running ready: ");
}

#[test]
fn a_service_is_stopped_with_its_grace_and_started_again_when_it_is_unhealthy() {
    let mut world = service(json!({ "livenessProbe": exec(2) }));
    world.runs_first();
    world.write_down();
    world.finds(ProbeKind::Liveness, false);
    world.now = 1_000;
    world.write_down();
    assert_eq!(world.shows(), "Running ready: ");
    world.finds(ProbeKind::Liveness, false);
    world.check(expect![[r#"
        t-0: stopping [20000], reports Running not ready: liveness probe failed 2 times: no
        SIGTERM t-0
        wake at 6000
    "#]]);
    assert_eq!(world.shows(), "Running not ready: liveness probe failed 2 times: no");
    world.now = 6_000;
    world.check(expect![[r#"
        t-0: stopping [20000]
        kill t-0
        wake at 11000
    "#]]);
    world.exits(0, 137, Some(9));
    world.check(expect![[r#"
        t-0: forget
        t-0/1: waits 1000 [20000], reports Starting BackOff
        remove t-0
        wake at 7000
    "#]]);
    world.containers.clear();
    let why = "BackOff: Unhealthy (exit 137): liveness probe failed 2 times: no, again in 1s";
    assert_eq!(world.shows(), format!("Starting not ready: {why}"));
    world.now = 7_000;
    world.write_down();
    let next = id(0).of_container(MAIN, 1).unwrap();
    world.containers.insert(next, ContainerState::Running { since: world.wall() });
    world.check(expect![[r#"
        t-0/1: running [20000], reports Running
        probe t-0/1 liveness
        wake at 8000
    "#]]);
    let why = "restarted 0s ago: Unhealthy (exit 137): liveness probe failed 2 times: no";
    assert_eq!(world.shows(), format!("Running ready: {why}"));
}

#[test]
fn a_task_of_a_job_has_failed_when_it_is_unhealthy() {
    for (field, kind) in
        [("livenessProbe", ProbeKind::Liveness), ("startupProbe", ProbeKind::Startup)]
    {
        let mut world = probed(json!({ field: exec(1) }));
        world.runs_first();
        world.write_down();
        world.finds(kind, false);
        world.write_down();
        world.exits(0, 0, None);
        world.check(expect![[r#"
            t-0: ended [20000], reports Failed 0 Unhealthy
        "#]]);
        let expected =
            format!("Failed not ready: Unhealthy (exit 0): {} probe failed once: no", kind.word());
        assert_eq!(world.shows(), expected);
    }
}

#[test]
fn what_is_asked_to_stop_while_it_is_unhealthy_is_not_started_again() {
    let mut world = service(json!({ "livenessProbe": exec(1) }));
    world.runs_first();
    world.write_down();
    world.finds(ProbeKind::Liveness, false);
    world.write_down();
    world.change(0, &TaskChange::evict(StopReason::ScaleDown));
    world.exits(0, 143, Some(15));
    world.check(expect![[r#"
        t-0: ended [20000], reports Cancelled 143
    "#]]);
}

#[test]
fn a_result_that_comes_after_a_stop_says_nothing() {
    let mut world = service(json!({ "readinessProbe": exec(1) }));
    world.runs_first();
    world.write_down();
    world.change(0, &TaskChange::evict(StopReason::ScaleDown));
    world.check(expect![[r#"
        t-0: stopping [20000], reports Running not ready: its readiness probe has not succeeded yet
        SIGTERM t-0
        wake at 5000
    "#]]);
    world.finds(ProbeKind::Readiness, true);
    world.check(expect![[r#"
        wake at 5000
    "#]]);
    assert!(world.shows().starts_with("Stopping not ready"));
}

#[test]
fn a_task_is_out_of_ready_then_drained_then_asked_then_killed() {
    let mut world = service(json!({ "drainDelay": "10s" }));
    world.runs_first();
    world.write_down();
    assert_eq!(world.shows(), "Running ready: ");
    world.change(0, &TaskChange::evict(StopReason::Drain));
    world.check(expect![[r#"
        t-0: stopping [20000], reports Running not ready: its stop signal is sent after drainDelay (10s)
        wake at 10000
    "#]]);
    assert!(!world.tasks[&id(0)].status.ready || world.hear().len() == 1);
    assert!(!world.tasks[&id(0)].status.ready);
    world.now = 4_000;
    world.restart();
    world.check(expect![[r#"
        wake at 10000
    "#]]);
    world.now = 10_000;
    world.check(expect![[r#"
        SIGTERM t-0
    "#]]);
    world.check(expect![[r#"
        wake at 15000
    "#]]);
    world.now = 15_000;
    world.check(expect![[r#"
        t-0: stopping [20000]
        kill t-0
        wake at 20000
    "#]]);
}

#[test]
fn a_drain_is_cut_short_by_a_deletion_and_left_out_where_nothing_is_drained() {
    let drains = json!({ "drainDelay": "10s", "readinessProbe": exec(1) });
    let mut world = service(drains);
    world.runs_first();
    world.write_down();
    let mut never_ready = world.clone();
    never_ready.change(0, &TaskChange::evict(StopReason::ScaleDown));
    let plan = never_ready.write_down();
    assert_eq!(plan.actions.len(), 1, "it is asked to end at once");
    world.finds(ProbeKind::Readiness, true);
    world.write_down();
    world.change(0, &TaskChange::evict(StopReason::ScaleDown));
    world.write_down();
    world.now = 1_000;
    let mut ends = world.clone();
    ends.exits(0, 0, None);
    ends.check(expect![[r#"
        t-0: ended [20000], reports Cancelled 0
    "#]]);
    world.delete(0, Some(2));
    world.check(expect![[r#"
        wake at 2000
    "#]]);
    let mut unwanted = world.clone();
    unwanted.tasks.clear();
    unwanted.check(expect![[r#"
        SIGTERM t-0
        leftover 0
    "#]]);
    world.now = 2_000;
    world.check(expect![[r#"
        SIGTERM t-0
    "#]]);
}

/// An hour of a probe that fails in another way each second, and of one that changes.
#[test]
fn a_probe_that_never_rests_costs_few_reports() {
    let reports = |liveness: bool| {
        let kind = if liveness { ProbeKind::Liveness } else { ProbeKind::Readiness };
        let field = kind.field();
        let mut world = service(json!({ field: exec(if liveness { 2 } else { 1 }) }));
        world.runs_first();
        let mut reports = 0;
        for second in 0..3_600 {
            world.now = 1_000 * second;
            world.write_down();
            world.finds(kind, second % 2 == 0);
            world.write_down();
            reports += world.hear().len();
        }
        reports
    };
    assert!(reports(true) < 20, "{}", reports(true));
    assert!(reports(false) < 260, "{}", reports(false));
}

#[test]
fn a_container_that_a_person_has_started_again_begins_anew() {
    let mut world = service(json!({ "readinessProbe": exec(1) }));
    world.runs_first();
    world.write_down();
    world.finds(ProbeKind::Readiness, true);
    world.write_down();
    assert_eq!(world.shows(), "Running ready: ");
    world.now = 500;
    world.runs(0);
    world.write_down();
    assert!(world.shows().starts_with("Running not ready"));
}
