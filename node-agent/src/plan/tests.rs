//! Worlds of one node, and what it does next.

use std::fmt::Write as _;

use api::task::transition::{self, TaskChange};
use api::task::{StopReason, TaskSpec};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

/// One node, its apiserver and its engine, moved by hand.
struct World {
    tasks: BTreeMap<Identity, Task>,
    template: TaskTemplateSpec,
    containers: BTreeMap<Identity, ContainerState>,
    attempts: BTreeMap<Identity, Attempt>,
    busy: BTreeSet<Identity>,
    capacity: Amounts,
    listed: bool,
    now: i64,
    words: u64,
}

fn world() -> World {
    let template = serde_json::json!({
        "template": {
            "image": "busybox",
            "resources": { "requests": { "cpu": "500m" } },
            "ports": [{ "name": "http" }],
            "terminationGracePeriodSeconds": 5,
        },
        "job": "j",
        "attemptTimeout": "60s",
    });
    World {
        tasks: BTreeMap::new(),
        template: serde_json::from_value(template).unwrap(),
        containers: BTreeMap::new(),
        attempts: BTreeMap::new(),
        busy: BTreeSet::new(),
        capacity: Amounts::from([("cpu".to_owned(), 1_000)]),
        listed: true,
        now: 0,
        words: 0,
    }
}

fn id(index: u32) -> Identity {
    Identity::new("default", &format!("t-{index}"), &format!("{index:x}"), 1).unwrap()
}

impl World {
    fn bind(&mut self, index: u32) {
        let spec =
            TaskSpec { template: "j-x".to_owned(), attempt: 1, run: 1, ..TaskSpec::default() };
        let mut task = Task::new("default", &format!("t-{index}"), spec);
        task.metadata.uid = Some(format!("{index:x}"));
        self.tasks.insert(id(index), task);
        self.change(index, &TaskChange::Bind { node: "n1".to_owned() });
    }

    fn change(&mut self, index: u32, change: &TaskChange) {
        let task = self.tasks.get_mut(&id(index)).unwrap();
        let now = at(self.now);
        match transition::apply(task, 1, change, now).unwrap() {
            transition::Step::Changed(next) => *task = *next,
            transition::Step::Already => (),
        }
    }

    fn runs(&mut self, index: u32) {
        let since = at(self.now);
        self.containers.insert(id(index), ContainerState::Running { since });
    }

    fn exits(&mut self, index: u32, code: i32, signal: Option<i32>) {
        let exited = ContainerState::Exited {
            started: None,
            at: at(self.now),
            code,
            signal,
            oom_killed: false,
            message: None,
        };
        self.containers.insert(id(index), exited);
    }

    fn plan(&self) -> Plan {
        let of = |(identity, task): (&Identity, &Task)| {
            let template = Some(Template::Known(Arc::new(self.template.clone())));
            (identity.clone(), Assignment { task: Arc::new(task.clone()), template })
        };
        let assignments = self.tasks.iter().map(of).collect();
        plan(&View {
            assignments: self.listed.then_some(&assignments),
            containers: &self.containers,
            attempts: &self.attempts,
            busy: &self.busy,
            node: Node {
                place: Place { node: "n1", address: "127.0.0.1", own_network: true },
                boot_id: "boot",
                capacity: &self.capacity,
                port_range: (20_000, 20_009),
            },
            now: at(self.now),
            wall: at(self.now),
            words: self.words,
        })
    }

    /// Plans and writes down; what is to be done is left to the caller.
    fn write_down(&mut self) -> Plan {
        let plan = self.plan();
        self.words = plan.words;
        for (identity, change) in &plan.changes {
            match change {
                Some(attempt) => self.attempts.insert(identity.clone(), attempt.clone()),
                None => self.attempts.remove(identity),
            };
        }
        plan
    }

    /// The apiserver hears all there is to say.
    fn hear(&mut self) {
        for attempt in self.attempts.values_mut() {
            let Some(word) = attempt.unsent.take() else { continue };
            let change = match word.says {
                Says::Report(report) => TaskChange::Report(report),
                Says::Refuse(message) => TaskChange::Refuse { binding: attempt.binding, message },
            };
            let Some(task) = self.tasks.get_mut(&attempt.identity) else { continue };
            let step = transition::apply(task, attempt.identity.attempt(), &change, at(self.now));
            if let Ok(transition::Step::Changed(next)) = step {
                *task = *next;
            }
        }
    }

    /// A new process of the agent: what only a process knows is gone.
    fn restart(&mut self) {
        let stored = serde_json::to_string(&self.attempts.values().collect::<Vec<_>>()).unwrap();
        let attempts: Vec<Attempt> = serde_json::from_str(&stored).unwrap();
        self.attempts =
            attempts.into_iter().map(|attempt| (attempt.identity.clone(), attempt)).collect();
        self.busy.clear();
    }

    /// Plans, writes down, and shows it.
    #[expect(clippy::needless_pass_by_value, reason = "an expectation is used once")]
    fn check(&mut self, wanted: Expect) {
        let plan = self.write_down();
        wanted.assert_eq(&show(&plan));
    }
}

fn show(plan: &Plan) -> String {
    let mut out = String::new();
    for (identity, change) in &plan.changes {
        let _ = match change {
            None => writeln!(out, "{}: forget", identity.task()),
            Some(attempt) => writeln!(out, "{}: {}", identity.task(), show_attempt(attempt)),
        };
    }
    for step in &plan.steps {
        let (what, of) = match step {
            Step::Start(_) => ("start".to_owned(), step.identity()),
            Step::Signal(identity, signal) => (signal.name().to_owned(), identity),
            Step::Kill(identity) => ("kill".to_owned(), identity),
            Step::Remove(identity) => ("remove".to_owned(), identity),
        };
        let _ = writeln!(out, "{what} {}", of.task());
    }
    for leftover in &plan.leftovers {
        let _ = writeln!(out, "leftover {}", leftover.uid);
    }
    if let Some(wake) = plan.wake_at {
        let _ = writeln!(out, "wake at {}", wake.as_millisecond() - at(0).as_millisecond());
    }
    out
}

fn show_attempt(attempt: &Attempt) -> String {
    let progress = match attempt.progress {
        Progress::Starting { .. } => "starting",
        Progress::Running { .. } => "running",
        Progress::Stopping { .. } => "stopping",
        Progress::Ended => "ended",
        Progress::Refused => "refused",
    };
    let says = match attempt.unsent.as_ref().map(|word| &word.says) {
        None => String::new(),
        Some(Says::Refuse(message)) => format!(", refuses: {message}"),
        Some(Says::Report(report)) => {
            let code = report.exit_code.map(|code| format!(" {code}")).unwrap_or_default();
            let reason = report.reason.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
            format!(", reports {:?}{code}{reason}", report.state)
        }
    };
    format!("{progress} {:?}{says}", attempt.ports.values().collect::<Vec<_>>())
}

#[test]
fn a_task_is_started_then_runs_then_ends_then_is_tidied_away() {
    let mut world = world();
    world.bind(0);
    world.check(expect![[r#"
        t-0: starting [20000]
        start t-0
        wake at 1000
    "#]]);
    world.runs(0);
    world.check(expect![[r#"
        t-0: running [20000], reports Running
        wake at 60000
    "#]]);
    world.hear();
    world.check(expect![[r#"
        wake at 60000
    "#]]);
    world.exits(0, 3, None);
    world.check(expect![[r#"
        t-0: ended [20000], reports Failed 3
    "#]]);
    world.check(expect![""]);
    world.hear();
    world.check(expect![[r#"
        t-0: forget
        remove t-0
    "#]]);
}

#[test]
fn nothing_is_stopped_or_started_before_the_list_is_complete() {
    let mut world = world();
    world.runs(7);
    world.bind(0);
    world.listed = false;
    world.check(expect![""]);
    world.listed = true;
    world.check(expect![[r#"
        t-0: starting [20000]
        t-7: stopping []
        SIGTERM t-7
        start t-0
        leftover 7
        wake at 1000
    "#]]);
}

#[test]
fn a_stop_is_asked_for_then_enforced() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.runs(0);
    world.write_down();
    world.hear();
    world.change(0, &TaskChange::Evict { reason: StopReason::Cancel });
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

#[test]
fn what_its_owner_gave_up_while_the_node_was_lost_is_stopped() {
    let mut world = world();
    world.bind(1);
    world.write_down();
    world.runs(1);
    world.write_down();
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
    world.bind(0);
    world.write_down();
    world.runs(0);
    world.write_down();
    let before = world.now;
    world.now = 100;
    world.change(0, &TaskChange::Evict { reason: StopReason::Cancel });
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
    world.bind(0);
    world.write_down();
    world.runs(0);
    world.write_down();
    world.now = 60_000;
    world.write_down();
    world.exits(0, 143, Some(15));
    world.check(expect![[r#"
        t-0: ended [20000], reports TimedOut 143 Timeout
    "#]]);
}

#[test]
fn what_does_not_fit_is_given_back() {
    let mut world = world();
    for index in 0..3 {
        world.bind(index);
    }
    world.check(expect![[r#"
        t-0: starting [20000]
        t-1: starting [20001]
        t-2: refused [], refuses: cpu: 500 wanted, 0 free
        start t-0
        start t-1
        wake at 1000
    "#]]);
    world.hear();
    world.busy = BTreeSet::from([id(0), id(1)]);
    world.check(expect![[r#"
        t-2: forget
        wake at 1000
    "#]]);
}

#[test]
fn a_restarted_agent_takes_over_what_runs_and_starts_what_was_only_promised() {
    let mut world = world();
    world.bind(0);
    world.bind(1);
    world.write_down();
    world.runs(0);
    world.restart();
    world.check(expect![[r#"
        t-0: running [20000], reports Running
        start t-1
        wake at 1000
    "#]]);
}

#[test]
fn a_container_that_vanished_has_failed() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.runs(0);
    world.write_down();
    world.hear();
    world.containers.clear();
    world.check(expect![[r#"
        t-0: ended [20000], reports Failed ContainerGone
    "#]]);
}

#[test]
fn a_lost_journal_starts_nothing_that_was_reported() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.runs(0);
    world.write_down();
    world.hear();
    world.attempts.clear();
    world.check(expect![[r#"
        t-0: running [20000], reports Running
        wake at 60000
    "#]]);
    world.attempts.clear();
    world.containers.clear();
    world.check(expect![[r#"
        t-0: ended [], reports Failed ContainerGone
    "#]]);
}

#[test]
fn a_slow_start_is_said_once() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.busy.insert(id(0));
    world.now = 1_000;
    world.check(expect![[r#"
        t-0: starting [20000], reports Starting
    "#]]);
    world.check(expect![""]);
}

/// What happens to a world.
#[derive(Debug, Clone)]
enum Happening {
    Bind(u32),
    Evict(u32),
    Exit(u32),
    Vanish(u32),
    Removed(u32),
    Hear,
    Restart,
    Wait(i64),
    /// Steps are done, or fail.
    Act(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..4_u32).prop_map(Happening::Bind),
        1 => (0..4_u32).prop_map(Happening::Evict),
        2 => (0..4_u32).prop_map(Happening::Exit),
        1 => (0..4_u32).prop_map(Happening::Vanish),
        1 => (0..4_u32).prop_map(Happening::Removed),
        3 => Just(Happening::Hear),
        1 => Just(Happening::Restart),
        2 => (0..70_000_i64).prop_map(Happening::Wait),
        6 => any::<bool>().prop_map(Happening::Act),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_attempt_runs_twice_and_no_port_is_given_twice(
        happenings in proptest::collection::vec(happening(), 1..60),
    ) {
        let mut world = world();
        let mut ever_ran = BTreeSet::new();
        let mut bound = BTreeSet::new();
        for happening in happenings {
            happen(&mut world, &mut bound, &mut ever_ran, &happening);
            let held: Vec<u16> = world.attempts.values().filter(|it| it.holds())
                .flat_map(|it| it.ports.values().copied()).collect();
            let distinct: BTreeSet<u16> = held.iter().copied().collect();
            prop_assert_eq!(held.len(), distinct.len(), "ports are disjoint");
            let cpu: u64 = world.attempts.values().filter(|it| it.holds())
                .filter_map(|it| it.requests.get("cpu")).sum();
            prop_assert!(cpu <= 1_000, "over-committed: {cpu}");
        }
    }
}

fn happen(
    world: &mut World,
    bound: &mut BTreeSet<u32>,
    ever_ran: &mut BTreeSet<Identity>,
    happening: &Happening,
) {
    match happening {
        Happening::Bind(index) => {
            if bound.insert(*index) {
                world.bind(*index);
            }
        }
        Happening::Evict(index) => {
            if world.tasks.get(&id(*index)).is_some_and(|task| !task.has_ended()) {
                world.change(*index, &TaskChange::Evict { reason: StopReason::Cancel });
            }
        }
        Happening::Exit(index) => {
            if matches!(world.containers.get(&id(*index)), Some(ContainerState::Running { .. })) {
                world.exits(*index, 0, None);
            }
        }
        Happening::Vanish(index) => drop(world.containers.remove(&id(*index))),
        Happening::Removed(index) => drop(world.tasks.remove(&id(*index))),
        Happening::Hear => world.hear(),
        Happening::Restart => world.restart(),
        Happening::Wait(millis) => world.now += millis,
        Happening::Act(works) => {
            let plan = world.write_down();
            for step in plan.steps.into_iter().filter(|_| *works) {
                do_step(world, ever_ran, &step);
            }
        }
    }
}

fn do_step(world: &mut World, ever_ran: &mut BTreeSet<Identity>, step: &Step) {
    let identity = step.identity().clone();
    let since = at(world.now);
    match step {
        Step::Start(_) => {
            let is_new = !world.containers.contains_key(&identity);
            // Only a vanished container that was never looked at may be made again.
            assert!(
                !is_new
                    || !matches!(
                        world.attempts.get(&identity).map(|it| &it.progress),
                        Some(Progress::Ended | Progress::Running { .. })
                    )
            );
            ever_ran.insert(identity.clone());
            world.containers.insert(identity, ContainerState::Running { since });
        }
        Step::Signal(..) => (),
        Step::Kill(_) => {
            let exited = ContainerState::Exited {
                started: None,
                at: since,
                code: 137,
                signal: Some(9),
                oom_killed: false,
                message: None,
            };
            world.containers.insert(identity, exited);
        }
        Step::Remove(_) => drop(world.containers.remove(&identity)),
    }
}
