//! The agent's view of the engine: everything is listed from time to time, and in between what may
//! have changed is inspected.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Health, Retry, Rng};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::{Agent, Event};
use crate::engine::{ContainerState, Engine, EngineError, EngineEvent, Identity, Scope};

/// How often everything is listed, whatever events say.
pub(super) const RESYNC: Duration = Duration::from_secs(10);
/// How long to wait before an engine that does not answer is asked again.
const ENGINE_WAIT: Duration = Duration::from_secs(1);
/// How often logs that are too old, or too many, are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Most containers that are inspected at the same time.
const INSPECTS_MAX: usize = 16;
/// If more containers than this, and more than half of all, may have changed, all are listed
/// instead.
const INSPECTS_WORTH_A_LIST: usize = 64;

/// What is known of the engine and its containers.
pub(super) struct EngineView {
    /// Whether asking the engine works.
    asking: Retry,
    pub(super) engine: Option<Arc<dyn Engine>>,
    /// Dropped when the events of the engine are no longer wanted.
    listening: Option<oneshot::Sender<()>>,
    pub(super) own_network: bool,
    pub(super) containers: BTreeMap<Identity, ContainerState>,
    /// Containers whose records are damaged, and why. Their identities have no task name, because
    /// the engine may not be able to read it.
    unreadable: BTreeMap<Identity, String>,
    /// Containers that may have changed since they were inspected.
    stale: BTreeSet<Identity>,
    /// Whether any container may have changed.
    is_all_stale: bool,
    pub(super) ask_at: Option<Instant>,
    pub(super) resync_at: Option<Instant>,
    prune_at: Option<Instant>,
}

/// The result of a look.
enum Looked {
    All { images: Option<Vec<String>> },
    These(BTreeSet<Identity>),
}

impl EngineView {
    /// Nothing has been observed yet.
    pub(super) fn new(rng: Rng, health: &Health) -> Self {
        let backoff = Backoff::new(ENGINE_WAIT, ENGINE_WAIT, rng);
        Self {
            asking: Retry::new("asking the container engine", backoff, health),
            engine: None,
            listening: None,
            own_network: false,
            containers: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            stale: BTreeSet::new(),
            is_all_stale: false,
            ask_at: None,
            resync_at: None,
            prune_at: None,
        }
    }

    /// Whether what is known is up to date, as far as anybody knows.
    pub(super) fn is_clear(&self) -> bool {
        self.engine.is_some() && !self.is_all_stale && self.stale.is_empty()
    }

    /// This container may have changed.
    pub(super) fn doubt(&mut self, identity: Identity) {
        self.stale.insert(identity);
    }

    /// Any container may have changed.
    pub(super) fn doubt_all(&mut self) {
        self.is_all_stale = true;
    }

    /// Observes this engine from now on. Its events must be forwarded until the returned receiver
    /// resolves.
    async fn open(
        &mut self,
        engine: Arc<dyn Engine>,
    ) -> Result<oneshot::Receiver<()>, EngineError> {
        self.list(&engine).await?;
        self.engine = Some(engine);
        self.resync_at = Some(Instant::now() + RESYNC);
        let (listening, closed) = oneshot::channel();
        self.listening = Some(listening);
        Ok(closed)
    }

    /// Forgets everything about the engine.
    pub(super) fn close(&mut self) {
        (self.engine, self.listening) = (None, None);
    }

    /// Inspects what may have changed, or lists everything if it is time.
    async fn look(
        &mut self,
        engine: &Arc<dyn Engine>,
        now: Instant,
    ) -> Result<Looked, EngineError> {
        let mut images = None;
        if self.resync_at.is_none_or(|at| at <= now) {
            self.resync_at = Some(now + RESYNC);
            self.is_all_stale = true;
            // Images only help to choose a node. Containers are observed without them, too.
            images = match engine.images().await {
                Ok(images) => Some(images),
                Err(error) => {
                    warn!(%error, "cannot list images");
                    None
                }
            };
        }
        let stale = self.stale.len();
        if self.is_all_stale || (stale > INSPECTS_WORTH_A_LIST && 2 * stale > self.containers.len())
        {
            self.list(engine).await?;
            return Ok(Looked::All { images });
        }
        for (identity, state) in inspect(engine, &self.stale).await? {
            self.take_in(identity, state);
        }
        Ok(Looked::These(std::mem::take(&mut self.stale)))
    }

    pub(super) fn take_in(&mut self, identity: Identity, state: Option<ContainerState>) {
        let key = identity.without_name();
        self.unreadable.remove(&key);
        self.containers.remove(&identity);
        match state {
            Some(ContainerState::Unreadable { why }) => drop(self.unreadable.insert(key, why)),
            Some(state) => drop(self.containers.insert(identity, state)),
            None => (),
        }
    }

    /// What is known of these containers. Damaged ones are returned under the identities that the
    /// caller knows.
    pub(super) fn seen_of<'a, I: Iterator<Item = &'a Identity>>(
        &self,
        known: impl FnOnce() -> I,
    ) -> Cow<'_, BTreeMap<Identity, ContainerState>> {
        if self.unreadable.is_empty() {
            return Cow::Borrowed(&self.containers);
        }
        let mut seen = self.containers.clone();
        for identity in known() {
            let key = identity.without_name();
            if let Some(why) = self.unreadable.get(&key) {
                let state = ContainerState::Unreadable { why: why.clone() };
                seen.insert(identity.clone(), state);
            }
        }
        Cow::Owned(seen)
    }

    /// Why the node must not take more tasks: it is not known what runs on it.
    pub(super) fn problem(&self) -> Option<String> {
        let first = self.unreadable.values().next()?;
        Some(match self.unreadable.len() - 1 {
            0 => first.clone(),
            others => format!("{first} (and the records of {others} other attempts are damaged)"),
        })
    }

    async fn list(&mut self, engine: &Arc<dyn Engine>) -> Result<(), EngineError> {
        let containers = engine.list().await?;
        (self.containers, self.unreadable) = Default::default();
        for found in containers {
            self.take_in(found.identity, Some(found.state));
        }
        self.stale.clear();
        self.is_all_stale = false;
        Ok(())
    }
}

async fn inspect(
    engine: &Arc<dyn Engine>,
    identities: &BTreeSet<Identity>,
) -> Result<Vec<(Identity, Option<ContainerState>)>, EngineError> {
    let inspect = |identity: Identity| async move {
        let state = engine.inspect(&identity).await?;
        Ok((identity, state))
    };
    let identities: Vec<Identity> = identities.iter().cloned().collect();
    stream::iter(identities).map(inspect).buffer_unordered(INSPECTS_MAX).try_collect().await
}

impl Agent {
    /// Brings the view of the engine up to date.
    pub(super) async fn look(&mut self) {
        let now = Instant::now();
        if self.engine_view.ask_at.is_some_and(|at| at > now) {
            return;
        }
        self.engine_view.ask_at = None;
        let looked = match self.engine_view.engine.clone() {
            Some(engine) => self.engine_view.look(&engine, now).await,
            None => self.open_engine().await.map(|()| Looked::All { images: None }),
        };
        match looked {
            Ok(looked) => {
                self.looked(looked);
                self.engine_view.asking.worked();
                self.publishing.set_problem(self.engine_view.problem());
            }
            Err(error) => {
                self.engine_view.ask_at = Some(now + self.engine_view.asking.failed(&error));
                let problem =
                    format!("cannot ask the engine for its containers: {error}; check the engine");
                self.publishing.engine_is_down(problem);
            }
        }
        self.prune_logs(now).await;
    }

    fn looked(&mut self, looked: Looked) {
        match looked {
            Looked::These(these) => self.queue.extend(these),
            Looked::All { images } => {
                self.queue.add_all();
                self.ledger.forgive(self.now());
                let (ledger, seen) = (&self.ledger, &self.engine_view.containers);
                self.executor.forget(|it| ledger.get(it).is_some() || seen.contains_key(it));
                if let Some(images) = images {
                    self.publishing.show_images(images);
                }
            }
        }
    }

    async fn prune_logs(&mut self, now: Instant) {
        let due = self.engine_view.prune_at.is_none_or(|at| at <= now);
        let Some(engine) = self.engine_view.engine.as_ref().filter(|_| due) else { return };
        self.engine_view.prune_at = Some(now + PRUNE_INTERVAL);
        if let Err(error) = engine.prune_logs(self.outside.clock.now()).await {
            // Logged as a warning: the disk fills, which stops everything in the end.
            warn!(%error, "cannot delete old logs of removed containers");
        }
    }

    async fn open_engine(&mut self) -> Result<(), EngineError> {
        let Some(cluster) = &self.owner.cluster else { return Ok(()) };
        let scope = Scope::new(&cluster.id, &self.config.name)
            .map_err(|error| EngineError::unavailable(error.to_string()))?;
        let engine = (self.outside.open_engine)(scope).await?;
        let facts = engine.info().await?;
        self.publishing.describe(&facts, (&self.config.host, &self.config.capacity));
        self.engine_view.own_network = facts.engine == "docker";
        self.served.open(Arc::clone(&engine));
        self.ledger.attempts().keys().for_each(|identity| self.served.remember(identity));
        // Subscribed before the list is read, so that no change falls between the two. If the
        // engine cannot list, it is opened again, and this subscription ends.
        let changes = engine.events();
        let closed = self.engine_view.open(engine).await?;
        self.listen(changes, closed);
        Ok(())
    }

    /// Forwards the events of an engine until it is closed.
    fn listen(&self, changes: BoxStream<'static, EngineEvent>, closed: oneshot::Receiver<()>) {
        let events = self.events.clone();
        self.spawner.spawn_awaited("engine events", async move {
            let mut changes = changes.take_until(closed);
            while let Some(event) = changes.next().await {
                if events.send(Event::Engine(event)).await.is_err() {
                    return;
                }
            }
        });
    }
}
