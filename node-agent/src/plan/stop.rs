//! The end of an attempt on this node: it is requested, enforced and cleaned up. Also handles
//! containers that nobody wants.

use std::collections::BTreeSet;
use std::time::Duration;

use api::Timestamp;
use api::node::Leftover;
use api::task::{ReportState, reason};
use jiff::SignedDuration;

use super::ending::Ending;
use super::{Action, Assignment, KILL_AGAIN, Planner, later, report};
use crate::attempt::{Attempt, Content, Progress, Why};
use crate::engine::{ContainerState, Identity};
use crate::health::Probing;

/// After this many failures to deliver the stop signal a container is killed when its grace period
/// is over, which then counts from when the stop was decided.
const SIGNAL_FAILURES_MAX: u32 = 3;

impl Planner<'_> {
    pub(super) fn begin_stop(&mut self, attempt: &Attempt, started: Option<Timestamp>, why: Why) {
        let mut next = attempt.clone();
        let drain_millis = drain_millis(attempt, why);
        next.progress = Progress::Stopping {
            started,
            since: self.view.now,
            asked: self.view.wall,
            why,
            drain_millis,
            delivered: None,
        };
        // What has delayed its start does not delay its stop.
        next.session.trouble = None;
        next.session.told_trouble = None;
        // Probes of a container that is being stopped say nothing any more.
        next.session.probing = Probing::default();
        self.tell_stop(&mut next, attempt.health.is_ready(), why);
        if drain_millis > 0 {
            let over = later(self.view.now, Duration::from_millis(drain_millis));
            self.wake_at(&next.identity, Some(over));
        } else {
            let over = later(self.view.now, next.manner.grace());
            self.wake_at(&next.identity, Some(over));
            self.plan.actions.push(Action::Signal(next.identity.clone(), next.manner.signal()));
        }
        self.keep(next);
    }

    /// Reports that an attempt is not ready any more since it is being stopped, if somebody relies on
    /// its being ready.
    fn tell_stop(&mut self, next: &mut Attempt, was_ready: bool, why: Why) {
        let Progress::Stopping { drain_millis, .. } = next.progress else { return };
        let is_relied_on = next.in_place.is_some() || !next.health.is_unprobed();
        let is_news = match why {
            Why::Unwanted => false,
            Why::Unhealthy => true,
            Why::TimedOut | Why::Preempted | Why::Asked => {
                drain_millis > 0 || (is_relied_on && was_ready)
            }
        };
        if !is_news {
            return;
        }
        let mut running = report(next, self.view.node.boot_id, ReportState::Running);
        running.message = match next.health.failed() {
            Some(failed) => Some(failed.to_owned()),
            None if drain_millis > 0 => {
                let delay = api::duration::Duration::from(Duration::from_millis(drain_millis));
                Some(format!("its stop signal is sent after drainDelay ({delay})"))
            }
            None => None,
        };
        self.say(next, Content::Report(Box::new(running)));
    }

    pub(super) fn stopping(
        &mut self,
        assignment: &Assignment,
        attempt: &Attempt,
        container: Option<&ContainerState>,
    ) {
        let Progress::Stopping { started, since, asked, why, .. } = &attempt.progress else {
            return;
        };
        // It may be asked to stop while it is stopped for its health. Then it is not started again.
        let asked_now = assignment.stop().filter(|_| *why == Why::Unhealthy);
        let why = asked_now.unwrap_or(*why);
        match container {
            None | Some(ContainerState::Created) => {
                let mut ending = Ending::stopped(why, self.view.wall);
                ending.started = *started;
                self.stopped(assignment, attempt, (ending, why));
            }
            Some(ContainerState::Exited { .. }) => {
                let asked = earlier(*asked, self.set_back(*since, *asked));
                let ending = container.and_then(|it| Ending::seen(it, Some((why, asked))));
                if let Some(ending) = ending {
                    self.stopped(assignment, attempt, (ending, why));
                }
            }
            Some(ContainerState::Running { .. }) => {
                let attempt = self.tell_trouble(attempt);
                self.press(&attempt);
            }
            Some(ContainerState::Unreadable { .. }) => (),
        }
    }

    /// A container that was asked to end has ended.
    fn stopped(
        &mut self,
        assignment: &Assignment,
        attempt: &Attempt,
        (mut ending, why): (Ending, Why),
    ) {
        if why != Why::Unhealthy {
            return self.end(attempt, ending);
        }
        if ending.reason.as_deref() == Some(reason::UNHEALTHY) && ending.message.is_none() {
            ending.message = attempt.health.failed().map(str::to_owned);
        }
        self.fallen(assignment, attempt, ending);
    }

    /// By how much the clock was set back since a stop was decided: `since` is that moment on the
    /// clock for waits, `asked` on the wall clock. Without this correction a container that ended
    /// after the stop request would seem to have ended before it.
    fn set_back(&self, since: Timestamp, asked: Timestamp) -> SignedDuration {
        let (passed, shown) =
            (self.view.now.duration_since(since), self.view.wall.duration_since(asked));
        passed.saturating_sub(shown).max(SignedDuration::ZERO)
    }

    /// Reports what delays a stop or prevents looking. Returns the new state of the attempt.
    pub(super) fn tell_trouble(&mut self, attempt: &Attempt) -> Attempt {
        let mut next = attempt.clone();
        if next.session.told_trouble == next.session.trouble {
            return next;
        }
        next.session.told_trouble.clone_from(&next.session.trouble);
        let mut running = report(&next, self.view.node.boot_id, ReportState::Running);
        running.message.clone_from(&next.session.trouble);
        self.say(&mut next, Content::Report(Box::new(running)));
        self.keep(next.clone());
        next
    }

    /// Sends the stop signal, and KILL when the grace period is over.
    fn press(&mut self, attempt: &Attempt) {
        let Progress::Stopping { since, drain_millis, delivered, .. } = &attempt.progress else {
            return;
        };
        let identity = attempt.identity.clone();
        let drain_millis = attempt.manner.drain_millis.min(*drain_millis);
        let drained = later(*since, Duration::from_millis(drain_millis));
        let from = match delivered {
            Some(delivered) => *delivered,
            None if drained > self.view.now => return self.wake_at(&identity, Some(drained)),
            // The engine answers but cannot deliver the signal. KILL may still work.
            None if attempt.session.signal_failures >= SIGNAL_FAILURES_MAX => drained,
            None => {
                // The engine was away, or an earlier agent crashed before it noted the delivery.
                // Send it again.
                return self.plan.actions.push(Action::Signal(identity, attempt.manner.signal()));
            }
        };
        let over = later(from, attempt.manner.grace());
        if over <= self.view.now {
            return self.kill(attempt);
        }
        self.wake_at(&identity, Some(over));
    }

    /// An attempt that nobody wants on this node, with all of its containers.
    pub(super) fn unwanted_attempt(&mut self, identity: &Identity) {
        let (view, all) = (self.view, identity.all_of_attempt());
        let containers = view.containers.range(all.clone()).map(|(identity, _)| identity);
        let known = view.ledger.attempts().range(all).map(|(identity, _)| identity);
        let identities: BTreeSet<&Identity> = containers.chain(known).collect();
        for identity in identities {
            self.unwanted(identity, view.ledger.get(identity));
        }
    }

    /// A container that nobody wants on this node, or what is left of it.
    fn unwanted(&mut self, identity: &Identity, attempt: Option<&Attempt>) {
        let container = self.view.containers.get(identity);
        let is_busy = self.view.busy.contains(identity);
        let is_unreadable = matches!(container, Some(ContainerState::Unreadable { .. }));
        let runs = is_unreadable || matches!(container, Some(ContainerState::Running { .. }));
        if runs || (is_busy && attempt.is_some_and(Attempt::holds)) {
            let leftover = Leftover {
                uid: identity.uid().to_owned(),
                attempt: identity.attempt(),
                requests: attempt.map(|attempt| attempt.requests.clone()).unwrap_or_default(),
                ports: attempt.map(|it| it.host_ports().collect()).unwrap_or_default(),
            };
            // One for each attempt. Of its containers only the current one holds resources.
            let attempt = identity.of_attempt().into_owned();
            if leftover.requests.is_empty() {
                self.plan.leftovers.entry(attempt).or_insert(leftover);
            } else {
                self.plan.leftovers.insert(attempt, leftover);
            }
        }
        if is_busy || is_unreadable {
            return;
        }
        if let Some(ContainerState::Running { since }) = container {
            return self.stop_unwanted(identity, attempt, *since);
        }
        if container.is_some() {
            self.plan.actions.push(Action::Remove(identity.clone()));
        }
        if attempt.is_some() {
            self.turn_into(identity, None);
        }
    }

    fn stop_unwanted(
        &mut self,
        identity: &Identity,
        attempt: Option<&Attempt>,
        started: Timestamp,
    ) {
        let seen = Progress::Running { started, seen: self.view.now };
        let found = Attempt::found(identity.clone(), seen);
        let mut attempt = attempt.cloned().unwrap_or(found);
        // The apiserver does not want reports of it any more, and nobody sends it work.
        attempt.unsent = None;
        attempt.manner.drain_millis = 0;
        match attempt.progress {
            Progress::Stopping { .. } => self.press(&attempt),
            Progress::Starting { .. }
            | Progress::BackOff { .. }
            | Progress::Running { .. }
            | Progress::Ended
            | Progress::Refused => self.begin_stop(&attempt, Some(started), Why::Unwanted),
        }
    }

    /// Removes an ended container after its end was acknowledged.
    pub(super) fn tidy(&mut self, attempt: &Attempt, container: Option<&ContainerState>) {
        if attempt.unsent.is_some() {
            return;
        }
        match container {
            None | Some(ContainerState::Unreadable { .. }) => (),
            Some(ContainerState::Created | ContainerState::Exited { .. }) => {
                self.plan.actions.push(Action::Remove(attempt.identity.clone()));
            }
            // A start whose answer was lost succeeded after its attempt was given up. Stop it.
            Some(ContainerState::Running { .. }) => self.kill(attempt),
        }
    }

    fn kill(&mut self, attempt: &Attempt) {
        if let Some(at) = attempt.session.kill_again_at.filter(|at| *at > self.view.now) {
            return self.wake_at(&attempt.identity, Some(at));
        }
        let mut next = attempt.clone();
        let again = later(self.view.now, KILL_AGAIN);
        next.session.kill_again_at = Some(again);
        self.plan.actions.push(Action::Kill(next.identity.clone()));
        self.wake_at(&next.identity, Some(again));
        self.keep(next);
    }
}

/// How long an attempt that is to be stopped is not ready before it gets the stop signal.
fn drain_millis(attempt: &Attempt, why: Why) -> u64 {
    match why {
        Why::Asked | Why::Preempted if attempt.health.is_ready() => attempt.manner.drain_millis,
        // Nobody sends it work, or it is late already.
        Why::Asked | Why::Preempted | Why::TimedOut | Why::Unwanted | Why::Unhealthy => 0,
    }
}

/// `time` minus `by`, saturating.
fn earlier(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}
