//! Probes of a local listener and of an engine that hangs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use api::exec::TerminalSize;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base::{Clock, Tasks};
use futures_util::{FutureExt as _, stream};
use jiff::Timestamp;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::engine::sim::SimMachine;
use crate::engine::{
    Answer, Container, ContainerSpec, ContainerState, EngineEvent, HttpRequest, LogOptions,
    LogStream, NodeFacts, PullProgress, Scope, Signal, Started, Usage,
};
use crate::health::{Check, Checks};

/// An engine whose containers are processes of this machine, and whose commands never end.
#[derive(Debug, Default)]
struct Local {
    commands: Arc<AtomicUsize>,
    stopped: Arc<AtomicUsize>,
}

struct Endless(Arc<AtomicUsize>);

impl ExecControl for Endless {
    fn resize(&self, _: TerminalSize) -> Answer<'_, ()> {
        std::future::pending().boxed()
    }
    fn exit_code(&self) -> Answer<'_, i32> {
        std::future::pending().boxed()
    }
    fn stop(&self) -> Answer<'_, ()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(())).boxed()
    }
}

fn none<'a, T: Send + 'a>() -> Answer<'a, T> {
    std::future::ready(Err(EngineError::Gone)).boxed()
}

impl Engine for Local {
    fn info(&self) -> Answer<'_, NodeFacts> {
        none()
    }
    fn list(&self) -> Answer<'_, Vec<Container>> {
        none()
    }
    fn inspect<'a>(&'a self, _: &'a Identity) -> Answer<'a, Option<ContainerState>> {
        none()
    }
    fn create_and_start<'a>(&'a self, _: &'a ContainerSpec) -> Answer<'a, Started> {
        none()
    }
    fn pull<'a>(&'a self, _: &'a str, _: &'a PullProgress) -> Answer<'a, ()> {
        none()
    }
    fn signal<'a>(&'a self, _: &'a Identity, _: Signal) -> Answer<'a, ()> {
        none()
    }
    fn remove<'a>(&'a self, _: &'a Identity) -> Answer<'a, ()> {
        none()
    }
    fn logs<'a>(&'a self, _: &'a Identity, _: LogOptions) -> Answer<'a, LogStream> {
        none()
    }
    fn prune_logs(&self, _: Timestamp) -> Answer<'_, ()> {
        none()
    }
    fn usage(&self) -> Answer<'_, Usage> {
        none()
    }
    fn exec<'a>(&'a self, _: &'a Identity, _: &'a ExecRequest) -> Answer<'a, Exec> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        let control = Box::new(Endless(Arc::clone(&self.stopped)));
        let exec = Exec { input: None, output: stream::pending().boxed(), control };
        std::future::ready(Ok(exec)).boxed()
    }
    fn reach<'a>(&'a self, _: &'a Identity, _: ProbeKind) -> Answer<'a, Reach> {
        std::future::ready(Ok(Reach::Node)).boxed()
    }
    fn events(&self) -> stream::BoxStream<'static, EngineEvent> {
        stream::pending().boxed()
    }
    fn images(&self) -> Answer<'_, Vec<String>> {
        none()
    }
}

struct World {
    tasks: Tasks,
    engine: Arc<dyn Engine>,
    prober: Prober,
    news: mpsc::Receiver<Event>,
}

fn world(engine: Arc<dyn Engine>) -> World {
    let (tasks, (events, news)) = (Tasks::new("test"), mpsc::channel(100));
    let prober = Prober::new(tasks.spawner(), events);
    World { tasks, engine, prober, news }
}

fn id(index: u32) -> Identity {
    Identity::new("default", "t", &format!("{index:x}"), 1).unwrap()
}

fn http(port: u16, path: &str) -> ProbeAction {
    let headers = vec![("X-Probe".to_owned(), "yes".to_owned())];
    let socket = Socket { host: None, port, published: None };
    ProbeAction::Http(HttpRequest { socket, path: path.to_owned(), headers })
}

fn tcp(host: Option<&str>, port: u16) -> ProbeAction {
    ProbeAction::Tcp(Socket { host: host.map(str::to_owned), port, published: None })
}

impl World {
    fn begin(&mut self, identity: Identity, action: ProbeAction, seconds: u64) {
        let check = Check {
            action,
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(seconds),
            successes: 1,
            failures: 1,
        };
        let kind = ProbeKind::Readiness;
        let checks = Arc::new(Checks::from([(kind, check)]));
        self.prober.begin(&self.engine, ProbeOrder { identity, kind, checks });
    }

    async fn next(&mut self) -> Probed {
        match self.news.recv().await {
            Some(Event::Probed(probed)) => probed,
            other => panic!("{other:?}"),
        }
    }

    /// What a probe finds, within five seconds.
    async fn finds(&mut self, action: ProbeAction) -> String {
        self.begin(id(0), action, 5);
        let probed = self.next().await;
        assert!(self.prober.done(&probed));
        match probed.finding {
            Finding::Passed => "passed".to_owned(),
            Finding::Failed(why) => why,
            Finding::Unknown(why) => format!("unknown: {why}"),
        }
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn an_answer_below_400_is_a_success() {
    let (listener, port) = listen().await;
    let has_header = |headers: HeaderMap| async move {
        let is_ours = headers.get("x-probe").is_some_and(|value| value == "yes");
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let is_host = host.parse::<SocketAddr>().is_ok();
        if is_ours && is_host { StatusCode::OK } else { StatusCode::BAD_REQUEST }
    };
    let answer = |code: u16| get(move || async move { StatusCode::from_u16(code).unwrap() });
    let app = Router::new()
        .route("/", get(has_header))
        .route("/302", answer(302))
        .route("/404", answer(404))
        .route("/503", answer(503));
    let mut world = world(Arc::new(Local::default()));
    world.tasks.spawn("server", axum::serve(listener, app).into_future().map(drop));
    assert_eq!(world.finds(http(port, "/")).await, "passed");
    assert_eq!(world.finds(http(port, "/302")).await, "passed");
    assert_eq!(world.finds(http(port, "/404?a=b")).await, "GET /404?a=b answered 404");
    assert_eq!(world.finds(http(port, "/503")).await, "GET /503 answered 503");
    assert_eq!(world.finds(tcp(None, port)).await, "passed");
    assert_eq!(world.finds(tcp(Some("localhost"), port)).await, "passed");
}

#[tokio::test]
async fn what_does_not_listen_or_does_not_speak_http_has_failed() {
    let (listener, port) = listen().await;
    let mut world = world(Arc::new(Local::default()));
    world.tasks.spawn("server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Closed without an answer, once the request has come.
            let _read = stream.read(&mut [0; 16]).await;
        }
    });
    let found = world.finds(http(port, "/")).await;
    assert!(found.starts_with("GET /: "), "{found}");
    drop(world.tasks);
    let mut world = self::world(Arc::new(Local::default()));
    let (listener, port) = listen().await;
    drop(listener);
    assert_eq!(world.finds(tcp(None, port)).await, "connection refused");
    assert_eq!(world.finds(http(port, "/")).await, "GET /: connection refused");
    let found = world.finds(tcp(Some("nowhere.invalid"), port)).await;
    assert!(found.starts_with("cannot resolve nowhere.invalid"), "{found}");
}

/// A port that accepts connections and never answers.
#[tokio::test]
async fn a_probe_that_hangs_is_answered_in_its_time_and_delays_no_other() {
    let (_silent, port) = listen().await;
    let (listener, other) = listen().await;
    let mut world = world(Arc::new(Local::default()));
    let app = Router::new().route("/", get(|| async { "ok" }));
    world.tasks.spawn("server", axum::serve(listener, app).into_future().map(drop));
    for index in 1..200 {
        world.begin(id(index), http(port, "/slow"), 1);
    }
    assert_eq!(world.finds(http(other, "/")).await, "passed");
    for _ in 1..200 {
        let probed = world.next().await;
        let expected = "GET /slow: no answer within 1s".to_owned();
        assert_eq!(probed.finding, Finding::Failed(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_hangs_is_stopped_and_not_begun_a_second_time() {
    let local = Local::default();
    let (commands, stopped) = (Arc::clone(&local.commands), Arc::clone(&local.stopped));
    let mut world = world(Arc::new(local));
    let exec = || ProbeAction::Exec(vec!["sleep".to_owned()]);
    let began = Instant::now();
    assert_eq!(world.finds(exec()).await, "no answer within 5s");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    // The engine says that it was stopped, and yet it does not end.
    for _ in 0..5 {
        assert_eq!(world.finds(exec()).await, "what an earlier probe has begun still runs");
    }
    assert_eq!(commands.load(Ordering::Relaxed), 1);
    assert_eq!(stopped.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_what_is_not_wanted_any_more_is_given_up() {
    let local = Local::default();
    let stopped = Arc::clone(&local.stopped);
    let mut world = world(Arc::new(local));
    world.begin(id(1), ProbeAction::Exec(vec!["sleep".to_owned()]), 60);
    world.begin(id(2), ProbeAction::Exec(vec!["sleep".to_owned()]), 60);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // One that is in progress is not made again.
    world.begin(id(2), ProbeAction::Exec(vec!["sleep".to_owned()]), 60);
    world.prober.keep(|identity| *identity == id(2));
    let began = Instant::now();
    let probed = world.next().await;
    assert_eq!((probed.identity.clone(), began.elapsed()), (id(2), Duration::from_secs(59)));
    assert_eq!(stopped.load(Ordering::Relaxed), 2, "the first one was stopped, too");
    assert!(world.prober.done(&probed) && !world.prober.done(&probed));
    assert!(world.news.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_a_container_that_is_gone_says_nothing_about_it() {
    let machine = SimMachine::new(Clock::simulated(Timestamp::UNIX_EPOCH), 1, 1);
    let mut world = world(Arc::new(machine.engine(Scope::new("c", "n").unwrap())));
    let found = world.finds(tcp(None, 1)).await;
    assert!(found.starts_with("unknown: cannot be made"), "{found}");
}
