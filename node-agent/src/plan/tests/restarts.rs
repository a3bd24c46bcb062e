//! Worlds whose tasks are restarted in place, and what holds in all of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::MAIN;

/// A world whose tasks are restarted in place by this rule.
fn stays_up(rule: &Value) -> World {
    let mut world = world();
    world.template.restart = Some(serde_json::from_value(rule.clone()).unwrap());
    world
}

/// One of the containers of a task.
fn nth(index: u32, restart: u32) -> Identity {
    id(index).of_container(MAIN, restart).unwrap()
}

/// What is known of its first task; nothing once its end was acknowledged.
fn known(world: &World) -> Option<&Attempt> {
    world.ledger.current(&id(0))
}

fn current(world: &World) -> &Attempt {
    known(world).expect("it is known")
}

impl World {
    /// What was planned is done: containers start and are removed.
    fn act(&mut self) -> Plan {
        let plan = self.write_down();
        let since = self.wall();
        for action in &plan.actions {
            match action {
                Action::Start(spec) => {
                    let running = ContainerState::Running { since };
                    self.containers.entry(spec.identity.clone()).or_insert(running);
                }
                Action::Remove(identity) => drop(self.containers.remove(identity)),
                Action::Kill(identity) => self.dies(identity.clone(), 137),
                Action::Signal(identity, _) => self.answer_signal(identity),
            }
        }
        plan
    }

    /// Acts until nothing is left to do now.
    fn settle(&mut self) {
        for _ in 0..10 {
            if self.act() == Plan::default() || self.plan().actions.is_empty() {
                self.write_down();
                self.hear();
                return;
            }
        }
        panic!("there is always something to do: {:?}", self.plan());
    }

    fn dies(&mut self, identity: Identity, code: i32) {
        let since = match self.containers.get(&identity) {
            Some(ContainerState::Running { since }) => *since,
            _ => self.wall(),
        };
        let exited = ContainerState::Exited {
            started: Some(since),
            at: self.wall(),
            code,
            signal: None,
            oom_killed: false,
            is_unseen: false,
            message: None,
        };
        self.containers.insert(identity, exited);
    }

    /// The current container runs for this long and ends.
    fn runs_for(&mut self, millis: i64, code: i32) {
        self.settle();
        self.now += millis;
        let identity = current(self).identity.clone();
        assert!(self.containers.contains_key(&identity), "{identity} does not run");
        self.dies(identity, code);
        self.settle();
    }

    /// The pause that its task is in, if it is in one.
    fn pause(&self) -> Option<(u64, String)> {
        let Progress::BackOff { wait_millis, reason, .. } = &known(self)?.progress else {
            return None;
        };
        Some((*wait_millis, reason.clone()))
    }

    /// Waits until the pause of its task is over.
    fn wait_over(&mut self) {
        let (wait, _) = self.pause().expect("it is in a pause");
        self.now += i64::try_from(wait).unwrap();
        self.settle();
    }

    fn task(&self) -> &Task {
        &self.tasks[&id(0)]
    }
}

#[test]
fn a_container_that_has_ended_is_started_again_after_a_pause() {
    let mut world = stays_up(&json!({}));
    world.has_running(0);
    world.hear();
    world.now += 500;
    world.dies(id(0), 0);
    world.check(expect![[r#"
        t-0: forget
        t-0/1: waits 1000 [20000], reports Starting BackOff
        remove t-0
        wake at 1500
    "#]]);
    let report = world.ledger.to_say().next().unwrap().1.clone();
    let Content::Report(report) = report.says else { panic!("it is a report") };
    assert_eq!((report.restarts, report.ready), (1, false));
    let last = report.last_exit.unwrap();
    assert_eq!((last.exit_code, last.reason, last.at), (Some(0), None, at(500)));
    assert_eq!(report.restart_at, Some(at(1_500)));
    world.containers.clear();
    world.hear();
    world.check(expect![[r#"
        wake at 1500
    "#]]);
    world.now = 1_500;
    world.check(expect![[r#"
        t-0/1: starting [20000]
        start t-0/1
        wake at 2500
    "#]]);
    world.containers.insert(nth(0, 1), ContainerState::Running { since: at(1_600) });
    world.check(expect![[r#"
        t-0/1: running [20000], reports Running
    "#]]);
    world.hear();
    world.check(expect![""]);
    assert_eq!(world.task().phase().to_string(), "Running");
    assert_eq!(world.task().status.restarts, 1);
}

#[test]
fn a_pause_grows_until_a_run_is_long_enough() {
    let mut world = stays_up(&json!({ "backoff": { "initial": "1s", "max": "10s" } }));
    world.bind(0);
    let mut pauses = Vec::new();
    for run in [50, 50, 9_999, 50, 50, 10_000, 9_000, 50] {
        world.runs_for(run, 1);
        pauses.push(world.pause().unwrap().0);
        world.wait_over();
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 10_000, 1_000, 2_000, 4_000]);
}

/// Runs count, pauses do not: with the default delays ten ends take longer than a minute.
#[test]
fn a_container_that_flaps_waits_for_the_longest_delay() {
    let flapping = json!({ "runs": 3, "within": "6s" });
    let mut world = stays_up(&json!({ "flapping": flapping, "rescheduleAfter": "24h" }));
    world.bind(0);
    let mut pauses = Vec::new();
    for run in [1_000, 2_000, 3_000, 2_000, 500, 10_000] {
        world.runs_for(run, 1);
        pauses.push(world.pause().unwrap());
        world.wait_over();
    }
    let pauses: Vec<_> = pauses.iter().map(|(wait, why)| format!("{why} {wait}")).collect();
    let expected = [
        "BackOff 1000",
        "BackOff 2000",
        "BackOff 4000",
        "BackOff 8000",
        "Flapping 300000",
        "BackOff 32000",
    ];
    assert_eq!(pauses, expected);
    assert_eq!(current(&world).in_place.as_ref().unwrap().runs_millis, [2_000, 500, 10_000]);
}

#[test]
fn what_does_not_stay_up_for_too_long_is_given_up_unless_no_other_node_may_run_it() {
    let rule = json!({ "rescheduleAfter": "20s" });
    let given_up = |nodes: &[&str]| {
        let mut world = stays_up(&rule);
        world.template.placement.nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        world.bind(0);
        for _ in 0..4 {
            world.runs_for(1_000, 7);
            world.wait_over();
        }
        // Ends after 1, 3, 6 and 11 seconds; the pause after the fifth, from 20 to 36, is too long.
        world.runs_for(1_000, 7);
        let before = world.task().phase().to_string();
        world.now = 20_999;
        world.settle();
        assert_eq!(world.task().phase().to_string(), before, "its time is not over");
        world.now = 21_000;
        world.settle();
        let task = world.task();
        let (status, phase) = (&task.status, task.phase());
        assert!(world.containers.is_empty());
        (phase.to_string(), status.reason.clone(), status.message.clone(), status.exit_code)
    };
    let message = "it did not stay up for 20s; its last container ended with exit 7";
    let some = |text: &str| Some(text.to_owned());
    let failed = ("Failed".to_owned(), some("Flapping"), some(message), Some(7));
    assert_eq!(given_up(&[]), failed);
    assert_eq!(given_up(&["n1", "n2"]), failed);
    assert_eq!(given_up(&["n1"]), ("Starting".to_owned(), some("BackOff"), None, None));
}

#[test]
fn a_stop_during_a_pause_takes_effect_at_once() {
    let mut world = stays_up(&json!({}));
    world.bind(0);
    world.runs_for(10, 1);
    world.change(0, &TaskChange::evict(StopReason::Evict));
    world.check(expect![[r#"
        t-0/1: ended [20000], reports Cancelled
    "#]]);
    world.hear();
    world.check(expect![[r#"
        t-0/1: forget
    "#]]);
    assert_eq!(world.task().phase().to_string(), "Cancelled");
}

/// It ended before anybody noticed that it has to stop.
#[test]
fn a_container_that_ended_is_not_started_again_once_a_stop_was_requested() {
    let mut world = stays_up(&json!({}));
    world.has_running(0);
    world.hear();
    world.dies(id(0), 1);
    world.change(0, &TaskChange::evict(StopReason::Drain));
    world.check(expect![[r#"
        t-0: forget
        t-0/1: ended [20000], reports Cancelled
        remove t-0
    "#]]);
}

/// A container that ends at once would otherwise cost two reports a restart, for ever.
#[test]
fn a_run_that_ends_at_once_again_and_again_is_not_reported() {
    let mut world = stays_up(&json!({ "backoff": { "factor": 1 }, "rescheduleAfter": "24h" }));
    world.bind(0);
    world.settle();
    let mut numbers = vec![world.ledger.last_message()];
    for _ in 0..6 {
        world.runs_for(200, 1);
        world.wait_over();
        numbers.push(world.ledger.last_message());
    }
    let reports: Vec<u64> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(reports, [2, 1, 1, 1, 1, 1]);
    assert_eq!(world.task().phase().to_string(), "Starting");
    world.now += 1_000;
    world.settle();
    assert_eq!(world.task().phase().to_string(), "Running", "now it is worth a report");
    assert_eq!(world.plan(), Plan::default());
}

#[test]
fn a_start_that_fails_is_tried_again_in_place_for_a_reason_that_is_reported() {
    let mut world = stays_up(&json!({ "rescheduleAfter": "10s" }));
    world.bind(0);
    world.write_down();
    let refuse = |world: &mut World| {
        let attempt = current(world).clone();
        let why = ("PortTaken", "port 80 is in use".to_owned());
        let follows = after_failure(&attempt, why, (at(world.now), world.wall()));
        world.follow(attempt, follows);
    };
    refuse(&mut world);
    world.check(expect![[r#"
        t-0: waits 1000 [20000], reports Starting PortTaken: port 80 is in use
        wake at 1000
    "#]]);
    world.hear();
    let why = world.task().why(at(0));
    assert_eq!(why, "PortTaken: port 80 is in use, again in 1s");
    world.now = 1_000;
    world.check(expect![[r#"
        t-0: starting [20000]
        start t-0
        wake at 2000
    "#]]);
    world.answer(0, &start(), Err(&EngineError::failed("the disk burns")));
    world.check(expect![[r#"
        t-0: waits 2000 [20000], reports Starting StartFailed: the disk burns
        wake at 3000
    "#]]);
    world.now = 9_000;
    world.write_down();
    let missing = EngineError::refused(crate::engine::Reason::ImagePull, "no such image");
    world.answer(0, &start(), Err(&EngineError::NeedsImage));
    world.pulled(0, Err(&missing));
    world.check(expect![[r#"
        t-0: waits 4000 [20000], reports Starting ImagePull: no such image
        wake at 10000
    "#]]);
    world.now = 10_000;
    world.check(expect![[r#"
        t-0: ended [20000], reports Failed ImagePull
    "#]]);
    world.hear();
    let message = world.task().status.message.clone().unwrap();
    assert_eq!(message, "it could not be started for 10s: no such image");
}

/// Somebody has started a container again that had ended.
#[test]
fn an_earlier_container_that_runs_is_killed_before_the_next_one_is_started() {
    let mut world = stays_up(&json!({}));
    world.bind(0);
    world.runs_for(10, 1);
    world.containers.insert(id(0), ContainerState::Running { since: at(20) });
    world.now = 5_000;
    world.check(expect![[r#"
        t-0/1: starting [20000]
        kill t-0
        wake at 6000
    "#]]);
    world.check(expect![[r#"
        wake at 6000
    "#]]);
    world.dies(id(0), 137);
    world.check(expect![[r#"
        remove t-0
        start t-0/1
        wake at 6000
    "#]]);
}

#[test]
fn a_journal_that_is_older_than_the_containers_goes_on_with_the_newest() {
    let mut world = stays_up(&json!({}));
    world.bind(0);
    world.settle();
    let older = world.ledger.clone();
    world.runs_for(10, 1);
    world.wait_over();
    world.ledger = older;
    world.check(expect![[r#"
        t-0: forget
        t-0/1: running [20000]
    "#]]);
    // A journal that was lost: the agent takes over what it finds.
    world.ledger = Ledger::default();
    world.containers.insert(id(0), ContainerState::Created);
    world.check(expect![[r#"
        t-0/1: running [20000]
        remove t-0
    "#]]);
    assert_eq!(current(&world).in_place.as_ref().unwrap().in_a_row, 0);
    world.dies(nth(0, 1), 3);
    world.settle();
    assert_eq!(current(&world).identity, nth(0, 2));
}

#[test]
fn all_containers_of_a_task_that_is_gone_are_removed() {
    let mut world = stays_up(&json!({}));
    world.bind(0);
    world.runs_for(10, 1);
    world.containers.insert(id(0), ContainerState::Created);
    world.containers.insert(nth(0, 7), ContainerState::Running { since: at(0) });
    world.tasks.clear();
    world.check(expect![[r#"
        t-0/1: forget
        t-0/7: stopping []
        remove t-0
        SIGTERM t-0/7
        leftover 0
        wake at 10010
    "#]]);
}

/// Its journal was lost, and its template is not read yet.
#[test]
fn a_container_that_was_found_ended_waits_for_its_template() {
    let mut world = stays_up(&json!({}));
    world.bind(0);
    world.settle();
    world.dies(id(0), 1);
    world.ledger = Ledger::default();
    world.is_template_read = false;
    world.check(expect![""]);
    world.is_template_read = true;
    world.settle();
    assert_eq!(current(&world).identity, nth(0, 1));
}

/// The record of an agent that knows no restarts gets the rule of its template.
#[test]
fn a_record_of_an_earlier_version_is_restarted_in_place_too() {
    let mut world = stays_up(&json!({}));
    world.has_running(0);
    let mut attempt = current(&world).clone();
    attempt.in_place = None;
    world.ledger.put(attempt);
    world.dies(id(0), 1);
    world.settle();
    assert_eq!(world.pause().unwrap(), (1_000, "BackOff".to_owned()));
}

#[test]
fn a_time_limit_is_for_jobs_alone() {
    let mut world = stays_up(&json!({}));
    world.bind(0);
    world.settle();
    world.now += 100_000;
    assert_eq!(world.plan(), Plan::default());
}

/// What happens to a task that is restarted in place.
#[derive(Debug, Clone)]
enum Event {
    Exit(i32),
    Vanish,
    /// Its last container, or the one before, is started by hand.
    StartedByHand,
    StartFails,
    Hear,
    Stop,
    /// The agent is killed, before or after its actions were done.
    Restart,
    SetBack(i64),
    Wait(i64),
    Act,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..3_i32).prop_map(Event::Exit),
        1 => Just(Event::Vanish),
        1 => Just(Event::StartedByHand),
        1 => Just(Event::StartFails),
        3 => Just(Event::Hear),
        1 => Just(Event::Stop),
        2 => Just(Event::Restart),
        1 => (0..7_200_000_i64).prop_map(Event::SetBack),
        4 => (0..12_000_i64).prop_map(Event::Wait),
        8 => Just(Event::Act),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let newest = world.ledger.current(&id(0)).map(|attempt| attempt.identity.clone());
    match event {
        Event::Exit(code) => {
            if let Some((identity, ContainerState::Running { .. })) =
                newest.and_then(|it| world.containers.get_key_value(&it))
            {
                world.dies(identity.clone(), *code);
            }
        }
        Event::Vanish => drop(newest.map(|identity| world.containers.remove(&identity))),
        Event::StartedByHand => {
            let since = world.wall();
            if let Some((_, state)) = world.containers.iter_mut().next() {
                *state = ContainerState::Running { since };
            }
        }
        Event::StartFails => {
            let Some(attempt) = newest.and_then(|it| world.ledger.get(&it)).cloned() else {
                return;
            };
            if matches!(attempt.progress, Progress::Starting { .. }) {
                let times = (at(world.now), world.wall());
                let follows = after_failure(&attempt, ("MountFailed", "no".to_owned()), times);
                world.follow(attempt, follows);
            }
        }
        Event::Hear => drop(world.hear()),
        Event::Stop => {
            if world.tasks.get(&id(0)).is_some_and(|task| !task.has_ended()) {
                world.change(0, &TaskChange::evict(StopReason::Cancel));
            }
        }
        Event::Restart => world.restart(),
        Event::SetBack(millis) => world.set_back += millis,
        Event::Wait(millis) => world.now += millis,
        Event::Act => drop(world.act()),
    }
}

/// The invariants of restarts in place.
fn holds(world: &World, before: &BTreeMap<Identity, ContainerState>) {
    let runs = |containers: &BTreeMap<Identity, ContainerState>| -> Vec<Identity> {
        let running =
            |it: &(&Identity, &ContainerState)| matches!(it.1, ContainerState::Running { .. });
        containers.iter().filter(running).map(|(identity, _)| identity.clone()).collect()
    };
    let running = runs(&world.containers);
    let begun = running.iter().any(|identity| !before.contains_key(identity));
    assert!(!begun || running.len() == 1, "a container was begun beside another: {running:?}");
    assert!(world.containers.len() <= 3, "{:?}", world.containers);
    assert!(world.ledger.attempts().len() <= 1, "one record for all containers");
    if let Some((wait, reason)) = world.pause() {
        assert!((1_000..=10_000).contains(&wait), "{reason} {wait}");
    }
    let in_place = known(world).and_then(|attempt| attempt.in_place.as_ref());
    let runs = in_place.map_or(0, |in_place| in_place.runs_millis.len());
    assert!(runs <= 4, "{runs} runs are remembered");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn never_do_two_containers_of_an_attempt_run_and_every_pause_is_within_bounds(
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let rule = json!({
            "backoff": { "max": "10s" }, "flapping": { "runs": 4, "within": "20s" },
            "rescheduleAfter": "1m",
        });
        let mut world = stays_up(&rule);
        world.bind(0);
        world.act();
        for event in events {
            let before = world.containers.clone();
            happen(&mut world, &event);
            holds(&world, &before);
        }
        // Once nothing happens any more, it runs or has ended, and nothing is left to do.
        for _ in 0..5 {
            world.settle();
            world.now += 10_000;
        }
        world.settle();
        world.settle();
        prop_assert_eq!(world.plan().actions, []);
        prop_assert_eq!(world.plan().changes, BTreeMap::new());
        let task = world.task();
        let progress = known(&world).map(|attempt| &attempt.progress);
        let runs = matches!(progress, Some(Progress::Running { .. }));
        prop_assert!(runs != task.has_ended(), "{task:?} {progress:?}");
        prop_assert!(!runs || task.is_ready());
    }
}
