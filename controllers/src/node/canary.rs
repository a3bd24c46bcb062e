//! A node lease that belongs to no node: while it lives, the store keeps leases well.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::node::{GrantRequest, GrantResponse, RenewRequest};
use api::status::Why;
use base::{Backoff, Health, Retry, Rng};
use client::{Client, Error};
use tokio::time::Instant;

use super::plan::Canary;

/// How often it is renewed.
const PERIOD: Duration = Duration::from_secs(1);

/// Where the canary is kept, for the node controller to look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct CanaryCage(
    /// Guards the canary; held for one look or renewal.
    Arc<Mutex<Option<Canary>>>,
);

impl CanaryCage {
    /// The canary as it is now.
    pub(crate) fn get(&self) -> Option<Canary> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, canary: Option<Canary>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = canary;
    }

    /// Keeps the canary alive for ever, as an agent keeps its node's lease.
    ///
    /// A lease of the same number in another store is not ours, so each is renewed with the one that
    /// granted it. While a restored cluster is not confirmed there is no canary: its nodes come back
    /// in their own time, and nothing is to be decided about them before.
    pub(crate) async fn keep(self, client: Client, (rng, health): (Rng, Health), started: Instant) {
        // Without a canary no node is taken for lost: see the module's doc.
        let backoff = Backoff::new(PERIOD, PERIOD, rng.clone());
        let mut retry = Retry::aside("renewing the canary lease", backoff, &health);
        let mut lease: Option<(Client, u64)> = None;
        // A name of its own: a canary of another process may still be there.
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
                // Its age tells of the gap. Another store refuses what is meant for the old one.
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
                    // Another store was asked than the one that granted it.
                    if error.why() == Some(Why::Conflict) && lease.take().is_some() {
                        self.set(None);
                    }
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// What was seen of the canary.
enum Seen {
    Alive,
    /// It lives, in a restored cluster that nobody has confirmed.
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

/// The name under which it has its lease.
fn node_of(name: &str) -> String {
    format!("canary-{name}")
}
