//! Keeps the node lease: the proof that this agent lives.

use std::time::Duration;

use api::node::{GrantRequest, GrantResponse, RenewRequest};
use base::{Backoff, ErrorChain, Health, Retry, Rng};
use client::{Client, Error};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::Event;
use crate::metrics::Metrics;

/// Renewals within the time that a lease lives: two may fail.
const RENEWALS_PER_TTL: u32 = 3;

/// Keeps one node's lease.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) request: GrantRequest,
    pub(super) rng: Rng,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Until when the lease lives for sure, from when its last acknowledged renewal was sent.
    pub(super) lives_until: watch::Sender<Option<Instant>>,
}

impl Keeper {
    /// Asks for a lease, tells of it, renews it, and begins anew when it is gone. Never ends.
    pub(super) async fn run(self, events: mpsc::Sender<Event>) {
        let wait = (Duration::from_millis(200), Duration::from_secs(5));
        let backoff = Backoff::new(wait.0, wait.1, self.rng.clone());
        let mut retry = Retry::new("getting the node lease", backoff, &self.health);
        loop {
            let sent = Instant::now();
            match self.client.grant(&self.request).await {
                Ok(granted) => {
                    self.acknowledged(sent, &granted);
                    info!(node = self.request.node, lease = granted.lease, "node lease granted");
                    retry.worked();
                    if events.send(Event::Granted(granted.clone())).await.is_err() {
                        return;
                    }
                    self.renew(&granted).await;
                }
                Err(error) => {
                    let wait = retry.failed(&error);
                    let displaced = || Event::Displaced(ErrorChain(&error).to_string());
                    if error.is_conflict() && events.send(displaced()).await.is_err() {
                        return;
                    }
                    sleep(wait).await;
                }
            }
        }
    }

    fn acknowledged(&self, sent: Instant, granted: &GrantResponse) {
        let lives_until = sent + Duration::from_millis(granted.ttl_millis);
        self.lives_until.send_replace(Some(lives_until));
    }

    /// Renews a lease until it is gone; or until the cluster was confirmed, which a new one tells.
    async fn renew(&self, granted: &GrantResponse) {
        let interval = Duration::from_millis(granted.ttl_millis) / RENEWALS_PER_TTL;
        let request = RenewRequest { leases: vec![granted.lease] };
        // A lease of the same number in another cluster is not ours.
        let client = self.client.for_cluster(&granted.granted_by());
        // The next try is due when the interval is over, whatever a back-off would say.
        let backoff = Backoff::new(interval, interval, self.rng.clone());
        let mut retry = Retry::new("renewing the node lease", backoff, &self.health);
        loop {
            let sent = Instant::now();
            let next = sent + interval;
            match timeout(interval, client.renew(&request)).await {
                Ok(Ok(answer)) if granted.unconfirmed && !answer.unconfirmed => return,
                Ok(Ok(answer)) if answer.alive.first() == Some(&true) => {
                    self.acknowledged(sent, granted);
                    retry.worked();
                }
                Ok(Ok(_)) => return debug!(lease = granted.lease, "the node lease is gone"),
                Ok(Err(error @ Error::Refused(_))) => {
                    return warn!(error = %ErrorChain(&error), "the node lease cannot be renewed");
                }
                Ok(Err(error)) => {
                    self.metrics.renewals_failed.inc();
                    retry.failed(&error);
                }
                Err(elapsed) => {
                    self.metrics.renewals_failed.inc();
                    retry.failed(&elapsed);
                }
            }
            tokio::time::sleep_until(next).await;
        }
    }
}
