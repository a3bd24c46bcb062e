//! Reports when the cache does not catch up with a revision that a request waits for. Without that,
//! the request would just hang.

use std::time::Duration;

use base::{Backoff, Health, Retry, Rng};
use store::Revision;
use tokio::time::timeout;

use super::Cache;

/// How long a request may wait before this is reported: a few times as long as filling the cache
/// takes.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// Reports, in the log and in `/readyz`, while the cache lags behind a revision that is waited for.
pub(super) async fn tell_when_behind(cache: &Cache, (rng, health): (Rng, &Health)) {
    let backoff = Backoff::new(BEHIND_MAX, BEHIND_MAX, rng);
    let mut retry = Retry::new("catching up with the store", backoff, health);
    loop {
        let wanted = cache.is_behind().await;
        while timeout(BEHIND_MAX, cache.reached(wanted)).await.is_err() {
            retry.failed_because(&why(cache, wanted));
        }
        retry.worked();
    }
}

fn why(cache: &Cache, wanted: Revision) -> String {
    let (shown, applied) = (cache.revision(), cache.applied());
    if shown == Revision::default() {
        return format!("the watch cache is still being filled: it has reached revision {applied}");
    }
    format!("the watch cache is at revision {shown}, the store at {wanted}")
}
