//! What is done with the tasks of a service: which are started, replaced, stopped and removed.

use std::collections::BTreeSet;

use api::object::Kind as _;
use api::service::{RolloutOrder, RolloutState, Stage};
use api::task::transition::{Amend, Retry, TaskChange};
use api::task::{StopReason, Task, TaskState};
use api::{Timestamp, names};
use jiff::SignedDuration;

use super::members::Member;
use super::places::{Places, natural};
use super::target::is_own_failure;
use super::{Course, Obstacle, PlanInput, ROUND_OPS_MAX, objects};
use crate::action::{Action, NewTask, NewTasks};
use crate::packing::Parcel;

/// How long the first further attempt of a task waits after one that failed, in seconds; each one
/// after that waits twice as long, up to [`RETRY_SECONDS_MAX`].
const RETRY_SECONDS: i64 = 10;
const RETRY_SECONDS_MAX: i64 = 300;

/// What is done now, and what keeps tasks from being created.
pub(super) fn steps(input: &PlanInput<'_>) -> (Vec<Parcel>, Option<Obstacle>) {
    let mut parcels: Vec<Parcel> = input
        .members
        .ended
        .iter()
        .filter(|task| task.metadata.finalizers.as_ref().is_none_or(Vec::is_empty))
        .map(|task| Action::remove(task).into())
        .collect();
    match input.course {
        Course::Usual => {
            let mut step = Step::of(input);
            step.scale_down();
            step.move_away();
            step.replace();
            step.start_again();
            let (created, obstacle) = step.create();
            parcels.extend(step.parcels);
            parcels.extend(created);
            (parcels, obstacle)
        }
        Course::Suspended => {
            let message = Some("the service is suspended".to_owned());
            parcels.extend(stop_all(input, StopReason::Suspend, message.as_ref()));
            (parcels, None)
        }
        Course::Expired => {
            let message = Some("the service has expired".to_owned());
            parcels.extend(stop_all(input, StopReason::JobEnded, message.as_ref()));
            let ended = input.members.all.iter().filter(|member| member.task.has_ended());
            parcels.extend(ended.map(|member| Action::remove(member.task).into()));
            (parcels, None)
        }
    }
}

fn stop_all(input: &PlanInput<'_>, reason: StopReason, message: Option<&String>) -> Vec<Parcel> {
    let open = input.members.all.iter().filter(|member| !member.task.has_ended());
    let open = open.filter(|member| member.task.stop().is_none());
    let evict = |member: &Member<'_>| {
        Parcel::of_task(Action::evict(member.task, reason, message.cloned()), member.task)
    };
    open.map(evict).collect()
}

/// What is done with the tasks of a service that keeps them up.
pub(super) struct Step<'a, 'b> {
    pub(super) input: &'a PlanInput<'b>,
    /// Members that nothing was decided about yet.
    pub(super) left: Vec<&'a Member<'b>>,
    /// How many tasks there should be.
    pub(super) total: usize,
    /// How many available tasks may still be stopped.
    spare: usize,
    /// How many ready tasks may still be stopped, those that are not yet available included.
    spare_ready: usize,
    /// How many tasks are to be created beyond the places that nobody holds.
    pub(super) surge: usize,
    /// How many of the tasks that are created may run the new revision; all, if nothing is said. The
    /// others run the last good one, until it is their turn.
    fresh: Option<usize>,
    parcels: Vec<Parcel>,
}

impl<'a, 'b> Step<'a, 'b> {
    fn of(input: &'a PlanInput<'b>) -> Self {
        let total = input.places.total();
        let max_unavailable = input.view.service.spec.max_unavailable(total);
        let least = total.saturating_sub(max_unavailable);
        let left: Vec<&Member<'b>> = input.members.all.iter().collect();
        let counts = |it: &&&Member<'_>| !it.is_out_of_reach || it.is_misplaced;
        // What is ready and not yet available may end in a moment: it makes room for nothing.
        let available = left.iter().filter(counts).filter(|it| it.is_available()).count();
        let ready = left.iter().filter(counts).filter(|it| it.is_ready()).count();
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let (spare, spare_ready) = (available.saturating_sub(least), ready.saturating_sub(least));
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        Self { input, left, total, spare, spare_ready, surge: 0, fresh: None, parcels: Vec::new() }
    }

    pub(super) fn starts_first(&self) -> bool {
        let order = self.input.view.service.spec.rollout().order.unwrap_or_default();
        order == RolloutOrder::StartFirst
    }

    /// Stops a task, unless too few would then be ready. Returns whether it is stopped.
    pub(super) fn stop(
        &mut self,
        member: &'a Member<'b>,
        reason: StopReason,
        message: &str,
    ) -> bool {
        let is_too_few =
            member.is_available() && self.spare == 0 || member.is_ready() && self.spare_ready == 0;
        if is_too_few {
            return false;
        }
        self.spare -= usize::from(member.is_available());
        self.spare_ready -= usize::from(member.is_ready());
        self.left.retain(|left| left.task.uid() != member.task.uid());
        self.parcels.push(if member.has_ended() {
            Action::remove(member.task).into()
        } else if member.task.stop().is_some() {
            // It is being stopped already, to start again; it is removed when it has ended.
            return true;
        } else {
            let message = (!message.is_empty()).then(|| message.to_owned());
            Parcel::of_task(Action::evict(member.task, reason, message), member.task)
        });
        true
    }

    /// Stops tasks that there are too many of, or that are where none should be.
    fn scale_down(&mut self) {
        let mut nodes = BTreeSet::new();
        let (mut misplaced, mut held) = (Vec::new(), Vec::new());
        for member in &self.left {
            let is_second = objects::pin(member.task).is_some_and(|node| !nodes.insert(node));
            if member.is_misplaced || is_second {
                misplaced.push(*member);
            } else if objects::pin(member.task).is_none() {
                held.push(*member);
            }
        }
        for member in misplaced {
            self.stop(member, StopReason::ScaleDown, "the service wants no task there any more");
        }
        let in_the_way = held.len().saturating_sub(self.allowed());
        // Of a rollout that does not go on, the tasks of the last good revision are kept.
        let kept = self.input.target.of_new_tasks().map(|it| it.template.as_str());
        let (goes_on, is_rolled_out) = {
            let target = &self.input.target;
            (target.goes_on(), target.rollout.state == RolloutState::Complete)
        };
        let is_kept = |member: &Member<'_>| match goes_on {
            true => member.is_new,
            false => kept == Some(member.task.spec.template.as_str()),
        };
        held.sort_by_key(|member| {
            let slot = std::cmp::Reverse(member.task.spec.index);
            (member.is_available(), member.leaves.is_none(), is_kept(member), slot)
        });
        // There are canaries beside as many others as there should be, and no more: otherwise there would
        // be no room for the canaries.
        let old = held.iter().filter(|member| !member.is_new).count();
        let canaries = self.canaries().filter(|_| self.is_beside());
        let mut surplus = canaries.map_or(0, |_| old.saturating_sub(self.total));
        for (place, member) in held.into_iter().enumerate() {
            if place >= in_the_way && (member.is_new || surplus == 0) {
                continue;
            }
            surplus = surplus.saturating_sub(usize::from(!member.is_new));
            // Canaries have started beside those whose place they take.
            if goes_on && !is_rolled_out && !member.is_new {
                self.stop(member, StopReason::Revision, "");
            } else {
                self.stop(member, StopReason::ScaleDown, "the service was scaled down");
            }
        }
    }

    /// How many tasks there may be: in a rollout that starts new ones first, some more than there
    /// should be.
    fn allowed(&self) -> usize {
        let is_replacing = self.starts_first() && self.input.target.goes_on();
        let old = self.input.members.outdated().count();
        let more = if is_replacing { self.parallelism().min(old) } else { 0 };
        let canaries = self.canaries().filter(|_| self.is_beside()).unwrap_or_default();
        self.total.saturating_add(more.max(canaries)).saturating_add(self.beside())
    }

    /// How many tasks may run the new revision, if it is tried by canaries first.
    fn canaries(&self) -> Option<usize> {
        let target = &self.input.target;
        match target.rollout.stage() {
            Stage::Canary(count) if target.goes_on() => usize::try_from(count).ok(),
            Stage::Canary(_) | Stage::Before | Stage::All => None,
        }
    }

    /// Whether new tasks start beside the old ones: as `order` says, and canaries wherever they can.
    fn is_beside(&self) -> bool {
        let can_be = self.input.view.service.spec.has_room_beside();
        self.starts_first() || can_be && self.canaries().is_some()
    }

    pub(super) fn parallelism(&self) -> usize {
        let rollout = self.input.view.service.spec.rollout();
        usize::try_from(rollout.parallelism(self.input.places.total())).unwrap_or(usize::MAX)
    }

    /// Whether a new task needs no more attention in the rollout.
    fn is_done(&self, member: &Member<'_>) -> bool {
        member.is_available() || self.input.target.has_failed(member.task)
    }

    /// Replaces tasks of earlier revisions, as many at a time as the rollout allows.
    fn replace(&mut self) {
        if !self.input.target.replaces() {
            return;
        }
        let in_reach = || self.left.iter().copied().filter(|it| !it.is_out_of_reach);
        let old: Vec<&Member<'b>> = in_reach().filter(|it| !it.is_new).collect();
        if old.is_empty() {
            return;
        }
        let new = in_reach().filter(|it| it.is_new);
        let (done, under_way): (Vec<&Member<'b>>, Vec<&Member<'b>>) =
            new.partition(|member| self.is_done(member));
        let (done, under_way) = (done.len(), under_way.len());
        let parallelism = self.parallelism();
        // Also places whose task was stopped, or that are new.
        let in_progress =
            if self.is_beside() { under_way } else { self.total.saturating_sub(old.len() + done) };
        let is_batched = self.input.view.service.spec.rollout().batches.unwrap_or(false);
        let budget = match (is_batched, in_progress) {
            (true, 0) | (false, _) => parallelism.saturating_sub(in_progress),
            (true, _) => 0,
        };
        // Whatever takes the place of a canary is one.
        let new_max = self.canaries().unwrap_or(usize::MAX);
        let budget = budget.min(new_max.saturating_sub(done + in_progress));
        let fresh = parallelism.saturating_sub(under_way);
        self.fresh = Some(fresh.min(new_max.saturating_sub(done + under_way)));
        let stops = if self.is_beside() {
            let room = self.allowed().saturating_sub(self.left.len() + self.surge);
            let missing = self.total.saturating_sub(done + under_way);
            self.surge += budget.min(missing).min(old.len()).min(room);
            // Canaries take nobody's place before they are promoted.
            let is_over = self.canaries().is_none();
            if is_over { (old.len() + done).saturating_sub(self.total) } else { 0 }
        } else {
            budget
        };
        for member in old.into_iter().take(stops) {
            self.stop(member, StopReason::Revision, "");
        }
    }

    /// Starts tasks whose attempt has ended again, as they were, and gives those that wait for a node
    /// the priority of now.
    fn start_again(&mut self) {
        let now = self.input.view.now;
        let priority = self.input.view.service.spec.priority.unwrap_or_default();
        let waiting = self.left.iter().map(|member| member.task).filter(|task| {
            matches!(task.state(), TaskState::Pending) && task.spec.priority != priority
        });
        let amend = |task: &Task| {
            let amend = Amend {
                template: task.spec.template.clone(),
                count: task.spec.count,
                priority,
                overrides: task.spec.overrides.clone(),
            };
            Parcel::of_task(Action::task(task, TaskChange::Amend(Box::new(amend))), task)
        };
        self.parcels.extend(waiting.map(amend));
        // The task on a lost node that it is pinned to runs on if the node returns.
        let is_pinned = |task: &Task| {
            matches!(task.state(), TaskState::Lost { .. }) && objects::pin(task).is_some()
        };
        for member in self.left.iter().filter(|it| it.has_ended() && !is_pinned(it.task)) {
            // No attempt follows a success: a new task takes its place.
            self.parcels.push(if matches!(member.task.state(), TaskState::Succeeded) {
                Action::remove(member.task).into()
            } else {
                let mut retry = retry(member.task, now);
                let revision = self.input.target.revision(member.task.spec.run);
                let digest = revision.and_then(|revision| revision.digest.as_deref());
                retry.image_digest = digest.map(Box::from);
                Parcel::of_task(Action::task(member.task, TaskChange::Retry(retry)), member.task)
            });
        }
    }

    /// Creates tasks for places that nobody holds.
    fn create(&self) -> (Vec<Parcel>, Option<Obstacle>) {
        let PlanInput { view, target, places, members, .. } = self.input;
        let holding = self.input.members.all.len();
        let stopped = holding - self.left.len();
        // A task that is being stopped still has its resources and ports.
        let waited_for = if self.starts_first() { 0 } else { members.stopping.len() + stopped };
        // For each new task its node, if it is pinned to one.
        let missing: Vec<Option<&str>> = match places {
            Places::Anywhere(_) => {
                let missing = self.total.saturating_sub(self.left.len() + waited_for);
                vec![None; (missing + self.surge).min(ROUND_OPS_MAX)]
            }
            Places::OnNodes { ready, .. } => {
                let held: BTreeSet<&str> =
                    view.tasks.iter().filter_map(|task| objects::pin(task)).collect();
                let mut missing: Vec<&str> = ready.difference(&held).copied().collect();
                missing.sort_by(|one, other| natural(one, other));
                missing.into_iter().take(ROUND_OPS_MAX).map(Some).collect()
            }
        };
        let mut used = self.used_slots();
        let there: BTreeSet<&str> = view.tasks.iter().map(|task| task.name()).collect();
        let (mut parcels, mut obstacle) = (Vec::new(), None);
        let good = target.revision(target.current);
        let fresh = self.fresh.filter(|_| good.is_some()).unwrap_or(missing.len());
        let (fresh, others) = missing.split_at(fresh.min(missing.len()));
        for (revision, which) in [(target.of_new_tasks(), fresh), (good, others)] {
            let Some(revision) = revision else { continue };
            let mut each = Vec::new();
            for place in which {
                let name_at = |slot: u32| {
                    let part = place.map_or_else(|| slot.to_string(), str::to_owned);
                    names::service_task(view.service.name(), revision.number, &part)
                };
                // The name of a task that is about to be removed is free only once it is gone.
                let is_free = |slot: &u32| !there.contains(name_at(*slot).as_str());
                let unused = (0..).filter(|slot| !used.contains(slot));
                let Some(index) = unused.take(view.tasks.len() + 1).find(is_free) else { continue };
                used.insert(index);
                let name = name_at(index);
                if view.taken.contains(&name) {
                    obstacle.get_or_insert(Obstacle::NameTaken { kind: "task", name });
                    continue;
                }
                let overrides = place.map(objects::pinned_to).unwrap_or_default();
                each.push(NewTask { index, name, overrides });
            }
            if !each.is_empty() {
                let alike =
                    Box::new(objects::task(view, &target.rollout, revision, places.total()));
                parcels.push(Action::CreateTasks(NewTasks { alike, each }).into());
            }
        }
        (parcels, obstacle)
    }

    /// The slots of tasks that stay.
    fn used_slots(&self) -> BTreeSet<u32> {
        let PlanInput { view, members, .. } = self.input;
        let goes = |task: &Task| members.ended.iter().any(|ended| ended.uid() == task.uid());
        view.tasks.iter().filter(|task| !goes(task)).map(|task| task.spec.index).collect()
    }
}

/// Another attempt, after a while if the last one failed by itself.
fn retry(task: &Task, now: Timestamp) -> Retry {
    let failed = is_own_failure(task);
    let wait = if failed {
        let doublings = task.spec.failures.min(16);
        (RETRY_SECONDS << doublings).min(RETRY_SECONDS_MAX)
    } else {
        0
    };
    let not_before = now.checked_add(SignedDuration::from_secs(wait)).ok();
    let is_suspension =
        matches!(task.state(), TaskState::Cancelled { reason: StopReason::Suspend });
    let avoid = task.node().filter(|_| !is_suspension).map(str::to_owned);
    Retry { counts: failed, not_before, avoid, image_digest: None }
}
