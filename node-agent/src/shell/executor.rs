//! Carries out actions: several at once, but never two on one container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Tasks, without_panic};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::Event;
use crate::engine::{Engine, EngineError, Identity, Started};
use crate::plan::{Action, ActionKind};

/// Most containers that are created at the same time. None of them waits for an image: see
/// [`super::pulls`].
const STARTS_MAX: usize = 8;
/// Most other actions at the same time. Counted apart from starts, so that a stop never waits for a
/// start.
const OTHERS_MAX: usize = 8;
/// Pause after a first failure. Each further failure doubles it.
const REST_MIN: Duration = Duration::from_millis(200);
/// How long an action in progress may take to end when the agent is stopped. Much more than an
/// engine needs; an engine that hangs must not keep the agent running.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause.
const REST_MAX: Duration = Duration::from_secs(30);

/// The result of an action.
#[derive(Debug)]
pub(super) struct Acted {
    pub(super) identity: Identity,
    /// The kind of action.
    pub(super) kind: ActionKind,
    /// For a start: how it started. `None` for other actions.
    pub(super) outcome: Result<Option<Started>, EngineError>,
}

/// Carries out actions.
#[derive(Debug)]
pub(super) struct Executor {
    /// The actions in progress. Dropped with the agent, as in a crash.
    tasks: Tasks,
    events: mpsc::Sender<Event>,
    starts: Arc<Semaphore>,
    others: Arc<Semaphore>,
    /// Containers with an action in progress.
    acting: BTreeSet<Identity>,
    /// Containers with an action in progress or in a pause.
    busy: BTreeSet<Identity>,
    /// When each pause ends, the earliest first.
    rests: BTreeSet<(Instant, Identity)>,
    /// Number of consecutive failures.
    failures: BTreeMap<Identity, u32>,
}

impl Executor {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            tasks: Tasks::new("actions"),
            events,
            starts: Arc::new(Semaphore::new(STARTS_MAX)),
            others: Arc::new(Semaphore::new(OTHERS_MAX)),
            acting: BTreeSet::new(),
            busy: BTreeSet::new(),
            rests: BTreeSet::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Containers about which nothing must be decided now.
    pub(super) fn busy(&self) -> &BTreeSet<Identity> {
        &self.busy
    }

    /// Whether an action on it is in progress.
    pub(super) fn is_acting(&self, identity: &Identity) -> bool {
        self.acting.contains(identity)
    }

    /// Containers whose pause is over.
    pub(super) fn take_rested(&mut self, now: Instant) -> Vec<Identity> {
        let mut rested = Vec::new();
        while let Some((until, _)) = self.rests.first()
            && *until <= now
            && let Some((_, identity)) = self.rests.pop_first()
        {
            self.busy.remove(&identity);
            rested.push(identity);
        }
        rested
    }

    /// When the next pause ends.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.rests.first().map(|(until, _)| *until)
    }

    /// Begins an action.
    pub(super) fn act(&mut self, engine: &Arc<dyn Engine>, action: Action) {
        let identity = action.identity().clone();
        debug!(%identity, action = name(&action), "acting");
        self.acting.insert(identity.clone());
        self.busy.insert(identity.clone());
        let kind = ActionKind::of(&action);
        let is_start = matches!(kind, ActionKind::Start { .. });
        let permits = Arc::clone(if is_start { &self.starts } else { &self.others });
        let (engine, events) = (Arc::clone(engine), self.events.clone());
        let stop = self.tasks.stop_signal();
        self.tasks.spawn("container", async move {
            let _permit = tokio::select! {
                biased;
                () = stop.requested() => return,
                permit = permits.acquire() => permit,
            };
            // A panic is a bug in handling this container. It must not affect others, and it must
            // be answered, or the agent would wait for the action for ever.
            let outcome = without_panic("container", carry_out(engine.as_ref(), &action)).await;
            let outcome = outcome.unwrap_or_else(|_logged| {
                error!(%identity, action = name(&action), "a action panicked, which is a bug");
                Err(EngineError::unknown(
                    "the action panicked, which is a bug; see the agent's log",
                ))
            });
            let acted = Acted { identity, kind, outcome };
            // The receiver is closed when the agent ends.
            let _stopping = events.send(Event::Acted(acted)).await;
        });
    }

    /// Begins no more actions and waits for those in progress. If one were dropped, the engine
    /// might carry it out after the next agent has looked at its containers.
    pub(super) async fn finish(self) {
        // Nobody needs the results: the next agent looks for itself.
        drop(self.events);
        if timeout(END_TIMEOUT, self.tasks.stop()).await.is_err() {
            warn!("the engine did not answer in time; it may continue after the agent has exited");
        }
    }

    /// Takes in the result of an action. What failed is not tried again at once.
    pub(super) fn done(&mut self, acted: &Acted, now: Instant) {
        let identity = &acted.identity;
        self.acting.remove(identity);
        match &acted.outcome {
            Ok(_)
            | Err(EngineError::Refused { .. } | EngineError::NeedsImage | EngineError::Gone) => {
                self.busy.remove(identity);
                self.failures.remove(identity);
            }
            Err(
                error @ (EngineError::Failed { .. }
                | EngineError::Unavailable { .. }
                | EngineError::Unknown { .. }),
            ) => {
                self.rest(identity, error, now);
            }
        }
    }

    /// Pauses actions on a container, for longer with each failure.
    pub(super) fn rest(&mut self, identity: &Identity, error: &EngineError, now: Instant) {
        let failures = self.failures.entry(identity.clone()).or_default();
        let wait = REST_MIN.saturating_mul(1 << (*failures).min(20)).min(REST_MAX);
        *failures = failures.saturating_add(1);
        info!(%identity, %error, again_in = ?wait, "the engine failed");
        self.busy.insert(identity.clone());
        self.rests.insert((now + wait, identity.clone()));
    }

    /// Ends the pause of a container on which no action is in progress.
    pub(super) fn release(&mut self, identity: &Identity) {
        if !self.acting.contains(identity) {
            self.busy.remove(identity);
            self.rests.retain(|(_, resting)| resting != identity);
            self.failures.remove(identity);
        }
    }

    /// Forgets the failures of containers that are gone.
    pub(super) fn forget(&mut self, keep: impl Fn(&Identity) -> bool) {
        self.failures.retain(|identity, _| keep(identity));
    }
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::Start(_) => "start",
        Action::Signal(..) => "signal",
        Action::Kill(_) => "kill",
        Action::Remove(_) => "remove",
    }
}

async fn carry_out(engine: &dyn Engine, action: &Action) -> Result<Option<Started>, EngineError> {
    match action {
        Action::Start(spec) => engine.create_and_start(spec).await.map(Some),
        Action::Signal(identity, signal) => engine.signal(identity, *signal).await.map(|()| None),
        Action::Kill(identity) => engine.kill(identity).await.map(|()| None),
        Action::Remove(identity) => engine.remove(identity).await.map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base::panics;

    use super::super::broken::Broken;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_panics_is_counted_answered_and_tried_again_later() {
        let before = panics();
        let (events, mut news) = mpsc::channel(1);
        let mut executor = Executor::new(events);
        let engine: Arc<dyn Engine> = Arc::new(Broken::default());
        let identity = Identity::new("default", "t-0", "0af3", 1).unwrap();
        executor.act(&engine, Action::Remove(identity.clone()));
        let Some(Event::Acted(acted)) = news.recv().await else { panic!("it is not answered") };
        assert!(matches!(acted.outcome, Err(EngineError::Unknown { .. })), "{acted:?}");
        assert!(panics() > before);
        let now = Instant::now();
        executor.done(&acted, now);
        assert!(!executor.is_acting(&identity) && executor.busy().contains(&identity), "it rests");
        assert_eq!(executor.take_rested(now + REST_MIN), [identity]);
    }

    /// Otherwise the engine would go on with an action after the agent has ended, beside the next
    /// agent.
    #[tokio::test(start_paused = true)]
    async fn steps_under_way_end_before_the_agent_and_none_is_begun() {
        let (ended, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let (events, news) = mpsc::channel(1);
        let mut executor = Executor::new(events);
        let removes = Some((REST_MIN, Arc::clone(&ended)));
        let engine: Arc<dyn Engine> = Arc::new(Broken { removes });
        for attempt in 0..=OTHERS_MAX {
            let attempt = u32::try_from(attempt + 1).unwrap();
            let identity = Identity::new("default", "t-0", "0af3", attempt).unwrap();
            executor.act(&engine, Action::Remove(identity));
        }
        while executor.others.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        drop(news);
        executor.finish().await;
        assert_eq!(ended.load(Ordering::Relaxed), OTHERS_MAX, "the last one was not begun");
        assert_eq!(began.elapsed(), REST_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_hangs_does_not_keep_the_agent() {
        let began = Instant::now();
        let (events, _news) = mpsc::channel(1);
        let mut executor = Executor::new(events);
        let engine: Arc<dyn Engine> =
            Arc::new(Broken { removes: Some((2 * END_TIMEOUT, Arc::default())) });
        executor.act(&engine, Action::Remove(Identity::new("default", "t-0", "0af3", 1).unwrap()));
        while executor.others.available_permits() == OTHERS_MAX {
            tokio::task::yield_now().await;
        }
        executor.finish().await;
        assert_eq!(began.elapsed(), END_TIMEOUT);
    }
}
