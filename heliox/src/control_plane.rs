//! Puts apiserver, scheduler and controllers together over a store.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use apiserver::{Parts, Peers, Router, Server};
use base::{Clock, Health, Rng, Tasks};
use client::{Client, Servers};
use controllers::event::plan::Limits;
use prometheus::Registry;
use runtime::Parsed;
use store::Store;

use crate::in_process;
use crate::metrics::HealthMetrics;

/// A control plane in this process.
#[derive(Debug)]
pub struct ControlPlane {
    /// Answers requests.
    pub router: Router,
    /// A client of it within the process.
    pub client: Client,
    /// The cluster's id.
    pub cluster: String,
}

/// What all components need.
#[derive(Debug, Clone)]
pub struct Common {
    /// Tells the time.
    pub clock: Clock,
    /// The source of uids, identities and jitter.
    pub rng: Rng,
    /// Where metrics are registered.
    pub registry: Registry,
    /// The state of this process's activities.
    pub health: Health,
    /// Parsed tasks that scheduler and controllers share.
    pub parsed: Parsed,
    /// How long the controllers keep events.
    pub event_ttl: api::duration::Duration,
}

impl Common {
    /// With the machine's clock and randomness, and a registry that shows the process's health.
    pub fn of_machine() -> Result<Self> {
        let (registry, health) = (Registry::new(), Health::default());
        let shown =
            HealthMetrics::new(health.clone()).context("cannot describe the health metrics")?;
        registry.register(Box::new(shown)).context("cannot register the health metrics")?;
        let (clock, rng, event_ttl) = (Clock::system(), Rng::from_machine(), api::core::EVENT_TTL);
        Ok(Self { clock, rng, registry, health, parsed: Parsed::default(), event_ttl })
    }

    /// The same with a time for which the controllers keep events.
    #[must_use]
    pub fn keeping_events(self, event_ttl: api::duration::Duration) -> Self {
        Self { event_ttl, ..self }
    }

    /// The apiservers in `urls`, beginning with a random one.
    pub fn servers(&self, urls: &str) -> Result<Servers> {
        let first = usize::try_from(self.rng.next_u64() >> 32).unwrap_or_default();
        Servers::parse(urls, first).context("--server")
    }
}

/// Starts an apiserver over a store. If `peers` is given, it is one of several.
pub async fn apiserver(
    (store, peers): (Arc<dyn Store>, Option<Peers>),
    common: &Common,
    tasks: &Tasks,
) -> Result<Arc<Server>> {
    let parts = Parts {
        store,
        clock: common.clock.clone(),
        rng: common.rng.fork("apiserver"),
        spawner: tasks.spawner(),
        registry: common.registry.clone(),
        health: common.health.clone(),
        peers,
    };
    Server::start(parts).await.context("cannot start the apiserver")
}

/// Starts an apiserver over a store. It answers `/readyz` at once; requests for objects wait until
/// its cache is filled.
pub async fn start_apiserver(
    (store, peers): (Arc<dyn Store>, Option<Peers>),
    common: &Common,
    tasks: &Tasks,
) -> Result<ControlPlane> {
    let server = apiserver((store, peers), common, tasks).await?;
    let router = server.service();
    let client = in_process::client(&router, "heliox");
    Ok(ControlPlane { router, client, cluster: server.cluster().to_owned() })
}

/// Starts all components over a store.
pub async fn start(
    (store, peers): (Arc<dyn Store>, Option<Peers>),
    common: &Common,
    tasks: &Tasks,
) -> Result<ControlPlane> {
    let plane = start_apiserver((store, peers), common, tasks).await?;
    scheduler(in_process::client(&plane.router, scheduler::shell::COMPONENT), common, tasks)?;
    controllers(in_process::client(&plane.router, controllers::COMPONENT), common, tasks)?;
    Ok(plane)
}

/// Starts a scheduler, which takes part in leader election.
pub fn scheduler(client: Client, common: &Common, tasks: &Tasks) -> Result<()> {
    let config = scheduler::shell::Config {
        client,
        clock: common.clock.clone(),
        rng: common.rng.fork("scheduler"),
        health: common.health.clone(),
        metrics: scheduler::Metrics::new(&common.registry).context("register metrics")?,
        parsed: common.parsed.clone(),
    };
    tasks.spawn_part("scheduler", scheduler::shell::run(config, tasks.stop_signal()));
    Ok(())
}

/// Starts the controllers, which take part in leader election.
pub fn controllers(client: Client, common: &Common, tasks: &Tasks) -> Result<()> {
    let config = controllers::Config {
        client,
        clock: common.clock.clone(),
        rng: common.rng.fork("controllers"),
        health: common.health.clone(),
        metrics: controllers::Metrics::new(&common.registry).context("register metrics")?,
        parsed: common.parsed.clone(),
        events: Limits::with_ttl(common.event_ttl.signed()),
    };
    tasks.spawn_part("controllers", controllers::run(config, tasks.stop_signal()));
    Ok(())
}
