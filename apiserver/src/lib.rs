//! The apiserver: the conventions of the Kubernetes API on top of the store, the same for every
//! kind.
//!
//! # Invariants
//!
//! * Only this crate uses the store, and it keeps nothing outside of it: any number of apiservers
//!   may serve one store, and it makes no difference which of them answers.
//! * A write is decided by a pure function of the current state ([`mod@write`]), and guarded on that
//!   state.
//! * Reads are answered from the watch cache, and are at least as new as the store was when the
//!   request came in.

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
mod on_behalf;
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

/// An apiserver.
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
    /// Limits how many logs are read through this apiserver at the same time.
    log_places: Arc<Semaphore>,
}

/// Why an apiserver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read or written. Try again later.
    #[error("cannot read or write the store")]
    Store(#[source] ReadError),
    /// The store is full; the message says how to free space.
    #[error("cannot write to the store: {0}")]
    Full(String),
    /// The store contains something that this version does not understand.
    #[error("cannot use the store: {0}")]
    Incompatible(String),
    /// A restore is not finished. Finish it, or clear the store.
    #[error(
        "a restore into this store is not finished: run the same `heliox restore` again, or clear \
         the store"
    )]
    Restoring,
    /// Metrics with these names are already registered.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
}

/// What an apiserver needs.
#[derive(Debug)]
pub struct Parts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// For creation times.
    pub clock: Clock,
    /// For uids.
    pub rng: Rng,
    /// For background tasks.
    pub spawner: Spawner,
    /// The registry for its metrics. `/metrics` shows all of it.
    pub registry: Registry,
    /// The health of this process, which `/readyz` shows.
    pub health: Health,
    /// How to reach the other apiservers of the cluster. `None` if there are no others, or they
    /// cannot be reached: then it can only reach agents that are connected to it.
    pub peers: Option<Peers>,
}

impl Server {
    /// Starts an apiserver. Requests for objects wait until its cache is filled, up to a limit.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, StartError> {
        Self::start_behind(Gate::default(), parts).await
    }

    /// Starts an apiserver that lets in whom this gate does.
    async fn start_behind(gate: Gate, parts: Parts) -> Result<Arc<Self>, StartError> {
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
            gate,
            log_places: Arc::new(Semaphore::new(LOGS_MAX)),
        });
        if let Some(peers) = &server.peers {
            let telling = holding::tell(Arc::clone(&server), peers.url().to_owned());
            server.spawner.spawn_part("connections told", telling);
        }
        Ok(server)
    }

    /// The id of the cluster.
    pub fn cluster(&self) -> &str {
        &self.identity.cluster.id
    }

    /// Waits until the cache is filled and requests are answered.
    pub async fn ready(&self) {
        self.cache.reached(store::Revision(1)).await;
    }

    /// The service that answers requests, over whatever transport. Requesters are anonymous unless
    /// [`Router::asked_by`] says otherwise.
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
    /// The same service for another requester.
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

/// For requests with a complete body, which in-process clients send.
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
