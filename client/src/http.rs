//! The transport over HTTP and TCP.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::servers::{Chosen, Servers};
use crate::transport::{BoxError, Transport, transport};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A request that is given up after this time counts as a failure of its server.
const SLOW: Duration = Duration::from_secs(1);

type Hyper = legacy::Client<HttpConnector, Full<Bytes>>;

/// A transport to any of the apiservers that answers.
pub fn http_transport(servers: &Servers) -> Transport {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_secs(10)));
    let client: Hyper = legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector);
    let servers = servers.clone();
    transport(tower::service_fn(move |request: Request<Bytes>| {
        let (servers, client) = (servers.clone(), client.clone());
        async move {
            let mut left = servers.count();
            loop {
                let answer = ask(&servers, &client, request.clone()).await;
                left -= 1;
                match answer {
                    // Nothing was sent, so another server can be tried at once.
                    Err(error) if error.is_connect() && left > 0 => (),
                    answer => return answer.map_err(|error| Box::new(error) as BoxError),
                }
            }
        }
    }))
}

/// Sends a request to the server in use. After a failure the next server is used.
async fn ask(
    servers: &Servers,
    client: &Hyper,
    request: Request<Bytes>,
) -> Result<Response<Incoming>, legacy::Error> {
    let chosen = servers.choose();
    let (mut parts, body) = request.into_parts();
    parts.uri = absolute(&chosen.authority, parts.uri.path_and_query());
    let mut watch = Unanswered { servers, chosen, since: Some(Instant::now()) };
    let answer = client.request(Request::from_parts(parts, Full::new(body))).await;
    watch.since = None;
    answer.inspect_err(|_| servers.failed(&watch.chosen))
}

/// A request in progress. If it is dropped after a while, that counts as a failure of its server.
struct Unanswered<'a> {
    servers: &'a Servers,
    chosen: Chosen,
    /// `None` once it is answered.
    since: Option<Instant>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= SLOW) {
            self.servers.failed(&self.chosen);
        }
    }
}

fn absolute(authority: &Authority, path: Option<&PathAndQuery>) -> Uri {
    let path = path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("scheme, authority and path make a URI")
}
