//! The agent: keeps the node lease, follows its assignments, looks, plans and acts.
//!
//! # Invariants
//!
//! * One task owns all that is known ([`Agent`]); others send it [`Event`]s.
//! * The journal is written before any step of the plan that it belongs to.
//! * Nothing is done before the known cluster granted the node lease and the list of assignments
//!   is complete, as of that grant or later.
//! * When the agent ends, by itself or by a crash, containers run on.

mod crew;
mod follow;
mod lease;
mod logs;
mod presence;
mod reports;
mod sight;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::amounts::Amounts;
use api::node::{GrantRequest, GrantResponse, NodeInfo};
use base::{Backoff, Clock, ErrorChain, Rng, Stop, Tasks, Timestamp};
use client::{Client, Dial};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use prometheus::Registry;
use runtime::Update;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::attempt::Progress;
use crate::engine::{ContainerState, Engine, EngineError, EngineEvent, Identity, Scope};
use crate::journal::{Cluster, Journal, JournalError, Record};
use crate::metrics::Metrics;
use crate::plan::{self, Ending, Node, Template, View, later, plan};
use crate::resolve::Place;
use crew::{Acted, Crew};
use follow::{Bound, Session};
use presence::Presence;
use reports::{Desk, Sent};
use sight::{Seen, list, see};

/// Events that wait for the agent; those who send more wait.
const EVENTS_MAX: usize = 1_024;
/// Everything is looked at so often, whatever events said.
const RESYNC: Duration = Duration::from_secs(10);
/// The Node object is compared with what it should be so often: somebody may have deleted it.
const REPUBLISH: Duration = Duration::from_secs(60);
/// An engine that does not answer is asked again after this.
const ENGINE_WAIT: Duration = Duration::from_secs(1);
/// Logs of removed containers are kept so long.
const LOGS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What an agent is told when it is started.
#[derive(Clone)]
pub struct Config {
    /// The node's name.
    pub name: String,
    /// Labels of the Node object.
    pub labels: BTreeMap<String, String>,
    /// What tasks may use, where it is not what the engine says: named resources replace it.
    pub capacity: Amounts,
    /// Host ports for tasks that name none: first and last; disjoint for agents on one machine.
    pub port_range: (u16, u16),
    /// The address at which ports of tasks are reached.
    pub address: String,
    /// What is remembered over restarts.
    pub journal: Journal,
    /// Opens the connection on which logs are asked for; without it, logs are not served.
    pub dial: Option<Dial>,
    /// Work for the cluster that answers, although it is another than before, or was restored.
    pub accept_cluster: bool,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Opens the engine of a node, once the cluster's id is known: containers carry it.
pub type OpenEngine =
    Arc<dyn Fn(Scope) -> BoxFuture<'static, Result<Arc<dyn Engine>, EngineError>> + Send + Sync>;

/// What an agent works with.
#[derive(Clone)]
pub struct Outside {
    /// Speaks to the apiserver.
    pub client: Client,
    /// Opens the engine.
    pub open_engine: OpenEngine,
    /// Tells the time.
    pub clock: Clock,
    /// Where randomness comes from.
    pub rng: Rng,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

/// Why an agent ended, although nobody asked it to.
#[derive(Debug, Error)]
pub enum AgentError {
    /// What it promises cannot be kept: it must not go on.
    #[error("keep the journal")]
    Journal(#[from] JournalError),
    /// Its counters cannot be registered: another agent uses the same registry.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    /// One of its tasks panicked.
    #[error("a task of the agent panicked")]
    Panicked,
}

/// News for the agent.
#[derive(Debug)]
enum Event {
    Granted(GrantResponse),
    Tasks { session: u64, update: Update },
    Template { key: ObjectKey, template: Template },
    Engine(EngineEvent),
    Acted(Acted),
    Sent(Sent),
    Published { presence: Box<Presence>, published: bool },
}

/// Runs an agent until `stop`. Containers run on after it; the next agent takes them over.
pub async fn run(
    config: Config,
    outside: Outside,
    registry: &Registry,
    stop: Stop,
) -> Result<(), AgentError> {
    let metrics = Metrics::new(registry)?;
    // Dropped with this future: a crash.
    let tasks = Tasks::new("agent");
    let (events, mut news) = mpsc::channel(EVENTS_MAX);
    let mut agent = Agent::start(config, outside, metrics, &tasks, events).await?;
    let broken = tasks.stop_signal();
    loop {
        let wake = agent.turn().await?;
        tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            () = broken.requested() => return Err(AgentError::Panicked),
            event = news.recv() => if let Some(event) = event { agent.on_event(event).await? },
            () = sleep_until(wake) => (),
        }
        for _ in 0..EVENTS_MAX {
            let Ok(event) = news.try_recv() else { break };
            agent.on_event(event).await?;
        }
    }
}

/// All that an agent knows.
struct Agent {
    config: Config,
    outside: Outside,
    spawner: base::Spawner,
    events: mpsc::Sender<Event>,
    metrics: Metrics,
    boot_id: String,
    record: Record,
    /// The record is not as it was last saved.
    is_dirty: bool,
    session: watch::Sender<Session>,
    bound: Bound,
    sight: Sight,
    crew: Crew,
    desk: Desk,
    presence: Presence,
    publishing: Publishing,
    names: logs::Names,
    /// The start of this agent by both clocks.
    began: (Instant, Timestamp),
    /// When the plan wants to be made again.
    plan_at: Option<Timestamp>,
}

/// What is seen of the engine.
#[derive(Default)]
struct Sight {
    engine: Option<Arc<dyn Engine>>,
    own_network: bool,
    containers: BTreeMap<Identity, ContainerState>,
    /// The containers may have changed since they were listed.
    is_stale: bool,
    ask_at: Option<Instant>,
    resync_at: Option<Instant>,
    prune_at: Option<Instant>,
}

/// How far the apiserver knows of this node.
struct Publishing {
    last: Option<Presence>,
    is_under_way: bool,
    try_at: Option<Instant>,
    again_at: Option<Instant>,
    backoff: Backoff,
}

impl Agent {
    async fn start(
        config: Config,
        outside: Outside,
        metrics: Metrics,
        tasks: &Tasks,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, AgentError> {
        let mut record = config.journal.load()?;
        if record.agent.is_empty() {
            record.agent = outside.rng.uuid();
            config.journal.save(&record).await?;
        }
        let boot_id = outside.rng.uuid();
        let (spawner, rng) = (tasks.spawner(), &outside.rng);
        let (session, sessions) = watch::channel(Session::default());
        let keeper = lease::Keeper {
            client: outside.client.clone(),
            request: GrantRequest {
                node: config.name.clone(),
                agent: record.agent.clone(),
                boot_id: boot_id.clone(),
            },
            rng: rng.fork("lease"),
            metrics: metrics.clone(),
        };
        tasks.spawn("node lease", keeper.run(events.clone()));
        let node = config.name.clone();
        let following = follow::follow(node, rng.fork("follow"), sessions, events.clone());
        tasks.spawn("assignments", following);
        let presence = Presence {
            name: config.name.clone(),
            labels: config.labels.clone(),
            boot_id: boot_id.clone(),
            capacity: config.capacity.clone(),
            port_range: config.port_range,
            address: config.address.clone(),
            info: NodeInfo::default(),
            images: Vec::new(),
            leftovers: Vec::new(),
            problem: None,
        };
        let wait = (Duration::from_millis(200), Duration::from_secs(10));
        let publishing = Publishing {
            last: None,
            is_under_way: false,
            try_at: None,
            again_at: None,
            backoff: Backoff::new(wait.0, wait.1, rng.fork("presence")),
        };
        info!(node = config.name, agent = record.agent, boot_id, "agent started");
        Ok(Self {
            crew: Crew::new(spawner.clone(), events.clone()),
            desk: Desk::new(spawner.clone(), events.clone(), rng.fork("reports")),
            began: (Instant::now(), outside.clock.now()),
            bound: Bound::default(),
            sight: Sight::default(),
            names: logs::Names::default(),
            is_dirty: false,
            plan_at: None,
            config,
            outside,
            spawner,
            events,
            metrics,
            boot_id,
            record,
            session,
            presence,
            publishing,
        })
    }

    async fn on_event(&mut self, event: Event) -> Result<(), AgentError> {
        match event {
            Event::Granted(granted) => self.granted(&granted).await?,
            Event::Tasks { session, update } => {
                if session == self.session.borrow().number {
                    self.bound.apply(update);
                }
            }
            Event::Template { key, template } => self.bound.learn(&key, template),
            Event::Engine(EngineEvent::Changed(_) | EngineEvent::Missed) => {
                self.sight.is_stale = true;
            }
            Event::Acted(acted) => self.acted(acted),
            Event::Sent(sent) => {
                self.is_dirty |= self.desk.heard(sent, &mut self.record, Instant::now());
            }
            Event::Published { presence, published } => self.published(*presence, published),
        }
        Ok(())
    }

    /// A node lease was granted: by the cluster that we know?
    async fn granted(&mut self, granted: &GrantResponse) -> Result<(), AgentError> {
        let cluster = Cluster { id: granted.cluster.clone(), epoch: granted.epoch };
        let known = self.record.cluster.as_ref();
        // A node that has promised nothing can harm nothing.
        let accepts = self.config.accept_cluster || self.record.attempts.is_empty();
        self.bound.is_complete = false;
        if known.is_some_and(|known| *known != cluster) && !accepts {
            let problem = format!(
                "the cluster that answers ({}, epoch {}) is not the one that this node's tasks \
                 belong to: it was replaced or restored. Nothing is started or stopped; to give \
                 this node to it, restart its agent with --accept-cluster",
                cluster.id, cluster.epoch
            );
            error!(problem, "wrong cluster");
            self.presence.problem = Some(problem);
            self.session.send_modify(|session| session.client = None);
            return Ok(());
        }
        if known != Some(&cluster) {
            if known.is_some_and(|known| known.id != cluster.id) {
                self.sight.engine = None;
            }
            self.record.cluster = Some(cluster);
            self.config.journal.save(&self.record).await?;
        }
        self.presence.problem = None;
        let client = self.outside.client.for_cluster(&granted.cluster, granted.epoch);
        self.session.send_modify(|session| {
            session.number += 1;
            session.client = Some(client);
        });
        Ok(())
    }

    fn acted(&mut self, acted: Acted) {
        self.crew.done(&acted, Instant::now());
        self.sight.is_stale = true;
        match acted.outcome {
            Ok(Some(started)) if !started.adopted => self.metrics.starts.inc(),
            Ok(_) => (),
            Err(EngineError::Refused { reason, message }) if acted.is_start => {
                self.refused(&acted.identity, reason.as_str(), message);
            }
            Err(EngineError::Refused { message, .. }) => {
                warn!(identity = %acted.identity, message, "the engine refused");
            }
            // What is to be done next is seen by looking.
            Err(
                EngineError::Unavailable { .. } | EngineError::Unknown { .. } | EngineError::Gone,
            ) => (),
        }
    }

    /// An attempt cannot be started, however often it is tried.
    fn refused(&mut self, identity: &Identity, reason: &str, message: String) {
        let now = self.outside.clock.now();
        let Some(attempt) = self.record.attempts.get_mut(identity) else { return };
        if matches!(attempt.progress, Progress::Starting { .. }) {
            self.record.words += 1;
            let ending = Ending::failed(reason, message, now);
            plan::end(attempt, ending, self.record.words, &self.boot_id);
            self.metrics.ends.inc();
            self.is_dirty = true;
        }
    }

    /// The time that waits are counted by.
    fn now(&self) -> Timestamp {
        later(self.began.1, self.began.0.elapsed())
    }

    fn instant_of(&self, at: Timestamp) -> Instant {
        let wait = Duration::try_from(at.duration_since(self.began.1)).unwrap_or(Duration::ZERO);
        self.began.0 + wait
    }

    /// Looks, plans, writes down and acts. Says when to do it again although nothing happens.
    async fn turn(&mut self) -> Result<Instant, AgentError> {
        let began = Instant::now();
        let client = self.session.borrow().client.clone();
        if let Some(client) = client {
            self.look().await;
            if self.sight.engine.is_some() && !self.sight.is_stale {
                self.decide().await?;
            }
            self.desk.send(client.clone(), &self.record, Instant::now());
            for key in self.bound.take_missing() {
                let rng = self.outside.rng.fork("template");
                let (client, events) = (client.clone(), self.events.clone());
                follow::read_template(&self.spawner, client, key, rng, events);
            }
        }
        if self.is_dirty {
            self.save().await?;
        }
        self.publish();
        let attempts = self.record.attempts.values();
        let (held, unsent) = attempts.fold((0, 0), |(held, unsent), attempt| {
            (held + i64::from(attempt.holds()), unsent + i64::from(attempt.unsent.is_some()))
        });
        self.metrics.running.set(held);
        self.metrics.unsent.set(unsent);
        Ok(self.wake_at(began))
    }

    /// When something is due that was not due before this turn.
    fn wake_at(&self, now: Instant) -> Instant {
        let engine = [self.sight.ask_at, self.sight.resync_at];
        let outside = [self.publishing.try_at, self.publishing.again_at, self.desk.wake_at()];
        let plan = self.plan_at.map(|at| self.instant_of(at));
        let all = engine.into_iter().chain(outside).flatten();
        let all = all.chain(plan).chain(self.crew.wake_at(now));
        all.filter(|at| *at > now).min().unwrap_or(now + RESYNC)
    }

    async fn save(&mut self) -> Result<(), AgentError> {
        self.config.journal.save(&self.record).await?;
        self.is_dirty = false;
        Ok(())
    }

    async fn decide(&mut self) -> Result<(), AgentError> {
        let assignments = self.bound.is_complete.then(|| self.bound.assignments());
        let view = View {
            assignments: assignments.as_ref(),
            containers: &self.sight.containers,
            attempts: &self.record.attempts,
            busy: &self.crew.busy(Instant::now()),
            node: Node {
                place: Place {
                    node: &self.config.name,
                    address: &self.config.address,
                    own_network: self.sight.own_network,
                },
                boot_id: &self.boot_id,
                capacity: &self.presence.capacity,
                port_range: self.config.port_range,
            },
            now: self.now(),
            wall: self.outside.clock.now(),
            words: self.record.words,
        };
        let plan = plan(&view);
        self.plan_at = plan.wake_at;
        if assignments.is_some() {
            self.presence.leftovers = plan.leftovers;
        }
        self.record.words = plan.words;
        self.is_dirty |= !plan.changes.is_empty();
        for (identity, change) in plan.changes {
            let Some(attempt) = change else {
                self.record.attempts.remove(&identity);
                continue;
            };
            let before = self.record.attempts.get(&identity).map(|before| &before.progress);
            if attempt.progress == Progress::Ended && before != Some(&Progress::Ended) {
                self.metrics.ends.inc();
            }
            self.names.remember(&identity);
            self.record.attempts.insert(identity, attempt);
        }
        if self.is_dirty {
            self.save().await?;
        }
        if let Some(engine) = &self.sight.engine {
            for step in plan.steps {
                self.crew.act(engine, step);
            }
        }
        Ok(())
    }

    /// Brings what is seen of the engine up to date.
    async fn look(&mut self) {
        let now = Instant::now();
        if self.sight.ask_at.is_some_and(|at| at > now) {
            return;
        }
        self.sight.ask_at = None;
        let seen = match &self.sight.engine {
            Some(engine) => see(engine, &mut self.sight.resync_at, self.sight.is_stale, now).await,
            None => self.open_engine().await.map(|()| Seen::default()),
        };
        match seen {
            Ok(seen) => {
                if let Some(containers) = seen.containers {
                    self.sight.containers = containers;
                    self.sight.is_stale = false;
                    let (attempts, seen) = (&self.record.attempts, &self.sight.containers);
                    self.crew.forget(|it| attempts.contains_key(it) || seen.contains_key(it));
                }
                if let Some(images) = seen.images {
                    self.presence.show_images(images);
                }
                self.presence.problem = None;
            }
            Err(error) => {
                warn!(%error, "cannot look at the engine");
                self.presence.problem = Some(error.to_string());
                self.sight.is_stale = true;
                self.sight.ask_at = Some(now + ENGINE_WAIT);
            }
        }
        self.prune_logs(now).await;
    }

    async fn prune_logs(&mut self, now: Instant) {
        let due = self.sight.prune_at.is_none_or(|at| at <= now);
        let Some(engine) = self.sight.engine.as_ref().filter(|_| due) else { return };
        self.sight.prune_at = Some(now + LOGS_KEPT / 24);
        let before = self.outside.clock.now().saturating_sub(LOGS_KEPT);
        if let Ok(before) = before
            && let Err(error) = engine.prune_logs(before).await
        {
            debug!(%error, "old logs were not deleted");
        }
    }

    async fn open_engine(&mut self) -> Result<(), EngineError> {
        let Some(cluster) = &self.record.cluster else { return Ok(()) };
        let scope = Scope::new(&cluster.id, &self.config.name)
            .map_err(|error| EngineError::unavailable(error.to_string()))?;
        let engine = (self.outside.open_engine)(scope).await?;
        let facts = engine.info().await?;
        self.presence.describe(&facts);
        self.presence.capacity = presence::capacity(&facts);
        self.presence.capacity.extend(self.config.capacity.clone());
        self.sight.own_network = facts.engine == "docker";
        let (mut changes, events) = (engine.events(), self.events.clone());
        self.spawner.spawn("engine events", async move {
            while let Some(event) = changes.next().await {
                if events.send(Event::Engine(event)).await.is_err() {
                    return;
                }
            }
        });
        if let Some(dial) = &self.config.dial {
            let rest = (self.spawner.clone(), self.outside.rng.fork("logs"));
            let (name, names) = (self.config.name.clone(), self.names.clone());
            let serving = logs::serve(dial.clone(), name, Arc::clone(&engine), names, rest);
            self.spawner.spawn("logs", serving);
        }
        self.record.attempts.keys().for_each(|identity| self.names.remember(identity));
        let containers = list(&engine).await?;
        self.sight.containers = containers;
        self.sight.is_stale = false;
        self.sight.resync_at = Some(Instant::now() + RESYNC);
        self.sight.engine = Some(engine);
        Ok(())
    }

    /// Tells of this node, where that is not known.
    fn publish(&mut self) {
        let now = Instant::now();
        let publishing = &mut self.publishing;
        let ready = self.presence.problem.is_some() || self.sight.engine.is_some();
        let waits = publishing.try_at.is_some_and(|at| at > now);
        if publishing.is_under_way || waits || !ready {
            return;
        }
        publishing.try_at = None;
        let due = publishing.again_at.is_none_or(|at| at <= now);
        if publishing.last.as_ref() == Some(&self.presence) && !due {
            return;
        }
        publishing.is_under_way = true;
        let (presence, client) = (self.presence.clone(), self.outside.client.clone());
        let (events, wall) = (self.events.clone(), self.outside.clock.now());
        self.spawner.spawn("presence", async move {
            let published = presence.publish(&client, wall).await;
            if let Err(error) = &published {
                debug!(error = %ErrorChain(error), "the Node object was not written");
            }
            let published = published.is_ok();
            let presence = Box::new(presence);
            // Nobody listens when the agent ends.
            let _stopping = events.send(Event::Published { presence, published }).await;
        });
    }

    fn published(&mut self, presence: Presence, published: bool) {
        let publishing = &mut self.publishing;
        publishing.is_under_way = false;
        let now = Instant::now();
        if published {
            publishing.last = Some(presence);
            publishing.backoff.reset();
            publishing.again_at = Some(now + REPUBLISH);
        } else {
            publishing.try_at = Some(now + publishing.backoff.next_wait());
        }
    }
}
