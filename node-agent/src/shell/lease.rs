//! Keeps the node lease: the proof that this agent lives.

use std::time::Duration;

use api::node::{GrantRequest, GrantResponse, RenewRequest};
use base::{Backoff, ErrorChain, Rng};
use client::{Client, Error};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::Event;
use crate::metrics::Metrics;

/// Renewals within the time that a lease lives: two may fail.
const RENEWALS_PER_TTL: u32 = 3;

/// A refusal that stays the same is said again so often.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Keeps one node's lease.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) request: GrantRequest,
    pub(super) rng: Rng,
    pub(super) metrics: Metrics,
}

impl Keeper {
    /// Asks for a lease, tells of it, renews it, and begins anew when it is gone. Never ends.
    pub(super) async fn run(self, events: mpsc::Sender<Event>) {
        let wait = (Duration::from_millis(200), Duration::from_secs(5));
        let mut backoff = Backoff::new(wait.0, wait.1, self.rng.clone());
        let mut said: Option<(Instant, String)> = None;
        loop {
            match self.client.grant(&self.request).await {
                Ok(granted) => {
                    info!(node = self.request.node, lease = granted.lease, "node lease granted");
                    backoff.reset();
                    if events.send(Event::Granted(granted.clone())).await.is_err() {
                        return;
                    }
                    self.renew(&granted).await;
                }
                Err(error) => {
                    let is_first = backoff.failures() == 0;
                    let message = ErrorChain(&error).to_string();
                    let is_known = said
                        .as_ref()
                        .is_some_and(|(at, said)| *said == message && at.elapsed() < SAY_AGAIN);
                    if is_first || (matches!(error, Error::Refused(_)) && !is_known) {
                        warn!(node = self.request.node, error = message, "no node lease");
                        said = Some((Instant::now(), message.clone()));
                    }
                    if error.is_conflict() && events.send(Event::Displaced(message)).await.is_err()
                    {
                        return;
                    }
                    sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Renews a lease until it is gone; or until the cluster was confirmed, which a new one tells.
    async fn renew(&self, granted: &GrantResponse) {
        let interval = Duration::from_millis(granted.ttl_millis) / RENEWALS_PER_TTL;
        let request = RenewRequest { leases: vec![granted.lease] };
        // A lease of the same number in another cluster is not ours.
        let client = self.client.for_cluster(&granted.granted_by());
        loop {
            let next = Instant::now() + interval;
            match timeout(interval, client.renew(&request)).await {
                Ok(Ok(answer)) if granted.unconfirmed && !answer.unconfirmed => return,
                Ok(Ok(answer)) if answer.alive.first() == Some(&true) => (),
                Ok(Ok(_)) => return debug!(lease = granted.lease, "the node lease is gone"),
                Ok(Err(error @ Error::Refused(_))) => {
                    return warn!(error = %ErrorChain(&error), "the node lease cannot be renewed");
                }
                Ok(Err(error)) => {
                    self.metrics.renewals_failed.inc();
                    debug!(error = %ErrorChain(&error), "the node lease was not renewed");
                }
                Err(_elapsed) => self.metrics.renewals_failed.inc(),
            }
            tokio::time::sleep_until(next).await;
        }
    }
}
