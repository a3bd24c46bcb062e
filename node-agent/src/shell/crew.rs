//! Does steps: several at once, but never two about one container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::Spawner;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{debug, info};

use super::Event;
use crate::engine::{Engine, EngineError, Identity, Started};
use crate::plan::Step;

/// Containers that are made at the same time.
const STARTS_MAX: usize = 8;
/// Other things that are done at the same time. Apart from starts: these may wait for an image.
const OTHERS_MAX: usize = 8;
/// Rest after a first failure; doubled with each further one.
const REST_MIN: Duration = Duration::from_millis(200);
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(30);

/// What came of a step.
#[derive(Debug)]
pub(super) struct Acted {
    pub(super) identity: Identity,
    /// Of a start: whether it was one. Nothing of other steps.
    pub(super) outcome: Result<Option<Started>, EngineError>,
    /// Whether it was a start.
    pub(super) is_start: bool,
}

/// Does steps.
#[derive(Debug)]
pub(super) struct Crew {
    spawner: Spawner,
    events: mpsc::Sender<Event>,
    starts: Arc<Semaphore>,
    others: Arc<Semaphore>,
    acting: BTreeSet<Identity>,
    resting: BTreeMap<Identity, Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    failures: u32,
}

impl Crew {
    pub(super) fn new(spawner: Spawner, events: mpsc::Sender<Event>) -> Self {
        Self {
            spawner,
            events,
            starts: Arc::new(Semaphore::new(STARTS_MAX)),
            others: Arc::new(Semaphore::new(OTHERS_MAX)),
            acting: BTreeSet::new(),
            resting: BTreeMap::new(),
        }
    }

    /// Containers that nothing is to be decided about now.
    pub(super) fn busy(&self, now: Instant) -> BTreeSet<Identity> {
        let resting = self.resting.iter().filter(|(_, rest)| rest.until > now);
        resting.map(|(identity, _)| identity).chain(&self.acting).cloned().collect()
    }

    /// When the next rest is over.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.resting.values().map(|rest| rest.until).filter(|until| *until > now).min()
    }

    /// Does a step.
    pub(super) fn act(&mut self, engine: &Arc<dyn Engine>, step: Step) {
        let identity = step.identity().clone();
        debug!(%identity, step = name(&step), "acting");
        self.acting.insert(identity.clone());
        let is_start = matches!(step, Step::Start(_));
        let permits = Arc::clone(if is_start { &self.starts } else { &self.others });
        let (engine, events) = (Arc::clone(engine), self.events.clone());
        self.spawner.spawn("container", async move {
            let _permit = permits.acquire().await;
            let outcome = carry_out(engine.as_ref(), &step).await;
            let acted = Acted { identity, outcome, is_start };
            // Nobody listens when the agent ends.
            let _stopping = events.send(Event::Acted(acted)).await;
        });
    }

    /// A step was done: what failed is not tried again at once.
    pub(super) fn done(&mut self, acted: &Acted, now: Instant) {
        let identity = &acted.identity;
        self.acting.remove(identity);
        match &acted.outcome {
            Ok(_) | Err(EngineError::Refused { .. } | EngineError::Gone) => {
                self.resting.remove(identity);
            }
            Err(error @ (EngineError::Unavailable { .. } | EngineError::Unknown { .. })) => {
                let failures = self.resting.get(identity).map_or(0, |rest| rest.failures);
                let wait = REST_MIN.saturating_mul(1 << failures.min(20)).min(REST_MAX);
                info!(%identity, %error, again_in = ?wait, "the engine did not do it");
                let rest = Rest { until: now + wait, failures: failures.saturating_add(1) };
                self.resting.insert(identity.clone(), rest);
            }
        }
    }

    /// Forgets rests of containers that are not there any more.
    pub(super) fn forget(&mut self, keep: impl Fn(&Identity) -> bool) {
        self.resting.retain(|identity, _| keep(identity));
    }
}

fn name(step: &Step) -> &'static str {
    match step {
        Step::Start(_) => "start",
        Step::Signal(..) => "signal",
        Step::Kill(_) => "kill",
        Step::Remove(_) => "remove",
    }
}

async fn carry_out(engine: &dyn Engine, step: &Step) -> Result<Option<Started>, EngineError> {
    match step {
        Step::Start(spec) => engine.create_and_start(spec).await.map(Some),
        Step::Signal(identity, signal) => engine.signal(identity, *signal).await.map(|()| None),
        Step::Kill(identity) => engine.kill(identity).await.map(|()| None),
        Step::Remove(identity) => engine.remove(identity).await.map(|()| None),
    }
}
