//! The agent: renews the node lease, follows its assignments, observes, plans and acts.
//!
//! # Invariants
//!
//! * One task owns all state ([`Agent`]); other tasks send it [`Event`]s.
//! * A plan is written to the journal before any of its actions is carried out.
//! * Nothing is done before the known cluster has granted the node lease and the list of
//!   assignments is complete, as of that grant or later.
//! * When the agent ends, in whatever way, containers continue to run.
//! * The cost of a turn depends on what has changed: it looks at containers that may have changed,
//!   plans for what has changed or is due, and writes that. Everything is looked at when the list
//!   of assignments becomes complete, and every [`RESYNC`].

mod answers;
mod bound;
#[cfg(test)]
mod broken;
mod cluster_choice;
mod deciding;
mod declared;
mod disk;
mod engine_view;
mod exec;
mod executor;
mod follow;
mod keeping;
mod lease;
mod logs;
mod memory;
mod presence;
mod probe_net;
mod prober;
mod publishing;
mod pulls;
mod reports;
mod served;
mod serving;
mod stats;
pub(crate) mod view;
mod work_queue;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use api::ObjectKey;
use api::amounts::Amounts;
use api::cluster::Cluster;
use api::node::{GrantRequest, GrantResponse, NodeInfo};
use api::taint::Taint;
use base::{Clock, Health, PartFailure, Rng, Stop, Tasks, Timestamp};
use client::{Client, Dial};
use futures_util::future::BoxFuture;
use prometheus::Registry;
use runtime::Update;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use crate::added::Added;
use crate::engine::{Engine, EngineError, EngineEvent, Scope};
use crate::journal::{Journal, JournalError, Owner, Record};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::plan::{Template, tell_anew};
use bound::Bound;
use cluster_choice::{ClusterChoice, Situation, choose_cluster};
use disk::Disk;
use engine_view::{EngineView, RESYNC};
use executor::{Acted, Executor};
use follow::Session;
use keeping::Keeping;
use memory::Memory;
use presence::Presence;
use prober::{Probed, Prober};
use publishing::Publishing;
use pulls::{Pulled, Pulling, Pulls};
use reports::{ReportSender, Sent};
use served::Served;
use view::LocalView;
use work_queue::WorkQueue;

/// Most events that wait for the agent. Further senders wait.
const EVENTS_MAX: usize = 1_024;

/// What fails while another cluster answers than the one that the agent works for, as a description
/// for health reports.
const WORKING_FOR: &str = "working for this cluster";

/// The configuration of an agent.
#[derive(Clone)]
pub struct Config {
    /// Name of the node.
    pub name: String,
    /// Labels of the Node object.
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node object.
    pub taints: Vec<Taint>,
    /// What is known of the host.
    pub host: Host,
    /// Resources that tasks may use, where they differ from what the engine reports.
    pub capacity: Amounts,
    /// First and last port of the range for tasks that do not choose a port. Agents on one machine
    /// need disjoint ranges.
    pub port_range: (u16, u16),
    /// Address at which the ports of tasks are reached.
    pub address: String,
    /// Where the agent keeps its attempts across restarts.
    pub journal: Journal,
    /// Where the agent tells its own view; nowhere if nothing is named.
    pub view_socket: Option<PathBuf>,
    /// Opens the connection on which the apiserver asks for logs. Without it, logs are not
    /// available.
    pub dial: Option<Dial>,
    /// Whether to work for the cluster that answers although it is another one than before, or was
    /// restored.
    pub accept_cluster: bool,
    /// What every container of the node is given.
    pub added: Added,
}

/// A host, beyond what its engine reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Name of the operating system's distribution.
    pub os_image: String,
    /// Identifier of its current boot; empty for a simulated machine.
    pub boot_id: String,
    /// Size of the disk with the agent's state, in bytes.
    pub disk_bytes: Option<u64>,
}

impl Host {
    /// Whether it is not simulated.
    fn is_real(&self) -> bool {
        !self.boot_id.is_empty()
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Opens the engine once the cluster's id is known, because containers are labelled with it.
pub type OpenEngine =
    Arc<dyn Fn(Scope) -> BoxFuture<'static, Result<Arc<dyn Engine>, EngineError>> + Send + Sync>;

/// What an agent is connected to.
#[derive(Clone)]
pub struct Outside {
    /// A client of the apiserver.
    pub client: Client,
    /// Opens the engine.
    pub open_engine: OpenEngine,
    /// Tells the time.
    pub clock: Clock,
    /// The source of randomness.
    pub rng: Rng,
    /// Where the agent reports what does not work.
    pub health: Health,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

/// Why an agent ended without being asked to.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The journal cannot be read. Without it the agent could start tasks twice.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal belongs to another node, and nobody would take care of that node's attempts.
    #[error(
        "the state directory belongs to node {node} and holds {attempts} of its attempts: start \
         the agent with that name, or with another --state-dir; to rename the node, drain it first"
    )]
    OtherNode {
        /// That node.
        node: String,
        /// Number of its attempts.
        attempts: usize,
    },
    /// The metrics cannot be registered: another agent uses the same registry.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    /// The apiserver refuses the description of this node and always will: the agent's flags are
    /// wrong.
    #[error("cannot register the node")]
    Refused(#[source] client::Error),
    /// A part of the agent ended, and it cannot work without it.
    #[error(transparent)]
    Part(#[from] PartFailure),
}

/// What other tasks tell the agent.
#[derive(Debug)]
enum Event {
    Granted(GrantResponse),
    /// The Node object was deleted.
    Unregistered,
    /// The node lease was refused because another agent has it; the text says so.
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
    /// How far a pull has come.
    Pulling(Pulling),
    Probed(Probed),
    Sent(Sent),
    /// The result of writing the Node object.
    Published(Result<(), client::Error>),
    /// Somebody on this host asks for the agent's view.
    Viewed(oneshot::Sender<LocalView>),
}

/// Runs an agent until `stop`. Containers continue to run; the next agent takes them over. Commands
/// beside them end with the agent.
pub async fn run(
    config: Config,
    outside: Outside,
    registry: &Registry,
    stop: Stop,
) -> Result<(), AgentError> {
    let metrics = Metrics::new(registry)?;
    // Dropped with this future, as in a crash.
    let tasks = Tasks::new("agent");
    let (events, mut news) = mpsc::channel(EVENTS_MAX);
    let mut agent = Agent::start(config, outside, metrics, &tasks, events)?;
    let ended = work(&mut agent, &mut news, &tasks, &stop).await;
    // No more events are received, so a task that sends its last one must not wait for room.
    drop(news);
    tokio::join!(agent.served.end_commands(), agent.executor.finish());
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
            // A renewal is not an event, but what could not be reported without a lease can be
            // reported now.
            Ok(()) = agent.lease_lives_until.changed(), if agent.publishing.awaits_lease() => (),
            event = news.recv() => if let Some(event) = event { agent.on_event(event)? },
            () = sleep_until(wake) => (),
        }
        // What other tasks are about to tell is taken in now, too: a turn costs about the same for one
        // event as for many.
        tokio::task::yield_now().await;
        for _ in 0..EVENTS_MAX {
            let Ok(event) = news.try_recv() else { break };
            agent.on_event(event)?;
        }
    }
}

/// All state of an agent.
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
    memory: Memory,
    session: watch::Sender<Session>,
    /// Whether this agent has the node lease, as far as it knows.
    has_lease: watch::Sender<bool>,
    /// Until when no other agent can have it.
    lease_lives_until: watch::Receiver<Option<Instant>>,
    /// When the last heartbeat that was acknowledged was sent.
    last_contact: watch::Receiver<Option<Timestamp>>,
    bound: Bound,
    engine_view: EngineView,
    queue: WorkQueue,
    executor: Executor,
    pulls: Pulls,
    prober: Prober,
    reports: ReportSender,
    publishing: Publishing,
    served: Served,
    /// When this agent started, on both clocks.
    began: (Instant, Timestamp),
}

/// The description of the node before anything was observed.
fn presence(config: &Config, owner: &Owner, boot_id: &str) -> Presence {
    Presence {
        name: config.name.clone(),
        agent: owner.agent.clone(),
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        boot_id: boot_id.to_owned(),
        capacity: config.capacity.clone(),
        port_range: config.port_range,
        address: config.address.clone(),
        info: NodeInfo::default(),
        images: Vec::new(),
        leftovers: BTreeMap::new(),
        problem: None,
        trouble: None,
    }
}

/// What earlier agents of this node have written to the journal.
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
        let (contact, last_contact) = watch::channel(None);
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
            contact: (contact, outside.clock.clone()),
        };
        tasks.spawn_part("node lease", keeper.run(events.clone()));
        view::offer(config.view_socket.clone(), tasks, events.clone());
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
        let presence = presence(&config, &owner, &boot_id);
        let publishing = Publishing::new(presence, outside.rng.fork("presence"), &outside.health);
        info!(node = config.name, agent = owner.agent, boot_id, "agent started");
        Ok(Self {
            executor: Executor::new(events.clone()),
            pulls: Pulls::new(spawner.clone(), events.clone()),
            prober: Prober::new(spawner.clone(), events.clone()),
            reports: ReportSender::new(
                spawner.clone(),
                events.clone(),
                (rng.fork("reports"), &outside.health),
            ),
            began,
            bound: Bound::default(),
            engine_view: EngineView::new(outside.rng.fork("engine"), &outside.health),
            queue: WorkQueue::default(),
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
            memory: Memory::default(),
            session,
            has_lease,
            lease_lives_until,
            last_contact,
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
                        self.queue.add_all();
                    }
                    self.bound.apply(update);
                }
            }
            Event::Template { key, template } => self.bound.learn(&key, &template),
            Event::Engine(EngineEvent::Changed(identity)) => {
                // A container with an action in progress is looked at when the action is done.
                if !self.executor.is_acting(&identity) {
                    self.engine_view.doubt(identity);
                }
            }
            Event::Engine(EngineEvent::Missed) => self.engine_view.doubt_all(),
            Event::Acted(acted) => self.acted(acted),
            Event::Pulled(pulled) => self.pulled(&pulled),
            Event::Pulling(pulling) => self.pulling(&pulling),
            Event::Probed(probed) => self.probed(probed),
            Event::Sent(sent) => {
                let heard = self.reports.heard(sent, &mut self.ledger, Instant::now());
                self.queue.extend(heard);
            }
            Event::Viewed(asks) => {
                // Whoever asked may be gone.
                let _gone = asks.send(self.local_view());
            }
            Event::Published(Ok(())) => self.publishing.worked(Instant::now()),
            Event::Published(Err(error)) => self.publishing.failed(error, Instant::now())?,
        }
        Ok(())
    }

    /// Another agent works under this node's name, and the node's tasks are its business. This
    /// agent reports nothing and does nothing until it has the node lease again. Its containers
    /// continue to run.
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

    /// A node lease was granted. Decides whether its cluster is the one to work for.
    fn granted(&mut self, granted: &GrantResponse) {
        self.has_lease.send_replace(true);
        let cluster = granted.granted_by();
        let known = self.owner.cluster.clone();
        self.bound.is_complete = false;
        let choice = choose_cluster(&Situation {
            known: known.as_ref(),
            now: &cluster,
            is_unconfirmed: granted.unconfirmed,
            is_told_to: self.config.accept_cluster,
            has_promised: !self.ledger.attempts().is_empty(),
        });
        match choice {
            ClusterChoice::Nobody(problem) => {
                error!(problem, cluster = %cluster, "not working");
                self.outside.health.failed(WORKING_FOR, &problem);
                self.publishing.set_problem(Some(problem));
                self.session.send_modify(|session| session.client = None);
                return;
            }
            ClusterChoice::Same => (),
            ClusterChoice::Restored => {
                info!(cluster = %cluster, "working for the restored cluster");
                for (identity, now) in tell_anew(&self.ledger, &self.boot_id) {
                    match now {
                        Some(attempt) => self.ledger.put(attempt),
                        None => self.ledger.remove(&identity),
                    }
                }
                self.works_for(cluster.clone());
            }
            ClusterChoice::Other => {
                if known.is_some_and(|known| known.id != cluster.id) {
                    self.engine_view.close();
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

    /// Sets the cluster to work for. Nothing is done for it before that is in the journal, because
    /// every turn saves before it plans.
    fn works_for(&mut self, cluster: Cluster) {
        self.owner.cluster = Some(cluster);
        self.keeping.begin_anew();
    }

    /// Observes, plans, writes the journal and acts. Returns when to do it again even if nothing
    /// happens.
    async fn turn(&mut self) -> Instant {
        let began = Instant::now();
        self.look_at_disk_in_time().await;
        self.look_at_memory_in_time().await;
        let client = self.session.borrow().client.clone();
        if let Some(client) = client {
            self.look().await;
            let mut is_saved = self.save().await;
            if is_saved && self.engine_view.is_clear() && self.bound.is_complete {
                is_saved = self.decide().await;
            }
            // What is not in the journal is not reported either: a restarted agent would report
            // something else.
            if is_saved {
                self.reports.send(client.clone(), &self.ledger, Instant::now());
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

    /// The next time at which anything becomes due.
    fn wake_at(&self, now: Instant) -> Instant {
        let engine = [self.engine_view.ask_at, self.engine_view.resync_at];
        let plan = self.queue.next().map(|at| self.instant_of(at));
        let own = [self.keeping.wake_at(), self.disk.wake_at(), self.memory.wake_at()];
        let rest = [plan, self.executor.wake_at(), self.reports.wake_at()].into_iter().chain(own);
        let all = engine.into_iter().chain(self.publishing.wake_at()).chain(rest).flatten();
        all.filter(|at| *at > now).min().unwrap_or(now + RESYNC)
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
