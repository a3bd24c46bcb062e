//! Forgets old history: every 30 s, all but the last five minutes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base::ErrorChain;
use store::{Revision, Store};
use tokio::time::Instant;
use tracing::{debug, warn};

/// How often history is cut.
const PERIOD: Duration = Duration::from_secs(30);
/// How much of it is kept, in time.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// Cuts history for ever.
pub(crate) async fn compact(store: Arc<dyn Store>) {
    let mut seen: VecDeque<(Instant, Revision)> = VecDeque::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        let Ok(revision) = store.revision().await else { continue };
        seen.push_back((Instant::now(), revision));
        let mut keep_from = None;
        while let Some((at, revision)) = seen.front()
            && at.elapsed() >= KEPT
        {
            keep_from = Some(*revision);
            seen.pop_front();
        }
        if let Some(keep_from) = keep_from {
            match store.compact(keep_from).await {
                Ok(()) => debug!(%keep_from, "history cut"),
                Err(error) => warn!(error = %ErrorChain(&error), "cannot cut history"),
            }
        }
    }
}
