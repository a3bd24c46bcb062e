//! The component: leads, follows the watch, and runs all controllers on it.

use api::KindId;
use base::{Clock, Health, PartFailure, Rng, Stop, Tasks};
use client::Client;
use runtime::{Cache, Crew, Deposed, Feed, Parsed, Recorder, Reflector};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::tools::Tools;
use crate::{event, garbage, job, namespace, node, partition_set, workflow, workflow_run};

/// The component's name: of its Lease object and of its guard.
pub const COMPONENT: &str = "controllers";

/// Keys of one controller that are looked at at once.
const WORKERS: usize = 4;

/// What the component is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Reaches the apiserver.
    pub client: Client,
    /// Tells the time.
    pub clock: Clock,
    /// For identities and back-off.
    pub rng: Rng,
    /// Where they show what does not work.
    pub health: Health,
    /// Counts.
    pub metrics: Metrics,
    /// Tasks that other parts of this process hold, too.
    pub parsed: Parsed,
    /// How long events stay, and how many.
    pub events: event::plan::Limits,
}

/// Runs all controllers whenever this process leads, until it is told to stop or a part fails.
pub async fn run(config: Config, stop: Stop) -> Result<(), PartFailure> {
    let Config { client, clock, rng, .. } = &config;
    let term = |leader, tasks: &Tasks| term(&config, leader, tasks);
    runtime::lead((client, COMPONENT), clock.clone(), (rng, &config.health), &stop, term).await
}

/// One term: a cache of its own, and every controller on it, until one of them learns that another
/// process leads.
fn term(config: &Config, client: Client, tasks: &Tasks) -> impl Future<Output = ()> + use<> {
    let Config { clock, rng, metrics, health, parsed, events, .. } = config.clone();
    let cache = Cache::default();
    let recorder = Recorder::new(client.clone(), COMPONENT, clock.clone(), rng.clone());
    let deposed = Deposed::default();
    let crew = Crew {
        spawner: tasks.spawner(),
        rng: rng.clone(),
        clock: clock.clone(),
        deposed: deposed.clone(),
    };
    let tools = Tools { client: client.clone(), cache: cache.clone(), clock, recorder, metrics };
    let (canary, started) = (node::CanaryCage::default(), Instant::now());
    tasks.spawn_part(
        "canary",
        canary.clone().keep(client.clone(), (rng.clone(), health.clone()), started),
    );
    let mut feed = Feed::new(cache);
    feed.add(job::Controller::new(tools.clone()), WORKERS, &crew);
    feed.add(workflow_run::Controller::new(tools.clone()), WORKERS, &crew);
    feed.add(workflow::Controller::new(tools.clone()), WORKERS, &crew);
    feed.add(node::Controller::new(tools.clone(), canary, started), 1, &crew);
    feed.add(partition_set::Controller::new(tools.clone()), 1, &crew);
    feed.add(event::Controller::new(tools.clone(), events), 1, &crew);
    feed.add(namespace::Controller::new(tools.clone()), WORKERS, &crew);
    feed.add(garbage::Controller::new(tools), WORKERS, &crew);
    let reflector = Reflector::new(client, &KindId::ALL, "", rng.clone())
        .shown_in(rng, &health)
        .sharing(parsed);
    async move {
        tokio::select! {
            biased;
            () = deposed.told() => (),
            () = feed.run(reflector) => (),
        }
    }
}
