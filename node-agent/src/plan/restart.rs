//! Restarts in place: what follows when the container of an attempt that stays up has ended by
//! itself, or could not be started.
//!
//! # Invariants
//!
//! * The next container has the next restart number. It is started only while no other container of
//!   the attempt runs.
//! * A pause is never longer than the longest delay of the rule, and never shorter than its first.
//! * An attempt is given up only if it has not stayed up for as long as its rule says, and if
//!   another node may run it. A container that runs is never given up.
//! * Each pause, and each run that was long enough to be worth it, is reported once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use api::Timestamp;
use api::merge;
use api::restart::Restart;
use api::task::report::{MESSAGE_CHARS_MAX, shortened};
use api::task::{BACK_OFF, LastExit, PAST_MESSAGE_CHARS_MAX, ReportState, reason};
use api::task_template::TaskTemplateSpec;

use super::ending::Ending;
use super::{Action, After, Assignment, KILL_AGAIN, Planner, later, report};
use crate::attempt::{Attempt, Content, InPlace, Progress, Session, millis};
use crate::engine::{ContainerState, Identity};

/// After two ends in a row a run is reported only once it has lasted for this long: a container
/// that keeps ending at once then costs one report a restart.
const WORTH_A_REPORT: Duration = Duration::from_secs(1);

impl InPlace {
    /// How an attempt of this task is restarted in place, if its template says so.
    pub(super) fn of(assignment: &Assignment, template: &TaskTemplateSpec) -> Option<Box<Self>> {
        let rule = template.restart?;
        let over = assignment.task.spec.overrides.placement.as_deref();
        let placement = merge::placement(&template.placement, over);
        let is_pinned = placement.is_ok_and(|placement| placement.nodes.len() == 1);
        Some(Box::new(Self::begin(rule, is_pinned)))
    }

    fn begin(rule: Restart, is_pinned: bool) -> Self {
        Self {
            rule,
            is_pinned,
            in_a_row: 0,
            runs_millis: Vec::new(),
            down_since: None,
            last_started: None,
            last_exit: None,
        }
    }

    /// It has ended, or could not be started.
    fn fell(&mut self, now: Timestamp) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.down_since.get_or_insert(now);
    }

    /// A run of this length has ended.
    fn ran(&mut self, run: Duration) {
        if run >= self.rule.longest_wait().get() {
            (self.in_a_row, self.down_since) = (0, None);
        }
        self.runs_millis.push(millis(run));
        let looked_at = usize::try_from(self.rule.flapping_runs()).unwrap_or(usize::MAX);
        let surplus = self.runs_millis.len().saturating_sub(looked_at);
        self.runs_millis.drain(..surplus);
    }

    fn is_flapping(&self) -> bool {
        let looked_at = usize::try_from(self.rule.flapping_runs()).unwrap_or(usize::MAX);
        let sum = self.runs_millis.iter().copied().fold(0, u64::saturating_add);
        let within = self.rule.flapping_within().get();
        self.runs_millis.len() >= looked_at && Duration::from_millis(sum) < within
    }

    /// When it is given up, if it does not stay up before.
    fn give_up_at(&self) -> Option<Timestamp> {
        let since = self.down_since.filter(|_| !self.is_pinned)?;
        Some(later(since, self.rule.reschedule_after().get()))
    }

    /// The end of an attempt that is given up. `failed` is why its last start failed, if that is
    /// what happened last.
    fn given_up(&self, failed: Option<(&str, &str)>, wall: Timestamp) -> Ending {
        let limit = self.rule.reschedule_after();
        if let Some((reason, message)) = failed {
            let message = format!("it could not be started for {limit}: {message}");
            return Ending::failed(reason, message, wall);
        }
        let last = self.last_exit.as_ref();
        let how = last.map_or_else(|| "an unknown end".to_owned(), ToString::to_string);
        let message =
            format!("it did not stay up for {limit}; its last container ended with {how}");
        let mut ending = Ending::failed(reason::FLAPPING, message, wall);
        ending.exit_code = last.and_then(|last| last.exit_code);
        ending.started = self.last_started;
        ending
    }
}

/// What follows when a container has ended that nobody had asked to end.
pub(crate) fn after_exit(
    attempt: &Attempt,
    ending: Ending,
    (now, wall): (Timestamp, Timestamp),
) -> After {
    let (Some(before), Some(identity)) = (&attempt.in_place, attempt.identity.restarted()) else {
        return After::Ended(Box::new(ending));
    };
    let mut in_place = before.clone();
    in_place.ran(run_of(attempt, &ending, now));
    in_place.fell(now);
    in_place.last_started = ending.started;
    in_place.last_exit = Some(LastExit {
        exit_code: ending.exit_code,
        reason: ending.reason,
        message: ending.message.map(|message| shortened(&message, PAST_MESSAGE_CHARS_MAX)),
        at: ending.finished,
    });
    let (reason, wait) = if in_place.is_flapping() {
        (reason::FLAPPING, in_place.rule.longest_wait())
    } else {
        (BACK_OFF, in_place.rule.wait_after(in_place.in_a_row))
    };
    let mut next = attempt.clone();
    next.identity = identity;
    next.in_place = Some(in_place);
    next.health = next.health.anew();
    let is_fetched = attempt.session.is_fetched;
    next.session = Session { is_fetched, ..Session::default() };
    After::Known(Box::new(waiting(next, (reason, None), wait.get(), (now, wall))))
}

/// What follows when a container could not be started. The attempt fails, unless it is restarted in
/// place.
pub(crate) fn after_failure(
    attempt: &Attempt,
    (reason, message): (&str, String),
    (now, wall): (Timestamp, Timestamp),
) -> After {
    let Some(before) = &attempt.in_place else {
        return After::Ended(Box::new(Ending::failed(reason, message, wall)));
    };
    let mut in_place = before.clone();
    in_place.fell(now);
    let wait = in_place.rule.wait_after(in_place.in_a_row);
    let mut next = attempt.clone();
    next.in_place = Some(in_place);
    let session = &mut next.session;
    session.start_failures = session.start_failures.saturating_add(1);
    (session.trouble, session.wanted_image) = (None, None);
    let message = shortened(&message, MESSAGE_CHARS_MAX);
    After::Known(Box::new(waiting(next, (reason, Some(message)), wait.get(), (now, wall))))
}

/// The attempt while it waits for its next start.
fn waiting(
    mut next: Attempt,
    (reason, message): (&str, Option<String>),
    wait: Duration,
    (now, wall): (Timestamp, Timestamp),
) -> Attempt {
    next.progress = Progress::BackOff {
        since: now,
        wait_millis: millis(wait),
        until: later(wall, wait),
        reason: reason.to_owned(),
        message,
    };
    (next.session.told_starting, next.session.told_trouble) = (false, None);
    next.session.told = None;
    next
}

/// How long a container ran. The engine's clock may have been set meanwhile, and this agent may
/// have been away when it ended: the shorter of what both say is what it surely ran.
fn run_of(attempt: &Attempt, ending: &Ending, now: Timestamp) -> Duration {
    let span = |from: Timestamp, to: Timestamp| {
        Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
    };
    let engines = ending.started.map_or(Duration::ZERO, |started| span(started, ending.finished));
    match &attempt.progress {
        Progress::Running { seen, .. } => engines.min(span(*seen, now)),
        Progress::Starting { .. }
        | Progress::BackOff { .. }
        | Progress::Stopping { .. }
        | Progress::Ended
        | Progress::Refused => engines,
    }
}

impl Planner<'_> {
    /// A container has ended that nobody had asked to end.
    pub(super) fn fallen(&mut self, assignment: &Assignment, attempt: &Attempt, ending: Ending) {
        match after_exit(attempt, ending, (self.view.now, self.view.wall)) {
            After::Nothing => (),
            After::Ended(ending) => self.end(attempt, *ending),
            After::Known(next) => {
                self.turn_into(&attempt.identity, None);
                self.keep(Attempt::clone(&next));
                // What is left of the container before is removed; its log is kept.
                let next = self.clear_others(&next);
                self.backing_off(assignment, &next, None);
            }
        }
    }

    /// An attempt whose container is started again after a pause.
    pub(super) fn backing_off(
        &mut self,
        assignment: &Assignment,
        attempt: &Attempt,
        container: Option<&ContainerState>,
    ) {
        let Progress::BackOff { since, wait_millis, reason, message, .. } = &attempt.progress
        else {
            return;
        };
        match container {
            // A start whose answer said that it had failed has succeeded after all.
            Some(ContainerState::Running { .. } | ContainerState::Exited { .. }) => {
                return self.starting(assignment, attempt, container);
            }
            None | Some(ContainerState::Created | ContainerState::Unreadable { .. }) => (),
        }
        if let Some(why) = assignment.stop() {
            return self.end(attempt, Ending::stopped(why, self.view.wall));
        }
        let Some(in_place) = &attempt.in_place else { return };
        let limit = in_place.give_up_at();
        if limit.is_some_and(|limit| limit <= self.view.now) {
            let failed = message.as_deref().map(|message| (reason.as_str(), message));
            return self.end(attempt, in_place.given_up(failed, self.view.wall));
        }
        let due = later(*since, Duration::from_millis(*wait_millis));
        if due > self.view.now {
            self.tell_once(assignment, attempt, ReportState::Starting);
            let wake = limit.map_or(due, |limit| limit.min(due));
            return self.wake_at(&attempt.identity, Some(wake));
        }
        let mut next = attempt.clone();
        next.progress = Progress::Starting { since: self.view.now };
        next.session.told = None;
        self.keep(next.clone());
        self.start_again(assignment, &next);
    }

    /// Reports that the container of an attempt runs which is restarted in place or probed, once that
    /// is worth it.
    pub(super) fn tell_run(&mut self, assignment: &Assignment, attempt: &Attempt) {
        let Progress::Running { seen, .. } = &attempt.progress else { return };
        if attempt.in_place.is_none() && attempt.health.is_unprobed() {
            return;
        }
        let worth = later(*seen, WORTH_A_REPORT);
        let ends = attempt.in_place.as_ref().map_or(0, |in_place| in_place.in_a_row);
        if ends >= 2 && self.view.now < worth {
            if attempt.session.told.is_none() {
                self.wake_at(&attempt.identity, Some(worth));
            }
            return;
        }
        if !self.tell_once(assignment, attempt, ReportState::Running) {
            self.tell_words(assignment, attempt);
        }
    }

    /// Reports the present state of an attempt, unless that was done or the task shows it. Returns
    /// whether it did.
    fn tell_once(
        &mut self,
        assignment: &Assignment,
        attempt: &Attempt,
        state: ReportState,
    ) -> bool {
        let said = report(attempt, self.view.node.boot_id, state);
        let (task, says) = (&assignment.task, (state, said.ready));
        let is_shown = task.report() == Some(state)
            && task.status.ready == said.ready
            && (task.status.restarts, task.status.restart_at) == (said.restarts, said.restart_at);
        match attempt.session.told {
            Some(told) if told == says => return false,
            None if is_shown => return false,
            Some(_) | None => (),
        }
        let mut next = attempt.clone();
        next.session.told = Some(says);
        next.session.told_words = Some(said.message.clone());
        self.say(&mut next, Content::Report(Box::new(said)));
        self.keep(next);
        true
    }

    /// Removes the containers of an attempt that are not its current one. Returns the new state of
    /// the attempt.
    pub(super) fn clear_others<'b>(&mut self, attempt: &'b Attempt) -> Cow<'b, Attempt> {
        let view = self.view;
        let mut attempt = Cow::Borrowed(attempt);
        if !has_neighbour(view.containers, &attempt.identity)
            && !has_neighbour(view.ledger.attempts(), &attempt.identity)
        {
            return attempt;
        }
        let all = attempt.identity.all_of_attempt();
        for (identity, container) in view.containers.range(all.clone()) {
            if *identity == attempt.identity || view.busy.contains(identity) {
                continue;
            }
            match container {
                ContainerState::Created | ContainerState::Exited { .. } => {
                    self.plan.actions.push(Action::Remove(identity.clone()));
                }
                // Only a person starts a container again that has ended.
                ContainerState::Running { .. } => self.kill_other(attempt.to_mut(), identity),
                ContainerState::Unreadable { .. } => (),
            }
        }
        for identity in view.ledger.attempts().range(all).map(|(identity, _)| identity) {
            if *identity != attempt.identity && !view.containers.contains_key(identity) {
                self.turn_into(identity, None);
            }
        }
        attempt
    }

    fn kill_other(&mut self, attempt: &mut Attempt, identity: &Identity) {
        if let Some(at) = attempt.session.kill_again_at.filter(|at| *at > self.view.now) {
            return self.wake_at(identity, Some(at));
        }
        let again = later(self.view.now, KILL_AGAIN);
        attempt.session.kill_again_at = Some(again);
        self.plan.actions.push(Action::Kill(identity.clone()));
        self.wake_at(identity, Some(again));
        self.keep(attempt.clone());
    }

    /// Whether no other container of the attempt runs, or may run.
    pub(super) fn is_alone(&self, attempt: &Attempt) -> bool {
        if !has_neighbour(self.view.containers, &attempt.identity) {
            return true;
        }
        let mut all = self.view.containers.range(attempt.identity.all_of_attempt());
        all.all(|(identity, container)| {
            let may_run = match container {
                ContainerState::Running { .. } | ContainerState::Unreadable { .. } => true,
                ContainerState::Created | ContainerState::Exited { .. } => false,
            };
            *identity == attempt.identity || !may_run
        })
    }
}

/// Whether `known` has another container of the same attempt. Most attempts have one alone, and
/// this finds that without a copy.
fn has_neighbour<T>(known: &BTreeMap<Identity, T>, identity: &Identity) -> bool {
    let before = known.range(..identity).next_back();
    let after = known.range((Bound::Excluded(identity), Bound::Unbounded)).next();
    before.into_iter().chain(after).any(|(other, _)| other.is_of_same_attempt(identity))
}
