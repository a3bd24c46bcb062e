//! The end of an attempt on this node: asked for, enforced, tidied away; and what nobody wants here.

use api::Timestamp;
use api::node::Leftover;

use super::ending::Ending;
use super::{KILL_AGAIN, Planner, Step, later};
use crate::attempt::{Attempt, Progress, Why};
use crate::engine::{ContainerState, Identity};

impl Planner<'_> {
    pub(super) fn begin_stop(&mut self, attempt: &Attempt, started: Option<Timestamp>, why: Why) {
        let mut next = attempt.clone();
        next.progress =
            Progress::Stopping { started, since: self.view.now, asked: self.view.wall, why };
        next.session.signalled = true;
        let over = later(self.view.now, next.manner.grace());
        self.wake_at(&next.identity, Some(over));
        self.plan.steps.push(Step::Signal(next.identity.clone(), next.manner.signal()));
        self.keep(next);
    }

    pub(super) fn stopping(&mut self, attempt: &Attempt, container: Option<&ContainerState>) {
        let Progress::Stopping { started, since, asked, why } = &attempt.progress else { return };
        match container {
            None | Some(ContainerState::Created) => {
                let mut ending = Ending::stopped(*why, self.view.wall);
                ending.started = *started;
                self.end(attempt, ending);
            }
            Some(ContainerState::Exited { .. }) => {
                self.ended(attempt, container, Some((*why, *asked)));
            }
            Some(ContainerState::Running { .. }) => self.press(attempt, *since),
        }
    }

    /// Asks a container to end, and ends it when its grace is over.
    fn press(&mut self, attempt: &Attempt, since: Timestamp) {
        let over = later(since, attempt.manner.grace());
        if over <= self.view.now {
            return self.kill(attempt);
        }
        let identity = attempt.identity.clone();
        self.wake_at(&identity, Some(over));
        if !attempt.session.signalled {
            // A former agent may have crashed before it did.
            let mut next = attempt.clone();
            next.session.signalled = true;
            self.plan.steps.push(Step::Signal(identity, next.manner.signal()));
            self.keep(next);
        }
    }

    /// A container that nobody wants here, or what is left of one.
    pub(super) fn unwanted(&mut self, identity: &Identity, attempt: Option<&Attempt>) {
        let container = self.view.containers.get(identity);
        let is_busy = self.view.busy.contains(identity);
        let runs = matches!(container, Some(ContainerState::Running { .. }));
        if runs || (is_busy && attempt.is_some_and(Attempt::holds)) {
            let leftover = Leftover {
                uid: identity.uid().to_owned(),
                attempt: identity.attempt(),
                requests: attempt.map(|attempt| attempt.requests.clone()).unwrap_or_default(),
                ports: attempt.map(|it| it.host_ports().collect()).unwrap_or_default(),
            };
            self.plan.leftovers.insert(identity.clone(), leftover);
        }
        if is_busy {
            return;
        }
        if let Some(ContainerState::Running { since }) = container {
            return self.stop_unwanted(identity, attempt, *since);
        }
        if container.is_some() {
            self.plan.steps.push(Step::Remove(identity.clone()));
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
        // Nobody listens any more.
        attempt.unsent = None;
        match attempt.progress {
            Progress::Stopping { since, .. } => self.press(&attempt, since),
            Progress::Starting { .. }
            | Progress::Running { .. }
            | Progress::Ended
            | Progress::Refused => self.begin_stop(&attempt, Some(started), Why::Unwanted),
        }
    }

    /// What has ended is removed once that was heard.
    pub(super) fn tidy(&mut self, attempt: &Attempt, container: Option<&ContainerState>) {
        if attempt.unsent.is_some() {
            return;
        }
        match container {
            None => (),
            Some(ContainerState::Created | ContainerState::Exited { .. }) => {
                self.plan.steps.push(Step::Remove(attempt.identity.clone()));
            }
            // A start whose answer was lost, after its attempt was given up.
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
        self.plan.steps.push(Step::Kill(next.identity.clone()));
        self.wake_at(&next.identity, Some(again));
        self.keep(next);
    }
}
