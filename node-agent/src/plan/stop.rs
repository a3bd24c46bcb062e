//! The end of an attempt on this node: it is requested, enforced and cleaned up. Also handles
//! containers that nobody wants.

use std::collections::BTreeSet;

use api::Timestamp;
use api::node::Leftover;
use api::task::ReportState;
use jiff::SignedDuration;

use super::ending::Ending;
use super::{Action, KILL_AGAIN, Planner, later, report};
use crate::attempt::{Attempt, Content, Progress, Why};
use crate::engine::{ContainerState, Identity};

/// After this many failures to deliver the stop signal a container is killed when its grace period
/// is over, which then counts from when the stop was decided.
const SIGNAL_FAILURES_MAX: u32 = 3;

impl Planner<'_> {
    pub(super) fn begin_stop(&mut self, attempt: &Attempt, started: Option<Timestamp>, why: Why) {
        let mut next = attempt.clone();
        next.progress = Progress::Stopping {
            started,
            since: self.view.now,
            asked: self.view.wall,
            why,
            delivered: None,
        };
        // What has delayed its start does not delay its stop.
        next.session.trouble = None;
        next.session.told_trouble = None;
        let over = later(self.view.now, next.manner.grace());
        self.wake_at(&next.identity, Some(over));
        self.plan.actions.push(Action::Signal(next.identity.clone(), next.manner.signal()));
        self.keep(next);
    }

    pub(super) fn stopping(&mut self, attempt: &Attempt, container: Option<&ContainerState>) {
        let Progress::Stopping { started, since, asked, why, .. } = &attempt.progress else {
            return;
        };
        match container {
            None | Some(ContainerState::Created) => {
                let mut ending = Ending::stopped(*why, self.view.wall);
                ending.started = *started;
                self.end(attempt, ending);
            }
            Some(ContainerState::Exited { .. }) => {
                let asked = earlier(*asked, self.set_back(*since, *asked));
                let ending = container.and_then(|it| Ending::seen(it, Some((*why, asked))));
                if let Some(ending) = ending {
                    self.end(attempt, ending);
                }
            }
            Some(ContainerState::Running { .. }) => {
                let attempt = self.tell_trouble(attempt);
                self.press(&attempt);
            }
            Some(ContainerState::Unreadable { .. }) => (),
        }
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
        let Progress::Stopping { since, delivered, .. } = &attempt.progress else { return };
        let identity = attempt.identity.clone();
        let from = match delivered {
            Some(delivered) => *delivered,
            // The engine answers but cannot deliver the signal. KILL may still work.
            None if attempt.session.signal_failures >= SIGNAL_FAILURES_MAX => *since,
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
        // The apiserver does not want reports of it any more.
        attempt.unsent = None;
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

/// `time` minus `by`, saturating.
fn earlier(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}
