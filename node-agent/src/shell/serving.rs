//! Answers the apiserver's requests over the reversed connection: the agent opened it, and the
//! apiserver sends requests on it.

use std::time::Duration;

use api::status::{Refusal, Why};
use axum::Router;
use axum::routing::{get, post};
use base::{Backoff, ErrorChain, Health, Retry, Rng, Spawner};
use client::{Dial, Tunnel, open_tunnel};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info};

use super::answers::Refused;
use super::served::Served;
use super::{exec, logs, stats};

/// How long a connection may be silent before it is pinged.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long to wait before the next connection, so that a server that closes each one at once does
/// not get requests all the time.
const RECONNECT_WAIT: Duration = Duration::from_millis(200);

/// Most unread bytes on the way to one command.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Most unread bytes on the way to all commands: more than [`EXECS_MAX`](super::served::EXECS_MAX)
/// times the former.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Most requests that are answered at the same time. Each followed log is one.
const STREAMS_MAX: u32 = 1_000;

/// Runs hyper's internal tasks among ours.
#[derive(Debug, Clone)]
struct TaskExecutor(Spawner);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskExecutor {
    fn execute(&self, task: F) {
        self.0.spawn("answer", task);
    }
}

/// Keeps a connection open on which the apiserver sends requests, while this agent has the node
/// lease. Without the lease another agent under the same name runs the node's tasks and must
/// answer. Never ends.
pub(super) async fn serve(
    dial: Dial,
    (node, boot_id): (String, String),
    (served, mut has_lease): (Served, watch::Receiver<bool>),
    (spawner, rng, health): (Spawner, Rng, Health),
) {
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), rng);
    // Tasks run without this connection; only logs, commands and usage are not available.
    let what = "connecting for logs and commands";
    let mut retry = Retry::aside(what, backoff, &health);
    let mut connection = 0u64;
    while has_lease.wait_for(|has_lease| *has_lease).await.is_ok() {
        connection += 1;
        let path = format!(
            "/apis/heliox.dev/v1/nodes/{node}/connect?bootId={boot_id}&connection={connection}"
        );
        match open_tunnel(&dial, &path, &spawner).await {
            Ok(tunnel) => {
                info!(node, connection, "connected for logs and commands");
                retry.worked();
                tokio::select! {
                    biased;
                    _ = has_lease.wait_for(|has_lease| !has_lease) => (),
                    () = answer_on(tunnel, &served, &spawner) => (),
                }
                sleep(RECONNECT_WAIT).await;
            }
            Err(error) => sleep(retry.failed(&error)).await,
        }
    }
}

async fn answer_on(tunnel: Tunnel, served: &Served, spawner: &Spawner) {
    let service = TowerToHyperService::new(routes(served.clone()));
    let connection = http2::Builder::new(TaskExecutor(spawner.clone()))
        // A command that does not read its input slows down only itself.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(tunnel, service);
    if let Err(error) = connection.await {
        debug!(error = %ErrorChain(&error), "the connection for logs and commands ended");
    }
}

/// What an agent answers.
pub(super) fn routes(served: Served) -> Router {
    let unknown = async || -> Refused {
        let message = "unknown path; an agent serves /logs, /exec and /stats";
        Refused(Refusal::new(Why::NotFound, message))
    };
    Router::new()
        .route("/logs/{uid}/{attempt}", get(logs::answer))
        .route("/exec/{uid}/{attempt}", post(exec::answer))
        .route("/stats", get(stats::answer))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(served)
}
