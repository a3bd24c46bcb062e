//! Says so where the cache does not come to what somebody waits for: a silent wait is the worst.

use std::time::Duration;

use base::{Backoff, Health, Retry, Rng};
use store::Revision;
use tokio::time::timeout;

use super::Cache;

/// How long somebody may wait before it is told: a few times what filling the cache takes.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// Tells, in the log and in `/readyz`, while the cache does not show what somebody waits for.
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
