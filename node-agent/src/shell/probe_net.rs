//! Probes over the network: TCP connections and HTTP requests. The caller limits their time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use base::{ErrorChain, Spawner};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::oneshot;

use crate::engine::HttpRequest;

/// Most bytes that are read of an answer: its head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const USER_AGENT: &str = concat!("heliox-probe/", env!("CARGO_PKG_VERSION"));

/// Where a probe connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A container's address.
    Address(IpAddr, u16),
    /// A host that the manifest names.
    Host(String, u16),
    /// There is nothing that could be connected to.
    Nowhere,
}

impl Target {
    /// A port of this node which is bound to an address, or to all.
    pub(super) fn on_node(address: Option<IpAddr>, port: u16) -> Self {
        let address = match address.filter(|address| !address.is_unspecified()) {
            Some(address) => address,
            None if address.is_some_and(|address| address.is_ipv6()) => Ipv6Addr::LOCALHOST.into(),
            None => Ipv4Addr::LOCALHOST.into(),
        };
        Self::Address(address, port)
    }

    /// What the `Host` header says.
    fn authority(&self) -> String {
        match self {
            Self::Address(address, port) => SocketAddr::new(*address, *port).to_string(),
            Self::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Self::Host(host, port) => format!("{host}:{port}"),
            Self::Nowhere => String::new(),
        }
    }
}

/// Opens a TCP connection. The error is a fragment: `connection refused`.
pub(super) async fn connect(
    spawner: &Spawner,
    rest: &Arc<()>,
    target: Target,
) -> Result<(), String> {
    open(spawner, rest, &target).await.map(drop)
}

/// Sends a GET request. The error follows the path: ` answered 503`, `: connection refused`.
pub(super) async fn get(
    spawner: &Spawner,
    rest: &Arc<()>,
    target: Target,
    wanted: &HttpRequest,
) -> Result<(), String> {
    let request = request(wanted, &target.authority())?;
    let stream = open(spawner, rest, &target).await.map_err(|why| format!(": {why}"))?;
    let failed = |error: hyper::Error| format!(": {}", ErrorChain(&error));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    let status = answer.map_err(failed)?.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    Err(format!(" answered {}", status.as_u16()))
}

fn request(wanted: &HttpRequest, authority: &str) -> Result<Request<Empty<Bytes>>, String> {
    let wrong = |error: http::Error| format!(": {}", ErrorChain(&error));
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(wanted.path.as_str())
        .body(Empty::new())
        .map_err(wrong)?;
    let headers = request.headers_mut();
    for (name, value) in &wanted.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|error| wrong(error.into()))?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|error| wrong(error.into()))?;
        headers.append(name, value);
    }
    let host = HeaderValue::try_from(authority).map_err(|error| wrong(error.into()))?;
    headers.entry(header::HOST).or_insert(host);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn open(spawner: &Spawner, rest: &Arc<()>, target: &Target) -> Result<TcpStream, String> {
    let addresses = match target {
        Target::Address(address, port) => vec![SocketAddr::new(*address, *port)],
        Target::Host(host, port) => look_up(spawner, rest, host, *port).await?,
        Target::Nowhere => {
            return Err("the container has no address that this node reaches; name one of its \
                        ports, or use exec"
                .to_owned());
        }
    };
    TcpStream::connect(&addresses[..]).await.map_err(|error| reason(&error))
}

/// The addresses of a host. A look-up cannot be given up: it goes on beside the probe and holds
/// `rest` until it has ended.
async fn look_up(
    spawner: &Spawner,
    rest: &Arc<()>,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (tell, told) = oneshot::channel();
    let (name, rest) = (host.to_owned(), Arc::clone(rest));
    spawner.spawn("probe look-up", async move {
        let found = lookup_host((name.as_str(), port)).await;
        // The probe may not wait for it any more.
        let _given_up = tell.send(found.map(Iterator::collect::<Vec<_>>));
        drop(rest);
    });
    match told.await {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Err(error)) => Err(format!("cannot resolve {host}: {}", reason(&error))),
        Ok(Ok(_)) | Err(_) => Err(format!("cannot resolve {host}")),
    }
}

/// What the common reasons are called.
const REASONS: [(io::ErrorKind, &str); 5] = [
    (io::ErrorKind::ConnectionRefused, "connection refused"),
    (io::ErrorKind::ConnectionReset, "connection reset"),
    (io::ErrorKind::HostUnreachable, "host unreachable"),
    (io::ErrorKind::NetworkUnreachable, "network unreachable"),
    (io::ErrorKind::TimedOut, "connection timed out"),
];

/// Why no connection was made, in few words.
fn reason(error: &io::Error) -> String {
    let known = REASONS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(|| ErrorChain(error).to_string(), |(_, words)| (*words).to_owned())
}
