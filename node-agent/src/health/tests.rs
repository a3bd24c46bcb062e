//! Results of probes as lines, and what is decided by them.

use api::template::Probe;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

fn check_of(probe: &Probe) -> Check {
    Check {
        action: ProbeAction::Exec(vec!["x".to_owned()]),
        initial_delay: probe.initial_delay(),
        period: probe.period(),
        timeout: probe.timeout(),
        successes: probe.success_threshold(),
        failures: probe.failure_threshold(),
    }
}

/// One container on a clock of its own.
#[derive(Clone)]
struct World {
    health: Health,
    probing: Probing,
    checks: Checks,
    now: i64,
    due: Vec<ProbeKind>,
    wake: Option<Timestamp>,
}

/// A container with these probes, as a template has them.
fn world(probes: &Value) -> World {
    let mut template = probes.clone();
    template["image"] = json!("x");
    let template: Template = serde_json::from_value(template).unwrap();
    let checks: Checks = template.probes().map(|(kind, probe)| (kind, check_of(probe))).collect();
    let probing = Probing { checks: Some(Arc::new(checks.clone())), ..Probing::default() };
    let health = Health::of(&template);
    World { health, probing, checks, now: 0, due: Vec::new(), wake: None }
}

impl World {
    fn probed(&self) -> &Probed {
        match &self.health {
            Health::Probed(probed) => probed,
            Health::Unprobed | Health::Unread => panic!("it has probes"),
        }
    }

    fn judge(&mut self) {
        let judged = judge((self.probed(), &self.probing), &self.checks, at(0), at(self.now));
        // On the state that follows, nothing follows.
        let again = judge((&judged.probed, &judged.probing), &self.checks, at(0), at(self.now));
        assert_eq!((&again.probed, &again.probing), (&judged.probed, &judged.probing));
        assert_eq!(again.due, []);
        self.health = Health::Probed(judged.probed);
        (self.probing, self.due, self.wake) = (judged.probing, judged.due, judged.wake);
    }

    fn hear(&mut self, kind: ProbeKind, passes: bool) {
        let finding = if passes { Finding::Passed } else { Finding::Failed("no".to_owned()) };
        self.probing.hear(kind, finding);
    }

    /// Goes on to the next time at which something is due.
    fn wait(&mut self) {
        let wake = self.wake.expect("something is due");
        self.now = self.now.max(wake.as_millisecond() - at(0).as_millisecond());
    }

    fn line(&self) -> String {
        let words = self.probing.words(self.probed());
        let probed = self.probed();
        let is = match (probed.failed.is_some(), probed.is_ready, probed.is_started) {
            (true, _, _) => "failed",
            (false, true, _) => "ready",
            (false, false, true) => "started",
            (false, false, false) => "begun",
        };
        let due: Vec<&str> = self.due.iter().map(|kind| kind.word()).collect();
        let due = if due.is_empty() { "-".to_owned() } else { due.join("+") };
        let seconds = self.now / 1_000;
        format!("{seconds}s {is}, {due}, {}\n", words.as_deref().unwrap_or("all is well"))
    }
}

/// `s+ s- r+ l-`: results of the probes that are due, one time after another.
fn check(probes: Value, results: &str, expected: Expect) {
    let mut world = world(&probes);
    world.judge();
    let mut lines = world.line();
    for result in results.split_whitespace() {
        for one in result.split(',') {
            let (kind, passes) = one.split_at(1);
            let kind = match kind {
                "s" => ProbeKind::Startup,
                "r" => ProbeKind::Readiness,
                _ => ProbeKind::Liveness,
            };
            world.hear(kind, passes == "+");
        }
        world.judge();
        if world.due.is_empty() && world.wake.is_some() {
            world.wait();
            world.judge();
        }
        lines.push_str(&world.line());
    }
    expected.assert_eq(&lines);
}

fn exec(rest: Value) -> Value {
    let mut probe = json!({ "exec": { "command": ["x"] }, "periodSeconds": 1 });
    probe.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    probe
}

#[test]
fn a_startup_probe_gates_the_others() {
    let probes = json!({
        "startupProbe": exec(json!({ "failureThreshold": 3 })),
        "readinessProbe": exec(json!({})),
        "livenessProbe": exec(json!({ "periodSeconds": 2 })),
    });
    check(
        probes.clone(),
        "s- s- s+ r+,l+",
        expect![[r#"
            0s begun, startup, its startup probe has not succeeded yet
            1s begun, startup, startup probe 1 of 3: no
            2s begun, startup, startup probe 2 of 3: no
            2s started, readiness+liveness, its readiness probe has not succeeded yet
            3s ready, readiness, all is well
        "#]],
    );
    check(
        probes,
        "s- s- s-",
        expect![[r#"
            0s begun, startup, its startup probe has not succeeded yet
            1s begun, startup, startup probe 1 of 3: no
            2s begun, startup, startup probe 2 of 3: no
            2s failed, -, startup probe failed 3 times: no
        "#]],
    );
}

#[test]
fn so_many_in_a_row_have_to_succeed_or_to_fail() {
    let readiness = exec(json!({ "successThreshold": 2, "failureThreshold": 2 }));
    check(
        json!({ "readinessProbe": readiness }),
        "r+ r- r+ r+ r- r+ r- r- r+ r+",
        expect![[r#"
            0s started, readiness, its readiness probe has not succeeded yet
            1s started, readiness, its readiness probe has not succeeded yet
            2s started, readiness, readiness probe fails: no
            3s started, readiness, its readiness probe has not succeeded yet
            4s ready, readiness, all is well
            5s ready, readiness, all is well
            6s ready, readiness, all is well
            7s ready, readiness, all is well
            8s started, readiness, readiness probe fails: no
            9s started, readiness, its readiness probe has not succeeded yet
            10s ready, readiness, all is well
        "#]],
    );
    check(
        json!({ "livenessProbe": exec(json!({ "failureThreshold": 2 })) }),
        "l- l+ l- l-",
        expect![[r#"
            0s ready, liveness, all is well
            1s ready, liveness, liveness probe 1 of 2: no
            2s ready, liveness, all is well
            3s ready, liveness, liveness probe 1 of 2: no
            3s failed, -, liveness probe failed 2 times: no
        "#]],
    );
}

#[test]
fn the_first_one_waits_and_the_others_follow_in_their_period() {
    let late = exec(json!({ "initialDelaySeconds": 5, "periodSeconds": 3 }));
    check(
        json!({ "readinessProbe": late }),
        "r+ r+ r+",
        expect![[r#"
            0s started, -, its readiness probe has not succeeded yet
            5s ready, readiness, all is well
            8s ready, readiness, all is well
            11s ready, readiness, all is well
        "#]],
    );
}

/// An engine that is away says nothing about the container.
#[test]
fn what_could_not_be_made_counts_as_nothing() {
    let mut world = world(&json!({ "livenessProbe": exec(json!({ "failureThreshold": 1 })) }));
    world.judge();
    world.probing.hear(ProbeKind::Liveness, Finding::Unknown("the engine is away".to_owned()));
    world.judge();
    assert_eq!(world.line(), "0s ready, -, liveness probe 0 of 1: the engine is away\n");
}

/// Ten minutes of a probe that succeeds and fails in turn, each second.
#[test]
fn readiness_that_keeps_changing_changes_ever_less_often() {
    let mut world = world(&json!({ "readinessProbe": exec(json!({ "failureThreshold": 1 })) }));
    let (mut changes, mut was_ready, mut passes) = (Vec::new(), false, false);
    world.judge();
    while world.now < 600_000 {
        if !world.due.is_empty() {
            passes = !passes;
            world.hear(ProbeKind::Readiness, passes);
        }
        for waits in [false, true] {
            if waits {
                world.wait();
            }
            world.judge();
            if world.health.is_ready() != was_ready {
                was_ready = !was_ready;
                changes.push(world.now / 1_000);
            }
        }
    }
    expect!["[0, 1, 2, 3, 4, 5, 7, 7]"].assert_eq(&format!("{:?}", &changes[..8]));
    assert!(changes.len() < 60, "{} changes", changes.len());
    // After a minute without a change there is no pause any more.
    world.hear(ProbeKind::Readiness, true);
    world.now += 60_000;
    world.judge();
    assert!(world.health.is_ready());
    world.now += 60_000;
    world.hear(ProbeKind::Readiness, false);
    world.judge();
    assert!(!world.health.is_ready());
    world.hear(ProbeKind::Readiness, true);
    world.judge();
    assert!(world.health.is_ready());
}

#[test]
fn the_next_container_begins_anew() {
    let template = |probes: Value| serde_json::from_value::<Template>(probes).unwrap();
    let plain = Health::of(&template(json!({ "image": "x" })));
    assert_eq!((plain.is_ready(), plain.anew()), (true, Health::Unprobed));
    let probe = json!({ "exec": { "command": ["x"] } });
    let lively = Health::of(&template(json!({ "image": "x", "livenessProbe": probe })));
    assert!(lively.is_ready() && !lively.anew().is_ready());
    for gate in ["startupProbe", "readinessProbe"] {
        let mut probes = json!({ "image": "x", "livenessProbe": probe });
        probes[gate] = probe.clone();
        assert!(!Health::of(&template(probes)).is_ready(), "{gate}");
    }
}

fn probe() -> impl Strategy<Value = Value> {
    (0..4_u32, 1..4_u32, 1..4_u32).prop_map(|(delay, period, failures)| {
        exec(json!({
            "initialDelaySeconds": delay, "periodSeconds": period, "failureThreshold": failures,
        }))
    })
}

/// What happens: time passes, or the probes that are due have results.
fn happening() -> impl Strategy<Value = (i64, [bool; 3])> {
    (0..3_000_i64, any::<[bool; 3]>())
}

proptest! {
    #[test]
    fn nothing_is_ready_before_its_probes_have_succeeded_nor_stopped_before_they_have_failed(
        probes in proptest::option::weighted(0.7, probe())
            .prop_flat_map(|startup| (Just(startup), proptest::option::of(probe()), proptest::option::of(probe()))),
        happenings in proptest::collection::vec(happening(), 0..60),
        restart in 0..60_usize,
    ) {
        let mut template = json!({});
        for (field, probe) in
            [("startupProbe", probes.0), ("readinessProbe", probes.1), ("livenessProbe", probes.2)]
        {
            if let Some(probe) = probe {
                template[field] = probe;
            }
        }
        prop_assume!(template != json!({}));
        let mut world = world(&template);
        let mut rows: BTreeMap<ProbeKind, (u32, u32)> = BTreeMap::new();
        for (index, (wait, passes)) in happenings.into_iter().enumerate() {
            if index == restart {
                // Another process of the agent knows what was decided, and no counts.
                let written = serde_json::to_string(&world.health).unwrap();
                let was_ready = world.health.is_ready();
                world.health = serde_json::from_str(&written).unwrap();
                world.probing = Probing { checks: world.probing.checks.clone(), ..Probing::default() };
                prop_assert_eq!(world.health.is_ready(), was_ready);
                rows.values_mut().for_each(|row| row.1 = 0);
            }
            world.now += wait;
            world.judge();
            for (kind, passes) in ProbeKind::ALL.into_iter().zip(passes) {
                if world.due.contains(&kind) {
                    let row = rows.entry(kind).or_default();
                    *row = if passes { (row.0 + 1, 0) } else { (0, row.1 + 1) };
                    world.hear(kind, passes);
                }
            }
            world.judge();
            let passed = |kind| rows.get(&kind).is_some_and(|row: &(u32, u32)| row.0 > 0);
            let has = |kind| world.checks.contains_key(&kind);
            let failed = |kind| {
                let limit = world.checks.get(&kind).map(|it: &Check| it.failures);
                rows.get(&kind).is_some_and(|row| Some(row.1) >= limit)
            };
            let probed = world.probed();
            if probed.is_ready {
                let ok = !has(ProbeKind::Readiness) || !failed(ProbeKind::Readiness);
                prop_assert!(probed.is_started && ok, "it is ready");
            }
            if !probed.is_started {
                prop_assert!(!passed(ProbeKind::Startup) && has(ProbeKind::Startup));
                prop_assert!(!rows.contains_key(&ProbeKind::Readiness), "it is gated");
                prop_assert!(!rows.contains_key(&ProbeKind::Liveness), "it is gated");
            }
            let has_failed = failed(ProbeKind::Liveness)
                || (!probed.is_started && failed(ProbeKind::Startup));
            prop_assert_eq!(probed.failed.is_some(), has_failed);
            if has_failed {
                break;
            }
        }
    }
}
