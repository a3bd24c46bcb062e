//! A node lease that belongs to no node. As long as it can be renewed, the store maintains leases
//! properly.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::node::{GrantRequest, GrantResponse, RenewRequest};
use api::status::Why;
use base::{Backoff, Health, Retry, Rng};
use client::{Client, Error};
use tokio::time::Instant;

use super::plan::Canary;

/// How often the canary is renewed.
const PERIOD: Duration = Duration::from_secs(1);

/// Holds the canary, for the node controller to look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct CanaryCage(
    /// Guards the canary. Locked for one look or renewal.
    Arc<Mutex<Option<Canary>>>,
);

impl CanaryCage {
    /// The current state of the canary.
    pub(crate) fn get(&self) -> Option<Canary> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, canary: Option<Canary>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = canary;
    }

    /// Keeps the canary alive for ever, as an agent keeps the lease of its node.
    /// Leases of different stores may have equal numbers, so each lease is renewed through the
    /// client that it was granted through. A restored cluster that is not confirmed has no canary:
    /// its nodes come back one after another, and nothing should be decided about them before.
    pub(crate) async fn keep(self, client: Client, (rng, health): (Rng, Health), started: Instant) {
        // Without a canary, no node is declared lost: see the description of the module.
        let backoff = Backoff::new(PERIOD, PERIOD, rng.clone());
        let mut retry = Retry::aside("renewing the canary lease", backoff, &health);
        let mut lease: Option<(Client, u64)> = None;
        // A unique name: the canary of another process may still exist.
        let name: String = rng.uuid().chars().take(8).collect();
        loop {
            let sent = started.elapsed();
            let seen = match &lease {
                Some((of, lease)) => renew(of, &name, *lease).await,
                None => match grant(&client, &name).await {
                    Ok(granted) => {
                        lease = Some((client.for_cluster(&granted.granted_by()), granted.lease));
                        Ok(if granted.unconfirmed { Seen::Unconfirmed } else { Seen::Alive })
                    }
                    Err(error) => Err(error),
                },
            };
            match &seen {
                Ok(_) => retry.worked(),
                // The gap shows in the age of the canary. Another store refuses what was meant for
                // the old one.
                Err(error) => {
                    let _next_period = retry.failed(error);
                }
            }
            match seen {
                Ok(Seen::Alive) => self.set(Some(Canary::renewed(self.get(), sent))),
                Ok(Seen::Unconfirmed) => self.set(None),
                Ok(Seen::Gone) => {
                    lease = None;
                    self.set(None);
                }
                Err(error) => {
                    // The request reached a different store than the one that granted the lease.
                    if error.why() == Some(Why::Conflict) && lease.take().is_some() {
                        self.set(None);
                    }
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// The result of a renewal.
enum Seen {
    Alive,
    /// It works, but the cluster was restored and is not confirmed.
    Unconfirmed,
    Gone,
}

async fn grant(client: &Client, name: &str) -> Result<GrantResponse, Error> {
    let request = GrantRequest {
        node: node_of(name),
        agent: "node-controller".to_owned(),
        boot_id: name.to_owned(),
    };
    client.grant(&request).await
}

async fn renew(client: &Client, name: &str, lease: u64) -> Result<Seen, Error> {
    let answer = client.renew(&RenewRequest { node: node_of(name), lease }).await?;
    Ok(match answer.alive {
        true if answer.unconfirmed => Seen::Unconfirmed,
        true => Seen::Alive,
        false => Seen::Gone,
    })
}

/// The node name in the lease of a canary.
fn node_of(name: &str) -> String {
    format!("canary-{name}")
}
