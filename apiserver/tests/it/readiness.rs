//! An apiserver that cannot do its work says so, and why; and that it can, once it can again.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Parts, Router, Server};
use base::{Clock, Health, Rng, Tasks, Timestamp};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use store::{Simulated, Store as _};
use tower::Service;

use crate::harness::{JOBS, World};
use crate::odd_store::{OddStore, Reads};

/// An apiserver over `odd`, which may not be ready.
async fn start(odd: &OddStore, health: &Health, tasks: &Tasks) -> Arc<Server> {
    let parts = Parts {
        store: Arc::new(odd.clone()),
        clock: Clock::simulated(Timestamp::UNIX_EPOCH),
        rng: Rng::from_machine(),
        spawner: tasks.spawner(),
        registry: prometheus::Registry::new(),
        health: health.clone(),
        peers: None,
    };
    Server::start(parts).await.unwrap()
}

async fn asked(router: &Router, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Bytes::new()).unwrap();
    let answer = Service::<Request<Bytes>>::call(&mut router.clone(), request).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn is_not_ready(router: &Router, expected: &str) {
    let (code, why) = asked(router, "/readyz").await;
    assert_eq!(code, 503, "{why}");
    assert!(why.contains(expected), "{why}");
    assert_eq!(asked(router, "/healthz").await.0, 200, "a restart would not help");
}

async fn is_ready(router: &Router) {
    assert_eq!(asked(router, "/readyz").await, (200, "ok\n".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_an_apiserver_from_its_work_is_said_until_it_is_over() {
    let (odd, health) = (OddStore::over(Simulated::new()), Health::default());
    let tasks = Tasks::new("apiserver");
    let server = start(&odd, &health, &tasks).await;
    server.ready().await;
    let router = server.service();
    is_ready(&router).await;
    odd.set_reads(Reads::Fail);
    is_not_ready(&router, "the store: ").await;
    odd.set_reads(Reads::Hang);
    is_not_ready(&router, "the store did not answer within 2 s").await;
    odd.set_reads(Reads::Work);
    is_ready(&router).await;
    health.failed("watching the store", "refused");
    is_not_ready(&router, "watching the store: refused").await;
    health.works("watching the store");
    is_ready(&router).await;
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_whose_cache_is_not_filled_is_not_ready_and_says_how_far_it_is() {
    let world = World::of_one().await;
    world.job("a").await;
    let odd = OddStore::over(world.store.clone());
    odd.hold_watches();
    let tasks = Tasks::new("apiserver");
    let server = start(&odd, &Health::default(), &tasks).await;
    let router = server.service();
    is_not_ready(&router, "the watch cache is still being filled").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    is_not_ready(&router, "catching up with the store: the watch cache is still being filled: ")
        .await;
    is_refused(&router, "the watch cache is still being filled").await;
}

/// Reads are refused after a while, and until then nobody could tell.
#[tokio::test(start_paused = true)]
async fn an_apiserver_whose_cache_is_behind_is_not_ready_and_says_how_far_it_is() {
    let world = World::of_one().await;
    let (odd, health) = (OddStore::over(world.store.clone()), Health::default());
    let tasks = Tasks::new("apiserver");
    let server = start(&odd, &health, &tasks).await;
    server.ready().await;
    let router = server.service();
    odd.hold_watches();
    is_ready(&router).await;
    world.job("a").await;
    is_not_ready(&router, "has been behind the store for 2 s").await;
    is_refused(&router, "this apiserver has been behind the store for 30 s").await;
    let shown = world.store.revision().await.unwrap();
    is_not_ready(&router, &format!("the store at {shown}")).await;
    assert_eq!(health.problems().len(), 1);
}

/// Nothing waits for ever.
async fn is_refused(router: &Router, why: &str) {
    let asking = asked(router, JOBS);
    let (code, text) = tokio::time::timeout(Duration::from_secs(60), asking).await.unwrap();
    assert_eq!(code, 503, "{text}");
    assert!(text.contains(why), "{text}");
}
