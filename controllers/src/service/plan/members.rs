//! The tasks of a service, by what they mean to it.

use std::cmp::Ordering;

use api::object::Kind as _;
use api::task::{StopReason, TaskState};
use api::{Service, Task, Timestamp};

use super::places::{Places, natural};
use super::{View, objects};

/// The tasks of a service.
#[derive(Debug)]
pub(super) struct Members<'a> {
    /// Those that hold a place: they run, will run, or are to run again. In the order in which a
    /// rollout replaces them.
    pub(super) all: Vec<Member<'a>>,
    /// Those that are being stopped and are not wanted any more, but have not ended.
    pub(super) stopping: Vec<&'a Task>,
    /// Those that have ended and are not wanted any more: their objects are removed.
    pub(super) ended: Vec<&'a Task>,
}

/// A task that holds a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) task: &'a Task,
    /// Whether it runs what tasks should run now.
    pub(super) is_new: bool,
    pub(super) health: Health,
    /// Whether it is on a node that cannot start a task now, so that nothing is to be done with it.
    pub(super) is_out_of_reach: bool,
    /// Whether it is where the service wants no task.
    pub(super) is_misplaced: bool,
    /// The node that it has to leave, since it is being drained. Nothing once it is being stopped.
    pub(super) leaves: Option<&'a str>,
}

/// How a task that holds a place does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It has been ready for long enough.
    Available,
    /// It is ready, and will be available then.
    Ready(Timestamp),
    /// It is not ready: it waits for a node, starts, or starts again.
    NotReady,
    /// Its attempt has ended; another one is needed.
    Ended,
}

impl Member<'_> {
    pub(super) fn is_available(&self) -> bool {
        self.health == Health::Available
    }

    pub(super) fn is_ready(&self) -> bool {
        match self.health {
            Health::Available | Health::Ready(_) => true,
            Health::NotReady | Health::Ended => false,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.health == Health::Ended
    }
}

impl<'a> Members<'a> {
    /// The tasks, of which those that `is_new` holds for run what tasks should run now.
    pub(super) fn of(view: &View<'a>, is_new: impl Fn(&Task) -> bool, places: &Places<'_>) -> Self {
        let mut members = Self { all: Vec::new(), stopping: Vec::new(), ended: Vec::new() };
        for task in view.tasks.iter().copied() {
            match role(task, places) {
                Role::Leaving => members.stopping.push(task),
                Role::Gone => members.ended.push(task),
                Role::Holds => members.all.push(Member {
                    task,
                    is_new: is_new(task),
                    health: health(view.service, task, view.now),
                    is_out_of_reach: !may_start(task, places),
                    is_misplaced: !places.fits(objects::pin(task)),
                    leaves: leaves(view, task),
                }),
            }
        }
        members.all.sort_by(order);
        members
    }

    /// Those that run what tasks should run now.
    pub(super) fn updated(&self) -> impl Iterator<Item = &Member<'a>> {
        self.all.iter().filter(|member| member.is_new)
    }

    /// Those that run something else.
    pub(super) fn outdated(&self) -> impl Iterator<Item = &Member<'a>> {
        self.all.iter().filter(|member| !member.is_new)
    }
}

/// The node that a task has to leave. A lost one is replaced in any case.
fn leaves<'a>(view: &View<'a>, task: &'a Task) -> Option<&'a str> {
    let is_there = task.stop().is_none() && task.loss().is_none() && !task.has_ended();
    let node = task.node().filter(|_| is_there && objects::pin(task).is_none())?;
    view.draining.contains(node).then_some(node)
}

/// What a task is to its service.
enum Role {
    /// It holds a place.
    Holds,
    /// It is being stopped, and will not run again.
    Leaving,
    /// It has ended, and will not run again.
    Gone,
}

fn role(task: &Task, places: &Places<'_>) -> Role {
    let is_stopped = task.stop().is_some_and(|stop| !runs_again_after(stop.reason));
    let leaves = is_stopped || task.is_deleting();
    // A task whose node was deleted, or no longer fits, has no place to return to.
    let is_misplaced = || objects::pin(task).is_some_and(|node| !places.may_return_to(node));
    match (leaves, is_over(task)) {
        (true, true) => Role::Gone,
        (true, false) => Role::Leaving,
        (false, true) if is_misplaced() => Role::Gone,
        (false, true | false) => Role::Holds,
    }
}

/// Whether the current attempt is over as far as the service is concerned.
fn is_over(task: &Task) -> bool {
    task.has_ended() || matches!(task.state(), TaskState::Lost { replaceable: true, .. })
}

/// Whether a task that was stopped for a reason runs again, if the service still needs it.
fn runs_again_after(reason: StopReason) -> bool {
    match reason {
        StopReason::Timeout
        | StopReason::Drain
        | StopReason::Preemption
        | StopReason::Suspend
        | StopReason::Gang
        | StopReason::Evict => true,
        StopReason::Cancel
        | StopReason::ScaleDown
        | StopReason::JobEnded
        | StopReason::Delete
        | StopReason::Revision => false,
    }
}

fn health(service: &Service, task: &Task, now: Timestamp) -> Health {
    if task.is_ready() {
        let min_ready = service.spec.min_ready().signed();
        let since = task.status.ready_since.or(task.status.started_at).unwrap_or(now);
        let available = since.saturating_add(min_ready).unwrap_or(Timestamp::MAX);
        return if available <= now { Health::Available } else { Health::Ready(available) };
    }
    if is_over(task) { Health::Ended } else { Health::NotReady }
}

/// Whether the task, or one in its place, can start now. A task that is pinned to no node can.
fn may_start(task: &Task, places: &Places<'_>) -> bool {
    objects::pin(task).is_none_or(|node| places.can_start_on(node))
}

/// Those that are not available come first: to replace them makes nothing worse. Then by node, or by
/// slot.
fn order(one: &Member<'_>, other: &Member<'_>) -> Ordering {
    let place = |member: &Member<'_>| objects::pin(member.task).unwrap_or_default().to_owned();
    one.is_available()
        .cmp(&other.is_available())
        .then_with(|| natural(&place(one), &place(other)))
        .then_with(|| one.task.spec.index.cmp(&other.task.spec.index))
        .then_with(|| one.task.name().cmp(other.task.name()))
}
