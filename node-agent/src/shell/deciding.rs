//! Plans for what is due, writes the journal, has the plan carried out, and takes in the results.

use std::time::Duration;

use base::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Agent;
use super::executor::Acted;
use super::prober::Probed;
use super::pulls::{Pulled, Pulling};
use super::work_queue::Due;
use crate::attempt::{Attempt, Progress};
use crate::engine::{EngineError, Identity, Reason};
use crate::plan::{
    self, Action, ActionKind, After, Node, Plan, View, after, after_failure, after_probe,
    after_pull, later, plan, while_pulled,
};
use crate::resolve::HostInfo;

/// How long a port of the range is avoided after something else was found to hold it.
const PORT_SHUNNED: Duration = Duration::from_secs(300);

impl Agent {
    /// Plans for what has changed or is due, and acts. Returns whether the journal has all of it.
    pub(super) async fn decide(&mut self) -> bool {
        self.queue.extend(self.executor.take_rested(Instant::now()));
        let changed = self.bound.take_changed();
        changed.iter().for_each(|identity| self.hurry(identity));
        self.queue.extend(changed);
        let now = self.now();
        let Some(due) = self.queue.take_due(now) else { return true };
        self.look_at_disk_anew().await;
        let plan = self.plan(&due, now);
        for (identity, change) in plan.changes {
            self.served.remember(&identity);
            match change {
                Some(attempt) => self.put(attempt),
                None => self.ledger.remove(&identity),
            }
        }
        let ledger = &self.ledger;
        self.pulls.keep(|identity| ledger.get(identity).is_some_and(Attempt::waits_for_image));
        self.prober.keep(|identity| ledger.get(identity).is_some_and(Attempt::is_running));
        self.queue.wait_for(plan.wakes);
        self.publishing.name_leftovers(&due, plan.leftovers);
        let is_saved = self.save().await;
        // If the plan could not be written to the journal, its actions are dropped. When the
        // journal can be written again they may be wrong, for example because a task was cancelled
        // meanwhile. Everything is planned anew then, and what the ledger says has begun is treated
        // as after a crash.
        if is_saved && let Some(engine) = &self.engine_view.engine {
            for mut action in plan.actions {
                if let Action::Start(spec) = &mut action {
                    self.config.added.add_to(spec);
                }
                self.executor.act(engine, action);
            }
            plan.probes.into_iter().for_each(|probe| self.prober.begin(engine, probe));
        }
        is_saved
    }

    fn plan(&self, due: &Due, now: Timestamp) -> Plan {
        plan(&View {
            assignments: self.bound.is_complete.then(|| self.bound.assignments()),
            containers: &self
                .engine_view
                .seen_of(|| self.ledger.attempts().keys().chain(self.bound.assignments().keys())),
            ledger: &self.ledger,
            which: due.which(),
            busy: self.executor.busy(),
            node: Node {
                host: HostInfo {
                    node: &self.config.name,
                    address: &self.config.address,
                    own_network: self.engine_view.own_network,
                },
                boot_id: &self.boot_id,
                capacity: self.publishing.capacity(),
                port_range: self.config.port_range,
                shortage: self.disk.shortage(),
            },
            now,
            wall: self.outside.clock.now(),
        })
    }

    fn put(&mut self, attempt: Attempt) {
        let before = self.ledger.get(&attempt.identity);
        if attempt.progress == Progress::Ended
            && before.is_none_or(|before| before.progress != Progress::Ended)
        {
            self.metrics.ends.inc();
        }
        let was_unhealthy = before.is_some_and(|before| before.health.failed().is_some());
        if attempt.health.failed().is_some() && !was_unhealthy {
            self.metrics.unhealthy.inc();
        }
        self.ledger.put(attempt);
    }

    /// A task that is to be stopped does not wait until a failed start may be tried again.
    fn hurry(&mut self, identity: &Identity) {
        let assignment = self.bound.assignments().get(identity);
        if assignment.is_some_and(|assignment| assignment.task.stop().is_some())
            && let Some(attempt) = self.ledger.current(identity)
            && !matches!(attempt.progress, Progress::Stopping { .. })
        {
            self.executor.release(&attempt.identity.clone());
        }
    }

    /// Takes in the result of an action.
    pub(super) fn acted(&mut self, acted: Acted) {
        self.executor.done(&acted, Instant::now());
        self.engine_view.doubt(acted.identity.clone());
        self.take_answer(&acted);
        match acted.outcome {
            Ok(Some(started)) => {
                if !started.adopted {
                    self.metrics.starts.inc();
                    if acted.identity.restart() > 0 {
                        self.metrics.restarts.inc();
                    }
                }
                self.note_image(&acted.identity, started.digest);
            }
            Ok(None) => (),
            Err(EngineError::Refused { reason, message })
                if matches!(acted.kind, ActionKind::Start { .. }) =>
            {
                self.refused(&acted.identity, reason, message);
            }
            Err(EngineError::Refused { message, .. }) => {
                warn!(identity = %acted.identity, message, "the engine refused");
            }
            // The next observation tells what to do.
            Err(
                EngineError::NeedsImage
                | EngineError::Failed { .. }
                | EngineError::Unavailable { .. }
                | EngineError::Unknown { .. }
                | EngineError::Gone,
            ) => (),
        }
    }

    /// Notes which image an attempt runs: its further containers run the same.
    fn note_image(&mut self, identity: &Identity, digest: Option<Box<str>>) {
        let Some(attempt) = self.ledger.get(identity) else { return };
        if digest.is_some() && attempt.image_digest.is_none() {
            let attempt = Attempt { image_digest: digest, ..attempt.clone() };
            self.put(attempt);
        }
    }

    /// Updates the attempt according to the result.
    fn take_answer(&mut self, acted: &Acted) {
        let Some(attempt) = self.ledger.get(&acted.identity) else { return };
        let outcome = acted.outcome.as_ref().map(|_| ());
        let times = (self.now(), self.outside.clock.now());
        let follows = after(attempt, &acted.kind, outcome, times);
        self.follow(&acted.identity, follows);
        if let (ActionKind::Start { image }, Err(EngineError::NeedsImage)) =
            (&acted.kind, &acted.outcome)
            && self.ledger.get(&acted.identity).is_some_and(Attempt::waits_for_image)
            && let Some(engine) = &self.engine_view.engine
        {
            self.pulls.ask(engine, image.clone(), acted.identity.clone());
        }
    }

    /// Applies the consequence of an answer to an attempt.
    fn follow(&mut self, identity: &Identity, follows: After) {
        match follows {
            After::Nothing => (),
            After::Known(attempt) => {
                // Its own pause takes the place of the engine's, so that a stop need not wait.
                if matches!(attempt.progress, Progress::BackOff { .. }) {
                    self.executor.release(identity);
                }
                self.put(*attempt);
            }
            After::Ended(ending) => {
                let Some(attempt) = self.ledger.get(identity) else { return };
                let mut attempt = attempt.clone();
                plan::end(&mut attempt, *ending, self.ledger.last_message() + 1, &self.boot_id);
                self.put(attempt);
            }
        }
    }

    /// Takes in the result of pulling an image.
    pub(super) fn pulled(&mut self, pulled: &Pulled) {
        let now = Instant::now();
        for identity in self.pulls.done(pulled) {
            let Some(attempt) = self.ledger.get(&identity) else { continue };
            let times = (self.now(), self.outside.clock.now());
            let follows = after_pull(attempt, pulled.outcome.as_ref().copied(), times);
            if let (After::Known(_), Err(error)) = (&follows, &pulled.outcome) {
                self.executor.rest(&identity, error, now);
            }
            self.follow(&identity, follows);
            self.queue.extend([identity]);
        }
    }

    /// Takes in how far a pull has come: those that wait for it say so.
    pub(super) fn pulling(&mut self, pulling: &Pulling) {
        let Some((image, waiting)) = self.pulls.waiting(pulling) else { return };
        let (image, waiting) = (image.to_owned(), waiting.clone());
        for identity in waiting {
            let Some(attempt) = self.ledger.get(&identity) else { continue };
            self.put(while_pulled(attempt, &image, pulling.percent));
            self.queue.extend([identity]);
        }
    }

    /// Takes in the result of a probe.
    pub(super) fn probed(&mut self, probed: Probed) {
        self.metrics.probed(probed.kind, &probed.finding);
        if !self.prober.done(&probed) {
            return;
        }
        let Probed { identity, kind, finding, .. } = probed;
        let Some(attempt) = self.ledger.get(&identity) else { return };
        if let After::Known(attempt) = after_probe(attempt, kind, finding) {
            self.put(*attempt);
            self.queue.extend([identity]);
        }
    }

    /// The engine refuses to start an attempt, so it has failed, unless other ports may help or it
    /// is restarted in place.
    fn refused(&mut self, identity: &Identity, reason: Reason, message: String) {
        let times = (self.now(), self.outside.clock.now());
        let until = later(times.0, PORT_SHUNNED);
        // Its own container before this one may be what still holds the port.
        let may_be_its_own =
            self.ledger.get(identity).is_some_and(Attempt::may_be_held_up_by_its_last);
        if reason == Reason::PortTaken && !may_be_its_own && self.ledger.shun_ports(identity, until)
        {
            return info!(%identity, message, "a port is in use by something else; trying others");
        }
        let Some(attempt) = self.ledger.get(identity) else { return };
        if matches!(attempt.progress, Progress::Starting { .. }) {
            let follows = after_failure(attempt, (reason.as_str(), message), times);
            self.follow(&identity.clone(), follows);
        }
    }

    /// The current time on the clock for waits.
    pub(super) fn now(&self) -> Timestamp {
        later(self.began.1, self.began.0.elapsed())
    }

    /// A time of that clock as an instant.
    pub(super) fn instant_of(&self, at: Timestamp) -> Instant {
        let wait = Duration::try_from(at.duration_since(self.began.1)).unwrap_or(Duration::ZERO);
        self.began.0 + wait
    }
}
