//! Two controllers with stale views, writes cut off half-way, flapping nodes and restless users,
//! against one job; the promises hold of every state, and when faults stop the job ends.

use std::collections::{BTreeMap, BTreeSet};

use api::Job;
use api::completion::End;
use api::job::{JobSpec, Retry};
use api::number_or_percent::NumberOrPercent;
use api::object::Kind as _;
use api::task::report::Report;
use api::task::transition::TaskChange;
use api::task::{ReportState, StopReason, TaskState};
use api::template::Template;
use base::Rng;

use super::model::World;
use crate::action::{Action, Group};

/// Worlds tried.
const SEEDS: u64 = 200;
/// Steps with faults.
const STEPS: u32 = 150;
/// How far behind a controller's view may be, in states.
const STALE_MAX: usize = 12;
/// Rounds without faults within which the job must end.
const CALM_ROUNDS: u32 = 200;

struct Simulation {
    rng: Rng,
    /// Every state so far; the last is the present.
    states: Vec<World>,
    /// The state that each controller saw last: it never goes back.
    seen: [usize; 2],
    /// Ends that were recorded, by run and index.
    recorded: BTreeMap<(u32, u32), End>,
    /// Templates so far.
    images: u32,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let rng = Rng::seeded(seed);
        let attempts = if rng.chance(500) { 1 } else { 2 };
        let retry = Retry { max_attempts: Some(attempts), ..Retry::default() };
        let spec = JobSpec {
            count: Some(3),
            template: Template { image: "one".to_owned(), ..Template::default() },
            retry: Some(retry),
            max_failed_tasks: rng.chance(500).then_some(NumberOrPercent::Number(1)),
            parallelism: rng.chance(500).then_some(2),
            ..JobSpec::default()
        };
        let states = vec![World::new(Job::new("default", "j", spec))];
        Self { rng, states, seen: [0, 0], recorded: BTreeMap::new(), images: 1 }
    }

    fn present(&self) -> &World {
        self.states.last().unwrap()
    }

    /// Makes a state the present, if the promises hold of it.
    fn push(&mut self, next: World) {
        next.check();
        for chunk in next.chunks.values() {
            for (index, end) in chunk.ends() {
                let before = self.recorded.insert((chunk.spec.run, index), end);
                assert!(before.is_none_or(|before| before == end), "the record contradicts itself");
            }
        }
        for task in next.tasks.values() {
            let end = self.recorded.get(&(task.spec.run, task.spec.index));
            let runs = task.takes_resources_on().is_some();
            assert!(
                !(runs && end.is_some()),
                "{} runs although it is recorded {end:?}",
                task.name()
            );
        }
        self.states.push(next);
    }

    /// A controller looks at what it sees, which may be old, and writes, maybe half of it.
    fn control(&mut self, controller: usize, faults: bool) {
        let newest = self.states.len() - 1;
        let oldest = self.seen[controller].max(newest.saturating_sub(STALE_MAX));
        let span = u64::try_from(newest - oldest + 1).unwrap();
        let at =
            if faults { oldest + usize::try_from(self.rng.below(span)).unwrap() } else { newest };
        self.seen[controller] = at;
        let plan = self.states[at].plan_at(self.present().now);
        let mut groups: Vec<Group> = plan.groups;
        if let Some(job) = plan.status {
            groups.push(Action::status(*job).into());
        }
        for group in groups {
            if faults && self.rng.chance(150) {
                continue;
            }
            let mut next = self.present().clone();
            if next.commit(&group).is_ok() {
                self.push(next);
            }
        }
    }

    fn pick_task(&self) -> Option<String> {
        let names: Vec<String> = self.present().tasks.keys().cloned().collect();
        self.rng.pick(&names).cloned()
    }

    /// The scheduler, the agent or the node controller does something to a task.
    fn live(&mut self, faults: bool) {
        let Some(name) = self.pick_task() else { return };
        let mut next = self.present().clone();
        let task = &next.tasks[&name];
        let now = next.now;
        let change = match task.state() {
            TaskState::Pending if task.spec.not_before.is_none_or(|at| at <= now) => {
                TaskChange::Bind { node: "n1".to_owned() }
            }
            TaskState::Bound { .. }
            | TaskState::Starting { .. }
            | TaskState::Running { .. }
            | TaskState::Stopping { .. }
                if faults && self.rng.chance(150) =>
            {
                TaskChange::Lose
            }
            TaskState::Bound { .. } | TaskState::Starting { .. } | TaskState::Running { .. } => {
                report(task, if faults && self.rng.chance(300) { 1 } else { 0 })
            }
            TaskState::Stopping { .. } => report(task, if self.rng.chance(100) { 0 } else { -1 }),
            // The node is back, or a late end is heard, or nobody waits any longer.
            TaskState::Lost { .. } => match self.rng.below(3) {
                0 if faults => TaskChange::Recover,
                1 if faults => report(task, 0),
                _ => TaskChange::Replaceable,
            },
            TaskState::Pending
            | TaskState::Succeeded
            | TaskState::Failed { .. }
            | TaskState::TimedOut
            | TaskState::Cancelled { .. } => return,
        };
        if next.change(&name, &change) {
            self.push(next);
        }
    }

    /// A person, or the clock.
    fn disturb(&mut self) {
        let mut next = self.present().clone();
        let number = u32::try_from(self.rng.below(5)).unwrap();
        match self.rng.below(9) {
            0 => next.edit_job(|job| job.spec.count = Some(number)),
            1 => next.edit_job(|job| job.spec.parallelism = Some(number)),
            2 => next.edit_job(|job| job.spec.suspend = Some(number % 2 == 0)),
            3 => {
                self.images += 1;
                let image = format!("image-{}", self.images);
                next.edit_job(|job| job.spec.template.image = image);
            }
            4 => {
                let reasons = [StopReason::Drain, StopReason::Evict, StopReason::Cancel];
                let reason = *self.rng.pick(&reasons).unwrap();
                if let Some(name) = self.pick_task() {
                    next.change(&name, &TaskChange::evict(reason));
                }
            }
            5 => next.edit_job(|job| job.spec.priority = Some(i32::try_from(number).unwrap())),
            6 => {
                if let Some(name) = self.pick_task() {
                    next.delete(&name);
                }
            }
            _ => next.advance(i64::from(number) * 7),
        }
        self.push(next);
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            match self.rng.below(10) {
                0..4 => self.control(0, true),
                4 => self.control(1, true),
                5..9 => self.live(true),
                _ => self.disturb(),
            }
            // From any state on, what is planned on a fresh view is accepted and comes to an end.
            if self.rng.chance(50) {
                self.present().clone().settle();
            }
        }
        let mut next = self.present().clone();
        next.edit_job(|job| {
            job.spec.suspend = None;
            job.spec.parallelism = Some(2);
        });
        self.push(next);
        for _ in 0..CALM_ROUNDS {
            self.control(0, false);
            for _ in 0..5 {
                self.live(false);
            }
            let mut next = self.present().clone();
            next.advance(10);
            self.push(next);
            let plan = self.present().plan();
            let settled = plan.groups.is_empty() && plan.status.is_none();
            if settled && self.present().job.status.phase.is_final() {
                return;
            }
        }
    }
}

/// What an agent says of a task's end: an exit code, or -1 for a task that it stopped.
fn report(task: &api::Task, code: i32) -> TaskChange {
    let (state, exit_code) = match code {
        0 => (ReportState::Succeeded, Some(0)),
        -1 => (ReportState::Cancelled, None),
        code => (ReportState::Failed, Some(code)),
    };
    TaskChange::Report(Box::new(Report {
        binding: task.binding().map_or(0, |binding| binding.number),
        boot_id: "boot".to_owned(),
        state,
        ready: false,
        restarts: 0,
        exit_code,
        reason: None,
        message: None,
        started_at: None,
        finished_at: None,
        ports: BTreeMap::new(),
        last_exit: None,
        image_digest: None,
        restart_at: None,
    }))
}

#[test]
fn under_faults_the_promises_hold_and_the_job_ends_once_they_stop() {
    let (mut phases, mut runs) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..SEEDS {
        let mut simulation = Simulation::new(seed);
        simulation.run();
        let world = simulation.present();
        let status = &world.job.status;
        assert!(status.phase.is_final(), "seed {seed} does not end: {:#?}", world.plan());
        let counts = (0..status.total).filter_map(|index| world.end_of(status.run, index));
        let succeeded = counts.filter(|end| *end == End::Succeeded).count();
        assert_eq!(u32::try_from(succeeded).unwrap(), status.succeeded, "seed {seed}");
        let plan = world.plan();
        assert!(plan.groups.is_empty() && plan.status.is_none(), "seed {seed}: {plan:#?}");
        phases.insert(status.phase);
        runs.insert(status.run);
    }
    assert!(phases.len() >= 3 && runs.len() >= 3, "the seeds see little: {phases:?} {runs:?}");
}
