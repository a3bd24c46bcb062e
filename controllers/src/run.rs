//! The component: becomes the leader, follows the watch, and runs all controllers.

use api::KindId;
use base::{Clock, Health, PartFailure, Rng, Stop, Tasks};
use client::Client;
use runtime::{Cache, Deposed, Feed, Parsed, Recorder, Reflector, WorkerContext};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::tools::Tools;
use crate::{
    drain, event, garbage, job, namespace, node, partition_set, service, workflow, workflow_run,
};

/// The name of the component, its Lease object and its guard.
pub const COMPONENT: &str = "controllers";

/// How many keys of a controller are reconciled at once.
const WORKERS: usize = 4;

/// What the component needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The client for the apiserver.
    pub client: Client,
    /// The clock.
    pub clock: Clock,
    /// For identities and back-off.
    pub rng: Rng,
    /// Where problems are shown.
    pub health: Health,
    /// The metrics.
    pub metrics: Metrics,
    /// Parsed tasks that are shared with other parts of this process.
    pub parsed: Parsed,
    /// How long events are kept, and how many.
    pub events: event::plan::Limits,
}

/// Runs all controllers whenever this process is the leader, until it is told to stop or a part
/// fails.
pub async fn run(config: Config, stop: Stop) -> Result<(), PartFailure> {
    let Config { client, clock, rng, .. } = &config;
    let term = |leader, tasks: &Tasks| term(&config, leader, tasks);
    runtime::lead((client, COMPONENT), clock.clone(), (rng, &config.health), &stop, term).await
}

/// While this lives the process leads. What it tells of nodes and services ends with it: another
/// leader tells it then.
struct Leads(Metrics);

impl Leads {
    fn new(metrics: Metrics) -> Self {
        metrics.forget();
        Self(metrics)
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        self.0.forget();
    }
}

/// One term as the leader: a new cache and all controllers, until one of them learns that another
/// process is the leader.
fn term(config: &Config, client: Client, tasks: &Tasks) -> impl Future<Output = ()> + use<> {
    let Config { clock, rng, metrics, health, parsed, events, .. } = config.clone();
    let leads = Leads::new(metrics.clone());
    let cache = Cache::default();
    let recorder = Recorder::new(client.clone(), COMPONENT, clock.clone(), rng.clone());
    let deposed = Deposed::default();
    let context = WorkerContext {
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
    feed.add(job::Controller::new(tools.clone()), WORKERS, &context);
    feed.add(service::Controller::new(tools.clone()), WORKERS, &context);
    feed.add(workflow_run::Controller::new(tools.clone()), WORKERS, &context);
    feed.add(workflow::Controller::new(tools.clone()), WORKERS, &context);
    feed.add(node::Controller::new(tools.clone(), canary, started), 1, &context);
    feed.add(drain::Controller::new(tools.clone()), WORKERS, &context);
    feed.add(partition_set::Controller::new(tools.clone()), 1, &context);
    feed.add(event::Controller::new(tools.clone(), events), 1, &context);
    feed.add(namespace::Controller::new(tools.clone()), WORKERS, &context);
    feed.add(garbage::Controller::new(tools), WORKERS, &context);
    let reflector = Reflector::new(client, &KindId::ALL, "", rng.clone())
        .shown_in(rng, &health)
        .sharing(parsed);
    async move {
        let _leads = leads;
        tokio::select! {
            biased;
            () = deposed.told() => (),
            () = feed.run(reflector) => (),
        }
    }
}
