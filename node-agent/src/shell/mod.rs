//! The agent: keeps the node lease, follows its assignments, looks, plans and acts.
//!
//! # Invariants
//!
//! * One task owns all that is known ([`Agent`]); others send it [`Event`]s.
//! * The journal is written before any step of the plan that it belongs to.
//! * Nothing is done before the known cluster granted the node lease and the list of assignments
//!   is complete, as of that grant or later.
//! * When the agent ends, by itself or by a crash, containers run on.
//! * A turn costs what changed, not what there is: it looks at containers that may have changed,
//!   plans for what changed or is due, and writes that down. All is looked at when the list of
//!   assignments is complete and every [`RESYNC`].

mod agenda;
mod allegiance;
mod bound;
#[cfg(test)]
mod broken;
mod crew;
mod deciding;
mod disk;
mod exec;
mod follow;
mod keeping;
mod lease;
mod logs;
mod presence;
mod publishing;
mod pulls;
mod reports;
mod serving;
mod sight;
mod stats;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use api::ObjectKey;
use api::amounts::Amounts;
use api::cluster::Cluster;
use api::node::{GrantRequest, GrantResponse, NodeInfo};
use base::{Clock, Health, PartFailure, Rng, Stop, Tasks, Timestamp};
use client::{Client, Dial};
use futures_util::future::BoxFuture;
use prometheus::Registry;
use runtime::Update;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use crate::engine::{Engine, EngineError, EngineEvent, Scope};
use crate::journal::{Journal, JournalError, Owner, Record};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::plan::{Template, tell_anew};
use agenda::Agenda;
use allegiance::{Allegiance, Heard, allegiance};
use bound::Bound;
use crew::{Acted, Crew};
use disk::Disk;
use follow::Session;
use keeping::Keeping;
use presence::Presence;
use publishing::Publishing;
use pulls::{Pulled, Pulls};
use reports::{Desk, Sent};
use serving::Served;
use sight::{RESYNC, Sight};

/// Events that wait for the agent; those who send more wait.
const EVENTS_MAX: usize = 1_024;

/// What fails, in words, while the cluster that answers is not the one that the agent works for.
const WORKING_FOR: &str = "working for this cluster";

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
    /// Where it shows what does not work.
    pub health: Health,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

/// Why an agent ended, although nobody asked it to.
#[derive(Debug, Error)]
pub enum AgentError {
    /// What it promised before cannot be read: it must not go on.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its record is of another node, whose attempts nobody would look after.
    #[error(
        "the state directory belongs to node {node} and holds {attempts} of its attempts: start \
         the agent with that name, or with another --state-dir; to rename the node, drain it first"
    )]
    OtherNode {
        /// The node.
        node: String,
        /// How many attempts it has.
        attempts: usize,
    },
    /// Its counters cannot be registered: another agent uses the same registry.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    /// The apiserver will never take this node as it describes itself: its flags are to be changed.
    #[error("cannot register the node")]
    Refused(#[source] client::Error),
    /// One of its parts ended: it cannot work on without that.
    #[error(transparent)]
    Part(#[from] PartFailure),
}

/// News for the agent.
#[derive(Debug)]
enum Event {
    Granted(GrantResponse),
    /// Somebody deleted the Node object.
    Unregistered,
    /// No node lease is granted, since another agent has it; as a sentence.
    Displaced(String),
    Tasks {
        session: u64,
        update: Update,
    },
    Template {
        key: ObjectKey,
        template: Template,
    },
    Engine(EngineEvent),
    Acted(Acted),
    Pulled(Pulled),
    Sent(Sent),
    /// What became of writing the Node object.
    Published(Result<(), client::Error>),
}

/// Runs an agent until `stop`. Containers run on after it; the next agent takes them over. Commands
/// beside them end with it.
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
    let mut agent = Agent::start(config, outside, metrics, &tasks, events)?;
    let ended = work(&mut agent, &mut news, &tasks, &stop).await;
    // Nothing is heard any more: what tells of its end must not wait for that.
    drop(news);
    tokio::join!(agent.served.end_commands(), agent.crew.finish());
    ended
}

/// Works until `stop`.
async fn work(
    agent: &mut Agent,
    news: &mut mpsc::Receiver<Event>,
    tasks: &Tasks,
    stop: &Stop,
) -> Result<(), AgentError> {
    let mut failure = pin!(tasks.failure());
    loop {
        let wake = agent.turn().await;
        tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            failure = &mut failure => return Err(failure.into()),
            // A renewal is no event, but what was not told for want of a lease can be told now.
            Ok(()) = agent.lease_lives_until.changed(), if agent.publishing.awaits_lease() => (),
            event = news.recv() => if let Some(event) = event { agent.on_event(event)? },
            () = sleep_until(wake) => (),
        }
        for _ in 0..EVENTS_MAX {
            let Ok(event) = news.try_recv() else { break };
            agent.on_event(event)?;
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
    owner: Owner,
    ledger: Ledger,
    keeping: Keeping,
    disk: Disk,
    session: watch::Sender<Session>,
    /// Whether the node lease is this agent's, as far as it was heard.
    has_lease: watch::Sender<bool>,
    /// Until when nobody else can have it.
    lease_lives_until: watch::Receiver<Option<Instant>>,
    bound: Bound,
    sight: Sight,
    agenda: Agenda,
    crew: Crew,
    pulls: Pulls,
    desk: Desk,
    publishing: Publishing,
    served: Served,
    /// The start of this agent by both clocks.
    began: (Instant, Timestamp),
}

/// What this agent says of its node before it has seen anything.
fn presence(config: &Config, boot_id: &str) -> Presence {
    Presence {
        name: config.name.clone(),
        labels: config.labels.clone(),
        boot_id: boot_id.to_owned(),
        capacity: config.capacity.clone(),
        port_range: config.port_range,
        address: config.address.clone(),
        info: NodeInfo::default(),
        images: Vec::new(),
        leftovers: BTreeMap::new(),
        problem: None,
    }
}

/// What the agents of this node before this one have written down.
fn load(config: &Config, rng: &Rng, now: Timestamp) -> Result<(Owner, Ledger), AgentError> {
    let Record { mut owner, attempts } = config.journal.load()?;
    if owner.is_of_another(&config.name) && !attempts.is_empty() {
        return Err(AgentError::OtherNode { node: owner.node, attempts: attempts.len() });
    }
    owner.node.clone_from(&config.name);
    if owner.agent.is_empty() {
        owner.agent = rng.uuid();
    }
    let attempts = attempts.into_values().map(|attempt| attempt.loaded_at(now));
    Ok((owner, Ledger::of(attempts)))
}

impl Agent {
    fn start(
        config: Config,
        outside: Outside,
        metrics: Metrics,
        tasks: &Tasks,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, AgentError> {
        let began = (Instant::now(), outside.clock.now());
        let (owner, ledger) = load(&config, &outside.rng, began.1)?;
        let keeping =
            Keeping::new(config.journal.clone(), outside.rng.fork("journal"), &outside.health);
        let boot_id = outside.rng.uuid();
        let (spawner, rng) = (tasks.spawner(), &outside.rng);
        let (session, sessions) = watch::channel(Session::default());
        let (lives_until, lease_lives_until) = watch::channel(None);
        let keeper = lease::Keeper {
            client: outside.client.clone(),
            request: GrantRequest {
                node: config.name.clone(),
                agent: owner.agent.clone(),
                boot_id: boot_id.clone(),
            },
            rng: rng.fork("lease"),
            metrics: metrics.clone(),
            health: outside.health.clone(),
            lives_until,
        };
        tasks.spawn_part("node lease", keeper.run(events.clone()));
        let served = Served::new(spawner.clone());
        let (has_lease, holds) = watch::channel(false);
        if let Some(dial) = &config.dial {
            let who = (config.name.clone(), boot_id.clone());
            let rest = (spawner.clone(), rng.fork("logs"), outside.health.clone());
            let what = (served.clone(), holds);
            tasks.spawn_part("serving", serving::serve(dial.clone(), who, what, rest));
        }
        let node = config.name.clone();
        let rest = (rng.fork("follow"), outside.health.clone());
        let following = follow::follow(node, rest, sessions, events.clone());
        tasks.spawn_part("assignments", following);
        let presence = presence(&config, &boot_id);
        let publishing = Publishing::new(presence, outside.rng.fork("presence"), &outside.health);
        info!(node = config.name, agent = owner.agent, boot_id, "agent started");
        Ok(Self {
            crew: Crew::new(events.clone()),
            pulls: Pulls::new(spawner.clone(), events.clone()),
            desk: Desk::new(
                spawner.clone(),
                events.clone(),
                (rng.fork("reports"), &outside.health),
            ),
            began,
            bound: Bound::default(),
            sight: Sight::new(outside.rng.fork("engine"), &outside.health),
            agenda: Agenda::default(),
            ledger,
            served,
            publishing,
            config,
            outside,
            spawner,
            events,
            metrics,
            boot_id,
            owner,
            keeping,
            disk: Disk::default(),
            session,
            has_lease,
            lease_lives_until,
        })
    }

    fn on_event(&mut self, event: Event) -> Result<(), AgentError> {
        match event {
            Event::Granted(granted) => self.granted(&granted),
            Event::Unregistered => self.publishing.unregistered(),
            Event::Displaced(why) => self.displaced(&why),
            Event::Tasks { session, update } => {
                if session == self.session.borrow().number {
                    if matches!(update, Update::Reset { .. }) {
                        self.agenda.add_all();
                    }
                    self.bound.apply(update);
                }
            }
            Event::Template { key, template } => self.bound.learn(&key, &template),
            Event::Engine(EngineEvent::Changed(identity)) => {
                // What something is being done to is looked at when that is done.
                if !self.crew.is_acting(&identity) {
                    self.sight.doubt(identity);
                }
            }
            Event::Engine(EngineEvent::Missed) => self.sight.doubt_all(),
            Event::Acted(acted) => self.acted(acted),
            Event::Pulled(pulled) => self.pulled(&pulled),
            Event::Sent(sent) => {
                let heard = self.desk.heard(sent, &mut self.ledger, Instant::now());
                self.agenda.extend(heard);
            }
            Event::Published(Ok(())) => self.publishing.worked(Instant::now()),
            Event::Published(Err(error)) => self.publishing.failed(error, Instant::now())?,
        }
        Ok(())
    }

    /// Another agent works under this node's name: what is bound to the node is its to run, and this
    /// one says and does nothing until it has the node lease. What runs here runs on.
    fn displaced(&mut self, why: &str) {
        if self.has_lease.send_replace(false) {
            error!(
                node = self.config.name,
                why, "another agent has taken over the name of this node"
            );
        }
        self.bound.is_complete = false;
        self.session.send_modify(|session| session.client = None);
    }

    /// A node lease was granted: by the cluster that we know?
    fn granted(&mut self, granted: &GrantResponse) {
        self.has_lease.send_replace(true);
        let cluster = granted.granted_by();
        let known = self.owner.cluster.clone();
        self.bound.is_complete = false;
        let allegiance = allegiance(&Heard {
            known: known.as_ref(),
            now: &cluster,
            is_unconfirmed: granted.unconfirmed,
            is_told_to: self.config.accept_cluster,
            has_promised: !self.ledger.attempts().is_empty(),
        });
        match allegiance {
            Allegiance::Nobody(problem) => {
                error!(problem, cluster = %cluster, "not working");
                self.outside.health.failed(WORKING_FOR, &problem);
                self.publishing.set_problem(Some(problem));
                self.session.send_modify(|session| session.client = None);
                return;
            }
            Allegiance::Same => (),
            Allegiance::Restored => {
                info!(cluster = %cluster, "working for the restored cluster");
                for (identity, now) in tell_anew(&self.ledger, &self.boot_id) {
                    match now {
                        Some(attempt) => self.ledger.put(attempt),
                        None => self.ledger.remove(&identity),
                    }
                }
                self.works_for(cluster.clone());
            }
            Allegiance::Other => {
                if known.is_some_and(|known| known.id != cluster.id) {
                    self.sight.close();
                }
                self.works_for(cluster.clone());
            }
        }
        self.outside.health.works(WORKING_FOR);
        self.publishing.set_problem(None);
        let client = self.outside.client.for_cluster(&cluster);
        self.session.send_modify(|session| {
            session.number += 1;
            session.client = Some(client);
        });
    }

    /// For whom it works from now on. Nothing is done for that cluster before this is on disk, since
    /// every turn saves before it decides.
    fn works_for(&mut self, cluster: Cluster) {
        self.owner.cluster = Some(cluster);
        self.keeping.begin_anew();
    }

    /// Looks, plans, writes down and acts. Says when to do it again although nothing happens.
    async fn turn(&mut self) -> Instant {
        let began = Instant::now();
        self.look_at_disk_in_time().await;
        let client = self.session.borrow().client.clone();
        if let Some(client) = client {
            self.look().await;
            let mut is_saved = self.save().await;
            if is_saved && self.sight.is_clear() && self.bound.is_complete {
                is_saved = self.decide().await;
            }
            // What is not on disk is not said either: a restarted agent would say something else.
            if is_saved {
                self.desk.send(client.clone(), &self.ledger, Instant::now());
            }
            for key in self.bound.take_missing() {
                let outside = (self.outside.rng.fork("template"), self.outside.health.clone());
                let (client, events) = (client.clone(), self.events.clone());
                follow::read_template(&self.spawner, client, key, outside, events);
            }
        }
        self.save().await;
        self.publish();
        self.metrics.running.set(gauge(self.ledger.holding()));
        self.metrics.unsent.set(gauge(self.ledger.unsent()));
        self.wake_at(began)
    }

    /// When something is due that was not due before this turn.
    fn wake_at(&self, now: Instant) -> Instant {
        let engine = [self.sight.ask_at, self.sight.resync_at];
        let plan = self.agenda.next().map(|at| self.instant_of(at));
        let own = [self.keeping.wake_at(), self.disk.wake_at()];
        let rest = [plan, self.crew.wake_at(), self.desk.wake_at()].into_iter().chain(own);
        let all = engine.into_iter().chain(self.publishing.wake_at()).chain(rest).flatten();
        all.filter(|at| *at > now).min().unwrap_or(now + RESYNC)
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
