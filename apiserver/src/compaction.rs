//! Compacts the history every 30 s. It keeps the last five minutes or what the watch cache still
//! holds, whichever is less: no watch can be resumed from before what the cache holds. It also keeps
//! what is being read ([`Holds`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Health, Retry, Rng};
use store::{Holds, Revision, Store};
use tokio::time::Instant;
use tracing::debug;

use crate::cache::Cache;

/// How often the history is compacted.
const PERIOD: Duration = Duration::from_secs(30);
/// For how long history is kept.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// Compacts the history, for ever.
pub(crate) async fn compact(
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    holds: Holds,
    (rng, health): (Rng, Health),
) {
    // While this fails, requests still work, but the store grows.
    let backoff = Backoff::new(PERIOD, PERIOD, rng);
    let mut retry = Retry::aside("compacting the store's history", backoff, &health);
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
