//! Brings requests from sockets to the apiserver.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apiserver::Router;
use axum::body::Body;
use base::{ErrorChain, Health, Spawner};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::Service as _;
use tracing::{debug, warn};

/// Connections that are open at once: enough for 5,000 agents with a tunnel and two requests each.
const CONNECTIONS_MAX: usize = 20_000;
/// Bytes of one request's body that are on their way over HTTP/2.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes of all bodies that are on their way over one connection.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// Requests at the same time over one connection.
const STREAMS_MAX: u32 = 10_000;
/// A request's headers arrive within this, or the connection is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A wait after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on a listener for ever.
pub async fn serve(listener: TcpListener, router: Router, spawner: Spawner) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(error = %ErrorChain(&error), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(error = %ErrorChain(&error), "the connection was gone at once");
            continue;
        }
        let router = router.clone();
        spawner.spawn("http connection", async move {
            connection(stream, router).await;
            drop(place);
        });
    }
}

/// Serves one connection until it ends.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        // Another apiserver asks for everybody over one connection: a command that does not read its
        // input, or a log that is followed, holds back nobody else.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    // How a connection ends is the client's business.
    let _ended = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

/// Serves `/healthz`, `/readyz` and `/metrics` of a process that serves nothing else.
pub async fn status(
    listener: TcpListener,
    (registry, health): (Registry, Health),
    spawner: Spawner,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(error = %ErrorChain(&error), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (registry, health) = (registry.clone(), health.clone());
        spawner.spawn("status connection", async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = status_answer(request.uri().path(), &registry, &health);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// `/healthz` fails where a restart would help: never, since a process whose part has failed ends by
/// itself. `/readyz` fails while the process cannot do its work, such as while its server does not
/// answer.
fn status_answer(path: &str, registry: &Registry, health: &Health) -> Response<Body> {
    let (code, text) = match path {
        "/healthz" | "/livez" => (StatusCode::OK, b"ok\n".to_vec()),
        "/readyz" => match health.not_ready() {
            None => (StatusCode::OK, b"ok\n".to_vec()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why.into_bytes()),
        },
        "/metrics" => {
            let mut text = Vec::new();
            // Writing to memory cannot fail.
            let _infallible = TextEncoder::new().encode(&registry.gather(), &mut text);
            (StatusCode::OK, text)
        }
        _ => (StatusCode::NOT_FOUND, b"served here: /healthz /readyz /metrics\n".to_vec()),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response
}
