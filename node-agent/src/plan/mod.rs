//! Decides what this node does next.
//!
//! # Invariants
//!
//! * Nothing is started and nothing is stopped while the list of assignments is not complete.
//! * An attempt is started only as [`Progress::Starting`], which was written down before; what has
//!   ended is never started again.
//! * On the state that its own steps lead to, `plan` returns nothing.
//! * A container of ours that no assignment wants is stopped and removed, and named until it is
//!   gone.
//! * What is decided about an attempt depends on it alone, and on what is left of the node: a plan
//!   for those that something happened to, or whose time has come, is the plan for all.

mod anew;
mod answer;
mod ending;
mod start;
mod stop;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::amounts::Amounts;
use api::node::Leftover;
use api::task::transition::Report;
use api::task::{ReportState, TaskState, reason};
use api::task_template::TaskTemplateSpec;
use api::template::Port;
use api::{Task, Timestamp};

use crate::attempt::{Attempt, Progress, Says, Why};
use crate::engine::{ContainerSpec, ContainerState, Identity, Signal};
use crate::ledger::Ledger;
use crate::resolve::{Place, merged};
use crate::taken::{Offer, Room};

pub(crate) use anew::tell_anew;
pub(crate) use answer::{After, Asked, after, after_pull};
pub(crate) use ending::Ending;

/// A container that was killed and is still there is killed again so often.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// A start that takes longer is said.
const SLOW_START: Duration = Duration::from_secs(1);

/// All that a decision may depend on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Tasks that are bound to this node; nothing before the list of them is complete.
    pub assignments: Option<&'a BTreeMap<Identity, Assignment>>,
    /// Containers of this node, ended ones too.
    pub containers: &'a BTreeMap<Identity, ContainerState>,
    /// What was promised.
    pub ledger: &'a Ledger,
    /// What is to be decided about.
    pub which: Which<'a>,
    /// Containers that something is being done to: nothing is decided about those.
    pub busy: &'a BTreeSet<Identity>,
    /// What the node is.
    pub node: Node<'a>,
    /// The time that waits are counted by: it neither jumps nor goes back within one start of
    /// the agent.
    pub now: Timestamp,
    /// The time as the engine has it, and as it is told.
    pub wall: Timestamp,
}

/// What is to be decided about.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Everything that is known.
    All,
    /// These, where something is known of them.
    These(&'a BTreeSet<Identity>),
}

/// What a node is and gives.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Where containers find themselves.
    pub place: Place<'a>,
    /// Which start of the agent this is.
    pub boot_id: &'a str,
    /// What tasks may use.
    pub capacity: &'a Amounts,
    /// Ports for tasks that name none: first and last.
    pub port_range: (u16, u16),
    /// Why nothing new is started, such as on a disk that is nearly full. What runs is not concerned.
    pub shortage: Option<&'a str>,
}

/// A task that is bound to this node.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The task.
    pub task: Arc<Task>,
    /// Its template, once it is known.
    pub template: Option<Template>,
}

/// What is known of a template.
#[derive(Debug, Clone)]
pub enum Template {
    /// It.
    Known(Arc<TaskTemplateSpec>),
    /// There is none of that name.
    Missing,
}

/// Something to do. Each is about one container, and may be done twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make and start it.
    Start(Box<ContainerSpec>),
    /// Ask it to end.
    Signal(Identity, Signal),
    /// End it.
    Kill(Identity),
    /// Remove it.
    Remove(Identity),
}

/// What to write down, and then to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What is known from now on; nothing of what is forgotten. To be written before any step.
    pub changes: BTreeMap<Identity, Option<Attempt>>,
    /// What to do.
    pub steps: Vec<Step>,
    /// What is here and not wanted, of what was decided about.
    pub leftovers: BTreeMap<Identity, Leftover>,
    /// When to decide again although nothing has happened, of what was decided about.
    pub wakes: BTreeMap<Identity, Timestamp>,
}

impl Step {
    /// Which container it is about.
    pub fn identity(&self) -> &Identity {
        match self {
            Step::Start(spec) => &spec.identity,
            Step::Signal(identity, _) | Step::Kill(identity) | Step::Remove(identity) => identity,
        }
    }
}

impl Assignment {
    /// Whether its container is wanted: it was not ended, nor given up. An owner gives up what is
    /// lost by recording it, and the loss stays.
    fn is_wanted(&self) -> bool {
        if self.task.is_recorded() {
            return false;
        }
        match self.task.state() {
            TaskState::Bound { .. }
            | TaskState::Starting { .. }
            | TaskState::Running { .. }
            | TaskState::Stopping { .. }
            | TaskState::Lost { .. } => true,
            TaskState::Pending
            | TaskState::Succeeded
            | TaskState::Failed { .. }
            | TaskState::TimedOut
            | TaskState::Cancelled { .. } => false,
        }
    }

    fn binding(&self) -> u32 {
        self.task.binding().map_or(0, |binding| binding.number)
    }

    /// The host ports that it asks for by number, as far as its template is known.
    fn named_ports(&self) -> BTreeSet<u16> {
        let Some(Template::Known(template)) = &self.template else { return BTreeSet::new() };
        let named = |ports: &[Port]| ports.iter().filter_map(|port| port.host_port).collect();
        // Most tasks have nothing of their own: their template is not copied for this.
        if self.task.spec.overrides.template.is_none() {
            return named(&template.template.ports);
        }
        merged(&self.task, template).map(|merged| named(&merged.ports)).unwrap_or_default()
    }

    fn stop(&self) -> Option<Why> {
        self.task.stop().map(|stop| Why::of(stop.reason))
    }

    /// An attempt with the grace that somebody asked for who deletes the task, in the place of its
    /// template's. It may come, or get shorter, while the attempt is being stopped already.
    fn with_asked_grace<'a>(&self, attempt: &'a Attempt) -> Cow<'a, Attempt> {
        let asked = self.task.metadata.deletion_grace_period_seconds;
        let Some(seconds) = asked.and_then(|seconds| u64::try_from(seconds).ok()) else {
            return Cow::Borrowed(attempt);
        };
        let mut attempt = attempt.clone();
        let asked = seconds.saturating_mul(1_000);
        // What was begun with the template's grace may be cut short, but goes on no longer.
        let is_stopping = matches!(attempt.progress, Progress::Stopping { .. });
        let longest = if is_stopping { attempt.manner.grace_millis } else { asked };
        attempt.manner.grace_millis = asked.min(longest);
        Cow::Owned(attempt)
    }
}

/// Decides.
pub fn plan(view: &View<'_>) -> Plan {
    let Some(assignments) = view.assignments else {
        return Plan::default();
    };
    let offer = Offer { capacity: view.node.capacity, port_range: view.node.port_range };
    let mut planner = Planner {
        view,
        plan: Plan::default(),
        room: Room::beside(view.ledger.taken(), offer),
        named: BTreeSet::new(),
        words: view.ledger.words(),
    };
    let mut fresh = Vec::new();
    let mut known = |identity| {
        let assignment = assignments.get(identity).filter(|assignment| assignment.is_wanted());
        let attempt = view.ledger.get(identity);
        match (assignment, attempt.filter(|attempt| is_of(assignment, attempt))) {
            (None, attempt) => planner.unwanted(identity, attempt),
            (Some(assignment), Some(attempt)) => planner.wanted(assignment, attempt),
            (Some(assignment), None) => fresh.push((identity, assignment)),
        }
    };
    match view.which {
        Which::These(these) => these.iter().for_each(&mut known),
        Which::All => {
            let attempts = view.ledger.attempts().keys();
            let all = assignments.keys().chain(view.containers.keys()).chain(attempts);
            all.collect::<BTreeSet<_>>().into_iter().for_each(&mut known);
        }
    }
    // Those that were bound first get what there is.
    fresh.sort_by_key(|(identity, assignment)| {
        (assignment.task.binding().map(|binding| binding.at), *identity)
    });
    planner.named = fresh.iter().flat_map(|(_, assignment)| assignment.named_ports()).collect();
    for (identity, assignment) in fresh {
        planner.fresh(identity, assignment);
    }
    planner.plan
}

/// Whether what is known is of the binding that is wanted. A binding that was given back may come
/// again under a new number.
fn is_of(assignment: Option<&Assignment>, attempt: &Attempt) -> bool {
    assignment.is_none_or(|assignment| match attempt.progress {
        Progress::Refused => assignment.binding() <= attempt.binding,
        Progress::Starting { .. }
        | Progress::Running { .. }
        | Progress::Stopping { .. }
        | Progress::Ended => true,
    })
}

struct Planner<'a> {
    view: &'a View<'a>,
    plan: Plan,
    room: Room<'a>,
    /// Host ports that attempts name which are to be started now.
    named: BTreeSet<u16>,
    /// The number of the newest word.
    words: u64,
}

impl Planner<'_> {
    /// An attempt that is wanted and known.
    fn wanted(&mut self, assignment: &Assignment, attempt: &Attempt) {
        let attempt = &*assignment.with_asked_grace(attempt);
        let identity = &attempt.identity;
        if self.view.busy.contains(identity) {
            self.tell_slow_start(attempt);
            return;
        }
        let container = self.view.containers.get(identity);
        let damage = match container {
            Some(ContainerState::Unreadable { why }) => Some(why.as_str()),
            Some(_) | None => None,
        };
        let told = self.tell_damage(attempt, damage);
        let attempt = told.as_ref().unwrap_or(attempt);
        if damage.is_some() {
            return;
        }
        match &attempt.progress {
            Progress::Starting { .. } => self.starting(assignment, attempt, container),
            Progress::Running { started, .. } => match container {
                None => self.gone(attempt, Some(*started)),
                Some(ContainerState::Exited { .. }) => self.ended(attempt, container, None),
                // Docker restarts nothing of ours: one that is only made was made anew by hand.
                Some(ContainerState::Created) => self.gone(attempt, Some(*started)),
                Some(ContainerState::Running { .. }) => self.running(assignment, attempt),
                Some(ContainerState::Unreadable { .. }) => (),
            },
            Progress::Stopping { .. } => self.stopping(attempt, container),
            Progress::Ended | Progress::Refused => self.tidy(attempt, container),
        }
    }

    /// Says that what the engine knows of an attempt is damaged, or no longer is. What is then known of
    /// the attempt, if that is news. Nothing else is decided about it meanwhile.
    fn tell_damage(&mut self, attempt: &Attempt, why: Option<&str>) -> Option<Attempt> {
        if attempt.session.damage.as_deref() == why {
            return None;
        }
        let mut next = attempt.clone();
        next.session.damage = why.map(str::to_owned);
        next.session.trouble.clone_from(&next.session.damage);
        Some(match next.progress {
            Progress::Starting { .. } => self.tell_slow_start(&next),
            Progress::Running { .. } | Progress::Stopping { .. } => self.tell_trouble(&next),
            Progress::Ended | Progress::Refused => next,
        })
    }

    fn running(&mut self, assignment: &Assignment, attempt: &Attempt) {
        let Progress::Running { started, seen } = &attempt.progress else { return };
        let due = attempt.manner.timeout().map(|timeout| later(*seen, timeout));
        let late = due.filter(|due| *due <= self.view.now).map(|_| Why::TimedOut);
        let Some(why) = assignment.stop().or(late) else {
            return self.wake_at(&attempt.identity, due);
        };
        self.begin_stop(attempt, Some(*started), why);
    }

    fn ended(
        &mut self,
        attempt: &Attempt,
        container: Option<&ContainerState>,
        asked: Option<(Why, Timestamp)>,
    ) {
        if let Some(ending) = container.and_then(|container| Ending::seen(container, asked)) {
            self.end(attempt, ending);
        }
    }

    fn gone(&mut self, attempt: &Attempt, started: Option<Timestamp>) {
        let message = "its container disappeared; its exit code is unknown";
        self.vanished(attempt, started, (reason::CONTAINER_GONE, message));
    }

    fn vanished(
        &mut self,
        attempt: &Attempt,
        started: Option<Timestamp>,
        (why, message): (&str, &str),
    ) {
        let mut ending = Ending::failed(why, message, self.view.wall);
        ending.started = started;
        self.end(attempt, ending);
    }

    fn end(&mut self, attempt: &Attempt, ending: Ending) {
        let mut next = attempt.clone();
        self.words += 1;
        end(&mut next, ending, self.words, self.view.node.boot_id);
        self.keep(next);
    }

    fn say(&mut self, attempt: &mut Attempt, says: Says) {
        self.words += 1;
        attempt.say(self.words, says);
    }

    fn keep(&mut self, attempt: Attempt) {
        let identity = attempt.identity.clone();
        self.turn_into(&identity, Some(attempt));
    }

    /// What is known of an attempt from now on.
    fn turn_into(&mut self, identity: &Identity, next: Option<Attempt>) {
        let before = self.plan.changes.get(identity).map(Option::as_ref);
        let before = before.unwrap_or_else(|| self.view.ledger.get(identity));
        self.room.replace(before, next.as_ref());
        self.plan.changes.insert(identity.clone(), next);
    }

    fn wake_at(&mut self, identity: &Identity, at: Option<Timestamp>) {
        if let Some(at) = at {
            let wake = self.plan.wakes.entry(identity.clone()).or_insert(at);
            *wake = at.min(*wake);
        }
    }
}

/// Writes an end down.
pub(crate) fn end(attempt: &mut Attempt, ending: Ending, word: u64, boot_id: &str) {
    let mut report = report(attempt, boot_id, ending.state);
    report.exit_code = ending.exit_code;
    report.reason = ending.reason;
    let timed_out = ending.state == ReportState::TimedOut;
    let limit = attempt.manner.timeout().filter(|_| timed_out).map(api::duration::Duration::from);
    let limit = limit.map(|limit| format!("longer than attemptTimeout ({limit})"));
    report.message = ending.message.or(limit);
    report.started_at = ending.started.or(report.started_at);
    report.finished_at = Some(ending.finished);
    attempt.progress = Progress::Ended;
    attempt.say(word, Says::Report(Box::new(report)));
}

/// A report of an attempt, without what only its end tells.
fn report(attempt: &Attempt, boot_id: &str, state: ReportState) -> Report {
    let started_at = match &attempt.progress {
        Progress::Running { started, .. } => Some(*started),
        Progress::Stopping { started, .. } => *started,
        Progress::Starting { .. } | Progress::Ended | Progress::Refused => None,
    };
    Report {
        binding: attempt.binding,
        boot_id: boot_id.to_owned(),
        state,
        ready: state == ReportState::Running,
        restarts: 0,
        exit_code: None,
        reason: None,
        message: None,
        started_at,
        finished_at: None,
        ports: attempt.ports.clone(),
    }
}

/// `wait` after `time`.
pub(crate) fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
