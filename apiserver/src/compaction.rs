//! Forgets old history every 30 s: all but the last five minutes, or but what the watch cache still
//! holds, whichever is less. Nobody can resume a watch further back than that cache.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Backoff, Health, Retry, Rng};
use store::{Revision, Store};
use tokio::time::Instant;
use tracing::debug;

use crate::cache::Cache;

/// How often history is cut.
const PERIOD: Duration = Duration::from_secs(30);
/// How much of it is kept, in time.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// Revisions that somebody reads at, and how many do: history is not cut past them here. Another
/// apiserver may still cut it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(
    /// Guards the counts; held for one look or change.
    Arc<Mutex<BTreeMap<Revision, usize>>>,
);

/// Holds a revision until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Holds,
    revision: Revision,
}

impl Hold {
    /// Holds `revision`.
    pub(crate) fn of(holds: &Holds, revision: Revision) -> Self {
        *holds.lock().entry(revision).or_default() += 1;
        Self { holds: holds.clone(), revision }
    }
}

impl Holds {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Revision, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest revision that is held.
    fn oldest(&self) -> Option<Revision> {
        self.lock().keys().next().copied()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.lock();
        if let Some(count) = held.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.revision);
            }
        }
    }
}

/// Cuts history for ever.
pub(crate) async fn compact(
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    holds: Holds,
    (rng, health): (Rng, Health),
) {
    // Requests are answered meanwhile, but the store grows.
    let backoff = Backoff::new(PERIOD, PERIOD, rng);
    let mut retry = Retry::aside("cutting the store's history", backoff, &health);
    let mut seen: VecDeque<(Instant, Revision)> = VecDeque::new();
    let mut kept_from = Revision::default();
    loop {
        tokio::time::sleep(PERIOD).await;
        let revision = match store.revision().await {
            Ok(revision) => revision,
            Err(error) => {
                let _next_period = retry.failed(&error);
                continue;
            }
        };
        seen.push_back((Instant::now(), revision));
        let mut keep_from = cache.oldest();
        while let Some((at, revision)) = seen.front()
            && at.elapsed() >= KEPT
        {
            keep_from = keep_from.max(*revision);
            seen.pop_front();
        }
        if let Some(held) = holds.oldest() {
            keep_from = keep_from.min(held);
        }
        if keep_from <= kept_from {
            continue;
        }
        match store.compact(keep_from).await {
            Ok(()) => {
                debug!(%keep_from, "history cut");
                retry.worked();
                kept_from = keep_from;
            }
            Err(error) => {
                let _next_period = retry.failed(&error);
            }
        }
    }
}
