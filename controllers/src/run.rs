//! The component: leads, follows the watch, and runs all controllers on it.

use api::KindId;
use base::{Clock, Rng, Stop, Tasks};
use client::Client;
use runtime::{Cache, Crew, Deposed, Election, Feed, Leadership, Recorder, Reflector};
use tokio::time::Instant;
use tracing::info;

use crate::metrics::Metrics;
use crate::tools::Tools;
use crate::{garbage, job, node, workflow, workflow_run};

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
    /// Counts.
    pub metrics: Metrics,
}

/// Runs all controllers whenever this process leads, until it is told to stop.
pub async fn run(config: Config, stop: Stop) {
    let mut election = Election::new(&config.client, COMPONENT, config.clock.clone(), &config.rng);
    loop {
        let mut leadership = tokio::select! {
            biased;
            () = stop.requested() => return,
            leadership = election.won() => leadership,
        };
        // Dropped at the end of the term, and everything spawned in it with it.
        let tasks = Tasks::new(COMPONENT);
        let deposed = Deposed::default();
        let term = term(&config, &leadership, &tasks, &deposed);
        let stopped = tokio::select! {
            biased;
            () = stop.requested() => true,
            () = deposed.told() => false,
            () = election.keep(&mut leadership) => false,
            () = term => false,
            _clean = tasks.run() => false,
        };
        drop(tasks);
        if stopped {
            election.resign(leadership).await;
            return;
        }
        info!("the term is over");
    }
}

/// One term: a cache of its own, and every controller on it.
fn term(
    config: &Config,
    leadership: &Leadership,
    tasks: &Tasks,
    deposed: &Deposed,
) -> impl Future<Output = ()> + use<> {
    let Config { client, clock, rng, metrics } = config.clone();
    let client = client.as_leader(COMPONENT, &leadership.identity, leadership.term);
    let cache = Cache::default();
    let recorder = Recorder::new(client.clone(), COMPONENT, clock.clone(), rng.clone());
    let tools = Tools { client: client.clone(), cache: cache.clone(), clock, recorder, metrics };
    let crew = Crew { spawner: tasks.spawner(), rng: rng.clone(), deposed: deposed.clone() };
    let (canary, started) = (node::CanaryCage::default(), Instant::now());
    tasks.spawn("canary", canary.clone().keep(client.clone(), rng.clone(), started));
    let mut feed = Feed::new(cache);
    feed.add(job::Controller::new(tools.clone()), WORKERS, &crew);
    feed.add(workflow_run::Controller::new(tools.clone()), WORKERS, &crew);
    feed.add(workflow::Controller::new(tools.clone()), WORKERS, &crew);
    feed.add(node::Controller::new(tools.clone(), canary, started), 1, &crew);
    feed.add(garbage::Controller::new(tools), WORKERS, &crew);
    feed.run(Reflector::new(client, &KindId::ALL, "", rng))
}
