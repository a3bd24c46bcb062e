//! An apiserver that starts while others are at work, or were.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Parts, Server};
use base::{Clock, Health, Rng, Tasks, Timestamp};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};
use store::{
    BeginError, Expectation, Group, LeaseId, List, Outcome, Page, ReadError, Record, Revision,
    Simulated, Store, Watch,
};
use tower::Service;

use crate::harness::{JOBS, World, job};

/// Something happens to a store while it is read for the first time.
#[derive(Debug)]
enum Odd {
    /// While a page of a list is read, others write and forget all history before that.
    Busy,
    /// The oldest revision is said to be the one after the current one.
    Ahead,
}

/// A store, and what is odd about it.
#[derive(Debug)]
struct OddHistory(Simulated, Odd);

impl Store for OddHistory {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, ReadError>> {
        self.0.get(key)
    }

    fn list(&self, list: List) -> BoxFuture<'_, Result<Page, ReadError>> {
        async move {
            if matches!(self.1, Odd::Busy) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let write = Group::default().put("/heliox/v1/meta/busy", Expectation::Any, "x");
                self.0.commit(vec![write]).await;
                let now = self.0.revision().await?;
                self.0.compact(now).await?;
            }
            self.0.list(list).await
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        self.0.revision()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        match self.1 {
            Odd::Busy => self.0.oldest(),
            Odd::Ahead => async { Ok(Revision(self.0.revision().await?.0 + 1)) }.boxed(),
        }
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, ReadError>> {
        self.0.watch(prefix, from)
    }

    fn commit(&self, groups: Vec<Group>) -> BoxFuture<'_, Vec<Outcome>> {
        self.0.commit(groups)
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, ReadError>> {
        self.0.grant(ttl)
    }

    fn renew(&self, leases: Vec<LeaseId>) -> BoxFuture<'_, Result<Vec<bool>, ReadError>> {
        self.0.renew(leases)
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), ReadError>> {
        self.0.revoke(lease)
    }

    fn compact(&self, keep_from: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        self.0.compact(keep_from)
    }

    fn begin_after(&self, revision: Revision) -> BoxFuture<'_, Result<(), BeginError>> {
        self.0.begin_after(revision)
    }
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_becomes_ready_although_others_compact_faster_than_it_reads() {
    becomes_ready(Odd::Busy).await;
}

/// Nobody may write for hours, so it does not wait for that.
#[tokio::test(start_paused = true)]
async fn an_apiserver_becomes_ready_although_no_history_is_left() {
    becomes_ready(Odd::Ahead).await;
}

async fn becomes_ready(odd: Odd) {
    let world = World::of_one().await;
    world.job("a").await;
    world.job("gone").await;
    world.delete(&format!("{JOBS}/gone")).await;
    let tasks = Tasks::new("late apiserver");
    let parts = Parts {
        store: Arc::new(OddHistory(world.store.clone(), odd)),
        clock: Clock::simulated(Timestamp::UNIX_EPOCH),
        rng: Rng::from_machine(),
        spawner: tasks.spawner(),
        registry: prometheus::Registry::new(),
        health: Health::default(),
        peers: None,
    };
    let server = Server::start(parts).await.unwrap();
    let ready = tokio::time::timeout(Duration::from_secs(60), server.ready()).await;
    assert!(ready.is_ok(), "it is never ready");
    for (name, code) in [("a", StatusCode::OK), ("gone", StatusCode::NOT_FOUND)] {
        let request = Request::get(format!("{JOBS}/{name}")).body(Bytes::new()).unwrap();
        let mut router = server.service();
        let answer = Service::<Request<Bytes>>::call(&mut router, request).await.unwrap();
        assert_eq!(answer.status(), code, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_starts_over_a_full_store_and_deletes() {
    let world = World::of_one().await;
    world.job("a").await;
    world.store.faults().fill(true);
    let late = World::over(world.store.clone()).await;
    let refused = late.post(JOBS, &job("b")).await;
    assert_eq!(refused.code, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.json);
    assert_eq!(refused.json["details"]["causes"][0]["reason"], "StoreFull");
    let deleted = late.delete(&format!("{JOBS}/a")).await;
    assert_eq!(deleted.code, StatusCode::OK, "{}", deleted.json);
    assert_eq!(late.get(&format!("{JOBS}/a")).await.code, StatusCode::NOT_FOUND);
}
