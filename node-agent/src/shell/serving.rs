//! Answers the apiserver over the connection that this agent dialled and that was turned round.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::status::Why;
use base::{Backoff, ErrorChain, Health, Retry, Rng, Spawner};
use bytes::Bytes;
use client::{BoxError, Dial, Tunnel, open_tunnel};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::stats::Sampler;
use super::{exec, logs, stats};
use crate::engine::{Engine, Identity};

/// Attempts whose names are remembered, so that their logs are found.
const NAMES_MAX: usize = 10_000;
/// A connection on which nothing is heard is asked for a sign of life so often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection that ended is opened anew after this, so that a server that closes each one at once
/// is not asked all the time.
const RECONNECT_WAIT: Duration = Duration::from_millis(200);

/// Bytes that are on their way to one command.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Bytes that are on their way to all of them: more than that for each of [`exec::EXECS_MAX`].
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How long all commands may take to end with the agent: less than its process waits for it.
const END_TIMEOUT: Duration = Duration::from_millis(800);
/// Questions that are answered at the same time: each log that is followed is one.
const STREAMS_MAX: u32 = 1_000;

/// Why nothing can be answered yet.
pub(super) const NO_ENGINE: &str = "the agent has not connected to its engine yet";

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What questions are answered from. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// Guards what is known, for one operation.
    known: Arc<Mutex<Known>>,
    sampler: Arc<Sampler>,
    places: Arc<Semaphore>,
    /// Whether commands are to end, since the agent does.
    is_ending: Arc<watch::Sender<bool>>,
    log_places: Arc<Semaphore>,
    spawner: Spawner,
}

#[derive(Debug, Default)]
struct Known {
    /// Nothing until it is opened.
    engine: Option<Arc<dyn Engine>>,
    /// Which containers there were, by themselves without their tasks' names.
    names: BTreeMap<Identity, Identity>,
}

impl Served {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing is known yet. Commands are watched over by tasks of `spawner`.
    pub(super) fn new(spawner: Spawner) -> Self {
        Self {
            known: Arc::default(),
            sampler: Arc::default(),
            places: Arc::new(Semaphore::new(exec::EXECS_MAX)),
            is_ending: Arc::default(),
            log_places: Arc::new(Semaphore::new(logs::LOGS_MAX)),
            spawner,
        }
    }

    /// Where tasks that outlive an answer run.
    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// A place among the commands that run at the same time.
    pub(super) fn place_for_exec(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Becomes true when commands are to end.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.is_ending.subscribe()
    }

    /// Ends all commands, since nobody watches over them once the agent has ended.
    pub(super) async fn end_commands(&self) {
        self.is_ending.send_replace(true);
        let all = u32::try_from(exec::EXECS_MAX).unwrap_or(u32::MAX);
        // Each has its place until it has ended.
        if timeout(END_TIMEOUT, self.places.acquire_many(all)).await.is_err() {
            warn!("a command beside a task may keep running after the agent has exited");
        }
    }

    /// A place among the logs that are read at the same time.
    pub(super) fn place_for_log(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.log_places).try_acquire_owned().ok()
    }

    /// This engine is asked from now on.
    pub(super) fn open(&self, engine: Arc<dyn Engine>) {
        self.with(|known| known.engine = Some(engine));
    }

    /// The engine; nothing until it is opened.
    pub(super) fn engine(&self) -> Option<Arc<dyn Engine>> {
        self.with(|known| known.engine.clone())
    }

    /// Remembers an attempt.
    pub(super) fn remember(&self, identity: &Identity) {
        self.with(|known| {
            known.names.insert(identity.without_name(), identity.clone());
            while known.names.len() > NAMES_MAX {
                known.names.pop_first();
            }
        });
    }

    /// The main container of an attempt, by the task's uid and the attempt's number.
    pub(super) fn find(&self, uid: &str, attempt: u32) -> Option<Identity> {
        // Kept logs are found without the task's name; it does not matter then.
        let nameless = Identity::nameless(uid, attempt).ok()?;
        Some(self.with(|known| known.names.get(&nameless).cloned()).unwrap_or(nameless))
    }
}

/// Runs hyper's own tasks in ours.
#[derive(Debug, Clone)]
struct TaskExecutor(Spawner);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskExecutor {
    fn execute(&self, task: F) {
        self.0.spawn("answer", task);
    }
}

/// Keeps a connection to the apiserver, on which that one asks, while this agent has the node lease:
/// another agent under the same name is not to be asked for what runs here. Never ends.
pub(super) async fn serve(
    dial: Dial,
    (node, boot_id): (String, String),
    (served, mut has_lease): (Served, watch::Receiver<bool>),
    (spawner, rng, health): (Spawner, Rng, Health),
) {
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), rng);
    // Tasks run without it: only logs, commands and figures cannot be asked for.
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
    let service = service_fn(move |request| {
        let served = served.clone();
        async move { Ok::<_, Infallible>(answer(&served, request).await) }
    });
    let connection = http2::Builder::new(TaskExecutor(spawner.clone()))
        // A command that does not read its input holds back itself alone.
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

async fn answer(served: &Served, request: Request<Incoming>) -> Response<Body> {
    let uri = request.uri().clone();
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let what = path.split('/').nth(1).unwrap_or_default();
    match (request.method(), what) {
        (&Method::GET, "logs") => logs::answer(served, path, query).await,
        (&Method::GET, "stats") => stats::answer(served, &served.sampler).await,
        (&Method::POST, "exec") => exec::answer(served, path, request.into_body()).await,
        _ => refused(Why::NotFound, "unknown path; an agent serves /logs, /exec and /stats"),
    }
}

/// The pairs of a query whose values need no escaping.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// What is answered before the engine is opened.
pub(super) fn no_engine() -> Response<Body> {
    refused(Why::Unavailable, NO_ENGINE)
}

/// A line of text: how an agent refuses.
pub(super) fn refused(why: Why, message: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{message}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() =
        StatusCode::from_u16(why.code()).expect("all of ours are status codes");
    response
}

#[cfg(test)]
mod tests {
    use base::Tasks;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn an_uid_that_is_a_path_names_nothing() {
        let served = Served::new(Tasks::new("test").spawner());
        assert_eq!(served.find("..", 1), None);
        assert!(served.find("0af3", 1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_waits_for_its_commands_to_end_though_not_for_ever() {
        let served = Served::new(Tasks::new("test").spawner());
        let (place, mut ending) = (served.place_for_exec(), served.ending());
        let ends = async {
            assert!(ending.wait_for(|is_ending| *is_ending).await.is_ok());
            drop(place);
        };
        let began = Instant::now();
        tokio::join!(served.end_commands(), ends);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let _stays = served.place_for_exec();
        served.end_commands().await;
        assert_eq!(began.elapsed(), END_TIMEOUT);
    }

    #[test]
    fn no_more_commands_run_at_once_than_there_are_places() {
        let served = Served::new(Tasks::new("test").spawner());
        let places: Vec<_> =
            std::iter::from_fn(|| served.place_for_exec()).take(exec::EXECS_MAX + 1).collect();
        assert_eq!(places.len(), exec::EXECS_MAX);
        drop(places);
        assert!(served.place_for_exec().is_some());
    }
}
