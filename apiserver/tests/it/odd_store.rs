//! A store with faults that no real one has on demand: its watch can be held back for one apiserver,
//! whose cache then shows the past, and the question for its revision can fail, or never be answered,
//! or panic, as a bug would.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use store::{
    BeginError, Group, LeaseId, List, Outcome, Page, ReadError, Record, Revision, Simulated, Store,
    Watch, WatchProgress,
};
use tokio::sync::watch;

/// What becomes of the question for the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Work,
    Fail,
    Hang,
    Panic,
}

/// One apiserver's view of a store that others use, too.
#[derive(Debug, Clone)]
pub(crate) struct OddStore {
    inner: Simulated,
    held: Arc<watch::Sender<bool>>,
    reads: Arc<watch::Sender<Reads>>,
}

impl OddStore {
    pub(crate) fn over(inner: Simulated) -> Self {
        let reads = Arc::new(watch::Sender::new(Reads::Work));
        Self { inner, held: Arc::new(watch::Sender::new(false)), reads }
    }

    /// From now on, watches bring nothing: whoever follows them stays where they are.
    pub(crate) fn hold_watches(&self) {
        self.held.send_replace(true);
    }

    /// From now on, this becomes of the question for the revision.
    pub(crate) fn set_reads(&self, reads: Reads) {
        self.reads.send_replace(reads);
    }
}

impl Store for OddStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, ReadError>> {
        self.inner.get(key)
    }

    fn list(&self, list: List) -> BoxFuture<'_, Result<Page, ReadError>> {
        self.inner.list(list)
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        let reads = *self.reads.borrow();
        assert!(reads != Reads::Panic, "on purpose");
        match reads {
            Reads::Work | Reads::Panic => self.inner.revision(),
            Reads::Fail => async { Err(ReadError::Unavailable("on purpose".to_owned())) }.boxed(),
            Reads::Hang => std::future::pending().boxed(),
        }
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        self.inner.oldest()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, ReadError>> {
        async move {
            let inner = self.inner.watch(prefix, from).await?;
            Ok(Box::new(HeldWatch { inner, held: self.held.subscribe() }) as Box<dyn Watch>)
        }
        .boxed()
    }

    fn commit(&self, groups: Vec<Group>) -> BoxFuture<'_, Vec<Outcome>> {
        self.inner.commit(groups)
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, ReadError>> {
        self.inner.grant(ttl)
    }

    fn renew(&self, leases: Vec<LeaseId>) -> BoxFuture<'_, Result<Vec<bool>, ReadError>> {
        self.inner.renew(leases)
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), ReadError>> {
        self.inner.revoke(lease)
    }

    fn compact(&self, keep_from: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        self.inner.compact(keep_from)
    }

    fn begin_after(&self, revision: Revision) -> BoxFuture<'_, Result<(), BeginError>> {
        self.inner.begin_after(revision)
    }
}

struct HeldWatch {
    inner: Box<dyn Watch>,
    held: watch::Receiver<bool>,
}

impl Watch for HeldWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchProgress, ReadError>> {
        async move {
            tokio::select! {
                biased;
                held = self.held.wait_for(|held| *held) => drop(held),
                news = self.inner.next() => return news,
            }
            std::future::pending().await
        }
        .boxed()
    }
}
