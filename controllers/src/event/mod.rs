//! Events: keeps them for a while, and no more of them than are useful.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::KindId;
use runtime::{Any, ReconcileError, Requeue, Snapshot};
use tokio::time::Instant;

use crate::tools::Tools;
use plan::{Limits, plan};

/// Removes old events.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
    limits: Limits,
    /// Guards the time of the last look at the events. Locked for one look.
    looked: Mutex<Option<Instant>>,
}

/// After a look that found nothing to do, the next one comes no earlier than this, since each look
/// reads all events.
const PERIOD: Duration = Duration::from_secs(1);

impl Controller {
    pub(crate) fn new(tools: Tools, limits: Limits) -> Self {
        Self { tools, limits, looked: Mutex::default() }
    }

    /// How long to wait before the next look.
    fn wait(&self) -> Duration {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.map_or(Duration::ZERO, |at| PERIOD.saturating_sub(at.elapsed()))
    }

    fn set_looked(&self, at: Option<Instant>) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl runtime::Controller for Controller {
    /// All events are looked at together: the newest ones stay.
    type Key = ();

    const NAME: &'static str = "event";

    fn keys(_: Option<&Any>, now: Option<&Any>, _: &Snapshot) -> Vec<()> {
        // An event that was changed may be larger than before.
        let is_told = |object: &Any| object.kind() == KindId::Event;
        if now.is_some_and(is_told) { vec![()] } else { Vec::new() }
    }

    async fn reconcile(&self, (): &()) -> Result<Requeue, ReconcileError> {
        let wait = self.wait();
        if !wait.is_zero() {
            return Ok(Requeue::After(wait));
        }
        let plan = self.tools.cache.read(|snapshot| {
            let events = snapshot.events.iter().map(Arc::as_ref);
            plan(events, self.limits, self.tools.clock.now())
        });
        if plan.groups.is_empty() {
            self.set_looked(Some(Instant::now()));
            // The next event brings the key back, or the age of the oldest one does.
            return Ok(self.tools.until(plan.wake_at, true));
        }
        // While there are too many events, the next look follows at once.
        self.set_looked(None);
        self.tools.write(Self::NAME, plan.groups).await?;
        Ok(Requeue::After(Duration::ZERO))
    }
}
