//! Speaks to the apiserver: typed calls over a tower service, by HTTP or within one process.
//!
//! # Invariants
//!
//! * Every request has a deadline, every answer a bound; a watch has neither, but ends when its
//!   connection does.
//! * A write that may have happened is never reported as one that did not ([`Error::Unknown`]).
//! * What was sent is not sent again here: the caller's loop does that, with what it then knows. A
//!   connection that could not be opened is tried with the other servers at once.

mod cause;
mod error;
mod escape;
mod exec;
mod http;
mod lines;
mod servers;
mod transport;
mod tunnel;
mod typed;
mod warnings;
mod watch;

use std::time::Duration;

use ::http::{HeaderValue, Method, Request, Response, header};
use api::batch::{Batch, BatchResponse, LEADER_HEADER};
use api::cluster::Cluster;
use api::kind::{GROUP, VERSION};
use api::node::{CLUSTER_HEADER, GrantRequest, GrantResponse, RenewRequest, RenewResponse};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryFutureExt as _};
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt as _;

pub use cause::{broke_off, cause};
pub use error::Error;
pub use exec::{ExecReceiver, ExecSender, open_exec};
pub use http::http_transport;
pub use lines::Lines;
pub use servers::{InvalidServer, Servers};
pub use transport::{Body, BoxError, NotSent, Transport, boxed_body, transport};
pub use tunnel::{Dial, Stream, Tunnel, dial_tcp, open_tunnel};
pub use typed::{Api, DeletePropagation, ListOptions, Listing, object_path};
pub use watch::{AnyEvent, ManyWatch, RawEvent, Watch};

/// How long a request may take, its answer included. A busy server answers 429 long before.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read as a whole.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Speaks to one cluster.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    leader: Option<HeaderValue>,
    cluster: Option<HeaderValue>,
    warned: Option<fn(&str)>,
}

impl Client {
    /// A client over `transport`.
    pub fn new(transport: Transport) -> Self {
        Self { transport, leader: None, cluster: None, warned: None }
    }

    /// The same client, which hands on what the server warns of: for those who speak to people.
    #[must_use]
    pub fn with_warnings_to(self, warned: fn(&str)) -> Self {
        Self { warned: Some(warned), ..self }
    }

    /// The same client, whose writes are guarded: they happen only while `identity` leads
    /// `component` in `term`.
    #[must_use]
    pub fn as_leader(&self, component: &str, identity: &str, term: u64) -> Self {
        let header = HeaderValue::try_from(format!("{component}/{identity}/{term}"))
            .expect("components and identities are made of printable ASCII");
        Self { leader: Some(header), ..self.clone() }
    }

    /// The same client, whose requests are meant for one cluster and one life of its store: another
    /// one refuses them.
    #[must_use]
    pub fn for_cluster(&self, cluster: &Cluster) -> Self {
        let header = HeaderValue::try_from(cluster.to_string())
            .expect("the id of a cluster is made of printable ASCII");
        Self { cluster: Some(header), ..self.clone() }
    }

    /// Objects of one kind.
    pub fn api<K: api::Kind>(&self, namespace: &str) -> Api<K> {
        Api::new(self.clone(), namespace)
    }

    /// Sends writes that travel together.
    pub async fn batch(&self, batch: &Batch) -> Result<BatchResponse, Error> {
        self.post(&format!("/apis/{GROUP}/{VERSION}/batches"), batch).await
    }

    /// Asks for a node lease.
    pub async fn grant(&self, request: &GrantRequest) -> Result<GrantResponse, Error> {
        self.post(&format!("/apis/{GROUP}/{VERSION}/nodeleases"), request).await
    }

    /// Renews node leases.
    pub async fn renew(&self, request: &RenewRequest) -> Result<RenewResponse, Error> {
        self.post(&format!("/apis/{GROUP}/{VERSION}/nodeleases/renew"), request).await
    }

    async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, Error> {
        let body = serde_json::to_vec(body).map_err(Error::malformed)?;
        self.json(Method::POST, path, Some(("application/json", body))).await
    }

    /// Sends a request and reads its answer as JSON.
    pub async fn json<A: DeserializeOwned>(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<A, Error> {
        let answer = self.bytes(method, path_and_query, body).await?;
        serde_json::from_slice(&answer).map_err(Error::malformed)
    }

    /// Sends a request and reads its whole answer.
    pub async fn bytes(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Bytes, Error> {
        let writes = method != Method::GET;
        let whole = async {
            let response = self.send(method, path_and_query, body).await?;
            let (parts, body) = response.into_parts();
            let bytes = collect(body).await.map_err(|error| Error::broken(writes, error))?;
            if parts.status.is_success() {
                if let Some(warned) = self.warned {
                    warnings::texts(&parts.headers).for_each(|text| warned(&text));
                }
                Ok(bytes)
            } else {
                Err(Error::of_answer(parts.status, &bytes))
            }
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, whole).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Error::silent(writes)),
        }
    }

    /// Sends a request and returns its answer as it arrives. An answer that is no success is read
    /// and returned as an error.
    pub async fn stream(&self, path_and_query: &str) -> Result<Response<Body>, Error> {
        let response =
            tokio::time::timeout(REQUEST_TIMEOUT, self.send(Method::GET, path_and_query, None))
                .await
                .map_err(|_elapsed| Error::silent(false))??;
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(REQUEST_TIMEOUT, collect(body))
            .await
            .map_err(|_elapsed| Error::silent(false))?
            .map_err(|error| Error::broken(false, error))?;
        Err(Error::of_answer(parts.status, &bytes))
    }

    async fn send(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Response<Body>, Error> {
        let writes = method != Method::GET;
        let mut request = Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(header::ACCEPT, "application/json");
        if let Some(leader) = self.leader.as_ref().filter(|_| writes) {
            request = request.header(LEADER_HEADER, leader);
        }
        if let Some(cluster) = &self.cluster {
            request = request.header(CLUSTER_HEADER, cluster);
        }
        let bytes = match body {
            Some((form, bytes)) => {
                request = request.header(header::CONTENT_TYPE, form);
                Bytes::from(bytes)
            }
            None => Bytes::new(),
        };
        let request = request.body(bytes).map_err(Error::malformed)?;
        self.transport.clone().oneshot(request).await.map_err(|error| Error::broken(writes, error))
    }
}

/// Reads a whole body. Boxed, since the compiler does not see that a future which holds this one
/// may be sent to another thread (rust-lang/rust#110338).
fn collect(body: Body) -> BoxFuture<'static, Result<Bytes, BoxError>> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect();
    collected.map_ok(http_body_util::Collected::to_bytes).boxed()
}
