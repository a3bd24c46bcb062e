//! The transport that speaks HTTP over TCP.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::ServiceExt as _;

use crate::transport::{BoxError, Transport, transport};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A server that cannot be spoken to as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server:?} is not a server's URL; write for example http://127.0.0.1:7070")]
pub struct InvalidServer {
    server: String,
}

/// Reads a server's URL: `http://HOST:PORT`, nothing behind it.
pub fn parse_server(server: &str) -> Result<Authority, InvalidServer> {
    let invalid = || InvalidServer { server: server.to_owned() };
    let uri: Uri = server.parse().map_err(|_| invalid())?;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if uri.scheme() != Some(&Scheme::HTTP) || !bare {
        return Err(invalid());
    }
    uri.authority().cloned().ok_or_else(invalid)
}

/// A transport to the apiserver at `server`.
pub fn http_transport(server: &str) -> Result<Transport, InvalidServer> {
    let authority = parse_server(server)?;
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_secs(10)));
    let client: HyperClient<_, Full<Bytes>> = HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector);
    let absolute = client.map_request(move |request: Request<Bytes>| {
        let (mut parts, body) = request.into_parts();
        parts.uri = absolute(&authority, parts.uri.path_and_query());
        Request::from_parts(parts, Full::new(body))
    });
    Ok(transport(absolute.map_err(|error| Box::new(error) as BoxError)))
}

fn absolute(authority: &Authority, path: Option<&PathAndQuery>) -> Uri {
    let path = path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("scheme, authority and path make a URI")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_are_servers() {
        assert_eq!(parse_server("http://127.0.0.1:7070").unwrap().as_str(), "127.0.0.1:7070");
        for bad in ["127.0.0.1:7070", "https://a", "http://a/b", "http://a?x=1", "", "http://"] {
            assert!(parse_server(bad).is_err(), "{bad:?}");
        }
    }
}
