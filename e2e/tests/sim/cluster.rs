//! A cluster whose parts can be crashed and started again.

use std::sync::Arc;
use std::time::Duration;

use api::amounts::Amounts;
use api::{Kind as _, KindId};
use base::{Clock, ErrorChain, Health, Rng, Tasks, Timestamp};
use client::Client;
use futures_util::FutureExt as _;
use node_agent::engine::Engine;
use node_agent::engine::sim::SimMachine;
use node_agent::{Config, Journal, OpenEngine, Outside};
use prometheus::Registry;
use runtime::{Any, Parsed, Snapshot, Update};
use store::Simulated;

use crate::network::{Line, Network};

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) rng: Rng,
    pub(crate) clock: Clock,
    pub(crate) store: Simulated,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    server: Option<Tasks>,
    pub(crate) schedulers: Vec<Part>,
    pub(crate) controllers: Vec<Part>,
    /// Tasks that all of these hold, as if they were in one process.
    parsed: Parsed,
    /// A line without faults: what a test sees through.
    pub(crate) god: Client,
    quiet: Network,
}

/// A process that stands for election, and its line.
pub(crate) struct Part {
    pub(crate) line: Line,
    tasks: Option<Tasks>,
}

impl Part {
    /// Some of them, each with a line of its own.
    fn new(count: usize, network: &Network, rng: &Rng) -> Vec<Self> {
        let part = |_| Self { line: network.leader_line(rng.fork("line")), tasks: None };
        (0..count).map(part).collect()
    }

    pub(crate) fn crash(&mut self) {
        self.tasks = None;
    }
}

/// A machine and the agent on it.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) machine: SimMachine,
    pub(crate) line: Line,
    journal: Journal,
    agent: Option<Tasks>,
}

/// CPUs of a simulated machine: few, so that tasks wait for each other.
pub(crate) const CPUS: u32 = 4;
/// Schedulers, and as many controllers: one of each leads.
pub(crate) const CANDIDATES: usize = 2;

impl Cluster {
    /// Starts everything.
    pub(crate) async fn start(seed: u64) -> Self {
        let rng = Rng::seeded(seed);
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
        let network = Network::default();
        let quiet = Network::default();
        let mut cluster = Self {
            god: quiet.line(rng.fork("god")).client(),
            store: Simulated::new(),
            hosts: Vec::new(),
            server: None,
            schedulers: Part::new(CANDIDATES, &network, &rng),
            controllers: Part::new(CANDIDATES, &network, &rng),
            parsed: Parsed::default(),
            network: network.clone(),
            quiet,
            clock,
            rng,
        };
        cluster.start_server().await;
        cluster.start_leaders();
        for number in 1..=3 {
            cluster.add_host(&format!("node-{number}"));
        }
        cluster
    }

    /// Adds a machine, with an agent on it of this name.
    pub(crate) fn add_host(&mut self, name: &str) {
        let machine = SimMachine::new(self.clock.clone(), CPUS, 1 << 30);
        machine.keep_history();
        let host = Host {
            machine,
            line: self.network.line(self.rng.fork(name)),
            journal: Journal::in_memory(),
            agent: None,
            name: name.to_owned(),
        };
        self.hosts.push(host);
        self.start_agent(self.hosts.len() - 1);
    }

    pub(crate) async fn start_server(&mut self) {
        if self.server.is_some() {
            return;
        }
        let tasks = Tasks::new("apiserver");
        let server = loop {
            let parts = apiserver::Parts {
                store: Arc::new(self.store.clone()),
                clock: self.clock.clone(),
                rng: self.rng.fork("apiserver"),
                spawner: tasks.spawner(),
                registry: Registry::new(),
                health: Health::default(),
                peers: None,
            };
            match apiserver::Server::start(parts).await {
                Ok(server) => break server,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        server.ready().await;
        self.network.serve(Some(server.service()));
        self.quiet.serve(Some(server.service()));
        self.server = Some(tasks);
    }

    pub(crate) fn crash_server(&mut self) {
        self.server = None;
        self.network.serve(None);
        self.quiet.serve(None);
    }

    /// Starts every scheduler and all controllers that do not run.
    pub(crate) fn start_leaders(&mut self) {
        for index in 0..CANDIDATES {
            self.start_scheduler(index);
            self.start_controllers(index);
        }
    }

    pub(crate) fn crash_leaders(&mut self) {
        self.schedulers.iter_mut().chain(&mut self.controllers).for_each(Part::crash);
    }

    pub(crate) fn start_scheduler(&mut self, index: usize) {
        let part = &mut self.schedulers[index];
        if part.tasks.is_some() {
            return;
        }
        let tasks = Tasks::new("scheduler");
        let config = scheduler::shell::Config {
            client: part.line.client(),
            clock: self.clock.clone(),
            rng: self.rng.fork("scheduler"),
            health: Health::default(),
            metrics: scheduler::Metrics::new(&Registry::new()).unwrap(),
            parsed: self.parsed.clone(),
        };
        tasks.spawn_part("scheduler", scheduler::shell::run(config, tasks.stop_signal()));
        part.tasks = Some(tasks);
    }

    pub(crate) fn start_controllers(&mut self, index: usize) {
        let part = &mut self.controllers[index];
        if part.tasks.is_some() {
            return;
        }
        let tasks = Tasks::new("controllers");
        let config = controllers::Config {
            client: part.line.client(),
            clock: self.clock.clone(),
            rng: self.rng.fork("controllers"),
            health: Health::default(),
            metrics: controllers::Metrics::new(&Registry::new()).unwrap(),
            parsed: self.parsed.clone(),
            events: controllers::event::plan::Limits::with_ttl(api::core::EVENT_TTL.signed()),
        };
        tasks.spawn_part("controllers", controllers::run(config, tasks.stop_signal()));
        part.tasks = Some(tasks);
    }

    pub(crate) fn start_agent(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.agent.is_some() {
            return;
        }
        let machine = host.machine.clone();
        let open_engine: OpenEngine = Arc::new(move |scope| {
            let engine: Arc<dyn Engine> = Arc::new(machine.engine(scope));
            Box::pin(async move { Ok(engine) })
        });
        let config = Config {
            name: host.name.clone(),
            labels: std::collections::BTreeMap::new(),
            taints: Vec::new(),
            host: node_agent::Host::default(),
            view_socket: None,
            capacity: Amounts::new(),
            port_range: (20_000, 20_099),
            address: "127.0.0.1".to_owned(),
            journal: host.journal.clone(),
            dial: None,
            accept_cluster: false,
            added: node_agent::Added::default(),
        };
        let outside = Outside {
            client: host.line.client(),
            open_engine,
            clock: self.clock.clone(),
            rng: self.rng.fork(&host.name),
            health: Health::default(),
        };
        let tasks = Tasks::new("agent");
        let stop = tasks.stop_signal();
        tasks.spawn_part("agent", async move {
            node_agent::run(config, outside, &Registry::new(), stop).await
        });
        host.agent = Some(tasks);
    }

    /// The disk of an agent's journal is full from now on, or has room again.
    pub(crate) fn fill_disk(&self, index: usize, is_full: bool) {
        self.hosts[index].journal.fill(is_full);
    }

    /// The disk of an agent's journal is nearly full from now on, or has room again.
    pub(crate) fn run_short_of_disk(&self, index: usize, is_short: bool) {
        self.hosts[index].journal.run_short(is_short);
    }

    pub(crate) fn crash_agent(&mut self, index: usize) {
        self.hosts[index].agent = None;
    }

    /// The machine is gone, and everything that ran on it.
    pub(crate) fn lose_machine(&mut self, index: usize) {
        self.crash_agent(index);
        self.hosts[index].machine.lose_everything();
    }

    /// Mends everything but the machines from the `machines`th on: those are lost for good.
    pub(crate) async fn heal(&mut self, machines: usize) {
        self.store.faults().heal();
        self.network.lose(0);
        self.start_server().await;
        self.start_leaders();
        for part in self.schedulers.iter().chain(&self.controllers) {
            part.line.delay(false).await;
        }
        for index in 0..self.hosts.len() {
            self.hosts[index].line.cut(false);
            if index < machines {
                self.start_agent(index);
            } else {
                self.lose_machine(index);
            }
        }
    }

    /// The control plane is replaced by one whose store is empty. Agents stay.
    pub(crate) async fn wipe(&mut self) {
        self.crash_server();
        self.crash_leaders();
        self.store = Simulated::new();
        self.start_server().await;
        self.start_leaders();
    }

    /// No part of any process has failed, and nothing has panicked: that is a bug, whatever the
    /// cluster does about it.
    fn assert_parts_work(&self) {
        let leaders = self.schedulers.iter().chain(&self.controllers).map(|part| &part.tasks);
        let agents = self.hosts.iter().map(|host| &host.agent);
        for tasks in leaders.chain(agents).chain([&self.server]).flatten() {
            if let Some(failure) = tasks.failure().now_or_never() {
                panic!("{}", ErrorChain(&failure));
            }
        }
        assert_eq!(base::panics(), 0, "a task panicked; see the log");
    }

    /// All there is, as one cut; nothing while no apiserver serves.
    pub(crate) async fn look(&self) -> Option<Snapshot> {
        self.assert_parts_work();
        const SEEN: [KindId; 10] = [
            KindId::Node,
            KindId::NodeLease,
            KindId::PartitionSet,
            KindId::Workflow,
            KindId::WorkflowRun,
            KindId::Job,
            KindId::Service,
            KindId::CompletionChunk,
            KindId::TaskTemplate,
            KindId::Task,
        ];
        let mut watch = self.god.watch_many(&SEEN, None, "").await.ok()?;
        let mut objects = Vec::new();
        loop {
            match watch.next().await.ok()?? {
                client::AnyEvent::Upsert { kind, json, .. } => {
                    objects.push(Any::parse(kind, &json).unwrap());
                }
                client::AnyEvent::Remove { .. } => (),
                client::AnyEvent::Bookmark { version, .. } => {
                    let mut snapshot = Snapshot::default();
                    snapshot.apply(Update::Reset { objects, version }, |_, _, _| ());
                    return Some(snapshot);
                }
            }
        }
    }

    /// Waits until `holds` of what is there, at most `limit` of virtual time; what was seen last
    /// otherwise.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        let until = tokio::time::Instant::now() + limit;
        loop {
            let seen = self.look().await;
            if let Some(seen) = seen.as_ref().filter(|seen| holds(seen)) {
                return seen.clone();
            }
            if tokio::time::Instant::now() >= until {
                let seen = seen.as_ref().map(describe).unwrap_or_default();
                panic!("after {limit:?} still not: {what}\n{seen}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What somebody wants to see who waits in vain.
pub(crate) fn describe(seen: &Snapshot) -> String {
    let jobs: Vec<_> = seen.jobs.iter().map(|job| (job.name(), &job.status)).collect();
    let task = |task: &Arc<api::Task>| {
        (task.name().to_owned(), task.phase(), task.spec.clone(), task.status.clone())
    };
    let tasks: Vec<_> = seen.tasks.iter().map(task).collect();
    let nodes: Vec<_> = seen.nodes.iter().map(|node| (node.phase(), &node.status)).collect();
    format!("jobs {jobs:#?}\ntasks {tasks:#?}\nnodes {nodes:#?}")
}
