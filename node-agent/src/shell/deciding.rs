//! Decides what is due, writes it down and has it done; takes in what came of that.

use std::time::Duration;

use base::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Agent;
use super::agenda::Due;
use super::crew::Acted;
use super::pulls::Pulled;
use crate::attempt::{Attempt, Progress};
use crate::engine::{EngineError, Identity, Reason};
use crate::plan::{self, After, Asked, Ending, Node, Plan, View, after, after_pull, later, plan};
use crate::resolve::Place;

/// A port of the range that something else was seen to hold is not given for so long.
const PORT_SHUNNED: Duration = Duration::from_secs(300);

impl Agent {
    /// Decides about what changed and about those whose time has come, and acts.
    /// Whether what was decided is on disk.
    pub(super) async fn decide(&mut self) -> bool {
        self.agenda.extend(self.crew.take_rested(Instant::now()));
        self.agenda.extend(self.bound.take_changed());
        let now = self.now();
        let Some(due) = self.agenda.take_due(now) else { return true };
        self.look_at_disk().await;
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
        self.agenda.wait_for(plan.wakes);
        self.publishing.name_leftovers(&due, plan.leftovers);
        let is_saved = self.save().await;
        // Steps of a plan that is not on disk are forgotten: once it is, they may be wrong, such as the
        // start of a task that was cancelled meanwhile. All is decided anew then, and what the ledger
        // says is begun is taken up as it is after a crash.
        if is_saved && let Some(engine) = &self.sight.engine {
            plan.steps.into_iter().for_each(|step| self.crew.act(engine, step));
        }
        is_saved
    }

    fn plan(&self, due: &Due, now: Timestamp) -> Plan {
        plan(&View {
            assignments: self.bound.is_complete.then(|| self.bound.assignments()),
            containers: &self
                .sight
                .seen_of(|| self.ledger.attempts().keys().chain(self.bound.assignments().keys())),
            ledger: &self.ledger,
            which: due.which(),
            busy: self.crew.busy(),
            node: Node {
                place: Place {
                    node: &self.config.name,
                    address: &self.config.address,
                    own_network: self.sight.own_network,
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
        let before = self.ledger.get(&attempt.identity).map(|before| &before.progress);
        if attempt.progress == Progress::Ended && before != Some(&Progress::Ended) {
            self.metrics.ends.inc();
        }
        self.ledger.put(attempt);
    }

    /// Takes in what came of a step.
    pub(super) fn acted(&mut self, acted: Acted) {
        self.crew.done(&acted, Instant::now());
        self.sight.doubt(acted.identity.clone());
        self.take_answer(&acted);
        match acted.outcome {
            Ok(Some(started)) if !started.adopted => self.metrics.starts.inc(),
            Ok(_) => (),
            Err(EngineError::Refused { reason, message })
                if matches!(acted.asked, Asked::Start { .. }) =>
            {
                self.refused(&acted.identity, reason, message);
            }
            Err(EngineError::Refused { message, .. }) => {
                warn!(identity = %acted.identity, message, "the engine refused");
            }
            // What is to be done next is seen by looking.
            Err(
                EngineError::NeedsImage
                | EngineError::Failed { .. }
                | EngineError::Unavailable { .. }
                | EngineError::Unknown { .. }
                | EngineError::Gone,
            ) => (),
        }
    }

    /// What is known of the attempt from now on.
    fn take_answer(&mut self, acted: &Acted) {
        let Some(attempt) = self.ledger.get(&acted.identity) else { return };
        let outcome = acted.outcome.as_ref().map(|_| ());
        let times = (self.now(), self.outside.clock.now());
        let follows = after(attempt, &acted.asked, outcome, times);
        self.follow(&acted.identity, follows);
        if let (Asked::Start { image }, Err(EngineError::NeedsImage)) =
            (&acted.asked, &acted.outcome)
            && self.ledger.get(&acted.identity).is_some_and(Attempt::waits_for_image)
            && let Some(engine) = &self.sight.engine
        {
            self.pulls.ask(engine, image.clone(), acted.identity.clone());
        }
    }

    /// Takes over what follows for an attempt from an answer.
    fn follow(&mut self, identity: &Identity, follows: After) {
        match follows {
            After::Nothing => (),
            After::Known(attempt) => self.put(*attempt),
            After::Ended(ending) => {
                let Some(attempt) = self.ledger.get(identity) else { return };
                let mut attempt = attempt.clone();
                plan::end(&mut attempt, *ending, self.ledger.words() + 1, &self.boot_id);
                self.put(attempt);
            }
        }
    }

    /// Takes in what came of fetching an image.
    pub(super) fn pulled(&mut self, pulled: &Pulled) {
        let now = Instant::now();
        for identity in self.pulls.done(pulled) {
            let Some(attempt) = self.ledger.get(&identity) else { continue };
            let wall = self.outside.clock.now();
            let follows = after_pull(attempt, pulled.outcome.as_ref().copied(), wall);
            if let (After::Known(_), Err(error)) = (&follows, &pulled.outcome) {
                self.crew.rest(&identity, error, now);
            }
            self.follow(&identity, follows);
            self.agenda.extend([identity]);
        }
    }

    /// An attempt cannot be started, however often it is tried: unless other ports help.
    fn refused(&mut self, identity: &Identity, reason: Reason, message: String) {
        let now = self.outside.clock.now();
        let until = later(self.now(), PORT_SHUNNED);
        if reason == Reason::PortTaken && self.ledger.shun_ports(identity, until) {
            return info!(%identity, message, "a port is in use by something else; trying others");
        }
        let Some(attempt) = self.ledger.get(identity) else { return };
        if matches!(attempt.progress, Progress::Starting { .. }) {
            let mut attempt = attempt.clone();
            let ending = Ending::failed(reason.as_str(), message, now);
            plan::end(&mut attempt, ending, self.ledger.words() + 1, &self.boot_id);
            self.put(attempt);
        }
    }

    /// The time that waits are counted by.
    pub(super) fn now(&self) -> Timestamp {
        later(self.began.1, self.began.0.elapsed())
    }

    /// When that time will be.
    pub(super) fn instant_of(&self, at: Timestamp) -> Instant {
        let wait = Duration::try_from(at.duration_since(self.began.1)).unwrap_or(Duration::ZERO);
        self.began.0 + wait
    }
}
