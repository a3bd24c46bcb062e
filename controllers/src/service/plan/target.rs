//! Which revision the tasks of a service should run, and how its rollout stands.

use api::object::Kind as _;
use api::service::{
    FAILED_TASKS_MAX, FAILURE_CHARS_MAX, OnFailure, Revision, RolloutState, RolloutStatus,
    ServiceStatus,
};
use api::table::{some_of, span};
use api::task::report::shortened;
use api::task::{Task, TaskState};
use api::{Service, Timestamp};
use jiff::SignedDuration;

use super::members::{Health, Member, Members};
use super::{Obstacle, View, objects};
use crate::notice::Notice;

/// How many tasks a sentence names.
const TASKS_NAMED: usize = 3;

/// The revisions of a service, and how its rollout stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// All that are known, the newest last.
    pub(super) revisions: Vec<Revision>,
    /// Number of the last one that was rolled out completely; 0 before the first.
    pub(super) current: u32,
    /// The rollout of the revision that tasks should run.
    pub(super) rollout: RolloutStatus,
    /// Whether that revision is new: its number has to be stored before anything is made of it.
    pub(super) opens: bool,
}

impl Target {
    /// The target as it is now, and what keeps a new revision from being made.
    pub(super) fn of(view: &View<'_>) -> (Self, Option<Obstacle>) {
        let (service, status) = (view.service, &view.service.status);
        let wanted = objects::template(service);
        let is_first = status.update_revision == 0;
        let known = Self {
            revisions: status.revisions.clone(),
            current: status.current_revision,
            rollout: status.rollout.clone().unwrap_or_default(),
            opens: false,
        };
        // Only a changed spec makes a new revision, never another version of the controller.
        let is_changed = is_first || service.generation() > status.observed_generation;
        if !is_changed || known.is_of_spec(wanted.name()) {
            return (known, None);
        }
        if view.template.is_some_and(|found| !is_ours(service, found.controller())) {
            let name = wanted.name().to_owned();
            return (known, Some(Obstacle::NameTaken { kind: "TaskTemplate", name }));
        }
        let image = service.spec.template.image.clone();
        (known.opened(wanted.name(), image, None, view.now), None)
    }

    /// Whether what tasks should run is what the spec says, or would be if its rollout had not
    /// failed.
    fn is_of_spec(&self, wanted: &str) -> bool {
        let failed = self.rollout.back_from.and_then(|number| self.revision(number));
        self.template() == wanted || failed.is_some_and(|failed| failed.template == wanted)
    }

    /// The same with another revision, which is to be rolled out.
    fn opened(
        mut self,
        template: &str,
        image: String,
        back_from: Option<u32>,
        now: Timestamp,
    ) -> Self {
        // Cannot saturate: the apiserver keeps stored numbers far below the maximum
        // (`api::object::NUMBER_MAX`).
        let newest = self.revisions.iter().map(|it| it.number).max().unwrap_or_default();
        let number = newest.saturating_add(1);
        let template = template.to_owned();
        self.revisions.push(Revision { number, template, image, at: now, failure: None });
        self.rollout = RolloutStatus {
            revision: number,
            started_at: now,
            back_from,
            ..RolloutStatus::default()
        };
        Self { opens: true, ..self }
    }

    /// The template that tasks should run.
    pub(super) fn template(&self) -> &str {
        self.revision(self.rollout.revision).map_or("", |revision| revision.template.as_str())
    }

    pub(super) fn revision(&self, number: u32) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.number == number)
    }

    /// The revision of new tasks: the one that is rolled out, or, while its rollout does not go on,
    /// the last good one.
    pub(super) fn of_new_tasks(&self) -> Option<&Revision> {
        let wanted = self.revision(self.rollout.revision);
        if self.goes_on() || self.current == 0 {
            return wanted;
        }
        self.revision(self.current).or(wanted)
    }

    /// Whether tasks of earlier revisions are being replaced. Also once the rollout is complete:
    /// then they are on nodes that were away.
    pub(super) fn goes_on(&self) -> bool {
        match self.rollout.state {
            RolloutState::Progressing | RolloutState::Complete => true,
            RolloutState::Suspended | RolloutState::Failed => false,
        }
    }

    /// Whether a new task counts as failed in this rollout.
    pub(super) fn has_failed(&self, task: &Task) -> bool {
        self.rollout.failed_tasks.iter().any(|name| name == task.name())
    }

    /// Writes it into a status.
    pub(super) fn store(&self, status: &mut ServiceStatus) {
        status.revisions.clone_from(&self.revisions);
        status.current_revision = self.current;
        status.update_revision = self.rollout.revision;
        status.rollout = Some(self.rollout.clone());
    }

    /// Looks at how the new tasks do: which have failed, and what follows for the rollout. Says what
    /// people should know.
    pub(super) fn judge(
        &mut self,
        view: &View<'_>,
        members: &Members<'_>,
        total: u32,
    ) -> Option<Notice> {
        let spec = &view.service.spec;
        let policy = spec.rollout();
        let is_suspended = policy.suspend.unwrap_or(false);
        match self.rollout.state {
            // A person has to change the service first.
            RolloutState::Failed | RolloutState::Complete => return None,
            RolloutState::Suspended if is_suspended => return None,
            RolloutState::Suspended => self.rollout.state = RolloutState::Progressing,
            RolloutState::Progressing => (),
        }
        let failed = self.note_failures(view, members);
        if self.rollout.failed > policy.max_failed_tasks(total)
            && policy.on_failure.unwrap_or_default() != OnFailure::Continue
        {
            return Some(self.fail(view, &failed));
        }
        if is_suspended {
            self.rollout.state = RolloutState::Suspended;
            return None;
        }
        self.complete(view, members, total)
    }

    /// Remembers the new tasks that have failed. Returns why each of them has.
    fn note_failures(&mut self, view: &View<'_>, members: &Members<'_>) -> Vec<String> {
        let mut why = Vec::new();
        for member in members.updated().filter(|member| !member.is_out_of_reach) {
            let Some(reason) = failure(view, member, self.rollout.started_at) else { continue };
            why.push(format!("{}: {reason}", member.task.name()));
            let names = &mut self.rollout.failed_tasks;
            let is_known = names.iter().any(|name| name == member.task.name());
            if !is_known && names.len() < FAILED_TASKS_MAX {
                names.push(member.task.name().to_owned());
            }
        }
        let named = self.rollout.failed_tasks.len().max(why.len());
        let failed = u32::try_from(named).unwrap_or(u32::MAX);
        self.rollout.failed = self.rollout.failed.max(failed);
        why
    }

    /// Too many new tasks have failed.
    fn fail(&mut self, view: &View<'_>, failed: &[String]) -> Notice {
        let number = self.rollout.revision;
        let why = shortened(&some_of(failed.iter(), TASKS_NAMED), FAILURE_CHARS_MAX);
        if let Some(revision) = self.revisions.iter_mut().find(|it| it.number == number) {
            revision.failure = Some(why.clone());
        }
        self.rollout.state = RolloutState::Failed;
        self.rollout.finished_at = Some(view.now);
        let mut message = format!("the rollout of revision {number} failed: {why}");
        let rolls_back =
            view.service.spec.rollout().on_failure.unwrap_or_default() == OnFailure::Rollback;
        // A rollback that fails itself is not followed by another one.
        let is_rollback = self.rollout.back_from.is_some();
        let good = self.revision(self.current).cloned().filter(|_| rolls_back && !is_rollback);
        if let Some(good) = good {
            *self = self.clone().opened(&good.template, good.image, Some(number), view.now);
            message = format!("{message}; back to what revision {} ran", good.number);
        }
        Notice { warning: true, reason: "RolloutFailed", message }
    }

    /// Notes that the rollout is complete, if it is.
    fn complete(&mut self, view: &View<'_>, members: &Members<'_>, total: u32) -> Option<Notice> {
        let is_done = |member: &&Member<'_>| member.is_available() || self.has_failed(member.task);
        let in_reach = || members.all.iter().filter(|member| !member.is_out_of_reach);
        let done = in_reach().filter(|member| member.is_new).filter(is_done).count();
        let is_complete =
            u32::try_from(done).unwrap_or(u32::MAX) >= total && in_reach().all(|it| it.is_new);
        if !is_complete {
            return None;
        }
        self.rollout.state = RolloutState::Complete;
        self.rollout.finished_at = Some(view.now);
        self.current = self.rollout.revision;
        let took = span(self.rollout.started_at, view.now);
        let message = format!("revision {} is rolled out, in {took}", self.current);
        Some(Notice { warning: false, reason: "RolledOut", message })
    }
}

/// Why a new task has failed in the rollout that began then, if it has.
fn failure(view: &View<'_>, member: &Member<'_>, began: Timestamp) -> Option<String> {
    let task = member.task;
    match member.health {
        Health::Available => return None,
        Health::Ended if is_own_failure(task) => return Some(ended(task)),
        Health::Ended | Health::Ready(_) | Health::NotReady => (),
    }
    let timeout = view.service.spec.rollout().timeout();
    let due = due(task, began, timeout.signed())?;
    (due <= view.now).then(|| {
        let why = task.why(view.now);
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        format!("not ready within {timeout}{why}")
    })
}

/// When a task that is not available yet counts as failed. A new attempt after a disruption has its
/// own time.
pub(super) fn due(task: &Task, began: Timestamp, timeout: SignedDuration) -> Option<Timestamp> {
    let opened = task.status.attempts.last().and_then(|past| past.finished_at);
    let since = [task.created(), opened, task.spec.not_before, Some(began)];
    since.into_iter().flatten().max()?.checked_add(timeout).ok()
}

/// Whether the end of an attempt says something about what it ran, and not about its node.
fn is_own_failure(task: &Task) -> bool {
    match task.state() {
        TaskState::Failed { .. } | TaskState::TimedOut | TaskState::Succeeded => true,
        TaskState::Pending
        | TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. }
        | TaskState::Cancelled { .. }
        | TaskState::Lost { .. } => false,
    }
}

/// How an attempt ended, in a few words.
pub(super) fn ended(task: &Task) -> String {
    let code = task.status.exit_code.map(|code| format!("exit {code}"));
    let reason = task.status.reason.clone().or(code).unwrap_or_else(|| task.phase().to_string());
    match &task.status.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    }
}

fn is_ours(service: &Service, controller: Option<&api::OwnerReference>) -> bool {
    controller.is_some_and(|owner| owner.uid == service.uid())
}
