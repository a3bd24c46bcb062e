//! Which revision the tasks of a service should run, and how its rollout stands.

use std::collections::BTreeSet;

use api::object::Kind as _;
use api::service::{
    FAILED_TASKS_MAX, FAILURE_CHARS_MAX, OnFailure, Origin, Revision, Rollout, RolloutRequest,
    RolloutState, RolloutStatus, ServiceStatus, Stage,
};
use api::table::{some_of, span};
use api::task::report::shortened;
use api::task::{Task, TaskState};
use api::template::ImagePullPolicy;
use api::{Service, Timestamp};
use jiff::SignedDuration;

use super::members::{Health, Member, Members};
use super::{Obstacle, View, objects};
use crate::notice::Notice;

/// How many tasks a sentence names.
const TASKS_NAMED: usize = 1;

/// The revisions of a service, and how its rollout stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// All that are known, the newest last.
    pub(super) revisions: Vec<Revision>,
    /// Number of the last one that was rolled out completely; 0 before the first.
    pub(super) current: u32,
    /// Number of the one that the manifest asks for: another one than that of the rollout after an undo
    /// or a rollback.
    pub(super) of_manifest: u32,
    /// What was asked of the rollout and is not carried out yet.
    pub(super) request: Option<RolloutRequest>,
    /// The rollout of the revision that tasks should run.
    pub(super) rollout: RolloutStatus,
    /// Whether that revision is new: its number has to be stored before anything is made of it.
    pub(super) opens: bool,
    /// Names of the new tasks that fail now. The status keeps only the first ones.
    failing: BTreeSet<String>,
}

impl Target {
    /// The target as it is now, and what keeps a new revision from being made.
    pub(super) fn of(view: &View<'_>) -> (Self, Option<Obstacle>) {
        let (service, status) = (view.service, &view.service.status);
        let is_first = status.update_revision == 0;
        let mut known = Self::stored(status);
        known.pin_images(view.tasks);
        // Only a changed spec makes a new revision, never another version of the controller.
        let is_changed = is_first || service.generation() > status.observed_generation;
        if !is_changed {
            return (known, None);
        }
        let wanted = objects::template(service);
        if known.template() == wanted.name() {
            // The manifest asks for what was gone back to: it is no longer passed over.
            known.of_manifest = known.rollout.revision;
            known.rollout.back_from = None;
            return (known, None);
        }
        let of_manifest = known.revision(known.of_manifest);
        if of_manifest.is_some_and(|it| it.template == wanted.name()) {
            return (known, None);
        }
        if view.template.is_some_and(|found| !is_ours(service, found.controller())) {
            let name = wanted.name().to_owned();
            return (known, Some(Obstacle::NameTaken { kind: "TaskTemplate", name }));
        }
        let template = &service.spec.template;
        let asks_anew = template.image_pull_policy == Some(ImagePullPolicy::Always);
        let revision = Revision {
            template: wanted.name().to_owned(),
            image: template.image.clone(),
            digest: known.known_digest(wanted.name(), asks_anew),
            ..Revision::default()
        };
        let opened = known.opened(revision, view.now);
        let of_manifest = opened.rollout.revision;
        // What was asked before was meant for the rollout that this change ends.
        (Self { of_manifest, request: None, ..opened }, None)
    }

    /// Notes which image the tag of a revision stood for when its first task ran it.
    fn pin_images(&mut self, tasks: &[&Task]) {
        for revision in self.revisions.iter_mut().filter(|revision| revision.digest.is_none()) {
            let of_it = tasks.iter().filter(|task| task.spec.run == revision.number);
            let ran = of_it.filter_map(|task| {
                Some((task.status.started_at?, task.status.image_digest.as_deref()?))
            });
            revision.digest = ran.min().map(|(_, digest)| digest.to_owned());
        }
    }

    /// The image of a template that was run before; nothing if its tag is to be looked up again.
    fn known_digest(&self, template: &str, asks_anew: bool) -> Option<String> {
        let before = self.revisions.iter().rev().find(|it| it.template == template);
        before.filter(|_| !asks_anew)?.digest.clone()
    }

    /// The target as the status says it.
    fn stored(status: &ServiceStatus) -> Self {
        let rollout = status.rollout.clone().unwrap_or_default();
        // A status of an earlier version does not say it.
        let of_manifest = match status.manifest_revision {
            0 => rollout.back_from.unwrap_or(rollout.revision),
            number => number,
        };
        Self {
            revisions: status.revisions.clone(),
            current: status.current_revision,
            of_manifest,
            request: status.request.clone(),
            rollout,
            opens: false,
            failing: BTreeSet::new(),
        }
    }

    /// The same with another revision, which gets the next number and is to be rolled out.
    pub(super) fn opened(mut self, revision: Revision, now: Timestamp) -> Self {
        // Cannot saturate: the apiserver keeps stored numbers far below the maximum
        // (`api::object::NUMBER_MAX`).
        let newest = self.revisions.iter().map(|it| it.number).max().unwrap_or_default();
        let number = newest.saturating_add(1);
        let back_from = (revision.origin == Origin::Rollback).then_some(self.rollout.revision);
        self.rollout = RolloutStatus {
            revision: number,
            started_at: now,
            back_from,
            restarts: revision.origin == Origin::Restart,
            ..RolloutStatus::default()
        };
        self.revisions.push(Revision { number, at: now, ..revision });
        Self { opens: true, ..self }
    }

    /// Whether a task runs what tasks should run. One that was there before a restart does not, although
    /// it runs the same.
    pub(super) fn is_run_by(&self, task: &Task) -> bool {
        let is_before = task.spec.run < self.rollout.revision;
        task.spec.template == self.template() && !(self.rollout.restarts && is_before)
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
        if self.replaces() || self.current == 0 {
            // Nothing of a revision is made before its job is done.
            return wanted.filter(|_| self.rollout.stage() != Stage::Before);
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

    /// Whether tasks may be replaced now.
    pub(super) fn replaces(&self) -> bool {
        self.goes_on() && self.rollout.stage() != Stage::Before
    }

    /// Whether a new task counts as failed in this rollout.
    pub(super) fn has_failed(&self, task: &Task) -> bool {
        self.failing.contains(task.name())
            || self.rollout.failed_tasks.iter().any(|name| name == task.name())
    }

    /// When a task that is not available counts as failed. A new attempt after a disruption has its own
    /// time, and so has a task that was available before.
    pub(super) fn due(&self, task: &Task, timeout: SignedDuration) -> Option<Timestamp> {
        let rollout = &self.rollout;
        let opened = task.status.attempts.last().and_then(|past| past.finished_at);
        let was_available = is_within(&rollout.available, task.spec.index);
        let progressed = rollout.progressed_at.filter(|_| was_available);
        let own = [task.created(), opened, task.spec.not_before];
        let since =
            own.into_iter().chain([Some(rollout.started_at), rollout.resumed_at, progressed]);
        since.flatten().max()?.checked_add(timeout).ok()
    }

    /// Writes it into a status.
    pub(super) fn store(&self, status: &mut ServiceStatus) {
        status.revisions.clone_from(&self.revisions);
        status.current_revision = self.current;
        status.update_revision = self.rollout.revision;
        status.manifest_revision = self.of_manifest;
        status.request.clone_from(&self.request);
        status.rollout = (self.rollout.revision > 0).then(|| self.rollout.clone());
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
            RolloutState::Suspended => {
                self.rollout.state = RolloutState::Progressing;
                self.rollout.resumed_at = Some(view.now);
            }
            // The service itself was suspended.
            RolloutState::Progressing if view.service.status.suspended_at.is_some() => {
                self.rollout.resumed_at = Some(view.now);
            }
            RolloutState::Progressing => (),
        }
        if let Some(why) = self.look_at_before(view) {
            return Some(self.give_up(view, &why));
        }
        if self.rollout.stage() == Stage::Before {
            self.pause(is_suspended);
            return None;
        }
        self.note_available(view, members);
        let failed = self.note_failures(view, members);
        let has_had_time = self.progress_due(&policy).is_some_and(|due| due <= view.now);
        let is_too_many = self.rollout.failed > policy.max_failed_tasks(total)
            || has_had_time
                && self.rollout.stage() == Stage::All
                && self.is_stuck(view, members, total);
        if is_too_many && policy.on_failure.unwrap_or_default() != OnFailure::Continue {
            return Some(self.fail(view, &failed));
        }
        if self.pause(is_suspended) {
            return None;
        }
        if let Some(why) = self.look_at_canaries(view, members) {
            return Some(self.give_up(view, &why));
        }
        if self.rollout.stage() != Stage::All {
            return None;
        }
        self.complete(view, members, total)
    }

    /// Suspends the rollout if the service says so, and says whether it does.
    fn pause(&mut self, is_suspended: bool) -> bool {
        if is_suspended {
            self.rollout.state = RolloutState::Suspended;
        }
        is_suspended
    }

    /// Remembers the new tasks that have been available.
    fn note_available(&mut self, view: &View<'_>, members: &Members<'_>) {
        let before = std::mem::take(&mut self.rollout.available);
        let is = |it: &&Member<'_>| it.is_available() || is_within(&before, it.task.spec.index);
        let slots: BTreeSet<u32> =
            members.updated().filter(is).map(|it| it.task.spec.index).collect();
        if slots.iter().any(|slot| !is_within(&before, *slot)) {
            self.rollout.progressed_at = Some(view.now);
        }
        self.rollout.available = ranges(&slots);
    }

    /// When a rollout in which tasks have failed, though not too many, has had time to go on.
    pub(super) fn progress_due(&self, policy: &Rollout) -> Option<Timestamp> {
        let rollout = &self.rollout;
        let since = [Some(rollout.started_at), rollout.progressed_at, rollout.resumed_at];
        let since = since.into_iter().flatten().max().filter(|_| rollout.failed > 0)?;
        since.checked_add(policy.timeout().signed()).ok()
    }

    /// Whether no further task can be replaced, because too few are ready, and nothing is under way
    /// that could change that. Where tasks are allowed to fail, no count would end such a rollout.
    fn is_stuck(&self, view: &View<'_>, members: &Members<'_>, total: u32) -> bool {
        let in_reach = || members.all.iter().filter(|member| !member.is_out_of_reach);
        let old: Vec<&Member<'_>> = in_reach().filter(|member| !member.is_new).collect();
        let is_under_way =
            |it: &&Member<'_>| it.is_new && !it.is_available() && !self.has_failed(it.task);
        let ready = in_reach().filter(|member| member.is_available()).count();
        let least = total.saturating_sub(view.service.spec.max_unavailable(total));
        let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        !old.is_empty()
            && old.iter().all(|member| member.is_available())
            && members.stopping.is_empty()
            && members.ended.is_empty()
            && in_reach().filter(is_under_way).count() == 0
            && count(in_reach().count()) >= total
            && count(ready) <= least
    }

    /// Remembers the new tasks that have failed. Returns why each of them has.
    fn note_failures(&mut self, view: &View<'_>, members: &Members<'_>) -> Vec<String> {
        let mut why = Vec::new();
        for member in members.updated().filter(|member| !member.is_out_of_reach) {
            let Some(reason) = self.failure(view, member) else { continue };
            self.failing.insert(member.task.name().to_owned());
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

    /// Why a new task has failed in the rollout, if it has. The loss of a node, or a stop, says nothing
    /// of what the task runs.
    fn failure(&self, view: &View<'_>, member: &Member<'_>) -> Option<String> {
        let task = member.task;
        let is_disturbed =
            matches!(task.state(), TaskState::Lost { .. } | TaskState::Stopping { .. });
        match member.health {
            Health::Available => return None,
            Health::Ended if is_own_failure(task) => return Some(ended(task)),
            Health::Ended => return None,
            Health::Ready(_) | Health::NotReady if is_disturbed => return None,
            Health::Ready(_) | Health::NotReady => (),
        }
        let timeout = view.service.spec.rollout().timeout();
        let due = self.due(task, timeout.signed())?;
        (due <= view.now).then(|| {
            let why = lasting_why(task);
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            format!("not ready within {timeout}{why}")
        })
    }

    /// Too many new tasks have failed.
    fn fail(&mut self, view: &View<'_>, failed: &[String]) -> Notice {
        let why = if failed.is_empty() {
            // They failed before, and are being tried again.
            let names = some_of(self.rollout.failed_tasks.iter(), TASKS_NAMED);
            format!("{names} failed, and maxUnavailable lets no other task be stopped")
        } else {
            some_of(failed.iter(), TASKS_NAMED)
        };
        self.give_up(view, &why)
    }

    /// The rollout has failed, or is given up: it ends, and what `onFailure` says follows.
    pub(super) fn give_up(&mut self, view: &View<'_>, why: &str) -> Notice {
        let number = self.rollout.revision;
        let why = shortened(why, FAILURE_CHARS_MAX);
        if let Some(revision) = self.revisions.iter_mut().find(|it| it.number == number) {
            revision.failure = Some(why.clone());
            revision.finished_at = Some(view.now);
        }
        self.rollout.state = RolloutState::Failed;
        self.rollout.finished_at = Some(view.now);
        let mut message = format!("the rollout of revision {number} failed: {why}");
        let rolls_back =
            view.service.spec.rollout().on_failure.unwrap_or_default() == OnFailure::Rollback;
        // A rollback that fails itself is not followed by another one. Going back from a restart would
        // change nothing but which tasks run.
        let is_last = self.rollout.back_from.is_some() || self.rollout.restarts;
        let good = self.revision(self.current).cloned().filter(|_| rolls_back && !is_last);
        if let Some(good) = good.filter(|good| good.template != self.template()) {
            let message_of = format!("{message}; back to what revision {} ran", good.number);
            *self = self.clone().opened(again(&good, Origin::Rollback), view.now);
            message = message_of;
        }
        Notice { warning: true, reason: "RolloutFailed", message }
    }

    /// Notes that the rollout is complete, if it is.
    fn complete(&mut self, view: &View<'_>, members: &Members<'_>, total: u32) -> Option<Notice> {
        let is_done = |member: &&Member<'_>| member.is_available() || self.has_failed(member.task);
        let in_reach = || members.all.iter().filter(|member| !member.is_out_of_reach);
        let done = in_reach().filter(|member| member.is_new).filter(is_done).count();
        // A revision that never ran is not known to be good, and must not be gone back to.
        let has_run = in_reach().any(|member| member.is_new && member.is_available());
        let is_complete = has_run
            && u32::try_from(done).unwrap_or(u32::MAX) >= total
            && in_reach().all(|it| it.is_new);
        if !is_complete {
            return None;
        }
        self.rollout.state = RolloutState::Complete;
        self.rollout.finished_at = Some(view.now);
        self.current = self.rollout.revision;
        let current = self.current;
        if let Some(revision) = self.revisions.iter_mut().find(|it| it.number == current) {
            revision.finished_at = Some(view.now);
        }
        let took = span(self.rollout.started_at, view.now);
        let message = format!("revision {} is rolled out, in {took}", self.current);
        Some(Notice { warning: false, reason: "RolledOut", message })
    }
}

/// A revision that runs what an earlier one ran.
pub(super) fn again(earlier: &Revision, origin: Origin) -> Revision {
    Revision {
        template: earlier.template.clone(),
        image: earlier.image.clone(),
        digest: earlier.digest.clone(),
        origin,
        same_as: Some(earlier.number),
        ..Revision::default()
    }
}

/// Whether a slot is in one of these ranges.
fn is_within(ranges: &[[u32; 2]], slot: u32) -> bool {
    ranges.iter().any(|[first, count]| slot >= *first && slot - first < *count)
}

/// The ranges that hold exactly these slots.
fn ranges(slots: &BTreeSet<u32>) -> Vec<[u32; 2]> {
    let mut ranges: Vec<[u32; 2]> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some([first, count]) if *first + *count == *slot => *count += 1,
            Some(_) | None => ranges.push([*slot, 1]),
        }
    }
    ranges
}

/// Whether the end of an attempt says something about what it ran, and not about its node.
pub(super) fn is_own_failure(task: &Task) -> bool {
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

/// Why a task is in its phase, in words that do not change with time: they are kept, and a status that
/// counted seconds would be written each second.
pub(super) fn lasting_why(task: &Task) -> String {
    let status = &task.status;
    match task.state() {
        TaskState::Pending => task.unschedulable().unwrap_or_default().to_owned(),
        TaskState::Failed { .. } | TaskState::TimedOut | TaskState::Succeeded => ended(task),
        TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. }
        | TaskState::Cancelled { .. }
        | TaskState::Lost { .. } => {
            let last = status.last_exit.as_ref().map(|last| {
                let code = last.exit_code.map(|code| format!("exit {code}"));
                let reason = last.reason.clone().or(code).unwrap_or_else(|| "ended".to_owned());
                format!("{reason}, restarted {} times", status.restarts)
            });
            let said = status.message.clone().or(last);
            said.filter(|_| task.report().is_some()).unwrap_or_default()
        }
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
