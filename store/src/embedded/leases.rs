//! The deadlines of node leases. The leases and their keys are on disk; a renewal changes only
//! this.
//!
//! # Invariants
//!
//! * Time is monotonic and begins with the process: after a restart each node lease has its full
//!   time.
//! * A lease that was taken as expired can no longer be renewed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::LeaseId;

/// Longest time to live: practically for ever, and still small enough to be added to an
/// [`Instant`].
const TTL_MAX: Duration = Duration::from_hours(24 * 365 * 30);

/// The deadlines.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    /// Invariant: no deadline is earlier. It may be too early, because renewals do not change it.
    wake_at: Option<Instant>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
}

impl Leases {
    /// Adds a node lease.
    pub(crate) fn insert(&mut self, id: LeaseId, ttl: Duration, now: Instant) {
        let deadline = now + ttl.min(TTL_MAX);
        self.by_id.insert(id, Lease { ttl, deadline });
        self.wake_at = Some(self.wake_at.map_or(deadline, |at| at.min(deadline)));
    }

    /// Gives a node lease its full time again. Returns whether it exists.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Instant) -> bool {
        let Some(lease) = self.by_id.get_mut(&id).filter(|lease| lease.deadline > now) else {
            return false;
        };
        lease.deadline = now + lease.ttl.min(TTL_MAX);
        true
    }

    /// Forgets a node lease.
    pub(crate) fn remove(&mut self, id: LeaseId) {
        self.by_id.remove(&id);
    }

    /// When to look for expired leases next.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Removes and returns the expired leases.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<LeaseId> {
        if self.wake_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let expired: Vec<LeaseId> =
            self.by_id.extract_if(.., |_, lease| lease.deadline <= now).map(|(id, _)| id).collect();
        self.wake_at = self.by_id.values().map(|lease| lease.deadline).min();
        expired
    }
}
