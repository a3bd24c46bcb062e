//! Looks at the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::RESYNC;
use crate::engine::{ContainerState, Engine, EngineError, Identity};

/// What a look brought.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) containers: Option<BTreeMap<Identity, ContainerState>>,
    pub(super) images: Option<Vec<String>>,
}

/// Looks at containers where they may have changed, and at everything now and then.
pub(super) async fn see(
    engine: &Arc<dyn Engine>,
    resync_at: &mut Option<Instant>,
    is_stale: bool,
    now: Instant,
) -> Result<Seen, EngineError> {
    let is_due = resync_at.is_none_or(|at| at <= now);
    let mut seen = Seen::default();
    if is_due {
        *resync_at = Some(now + RESYNC);
        seen.images = Some(engine.images().await?);
    }
    if is_due || is_stale {
        seen.containers = Some(list(engine).await?);
    }
    Ok(seen)
}

/// What there is, by identity.
pub(super) async fn list(
    engine: &Arc<dyn Engine>,
) -> Result<BTreeMap<Identity, ContainerState>, EngineError> {
    let containers = engine.list().await?;
    Ok(containers.into_iter().map(|found| (found.identity, found.state)).collect())
}
