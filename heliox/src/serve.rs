//! Passes requests from sockets to the apiserver.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::status::{Refusal, Why};
use apiserver::Router;
use axum::body::Body;
use base::{ErrorChain, Spawner, without_panic};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::Service as _;
use tracing::{debug, info, warn};

use crate::places::{self, Asker, CONNECTIONS_MAX, Placed, Places};

/// How many bytes of the body of a request may be in flight over HTTP/2.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// How many bytes of all bodies may be in flight over one connection.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// How many requests one connection may have at the same time: another apiserver forwards those of
/// all its clients.
const STREAMS_MAX: u32 = 10_000;
/// How long the headers of a request may take. For the first request this counts from the start of
/// the connection, since clients connect when they have a request. Then the connection is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an HTTP/2 connection is checked. It is closed without an answer within the same time.
/// (An idle HTTP/1 connection is closed after [`HEADER_TIMEOUT`], and a watch or a log fails when
/// it writes to a host that is gone.)
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a client that is turned away may take to read the answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The wait after a failed accept, for example if there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on a listener, for ever.
pub async fn serve(listener: TcpListener, router: Router, spawner: Spawner) {
    // If the limits cannot be read, they are assumed to be high enough.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let count = places::count(&limits);
    if count < CONNECTIONS_MAX {
        info!(
            places = count,
            "the limit of open files bounds the number of connections; raise it to allow more"
        );
    }
    accept(listener, Places::with_components(count), |stream| {
        spawner.spawn("http connection", serve_placed(stream, answers(router.clone())));
    })
    .await;
}

/// Passes connections to `serve`, for ever, but only as many at once as there are places.
pub(crate) async fn accept(
    listener: TcpListener,
    places: Places,
    serve: impl Fn(Placed<TcpStream>),
) {
    loop {
        if places.free() == 0 && places.may_tell() {
            warn!("the limit of open connections is reached; new ones wait");
        }
        let Some(place) = places.take().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(error = %ErrorChain(&error), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(error = %ErrorChain(&error), "the connection was closed at once");
            continue;
        }
        serve(Placed::new(stream, place));
    }
}

/// Answers requests on one connection until it ends, as far as its place allows.
async fn serve_placed<A>(
    stream: Placed<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>,
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + 'static,
) where
    A: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let place = stream.place().clone();
    let turned_away = Arc::new(Notify::new());
    let (refused, has_admitted) = (Arc::clone(&turned_away), Arc::new(AtomicBool::new(false)));
    let answer = move |request: Request<Incoming>| {
        let is_component = apiserver::is_of_component(&request);
        let asker = if is_component { Asker::Component } else { Asker::Client };
        if place.admits(asker) {
            has_admitted.store(true, Ordering::Relaxed);
            return Either::Left(answer(request));
        }
        if place.places().may_tell() {
            warn!("the limit of client connections is reached; requests are refused");
        }
        if !has_admitted.load(Ordering::Relaxed) {
            // It takes the place of an agent, and HTTP/2 has no header that ends a connection.
            refused.notify_one();
        }
        Either::Right(ready(Ok(no_place())))
    };
    serve_http(stream, answer, turned_away.notified()).await;
}

/// The answer to a client that only got a place reserved for agents.
fn no_place() -> Response<Body> {
    let message = "as many connections of clients are open here as may be (the rest is for agents): \
                   end watches, logs or commands that nobody needs, or try again later";
    let refusal = Refusal::new(Why::Unavailable, message);
    let mut response = Response::new(Body::from(json!(refusal.to_status()).to_string()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Serves the API on one connection until it ends.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
) {
    serve_http(stream, answers(router), pending()).await;
}

/// The answers of the API.
fn answers(
    router: Router,
) -> impl Fn(Request<Incoming>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> + Clone {
    move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }.boxed()
    }
}

/// Runs the streams of HTTP/2 connections. If a body panics while it is sent, only its stream ends.
/// This is logged and counted like any other panic.
#[derive(Debug, Clone, Copy)]
struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        TokioExecutor::new().execute(async move {
            let _logged = without_panic("http stream", stream).await;
        });
    }
}

/// Answers requests on one connection until it ends. The detection of the protocol has no time-out
/// of its own, so a connection without a complete request is closed here, however little it has
/// sent. When `turned_away` resolves, the answers given so far are sent, and the connection is
/// closed.
pub(crate) async fn serve_http<A>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    turned_away: impl Future<Output = ()>,
) where
    A: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let service = service_fn(move |request| {
        seen.store(true, Ordering::Relaxed);
        answer(request)
    });
    let mut builder = auto::Builder::new(Streams);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        // Another apiserver sends the requests of all its clients over one connection. A command
        // that does not read its input, or a log that is followed, must not hold back the others.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let (mut serving, mut turned_away) = (pin!(serving), pin!(turned_away));
    let silence = async {
        tokio::time::sleep(HEADER_TIMEOUT).await;
        if asked.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    // How a connection ends is up to the client.
    tokio::select! {
        biased;
        _ended = &mut serving => return,
        () = silence => return debug!("closing a connection that sent no request"),
        () = &mut turned_away => (),
    }
    serving.as_mut().graceful_shutdown();
    let _ended_or_not = tokio::time::timeout(CLOSE_TIMEOUT, serving).await;
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use axum::body::to_bytes;
    use hyper::client::conn::{http1, http2};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    const PIPE_BYTES: usize = 64 * 1024;

    fn here(_: Request<Incoming>) -> Ready<Result<Response<Body>, Infallible>> {
        ready(Ok(Response::new(Body::from("here"))))
    }

    fn get() -> Request<Body> {
        Request::get("http://a/").header("host", "a").body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_whole_request_is_closed() {
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for sent in ["", "G", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HT", preface] {
            let (mut near, far) = duplex(PIPE_BYTES);
            near.write_all(sent.as_bytes()).await.unwrap();
            let closed = timeout(HEADER_TIMEOUT * 2, serve_http(far, here, pending())).await;
            assert!(closed.is_ok(), "{sent:?} holds its connection");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_its_requests() {
        let (mut near, far) = duplex(PIPE_BYTES);
        let client = async {
            for _ in 0..2 {
                near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                let mut answer = vec![0; 1024];
                let bytes = near.read(&mut answer).await.unwrap();
                assert!(answer[..bytes].starts_with(b"HTTP/1.1 200 OK"));
            }
        };
        let both = async { tokio::join!(serve_http(far, here, pending()), client) };
        assert!(timeout(HEADER_TIMEOUT * 2, both).await.is_ok(), "it is held for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_of_http2_may_be_idle_while_it_answers_pings() {
        let (near, far) = duplex(PIPE_BYTES);
        let client = async {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
            let mut connection = pin!(connection);
            let answer = tokio::select! {
                answer = sender.send_request(get()) => answer.unwrap(),
                ended = &mut connection => panic!("it ended: {ended:?}"),
            };
            assert_eq!(answer.status(), StatusCode::OK);
            let closed = timeout(KEEP_ALIVE * 10, &mut connection).await;
            assert!(closed.is_err(), "it was closed while it was well");
        };
        tokio::join!(serve_http(far, here, pending()), client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_of_http2_that_answers_no_ping_is_gone() {
        let (mut near, far) = duplex(PIPE_BYTES);
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        near.write_all(&settings).await.unwrap();
        // Headers that end stream 1: GET http://a/, from the static table of HPACK.
        let headers = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'];
        near.write_all(&headers).await.unwrap();
        let began = Instant::now();
        let closed = timeout(KEEP_ALIVE * 3, serve_http(far, here, pending())).await;
        assert!(closed.is_ok(), "it is held for ever");
        assert!(began.elapsed() >= KEEP_ALIVE, "a request had come, and a ping was due");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_is_not_cut_off() {
        let (near, far) = duplex(PIPE_BYTES);
        let slow = |_| async {
            tokio::time::sleep(HEADER_TIMEOUT * 3).await;
            Ok(Response::new(Body::from("here")))
        };
        let client = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
            let asking = async {
                assert_eq!(sender.send_request(get()).await.unwrap().status(), StatusCode::OK);
                drop(sender);
            };
            let (ended, ()) = tokio::join!(connection, asking);
            ended.unwrap();
        };
        tokio::join!(serve_http(far, slow, pending()), client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_socket_gives_its_place_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = base::Tasks::new("test");
        let spawner = tasks.spawner();
        tasks.spawn("accepts", async move {
            accept(listener, Places::for_anybody(1), |stream| {
                spawner.spawn("connection", serve_http(stream, here, pending()));
            })
            .await;
        });
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        // Both are closed after their time, and then the other one is accepted.
        assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0);
        assert_eq!(next.read(&mut [0; 16]).await.unwrap(), 0);
    }

    /// In HTTP/2, no header ends a connection, and a client that answers pings could keep it.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_was_turned_away_does_not_keep_its_place() {
        let places = Places::with_components(4);
        let watches = places.take().await.unwrap();
        assert!(watches.admits(Asker::Client), "it has the only place for clients");
        let (near, far) = duplex(PIPE_BYTES);
        let served = Placed::new(far, places.take().await.unwrap());
        let client = async {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
            let asking = async { sender.send_request(get()).await.unwrap().status() };
            let (_ended, status) = tokio::join!(connection, asking);
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            drop(sender);
        };
        let both = async { tokio::join!(serve_placed(served, here), client) };
        assert!(timeout(KEEP_ALIVE, both).await.is_ok(), "it keeps its place");
        assert_eq!(places.free(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_panics_is_counted_and_hurts_its_stream_alone() {
        let (near, far) = duplex(PIPE_BYTES);
        let answer = |request: Request<Incoming>| {
            let breaks = request.uri().path() == "/breaks";
            let body = futures_util::stream::once(async move {
                assert!(!breaks, "on purpose");
                Ok::<_, Infallible>("here")
            });
            ready(Ok(Response::new(Body::from_stream(body))))
        };
        let before = base::panics();
        let client = async {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
            let asking = async {
                let ask = |path: &str| Request::get(format!("http://a{path}")).body(Body::empty());
                let broken = sender.send_request(ask("/breaks").unwrap()).await.unwrap();
                let broken = to_bytes(Body::new(broken.into_body()), PIPE_BYTES).await;
                assert!(broken.is_err(), "it looks whole");
                let whole = sender.send_request(ask("/").unwrap()).await.unwrap();
                let whole = to_bytes(Body::new(whole.into_body()), PIPE_BYTES).await;
                assert_eq!(whole.unwrap(), "here");
                drop(sender);
            };
            let (ended, ()) = tokio::join!(connection, asking);
            ended.unwrap();
        };
        tokio::join!(serve_http(far, answer, pending()), client);
        assert!(base::panics() > before);
    }

    /// Requests an upgrade on a new connection. Returns the connection and the head of the answer.
    async fn upgraded(address: std::net::SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1024];
        let bytes = stream.read(&mut answer).await.unwrap();
        (stream, String::from_utf8_lossy(&answer[..bytes]).into_owned())
    }

    #[tokio::test]
    async fn an_upgraded_connection_keeps_its_place_until_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = base::Tasks::new("test");
        let spawner = tasks.spawner();
        let places = Places::for_anybody(2);
        let watched = places.clone();
        let (hold, mut holds) = tokio::sync::mpsc::unbounded_channel();
        tasks.spawn("accepts", async move {
            accept(listener, places, |stream| {
                let hold = hold.clone();
                let upgrade = move |mut request: Request<Incoming>| {
                    let upgrade = hyper::upgrade::on(&mut request);
                    hold.send(upgrade).unwrap();
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert("upgrade", HeaderValue::from_static("x"));
                    response
                        .headers_mut()
                        .insert("connection", HeaderValue::from_static("upgrade"));
                    ready(Ok(response))
                };
                spawner.spawn("connection", serve_http(stream, upgrade, pending()));
            })
            .await;
        });
        let (_client, answer) = upgraded(address).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let tunnel = holds.recv().await.unwrap().await.unwrap();
        let (_client, answer) = upgraded(address).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let other = holds.recv().await.unwrap().await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        for _ in 0..100 {
            // Everything that happens after an upgrade has happened by then.
            tokio::task::yield_now().await;
            assert_eq!(watched.free(), 0, "both are open");
        }
        drop(tunnel);
        assert!(third.read(&mut [0; 16]).await.unwrap() > 0, "its place is free");
        drop(other);
    }
}
