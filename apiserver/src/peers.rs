//! The other apiservers of the cluster. Each of them holds the connections of some agents.

use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{HeaderValue, Request, Response, Uri};
use api::node::{CLUSTER_HEADER, PEER_HEADER};
use axum::body::Body;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

/// How long opening a connection to another apiserver may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long another apiserver may take to begin its answer. This is longer than it waits for an
/// agent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an idle connection is checked.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The maximum number of bytes in flight for an answer.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// The maximum number of bytes in flight for all answers of another apiserver.
const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024 * 1024;
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Sends a request with an absolute URI to another apiserver and returns its answer. Both bodies
/// are streamed at the same time.
pub type PeerTransport = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// What an apiserver needs in order to work together with others.
#[derive(Debug, Clone)]
pub struct Peers {
    url: String,
    transport: PeerTransport,
}

/// Why another apiserver did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("invalid URL")]
    Url(#[source] ::http::Error),
    #[error("cannot connect")]
    Unreachable(#[source] BoxError),
    #[error("no answer within 15 s")]
    TimedOut,
}

impl Peers {
    /// Other apiservers reach this one at `url`, such as `http://10.0.0.1:7070`. It sends requests
    /// to them over `transport`.
    pub fn new(url: impl Into<String>, transport: PeerTransport) -> Self {
        Self { url: url.into().trim_end_matches('/').to_owned(), transport }
    }

    /// Like [`Peers::new`], over TCP. It uses HTTP/2, so one connection to each of the others is
    /// enough.
    pub fn over_tcp(url: impl Into<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client: legacy::Client<HttpConnector, Body> =
            legacy::Client::builder(TokioExecutor::new())
                .http2_only(true)
                .timer(TokioTimer::new())
                // A reader of one answer that is slow should hold back only this answer.
                .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
                .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .http2_keep_alive_timeout(KEEP_ALIVE)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_timer(TokioTimer::new())
                .build(connector);
        let transport =
            client.map_response(|answer| answer.map(Body::new)).map_err(|error| error.into());
        Self::new(url, BoxCloneSyncService::new(transport))
    }

    /// Where the others reach this apiserver.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request to the apiserver at `url`, and waits for the beginning of its answer.
    /// `cluster` is the cluster that it must belong to.
    pub(crate) async fn ask(
        &self,
        url: &str,
        cluster: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, PeerError> {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let unusable = |error: ::http::Error| PeerError::Url(error);
        let uri: Uri =
            format!("{url}{path}").parse().map_err(|error| unusable(From::from(error)))?;
        *request.uri_mut() = uri;
        for (name, value) in [(PEER_HEADER, self.url.as_str()), (CLUSTER_HEADER, cluster)] {
            let value =
                HeaderValue::try_from(value).map_err(|error| unusable(From::from(error)))?;
            request.headers_mut().insert(name, value);
        }
        let asked = self.transport.clone().oneshot(request);
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(answer) => answer.map_err(PeerError::Unreachable),
            Err(_elapsed) => Err(PeerError::TimedOut),
        }
    }
}
