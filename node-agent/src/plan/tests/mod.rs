//! Worlds of one node, and what it does next.

mod answers;
mod ports;
mod probes;
mod properties;
mod restarts;
mod restored;
mod stops;

use std::fmt::Write as _;

use api::task::transition::{self, TaskChange};
use api::task::{StopReason, TaskSpec};
use expect_test::{Expect, expect};

use super::*;
use crate::engine::EngineError;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

/// One node, its apiserver and its engine, moved by hand.
#[derive(Clone)]
struct World {
    tasks: BTreeMap<Identity, Task>,
    template: TaskTemplateSpec,
    /// Whether the agent has read the template.
    is_template_read: bool,
    containers: BTreeMap<Identity, ContainerState>,
    ledger: Ledger,
    busy: BTreeSet<Identity>,
    capacity: Amounts,
    shortage: Option<&'static str>,
    listed: bool,
    is_engine_away: bool,
    /// The clock for waits.
    now: i64,
    /// By how much the wall clock was set back since the agent started.
    set_back: i64,
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
        is_template_read: true,
        containers: BTreeMap::new(),
        ledger: Ledger::default(),
        busy: BTreeSet::new(),
        capacity: Amounts::from([("cpu".to_owned(), 1_000)]),
        shortage: None,
        listed: true,
        is_engine_away: false,
        now: 0,
        set_back: 0,
    }
}

fn start() -> ActionKind {
    ActionKind::Start { image: "busybox".to_owned() }
}

fn id(index: u32) -> Identity {
    Identity::new("default", &format!("t-{index}"), &format!("{index:x}"), 1).unwrap()
}

impl World {
    fn bind(&mut self, index: u32) {
        self.tasks.entry(id(index)).or_insert_with(|| {
            let spec =
                TaskSpec { template: "j-x".to_owned(), attempt: 1, run: 1, ..TaskSpec::default() };
            let mut task = Task::new("default", &format!("t-{index}"), spec);
            task.metadata.uid = Some(format!("{index:x}"));
            task
        });
        self.change(index, &TaskChange::Bind { node: "n1".to_owned() });
    }

    fn change(&mut self, index: u32, change: &TaskChange) {
        let task = self.tasks.get_mut(&id(index)).unwrap();
        let now = at(self.now);
        match transition::apply(task, 1, change, now).unwrap() {
            transition::Applied::Changed(next) => *task = *next,
            transition::Applied::Already => (),
        }
    }

    /// Deletes a task with a grace period, as the apiserver does.
    fn delete(&mut self, index: u32, grace_seconds: Option<i64>) {
        self.change(index, &TaskChange::evict(StopReason::Delete));
        let task = self.tasks.get_mut(&id(index)).unwrap();
        task.metadata.deletion_grace_period_seconds = grace_seconds;
    }

    /// Binds a task, and has its container run.
    fn has_running(&mut self, index: u32) {
        self.bind(index);
        self.write_down();
        self.runs(index);
        self.write_down();
    }

    fn runs(&mut self, index: u32) {
        let since = self.wall();
        self.containers.insert(id(index), ContainerState::Running { since });
    }

    fn exits(&mut self, index: u32, code: i32, signal: Option<i32>) {
        let exited = ContainerState::Exited {
            started: None,
            at: self.wall(),
            code,
            signal,
            oom_killed: false,
            is_unseen: false,
            message: None,
        };
        self.containers.insert(id(index), exited);
    }

    fn plan(&self) -> Plan {
        self.plan_for(Which::All)
    }

    fn plan_for(&self, which: Which<'_>) -> Plan {
        let of = |(identity, task): (&Identity, &Task)| {
            let known = || Template::Known(Arc::new(self.template.clone()));
            let template = self.is_template_read.then(known);
            (identity.clone(), Assignment { task: Arc::new(task.clone()), template })
        };
        let assignments = self.tasks.iter().map(of).collect();
        plan(&View {
            assignments: self.listed.then_some(&assignments),
            containers: &self.containers,
            ledger: &self.ledger,
            which,
            busy: &self.busy,
            node: Node {
                host: HostInfo { node: "n1", address: "127.0.0.1", own_network: true },
                boot_id: "boot",
                capacity: &self.capacity,
                port_range: (20_000, 20_009),
                shortage: self.shortage,
            },
            now: at(self.now),
            wall: self.wall(),
        })
    }

    fn wall(&self) -> Timestamp {
        at(self.now - self.set_back)
    }

    /// Plans and writes the journal. The actions are left to the caller.
    fn write_down(&mut self) -> Plan {
        let plan = self.plan();
        self.take_over(&plan);
        plan
    }

    fn take_over(&mut self, plan: &Plan) {
        for (identity, change) in &plan.changes {
            match change {
                Some(attempt) => self.ledger.put(attempt.clone()),
                None => self.ledger.remove(identity),
            }
        }
    }

    /// The apiserver acknowledges all messages. Returns whose.
    fn hear(&mut self) -> BTreeSet<Identity> {
        let mut heard = BTreeSet::new();
        for (attempt, message) in Ledger::clone(&self.ledger).to_say() {
            let change = match message.says.clone() {
                Content::Report(report) => TaskChange::Report(report),
                Content::Refuse(message) => {
                    TaskChange::Refuse { binding: attempt.binding, message }
                }
            };
            self.ledger.heard(&attempt.identity, message.number);
            heard.insert(attempt.identity.clone());
            let assigned = attempt.identity.of_attempt();
            let Some(task) = self.tasks.get_mut(&*assigned) else { continue };
            let action = transition::apply(task, attempt.identity.attempt(), &change, at(self.now));
            if let Ok(transition::Applied::Changed(next)) = action {
                *task = *next;
            }
        }
        heard
    }

    /// A new process of the agent: everything that only a process knows is gone.
    fn restart(&mut self) {
        let attempts: Vec<_> = self.ledger.attempts().values().collect();
        let stored = serde_json::to_string(&attempts).unwrap();
        let attempts: Vec<Attempt> = serde_json::from_str(&stored).unwrap();
        self.now -= std::mem::take(&mut self.set_back);
        let now = at(self.now);
        self.ledger = Ledger::of(attempts.into_iter().map(|attempt| attempt.loaded_at(now)));
        self.busy.clear();
    }

    /// The engine's answer to an action.
    fn answer(&mut self, index: u32, kind: &ActionKind, outcome: Result<(), &EngineError>) {
        let attempt = self.ledger.current(&id(index)).unwrap().clone();
        let now = at(self.now);
        let follows = after(&attempt, kind, outcome, (now, now));
        self.follow(attempt, follows);
    }

    /// The result of pulling its image.
    fn pulled(&mut self, index: u32, outcome: Result<(), &EngineError>) {
        let attempt = self.ledger.current(&id(index)).unwrap().clone();
        let follows = after_pull(&attempt, outcome, (at(self.now), at(self.now)));
        self.follow(attempt, follows);
    }

    fn follow(&mut self, attempt: Attempt, follows: After) {
        match follows {
            After::Nothing => (),
            After::Known(attempt) => self.ledger.put(*attempt),
            After::Ended(ending) => {
                let mut attempt = attempt;
                end(&mut attempt, *ending, self.ledger.last_message() + 1, "boot");
                self.ledger.put(attempt);
            }
        }
    }

    fn answer_signal(&mut self, identity: &Identity) {
        let Some(attempt) = self.ledger.get(identity) else { return };
        let now = at(self.now);
        if let After::Known(attempt) = after(attempt, &ActionKind::Signal, Ok(()), (now, now)) {
            self.ledger.put(*attempt);
        }
    }

    /// Delivers signals to their containers, unless the engine is away.
    fn deliver(&mut self, plan: &Plan) {
        for action in
            plan.actions.iter().filter(|action| ActionKind::of(action) == ActionKind::Signal)
        {
            let attempt = self.ledger.get(action.identity()).unwrap();
            let away = EngineError::unavailable("connection refused");
            let outcome = if self.is_engine_away { Err(&away) } else { Ok(()) };
            let now = at(self.now);
            if let After::Known(attempt) = after(attempt, &ActionKind::Signal, outcome, (now, now))
            {
                self.ledger.put(*attempt);
            }
        }
    }

    /// Plans, writes down, and shows it.
    #[expect(clippy::needless_pass_by_value, reason = "an expectation is used once")]
    fn check(&mut self, wanted: Expect) {
        let plan = self.write_down();
        self.deliver(&plan);
        wanted.assert_eq(&show(&plan));
    }
}

fn show(plan: &Plan) -> String {
    let mut out = String::new();
    for (identity, change) in &plan.changes {
        let _ = match change {
            None => writeln!(out, "{}: forget", name(identity)),
            Some(attempt) => writeln!(out, "{}: {}", name(identity), show_attempt(attempt)),
        };
    }
    for action in &plan.actions {
        let (what, of) = match action {
            Action::Start(_) => ("start".to_owned(), action.identity()),
            Action::Signal(identity, signal) => (signal.name().to_owned(), identity),
            Action::Kill(identity) => ("kill".to_owned(), identity),
            Action::Remove(identity) => ("remove".to_owned(), identity),
        };
        let _ = writeln!(out, "{what} {}", name(of));
    }
    for probe in &plan.probes {
        let _ = writeln!(out, "probe {} {}", name(&probe.identity), probe.kind.word());
    }
    for leftover in plan.leftovers.values() {
        let _ = writeln!(out, "leftover {}", leftover.uid);
    }
    if let Some(wake) = plan.wakes.values().min() {
        let _ = writeln!(out, "wake at {}", wake.as_millisecond() - at(0).as_millisecond());
    }
    out
}

/// A container: `t-0`, or `t-0/2` after its second restart in place.
fn name(identity: &Identity) -> String {
    match identity.restart() {
        0 => identity.task().to_owned(),
        restart => format!("{}/{restart}", identity.task()),
    }
}

fn show_attempt(attempt: &Attempt) -> String {
    let progress = match attempt.progress {
        Progress::Starting { .. } => "starting",
        Progress::BackOff { wait_millis, .. } => &format!("waits {wait_millis}"),
        Progress::Running { .. } => "running",
        Progress::Stopping { .. } => "stopping",
        Progress::Ended => "ended",
        Progress::Refused => "refused",
    };
    let says = match attempt.unsent.as_ref().map(|message| &message.says) {
        None => String::new(),
        Some(Content::Refuse(message)) => format!(", refuses: {message}"),
        Some(Content::Report(report)) => {
            let code = report.exit_code.map(|code| format!(" {code}")).unwrap_or_default();
            let reason = report.reason.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
            let not_ready = report.state == ReportState::Running && !report.ready;
            let not_ready = if not_ready { " not ready" } else { "" };
            format!(", reports {:?}{not_ready}{code}{reason}", report.state)
        }
    };
    let message = match attempt.unsent.as_ref().map(|message| &message.says) {
        Some(Content::Report(report))
            if matches!(report.state, ReportState::Starting | ReportState::Running) =>
        {
            report.message.as_ref().map(|it| format!(": {it}")).unwrap_or_default()
        }
        Some(Content::Report(_) | Content::Refuse(_)) | None => String::new(),
    };
    format!("{progress} {:?}{says}{message}", attempt.ports.values().collect::<Vec<_>>())
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
fn an_end_that_nobody_saw_is_a_failure_that_says_so() {
    let unseen = ContainerState::Exited {
        started: Some(at(0)),
        at: at(0),
        code: 255,
        signal: None,
        oom_killed: false,
        is_unseen: true,
        message: Some("its shim was killed".to_owned()),
    };
    let mut world = world();
    world.has_running(0);
    world.containers.insert(id(0), unseen);
    world.check(expect![[r#"
        t-0: ended [20000], reports Failed ContainerGone
    "#]]);
    world.hear();
    assert_eq!(world.tasks[&id(0)].why(at(0)), "ContainerGone: its shim was killed");
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
fn what_does_not_fit_is_given_back() {
    let mut world = world();
    for index in 0..3 {
        world.bind(index);
    }
    world.check(expect![[r#"
        t-0: starting [20000]
        t-1: starting [20001]
        t-2: refused [], refuses: cpu: 500m requested, 0 free
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
fn on_a_short_disk_what_never_started_is_given_back_and_what_was_begun_goes_on() {
    let mut world = world();
    world.bind(0);
    world.write_down();
    world.shortage = Some("no room");
    world.bind(1);
    let mut asked = world.clone();
    asked.busy.insert(id(0));
    asked.check(expect![[r#"
        t-1: refused [], refuses: no room
        wake at 1000
    "#]]);
    // The results of an earlier agent's actions are not known.
    world.restart();
    world.check(expect![[r#"
        t-1: refused [], refuses: no room
        start t-0
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
fn what_was_given_to_another_node_meanwhile_is_stopped_and_named_until_it_is_gone() {
    let mut world = world();
    for index in 0..3 {
        world.capacity = Amounts::from([("cpu".to_owned(), 2_000)]);
        world.bind(index);
    }
    world.write_down();
    (0..3).for_each(|index| world.runs(index));
    world.write_down();
    world.hear();
    // While the agent is away, the first task is started elsewhere and the second is recorded as
    // ended.
    world.restart();
    world.tasks.remove(&id(0));
    let ended = ended_report(&world, 1);
    world.change(1, &ended);
    world.check(expect![[r#"
        t-0: stopping [20000]
        t-1: stopping [20001]
        SIGTERM t-0
        SIGTERM t-1
        leftover 0
        leftover 1
        wake at 5000
    "#]]);
    world.exits(0, 143, Some(15));
    world.now = 5_000;
    world.check(expect![[r#"
        t-0: forget
        t-1: stopping [20001]
        remove t-0
        kill t-1
        leftover 1
        wake at 10000
    "#]]);
    world.containers.remove(&id(0));
    world.exits(1, 137, Some(9));
    world.check(expect![[r#"
        t-1: forget
        remove t-1
        wake at 60000
    "#]]);
}

/// The end that the apiserver stores for a task, whoever reported it.
fn ended_report(world: &World, index: u32) -> TaskChange {
    let attempt = world.ledger.get(&id(index)).unwrap();
    TaskChange::Report(Box::new(report(attempt, "boot", ReportState::Succeeded)))
}

#[test]
fn a_container_that_vanished_has_failed() {
    let mut world = world();
    world.has_running(0);
    world.hear();
    world.containers.clear();
    world.check(expect![[r#"
        t-0: ended [20000], reports Failed ContainerGone
    "#]]);
}

#[test]
fn a_lost_journal_starts_nothing_that_was_reported() {
    let mut world = world();
    world.has_running(0);
    world.hear();
    world.ledger = Ledger::default();
    world.check(expect![[r#"
        t-0: running [20000], reports Running
        wake at 60000
    "#]]);
    world.ledger = Ledger::default();
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
        t-0: starting [20000], reports Starting: the container engine has not answered yet
    "#]]);
    world.check(expect![""]);
}
