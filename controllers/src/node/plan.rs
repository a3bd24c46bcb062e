//! Decides which nodes are lost, and what happens to their tasks.
//!
//! # Invariants
//!
//! * A missing node lease is evidence, but not enough: a node is declared lost only while this
//!   controller itself has renewed a canary lease without a gap for a full time to live, and the
//!   brake allows it.
//! * Deadlines are measured by this controller's own monotonic clock, from when it first saw the
//!   lease missing. A restart makes them later, never earlier.
//! * A node does not count as ready again before its tasks are handled.
//! * The brake never prevents the loss of a single node.
//! * A node whose lease is missing says so even if it is not declared lost, and gets no new tasks
//!   meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use api::object::Kind as _;
use api::placement::{NODE_LEASE_TTL, OnNodeLoss};
use api::task::StopReason;
use api::task::transition::TaskChange;
use api::{Node, Task, Timestamp};
use jiff::SignedDuration;

use crate::action::{Action, Group};

/// Everything that the decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Every node.
    pub nodes: &'a [&'a Node],
    /// The names of the nodes that have a lease.
    pub leased: &'a BTreeSet<String>,
    /// The tasks that have a node and have not ended, on nodes without a lease, and the tasks that
    /// are lost.
    pub tasks: &'a [Placed<'a>],
    /// This controller's own lease.
    pub canary: Option<Canary>,
    /// When each missing lease was first seen missing.
    pub missing: &'a Missing,
    /// The monotonic time since an arbitrary start.
    pub elapsed: Duration,
    /// The wall clock time, to display.
    pub now: Timestamp,
}

/// The monotonic time at which each missing lease was first seen missing. Nothing else is
/// remembered between plans.
pub type Missing = BTreeMap<String, Duration>;

/// A task on a node, and what to do if the node is lost.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The task.
    pub task: &'a Task,
    /// What its placement asks for.
    pub on_loss: OnNodeLoss,
}

/// A lease that this controller holds in order to see whether the store maintains leases properly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// The time since which it was renewed without a gap.
    pub since: Duration,
    /// The time of the last renewal.
    pub last: Duration,
}

/// A longer time between two renewals of the canary counts as a gap.
const CANARY_GAP_MAX: Duration = Duration::from_secs(3);

impl Canary {
    /// The canary after a successful renewal that was sent at `at`.
    #[must_use]
    pub fn renewed(before: Option<Self>, at: Duration) -> Self {
        match before {
            Some(before) if at.saturating_sub(before.last) <= CANARY_GAP_MAX => {
                Self { last: at, ..before }
            }
            _ => Self { since: at, last: at },
        }
    }

    /// Whether it has been renewed without a gap for a full time to live, until now.
    fn is_well(self, elapsed: Duration) -> bool {
        elapsed.saturating_sub(self.last) <= CANARY_GAP_MAX
            && elapsed.saturating_sub(self.since) >= NODE_LEASE_TTL.get()
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The writes. Each group happens as a whole or not at all, independently of the others.
    pub groups: Vec<Group>,
    /// To be remembered until the next plan.
    pub missing: Missing,
    /// Nodes with a new verdict.
    pub verdicts: Vec<(String, Verdict)>,
    /// Why nodes whose lease is missing are not declared lost.
    pub waiting: Option<Waiting>,
    /// Whether there will be more to do when some time has passed.
    pub has_deadlines: bool,
}

/// A verdict on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its agent is silent.
    Lost,
    /// Its agent is silent, but not declared lost, for this reason.
    Held(Waiting),
    /// Its agent is heard again.
    Heard,
}

/// Why nodes whose lease is missing are not declared lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The store may not maintain leases properly: the canary has not lived for long enough.
    Canary,
    /// Too many nodes are silent at once: the fault is probably here and not with them. This lasts
    /// until some come back, or somebody deletes Node objects.
    Brake {
        /// The number of nodes that fell silent recently.
        missing: usize,
        /// The number of those and of the nodes that are present.
        of: usize,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Canary => f.write_str("the heartbeats are being checked"),
            Waiting::Brake { missing, of } => write!(f, "{missing} of {of} nodes are silent"),
        }
    }
}

/// Losses within this time are counted together.
const BRAKE_WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// The brake holds if more than this percentage of the nodes fell silent (the limit for an
/// unhealthy zone in Kubernetes) ...
const BRAKE_PERCENT: usize = 55;
/// ... and more than this number; or all nodes, unless there is only one.
const BRAKE_NODES: usize = 2;
/// In a larger cluster, the message of a silent node keeps the count that it was first written
/// with. Otherwise each node that falls silent would change the messages of all others.
const RECOUNTED_NODES_MAX: usize = 100;
/// The maximum number of nodes for which a plan reports that they are silent but not declared lost.
/// If the network fails, it may be all nodes.
const HELD_TOLD_MAX: usize = 20;
/// The maximum number of task changes in a plan.
const ROUND_OPS_MAX: usize = 1_000;

/// Decides what to do about nodes that are silent or heard again.
pub fn plan(view: &View<'_>) -> Plan {
    let known: BTreeSet<&str> = view.nodes.iter().map(|node| node.name()).collect();
    let with_tasks = view.tasks.iter().filter_map(|placed| placed.task.node());
    let missing: Missing = known
        .iter()
        .copied()
        .chain(with_tasks)
        .filter(|node| !view.leased.contains(*node))
        .map(|node| {
            let since = view.missing.get(node).copied().unwrap_or(view.elapsed);
            (node.to_owned(), since)
        })
        .collect();
    let waiting = waiting(view, &missing);
    let mut plan = Plan { missing, ..Plan::default() };
    let verdict_allowed = waiting.is_none();
    let recoverable = view.tasks.iter().filter(|placed| is_recoverable(placed.task));
    let recoverable: BTreeSet<&str> = recoverable.filter_map(|it| it.task.node()).collect();
    let mut lost: BTreeSet<&str> = BTreeSet::new();
    let mut told = 0;
    for node in view.nodes {
        let is_missing = plan.missing.contains_key(node.name());
        match (is_missing, node.status.lost.is_some()) {
            // Already declared lost. Its tasks may not all have been handled, since a plan has a
            // maximum size.
            (true, true) => drop(lost.insert(node.name())),
            // The canary shows that missing leases are not the store's fault, and not too many
            // nodes are silent: this one is lost.
            (true, false) if is_heard_of(node) && verdict_allowed => {
                lost.insert(node.name());
                let since = silent_since(view, &plan.missing, node);
                plan.groups.push(set_silence(node, since, Some(view.now), None));
                plan.verdicts.push((node.name().to_owned(), Verdict::Lost));
            }
            // The lease may be missing for a reason on this side. Declaring the node lost would
            // start its tasks a second time, while they may still be running.
            (true, false) if is_heard_of(node) => {
                plan.waiting = waiting;
                plan.has_deadlines = true;
                plan.hold(view, node, &mut told);
            }
            // It counts as heard only after its tasks have recovered: otherwise new tasks would be
            // bound to room that the old ones still use.
            (false, true) if !recoverable.contains(node.name()) => {
                plan.groups.push(set_silence(node, None, None, None));
                plan.verdicts.push((node.name().to_owned(), Verdict::Heard));
            }
            // It was silent, but was not declared lost before it came back.
            (false, false) if node.is_silent() => {
                plan.groups.push(set_silence(node, None, None, None));
                if is_told_of(node) {
                    plan.verdicts.push((node.name().to_owned(), Verdict::Heard));
                }
            }
            // A node that was never heard cannot fall silent, one that is heard needs nothing, and
            // one that is back has tasks that have to recover first.
            (true | false, false) | (false, true) => (),
        }
    }
    let changes = view.tasks.iter().filter_map(|placed| {
        let change = change(view, &plan.missing, &known, &lost, placed)?;
        Some(Action::task(placed.task, change).into())
    });
    let changes: Vec<Group> = changes.take(ROUND_OPS_MAX).collect();
    plan.groups.extend(changes);
    plan.has_deadlines |=
        view.tasks.iter().any(|placed| waits_to_be_replaced(&plan.missing, placed));
    plan
}

/// Whether a task of a silent node can be replaced once it has been lost for long enough.
fn waits_to_be_replaced(missing: &Missing, Placed { task, on_loss }: &Placed<'_>) -> bool {
    let is_missing = task.node().is_some_and(|node| missing.contains_key(node));
    let is_lost = task.loss().is_some_and(|loss| !loss.replaceable && !loss.waits);
    is_missing && is_lost && !task.has_ended() && on_loss.replace_after().is_some()
}

/// Whether its agent was ever heard. A node that somebody only created as an object cannot be lost.
fn is_heard_of(node: &Node) -> bool {
    node.status.ready_since.is_some()
}

/// Whether it was reported that the node is silent but not declared lost. This is not reported
/// while the heartbeats are being checked.
fn is_told_of(node: &Node) -> bool {
    node.status.held.as_ref().is_some_and(|held| *held != Waiting::Canary.to_string())
}

impl Plan {
    /// Writes on a silent node why it is not declared lost. `told` counts the nodes that are also
    /// reported, of which there are at most [`HELD_TOLD_MAX`].
    fn hold(&mut self, view: &View<'_>, node: &Node, told: &mut usize) {
        let Some(waiting) = self.waiting else { return };
        let since = silent_since(view, &self.missing, node);
        let held = Some(waiting.to_string());
        // Already written: writing it again at every look would never end.
        if (&node.status.held, node.status.silent_since) == (&held, since) {
            return;
        }
        let was_told = is_told_of(node);
        // Only the count in the message has changed, which is not worth a write for each silent
        // node.
        if was_told && waiting != Waiting::Canary && view.nodes.len() > RECOUNTED_NODES_MAX {
            return;
        }
        self.groups.push(set_silence(node, since, None, held));
        if waiting != Waiting::Canary && !was_told && *told < HELD_TOLD_MAX {
            *told += 1;
            self.verdicts.push((node.name().to_owned(), Verdict::Held(waiting)));
        }
    }
}

/// When a node was last heard whose lease has been missing for this long. The lease expires only
/// some time after that.
fn last_heard(view: &View<'_>, missing_for: Duration) -> Timestamp {
    let silence = SignedDuration::try_from(missing_for.saturating_add(NODE_LEASE_TTL.get()));
    view.now.saturating_sub(silence.unwrap_or(SignedDuration::MAX)).unwrap_or(view.now)
}

/// When a silent node was last heard. A time that was written before stays, since another
/// controller may have seen the lease expire.
fn silent_since(view: &View<'_>, missing: &Missing, node: &Node) -> Option<Timestamp> {
    let seen_missing = missing.get(node.name()).copied().unwrap_or(view.elapsed);
    let since = last_heard(view, view.elapsed.saturating_sub(seen_missing));
    Some(node.status.silent_since.unwrap_or(since))
}

fn set_silence(
    node: &Node,
    silent_since: Option<Timestamp>,
    lost: Option<Timestamp>,
    held: Option<String>,
) -> Group {
    let mut next = node.clone();
    (next.status.silent_since, next.status.lost, next.status.held) = (silent_since, lost, held);
    Action::status(next).into()
}

/// Whether a lost attempt continues when its node is heard again.
fn is_recoverable(task: &Task) -> bool {
    task.loss().is_some() && !task.has_ended() && !task.is_recorded()
}

/// Why no node can be declared lost now, if so.
fn waiting(view: &View<'_>, missing: &Missing) -> Option<Waiting> {
    // If not even our own lease is kept, the store or the way to it is at fault, and not the nodes.
    if !view.canary.is_some_and(|canary| canary.is_well(view.elapsed)) {
        return Some(Waiting::Canary);
    }
    let is_recent = |node: &&&Node| {
        let lost = node.status.lost;
        missing.contains_key(node.name())
            && is_heard_of(node)
            // This time was written by an earlier leader, whose clock may have been ahead. A small
            // difference still counts as recent, but one of hours must not hold the brake until
            // that time comes.
            && lost.is_none_or(|at| view.now.duration_since(at).abs() < BRAKE_WINDOW)
    };
    let gone = view.nodes.iter().filter(is_recent).count();
    let there = view.nodes.iter().filter(|node| view.leased.contains(node.name())).count();
    let of = gone + there;
    let many = gone * 100 > of * BRAKE_PERCENT && gone > BRAKE_NODES;
    let all = gone == of && gone > 1;
    (many || all).then_some(Waiting::Brake { missing: gone, of })
}

/// A silence longer than this, beyond the life of the lease, is reported to the second.
const LONG_SILENCE: Duration = Duration::from_secs(2);

/// Whether a user has evicted a task.
fn is_evicted(task: &Task) -> bool {
    task.stop().is_some_and(|stop| stop.reason == StopReason::Evict)
}

/// The node of a task is lost; `seen_missing` is when its lease was first seen missing.
fn lose(view: &View<'_>, seen_missing: Duration, on_loss: OnNodeLoss) -> TaskChange {
    let missing_for = view.elapsed.saturating_sub(seen_missing);
    let waits = on_loss.replace_after().is_none();
    // The lease went missing just now, so the time of the silence is known well enough without
    // being stored.
    if missing_for < LONG_SILENCE && !waits {
        return TaskChange::Lose;
    }
    TaskChange::LoseNode { silent_since: last_heard(view, missing_for), waits }
}

/// What happens to a task whose node is silent or heard again.
fn change(
    view: &View<'_>,
    missing: &Missing,
    known: &BTreeSet<&str>,
    lost: &BTreeSet<&str>,
    placed: &Placed<'_>,
) -> Option<TaskChange> {
    let task = placed.task;
    let node = task.node()?;
    // The node is heard, so a task that was declared lost with it is still there.
    let Some(since) = missing.get(node) else {
        return is_recoverable(task).then_some(TaskChange::Recover);
    };
    // A user who deletes a Node declares that it will not come back.
    let is_deleted = !known.contains(node);
    match task.loss() {
        // What has ended cannot be lost any more.
        None if task.has_ended() => None,
        // A silent node that is not declared lost may only be cut off for a moment.
        None => (is_deleted || lost.contains(node)).then(|| lose(view, *since, placed.on_loss)),
        // Everything is decided: the job replaces it, or it came to an end before the loss.
        Some(loss) if loss.replaceable || task.has_ended() => None,
        Some(_) if is_deleted => Some(TaskChange::Replaceable),
        // What its placement asked for at that time still applies, although the job and the
        // template may be gone by now. A user who evicts it declares that it no longer runs.
        Some(loss) if loss.waits => is_evicted(task).then_some(TaskChange::Replaceable),
        Some(_) => {
            // The task may be running without being heard. It is replaced only after the time that
            // its placement allows for its node to return.
            let after = placed.on_loss.replace_after()?.get();
            let due = since.saturating_add(after.saturating_sub(NODE_LEASE_TTL.get()));
            (due <= view.elapsed).then_some(TaskChange::Replaceable)
        }
    }
}
