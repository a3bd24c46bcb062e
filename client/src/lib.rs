//! The client of the apiserver: typed calls over a tower service, by HTTP or within one process.
//!
//! # Invariants
//!
//! * Every request has a deadline and every answer a maximum size. A watch has neither; it ends
//!   with its connection.
//! * A write that may have happened is never reported as one that did not ([`Error::Unknown`]).
//! * A request that was sent is not sent again by this crate: the caller repeats it with what it
//!   then knows. Only if a connection cannot be opened, the other servers are tried at once.

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

/// How long a request may take, including its answer. A busy server answers 429 much earlier.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read as a whole, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A client of one cluster.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    leader: Option<HeaderValue>,
    cluster: Option<HeaderValue>,
    warned: Option<fn(&str)>,
}

impl Client {
    /// A client that uses `transport`.
    pub fn new(transport: Transport) -> Self {
        Self { transport, leader: None, cluster: None, warned: None }
    }

    /// The same client with a callback for the server's warnings, for programs that people use.
    #[must_use]
    pub fn with_warnings_to(self, warned: fn(&str)) -> Self {
        Self { warned: Some(warned), ..self }
    }

    /// The same client, whose writes happen only while `identity` is the leader of `component` in
    /// term `term`.
    #[must_use]
    pub fn as_leader(&self, component: &str, identity: &str, term: u64) -> Self {
        let header = HeaderValue::try_from(format!("{component}/{identity}/{term}"))
            .expect("components and identities are made of printable ASCII");
        Self { leader: Some(header), ..self.clone() }
    }

    /// The same client for one cluster and one epoch of its store: any other refuses its requests.
    #[must_use]
    pub fn for_cluster(&self, cluster: &Cluster) -> Self {
        let header = HeaderValue::try_from(cluster.to_string())
            .expect("the id of a cluster is made of printable ASCII");
        Self { cluster: Some(header), ..self.clone() }
    }

    /// Calls on objects of one kind.
    pub fn api<K: api::Kind>(&self, namespace: &str) -> Api<K> {
        Api::new(self.clone(), namespace)
    }

    /// Sends a batch of writes.
    pub async fn batch(&self, batch: &Batch) -> Result<BatchResponse, Error> {
        self.post(&format!("/apis/{GROUP}/{VERSION}/batches"), batch).await
    }

    /// Requests a node lease.
    pub async fn grant(&self, request: &GrantRequest) -> Result<GrantResponse, Error> {
        self.post(&format!("/apis/{GROUP}/{VERSION}/nodeleases"), request).await
    }

    /// Renews a node lease.
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

    /// Sends a request and reads the answer as JSON.
    pub async fn json<A: DeserializeOwned>(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<A, Error> {
        let answer = self.bytes(method, path_and_query, body).await?;
        serde_json::from_slice(&answer).map_err(Error::malformed)
    }

    /// Sends a request and reads the whole answer.
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

    /// Sends a request and returns the answer as a stream. An answer that is not a success is read
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

/// Reads a whole body. It is boxed because otherwise the compiler cannot see that the calling
/// futures are `Send` (rust-lang/rust#110338).
fn collect(body: Body) -> BoxFuture<'static, Result<Bytes, BoxError>> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect();
    collected.map_ok(http_body_util::Collected::to_bytes).boxed()
}
