//! The apiserver: Kubernetes API conventions over the store, for every kind alike.
//!
//! # Invariants
//!
//! * Only this crate touches the store. It keeps nothing that is not there: any number of
//!   apiservers may serve one store, and no answer depends on which is asked.
//! * A write is decided by a pure function of what is there ([`write`]), and guarded by what that
//!   looked at.
//! * Reads are as fresh as the store when they were asked for, and come from the watch cache.

mod access;
pub mod backup;
mod cache;
mod carried;
mod compaction;
mod connections;
mod encoding;
mod holding;
mod http;
mod identity;
mod keys;
mod kinds;
mod metrics;
mod peers;
mod readiness;
mod requester;
mod write;

use std::convert::Infallible;
use std::sync::Arc;

use ::http::{Request, Response};
use api::core::Namespace;
use api::labels::SYSTEM_NAMESPACE;
use api::object::DEFAULT_NAMESPACE;
use api::{KindId, ObjectKey, ObjectMeta};
use axum::body::Body;
use base::{Clock, Health, Rng, Spawner};
use bytes::Bytes;
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::json;
use store::{Holds, ReadError, Store};
use tokio::sync::Semaphore;
use tower::Service;

use self::http::LOGS_MAX;
pub use self::http::is_of_component;
use access::Gate;
use cache::Cache;
use connections::Connections;
use identity::Identity;
use metrics::Metrics;
pub use peers::{BoxError, PeerTransport, Peers};
pub use requester::Requester;
use write::{Turns, Writer};

/// One apiserver.
#[derive(Debug)]
pub struct Server {
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    writer: Writer,
    connections: Connections,
    peers: Option<Peers>,
    metrics: Metrics,
    registry: Registry,
    health: Health,
    clock: Clock,
    rng: Rng,
    spawner: Spawner,
    identity: Identity,
    holds: Holds,
    gate: Gate,
    /// Places among the logs that are read through this apiserver at the same time.
    log_places: Arc<Semaphore>,
}

/// Why an apiserver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read or written. Try again later.
    #[error("cannot read or write the store")]
    Store(#[source] ReadError),
    /// The store has no room: make some, as it says.
    #[error("cannot write to the store: {0}")]
    Full(String),
    /// The store holds what this version does not understand.
    #[error("cannot use the store: {0}")]
    Incompatible(String),
    /// Finish the restore, or clear the store.
    #[error(
        "a restore into this store is not finished: run the same `heliox restore` again, or clear \
         the store"
    )]
    Restoring,
    /// Counters of these names are registered already.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
}

/// What an apiserver is made of.
#[derive(Debug)]
pub struct Parts {
    /// What keeps the data.
    pub store: Arc<dyn Store>,
    /// Tells the time of creations.
    pub clock: Clock,
    /// Draws uids.
    pub rng: Rng,
    /// Where its tasks run.
    pub spawner: Spawner,
    /// Where its counters are registered; `/metrics` shows all of it.
    pub registry: Registry,
    /// What works in this process and what does not; `/readyz` shows it.
    pub health: Health,
    /// How the other apiservers of the cluster are reached; nothing for one that has none, or
    /// cannot reach them: then it answers only for agents that are connected to it.
    pub peers: Option<Peers>,
}

impl Server {
    /// Starts an apiserver. Until its cache is filled, requests for objects wait, but not for long.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, StartError> {
        let Parts { store, clock, rng, spawner, registry, health, peers } = parts;
        let metrics = Metrics::new(&registry)?;
        let identity = Identity::read_or_make(&*store, &rng).await?;
        for name in [DEFAULT_NAMESPACE, SYSTEM_NAMESPACE] {
            make_namespace(&*store, name, (&clock, &rng)).await?;
        }
        let cache = Arc::new(Cache::default());
        let follow = cache::follow(
            Arc::clone(&cache),
            Arc::clone(&store),
            (rng.fork("cache"), health.clone()),
        );
        spawner.spawn_part("watch cache", follow);
        let holds = store.holds();
        let outside = (rng.fork("compaction"), health.clone());
        let compact =
            compaction::compact(Arc::clone(&store), Arc::clone(&cache), holds.clone(), outside);
        spawner.spawn_part("compaction", compact);
        let writer = Writer {
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            clock: clock.clone(),
            turns: Turns::default(),
        };
        let connections = Connections::new(spawner.clone());
        let server = Arc::new(Self {
            store,
            cache,
            writer,
            connections,
            peers,
            metrics,
            registry,
            health,
            clock,
            rng,
            spawner,
            identity,
            holds,
            gate: Gate::default(),
            log_places: Arc::new(Semaphore::new(LOGS_MAX)),
        });
        if let Some(peers) = &server.peers {
            let telling = holding::tell(Arc::clone(&server), peers.url().to_owned());
            server.spawner.spawn_part("connections told", telling);
        }
        Ok(server)
    }

    /// The cluster's id.
    pub fn cluster(&self) -> &str {
        &self.identity.cluster.id
    }

    /// Waits until the cache is filled and requests are answered.
    pub async fn ready(&self) {
        self.cache.reached(store::Revision(1)).await;
    }

    /// The service that answers requests, whatever brings them: of whoever is at the other end of a
    /// connection, unless [`Router::asked_by`] says more.
    pub fn service(self: &Arc<Self>) -> Router {
        Router { stack: http::service(self), requester: Requester::anonymous() }
    }

    fn metrics_text(&self) -> Vec<u8> {
        self.metrics.cache_holds(self.cache.sizes());
        let mut text = Vec::new();
        // Writing to memory cannot fail.
        let _infallible = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

/// Answers the requests of one requester.
#[derive(Debug, Clone)]
pub struct Router {
    stack: http::Stack,
    requester: Requester,
}

impl Router {
    /// The same, for the requests of another one.
    #[must_use]
    pub fn asked_by(&self, requester: Requester) -> Self {
        Self { stack: self.stack.clone(), requester }
    }
}

type Answering = futures_util::future::BoxFuture<'static, Result<Response<Body>, Infallible>>;

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        self.stack.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answering {
        let requester = self.requester.of_request(request.headers());
        request.extensions_mut().insert(requester);
        self.stack.call(request)
    }
}

/// The same, for requests that are whole: what an in-process client sends.
impl Service<Request<Bytes>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        self.stack.poll_ready(context)
    }

    fn call(&mut self, request: Request<Bytes>) -> Answering {
        Service::<Request<Body>>::call(self, request.map(Body::from))
    }
}

async fn make_namespace(
    store: &dyn Store,
    name: &str,
    (clock, rng): (&Clock, &Rng),
) -> Result<(), StartError> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(rng.uuid()),
            creation_timestamp: Some(api::Time(clock.now())),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let key = keys::object(KindId::Namespace, &ObjectKey::new("", name));
    identity::make(store, &key, encoding::encode(&json!(namespace))).await
}
