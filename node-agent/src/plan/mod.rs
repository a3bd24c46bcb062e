//! Decides what this node does next.
//!
//! # Invariants
//!
//! * Nothing is started and nothing is stopped until the list of assignments is complete.
//! * An attempt is started only after it was written to the journal as [`Progress::Starting`]. One
//!   that has ended is never started again.
//! * On the state that its own actions lead to, `plan` returns nothing.
//! * A container of ours that no assignment wants is stopped and removed, and reported as a
//!   leftover until it is gone.
//! * The decision about an attempt depends on that attempt and on the node's free resources alone.
//!   So a plan for the attempts that have changed or are due equals the plan for all.

mod anew;
mod answer;
mod ending;
mod probing;
mod restart;
mod start;
mod stop;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::amounts::Amounts;
use api::node::Leftover;
use api::task::report::Report;
use api::task::{ReportState, TaskState, reason};
use api::task_template::TaskTemplateSpec;
use api::template::Port;
use api::{Task, Timestamp};

use crate::attempt::{Attempt, Content, InPlace, Progress, Why};
use crate::engine::{ContainerSpec, ContainerState, Identity, Signal};
use crate::ledger::Ledger;
use crate::resolve::{HostInfo, merged};
use crate::taken::{Offer, Room};

pub(crate) use anew::tell_anew;
pub(crate) use answer::{ActionKind, After, after, after_pull, while_pulled};
pub(crate) use ending::Ending;
pub use probing::ProbeOrder;
pub(crate) use probing::after_probe;
pub(crate) use restart::after_failure;

/// How often a killed container that still exists is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// A start that takes longer than this is reported.
const SLOW_START: Duration = Duration::from_secs(1);

/// All that a decision may depend on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Tasks that are bound to this node; `None` until the list of them is complete.
    pub assignments: Option<&'a BTreeMap<Identity, Assignment>>,
    /// Containers of this node, including ended ones.
    pub containers: &'a BTreeMap<Identity, ContainerState>,
    /// The attempts that the agent knows.
    pub ledger: &'a Ledger,
    /// What to decide about.
    pub which: Which<'a>,
    /// Containers with an action in progress. Nothing is decided about them, because the result of
    /// the action is not known.
    pub busy: &'a BTreeSet<Identity>,
    /// The properties of the node.
    pub node: Node<'a>,
    /// The time for waits: it neither jumps nor goes back within one start of the agent.
    pub now: Timestamp,
    /// The wall clock time, which the engine uses and reports contain.
    pub wall: Timestamp,
}

/// What to decide about.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Everything that is known.
    All,
    /// Those of these identities that are known.
    These(&'a BTreeSet<Identity>),
}

/// The properties of a node.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// What containers are told of the node.
    pub host: HostInfo<'a>,
    /// Identifier of this start of the agent.
    pub boot_id: &'a str,
    /// Resources that tasks may use.
    pub capacity: &'a Amounts,
    /// First and last port of the range for tasks that do not choose a port.
    pub port_range: (u16, u16),
    /// Why nothing new is started, for example because the disk is nearly full. Running tasks
    /// continue.
    pub shortage: Option<&'a str>,
}

/// A task that is bound to this node.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The task.
    pub task: Arc<Task>,
    /// Its template, once that was read.
    pub template: Option<Template>,
}

/// What is known of a template.
#[derive(Debug, Clone)]
pub enum Template {
    /// Its content.
    Known(Arc<TaskTemplateSpec>),
    /// It does not exist.
    Missing,
}

/// An action of the shell on one container. Repeating it does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Create and start it.
    Start(Box<ContainerSpec>),
    /// Ask it to end.
    Signal(Identity, Signal),
    /// Kill it.
    Kill(Identity),
    /// Remove it.
    Remove(Identity),
}

/// What to write to the journal, and then to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The new state of attempts; `None` for forgotten ones. It must be in the journal before any
    /// action is done.
    pub changes: BTreeMap<Identity, Option<Attempt>>,
    /// What to do.
    pub actions: Vec<Action>,
    /// Probes to make. One that is in progress still is not made again.
    pub probes: Vec<ProbeOrder>,
    /// Unwanted attempts among those that were decided about.
    pub leftovers: BTreeMap<Identity, Leftover>,
    /// When to decide again even if nothing happens, for those that were decided about.
    pub wakes: BTreeMap<Identity, Timestamp>,
}

impl Action {
    /// The container that it is about.
    pub fn identity(&self) -> &Identity {
        match self {
            Action::Start(spec) => &spec.identity,
            Action::Signal(identity, _) | Action::Kill(identity) | Action::Remove(identity) => {
                identity
            }
        }
    }
}

impl Assignment {
    /// Whether its container is wanted: the task is not being stopped and was not given up. An
    /// owner gives up a lost task by recording its end, and the loss stays on the task.
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

    /// The node ports that the task asks for by number, as far as its template is known.
    fn named_ports(&self) -> BTreeSet<u16> {
        let Some(Template::Known(template)) = &self.template else { return BTreeSet::new() };
        let named = |ports: &[Port]| ports.iter().filter_map(|port| port.host_port).collect();
        // Most tasks have no template of their own; avoid copying the shared one for them.
        if self.task.spec.overrides.template.is_none() {
            return named(&template.template.ports);
        }
        merged(&self.task, template).map(|merged| named(&merged.ports)).unwrap_or_default()
    }

    fn stop(&self) -> Option<Why> {
        self.task.stop().map(|stop| Why::of(stop.reason))
    }

    /// The attempt with the grace period of a deletion request, if there is one, in place of the
    /// template's. The request may come while the attempt is already being stopped.
    fn with_asked_grace<'a>(&self, attempt: &'a Attempt) -> Cow<'a, Attempt> {
        let asked = self.task.metadata.deletion_grace_period_seconds;
        let Some(seconds) = asked.and_then(|seconds| u64::try_from(seconds).ok()) else {
            return Cow::Borrowed(attempt);
        };
        let mut attempt = attempt.clone();
        let asked = seconds.saturating_mul(1_000);
        // A stop that has begun may be shortened by it, but not extended.
        let is_stopping = matches!(attempt.progress, Progress::Stopping { .. });
        let longest = if is_stopping { attempt.manner.grace_millis } else { asked };
        attempt.manner.grace_millis = asked.min(longest);
        attempt.manner.drain_millis = asked.min(attempt.manner.drain_millis);
        Cow::Owned(attempt)
    }
}

/// Decides what to do next.
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
        last_message: view.ledger.last_message(),
    };
    let mut fresh = Vec::new();
    for identity in attempts_to_decide(view, assignments) {
        let assigned = assignments.get_key_value(&*identity);
        let assigned = assigned.filter(|(_, assignment)| assignment.is_wanted());
        let assignment = assigned.map(|(_, assignment)| assignment);
        let attempt = view.ledger.current(&identity);
        match (assigned, attempt.filter(|attempt| is_of(assignment, attempt))) {
            (None, _) => planner.unwanted_attempt(&identity),
            (Some((_, assignment)), Some(attempt)) => planner.wanted(assignment, attempt),
            (Some(assigned), None) => fresh.push(assigned),
        }
    }
    // The task that was bound first gets the resources first.
    fresh.sort_by_key(|(identity, assignment)| {
        (assignment.task.binding().map(|binding| binding.at), *identity)
    });
    planner.named = fresh.iter().flat_map(|(_, assignment)| assignment.named_ports()).collect();
    for (identity, assignment) in fresh {
        planner.fresh(identity, assignment);
    }
    planner.plan
}

/// The attempts to decide about, each once however many containers it has.
fn attempts_to_decide<'a>(
    view: &View<'a>,
    assignments: &'a BTreeMap<Identity, Assignment>,
) -> BTreeSet<Cow<'a, Identity>> {
    match view.which {
        Which::These(these) => these.iter().map(Identity::of_attempt).collect(),
        Which::All => {
            let attempts = view.ledger.attempts().keys();
            let all = assignments.keys().chain(view.containers.keys()).chain(attempts);
            all.map(Identity::of_attempt).collect()
        }
    }
}

/// Whether what is known belongs to the wanted binding. A binding that was returned may come again
/// with a new number.
fn is_of(assignment: Option<&Assignment>, attempt: &Attempt) -> bool {
    assignment.is_none_or(|assignment| match attempt.progress {
        Progress::Refused => assignment.binding() <= attempt.binding,
        Progress::Starting { .. }
        | Progress::BackOff { .. }
        | Progress::Running { .. }
        | Progress::Stopping { .. }
        | Progress::Ended => true,
    })
}

struct Planner<'a> {
    view: &'a View<'a>,
    plan: Plan,
    room: Room<'a>,
    /// Node ports that attempts ask for by number which are started by this plan.
    named: BTreeSet<u16>,
    /// Number of the newest message.
    last_message: u64,
}

impl Planner<'_> {
    /// An attempt that is known and wanted.
    fn wanted(&mut self, assignment: &Assignment, attempt: &Attempt) {
        let attempt = &*assignment.with_asked_grace(attempt);
        let attempt = self.with_own_rule(assignment, attempt);
        let attempt = &*Self::with_health(assignment, attempt);
        let identity = &attempt.identity;
        if self.view.busy.contains(identity) {
            self.tell_slow_start(attempt);
            return;
        }
        let attempt = &*self.clear_others(attempt);
        let container = self.view.containers.get(&attempt.identity);
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
            Progress::BackOff { .. } => self.backing_off(assignment, attempt, container),
            Progress::Running { started, .. } => match container {
                Some(ContainerState::Exited { .. }) => self.exited(assignment, attempt, container),
                // Docker restarts nothing of ours, so a container that is merely created was
                // created again by somebody else.
                None | Some(ContainerState::Created) => {
                    self.fallen(assignment, attempt, self.gone(Some(*started)));
                }
                Some(ContainerState::Running { since }) => {
                    self.running(assignment, attempt, *since);
                }
                Some(ContainerState::Unreadable { .. }) => (),
            },
            Progress::Stopping { .. } => self.stopping(assignment, attempt, container),
            Progress::Ended | Progress::Refused => self.tidy(attempt, container),
        }
    }

    /// The attempt with what is not in its record: the rule of its restarts, if an agent wrote the
    /// record that did not know it; and the newest of its containers, if the journal is older than
    /// that one.
    fn with_own_rule<'b>(
        &mut self,
        assignment: &Assignment,
        attempt: &'b Attempt,
    ) -> Cow<'b, Attempt> {
        let Some(Template::Known(template)) = &assignment.template else {
            return Cow::Borrowed(attempt);
        };
        if template.restart.is_none() || !attempt.holds() {
            return Cow::Borrowed(attempt);
        }
        let mut next = Cow::Borrowed(attempt);
        if attempt.in_place.is_none() {
            next.to_mut().in_place = InPlace::of(assignment, template);
        }
        if let Some((newest, _)) = attempt.identity.newest_main_in(self.view.containers)
            && newest.restart() > attempt.identity.restart()
        {
            self.turn_into(&attempt.identity, None);
            let next = next.to_mut();
            next.identity = newest.clone();
            next.progress = Progress::Starting { since: self.view.now };
            next.session.told = None;
            next.health = next.health.anew();
            self.keep(next.clone());
        }
        next
    }

    /// Reports that the engine's records of an attempt are damaged, or no longer are. Returns the
    /// new state of the attempt if that is news. Nothing else is decided about it while it is
    /// damaged: it may be running.
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
            Progress::BackOff { .. } | Progress::Ended | Progress::Refused => next,
        })
    }

    fn running(&mut self, assignment: &Assignment, attempt: &Attempt, since: Timestamp) {
        let Progress::Running { started, seen } = &attempt.progress else { return };
        let due = attempt.manner.timeout().map(|timeout| later(*seen, timeout));
        let late = due.filter(|due| *due <= self.view.now).map(|_| Why::TimedOut);
        if let Some(why) = assignment.stop().or(late) {
            return self.begin_stop(attempt, Some(*started), why);
        }
        let attempt = &*self.probe(assignment, attempt, since);
        if attempt.health.failed().is_some() {
            return self.begin_stop(attempt, Some(*started), Why::Unhealthy);
        }
        self.tell_run(assignment, attempt);
        self.wake_at(&attempt.identity, due);
    }

    /// Its container has ended, and nobody had asked it to.
    fn exited(
        &mut self,
        assignment: &Assignment,
        attempt: &Attempt,
        container: Option<&ContainerState>,
    ) {
        if let Some(ending) = container.and_then(|container| Ending::seen(container, None)) {
            self.fallen(assignment, attempt, ending);
        }
    }

    fn gone(&self, started: Option<Timestamp>) -> Ending {
        let message = "its container disappeared; its exit code is unknown";
        let mut ending = Ending::failed(reason::CONTAINER_GONE, message, self.view.wall);
        ending.started = started;
        ending
    }

    fn end(&mut self, attempt: &Attempt, ending: Ending) {
        let mut next = attempt.clone();
        self.last_message += 1;
        end(&mut next, ending, self.last_message, self.view.node.boot_id);
        self.keep(next);
    }

    fn say(&mut self, attempt: &mut Attempt, says: Content) {
        self.last_message += 1;
        attempt.say(self.last_message, says);
    }

    fn keep(&mut self, attempt: Attempt) {
        let identity = attempt.identity.clone();
        self.turn_into(&identity, Some(attempt));
    }

    /// The state of an attempt as far as it is decided.
    fn known(&self, identity: &Identity) -> Option<&Attempt> {
        let before = self.plan.changes.get(identity).map(Option::as_ref);
        before.unwrap_or_else(|| self.view.ledger.get(identity))
    }

    /// Sets the new state of an attempt.
    fn turn_into(&mut self, identity: &Identity, next: Option<Attempt>) {
        let before = self.plan.changes.get(identity).map(Option::as_ref);
        let before = before.unwrap_or_else(|| self.view.ledger.get(identity));
        self.room.replace(before, next.as_ref());
        self.plan.changes.insert(identity.clone(), next);
    }

    fn wake_at(&mut self, identity: &Identity, at: Option<Timestamp>) {
        if let Some(at) = at {
            let attempt = identity.of_attempt().into_owned();
            let wake = self.plan.wakes.entry(attempt).or_insert(at);
            *wake = at.min(*wake);
        }
    }
}

/// Records an end in an attempt.
pub(crate) fn end(attempt: &mut Attempt, ending: Ending, message_number: u64, boot_id: &str) {
    let mut report = report(attempt, boot_id, ending.state);
    report.exit_code = ending.exit_code;
    report.reason = ending.reason;
    let timed_out = ending.state == ReportState::TimedOut;
    let limit = attempt.manner.timeout().filter(|_| timed_out).map(api::duration::Duration::from);
    let limit = limit.map(|limit| format!("longer than attemptTimeout ({limit})"));
    report.message = ending.message.or(limit);
    report.started_at = ending.started.or(report.started_at);
    report.restart_at = None;
    report.finished_at = Some(ending.finished);
    attempt.progress = Progress::Ended;
    attempt.say(message_number, Content::Report(Box::new(report)));
}

/// A report of an attempt without the fields that only an end has.
fn report(attempt: &Attempt, boot_id: &str, state: ReportState) -> Report {
    let started_at = match &attempt.progress {
        Progress::Running { started, .. } => Some(*started),
        Progress::Stopping { started, .. } => *started,
        Progress::Starting { .. }
        | Progress::BackOff { .. }
        | Progress::Ended
        | Progress::Refused => None,
    };
    let (reason, message, restart_at) = match &attempt.progress {
        Progress::BackOff { reason, message, until, .. } => {
            (Some(reason.clone()), message.clone(), Some(*until))
        }
        Progress::Running { .. } => (None, attempt.words_of_probes(), None),
        Progress::Starting { .. }
        | Progress::Stopping { .. }
        | Progress::Ended
        | Progress::Refused => (None, None, None),
    };
    let is_running = matches!(attempt.progress, Progress::Running { .. });
    let last_exit = attempt.in_place.as_ref().and_then(|in_place| in_place.last_exit.clone());
    Report {
        binding: attempt.binding,
        boot_id: boot_id.to_owned(),
        state,
        ready: state == ReportState::Running && is_running && attempt.health.is_ready(),
        restarts: attempt.identity.restart(),
        exit_code: None,
        reason,
        message,
        started_at,
        finished_at: None,
        ports: attempt.ports.clone(),
        last_exit: last_exit.map(Box::new),
        restart_at,
        image_digest: attempt.in_place.as_ref().and_then(|_| attempt.image_digest.clone()),
    }
}

/// `time` plus `wait`, saturating.
pub(crate) fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
