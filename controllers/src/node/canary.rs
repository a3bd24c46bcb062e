//! A node lease that belongs to no node: while it lives, the store keeps leases well.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::node::{GrantRequest, RenewRequest};
use base::{ErrorChain, Rng};
use client::{Client, Error};
use tokio::time::Instant;
use tracing::debug;

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
    pub(crate) async fn keep(self, client: Client, rng: Rng, started: Instant) {
        let mut lease = None;
        // A name of its own: a canary of another process may still be there.
        let name: String = rng.uuid().chars().take(8).collect();
        loop {
            let sent = started.elapsed();
            let renewed = match lease {
                Some(lease) => renew(&client, lease).await,
                None => grant(&client, &name).await.map(Some),
            };
            match renewed {
                Ok(Some(id)) => {
                    lease = Some(id);
                    self.set(Some(Canary::renewed(self.get(), sent)));
                }
                Ok(None) => {
                    lease = None;
                    self.set(None);
                }
                // Its age tells of the gap.
                Err(error) => debug!(error = %ErrorChain(&error), "cannot renew the canary"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

async fn grant(client: &Client, name: &str) -> Result<u64, Error> {
    let request = GrantRequest {
        node: format!("canary-{name}"),
        agent: "node-controller".to_owned(),
        boot_id: name.to_owned(),
    };
    Ok(client.grant(&request).await?.lease)
}

/// The lease, if it is still there.
async fn renew(client: &Client, lease: u64) -> Result<Option<u64>, Error> {
    let answer = client.renew(&RenewRequest { leases: vec![lease] }).await?;
    Ok((answer.alive == [true]).then_some(lease))
}
