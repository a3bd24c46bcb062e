//! Leader election by means of a Lease object.
//!
//! # Invariants
//!
//! * The election only makes two leaders unlikely. What makes them safe is the guard: every write
//!   of a leader carries its identity and term, and is refused unless `leader/<component>` in the
//!   store has the same.
//! * Whether the lease of another process has expired is judged by the monotonic clock of this
//!   process, from when it first saw the last renewal. Clocks of different machines are never
//!   compared.
//! * A term is used by one process only: it increases whenever the holder changes.
//! * While the store is full, the leader stays: it cannot renew, but nobody can take over either,
//!   since both are writes that need space. The leader's work is what frees space.

use std::time::Duration;

use api::core::{Lease, LeaseSpec};
use api::labels::SYSTEM_NAMESPACE;
use api::status::Why;
use api::{Kind as _, ObjectMeta};
use base::{Backoff, Clock, ErrorChain, Health, PartFailure, Retry, Rng, Stop, Tasks};
use client::{Api, Client, Error};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;
use tracing::info;

/// A leader that has not renewed for this long may be replaced.
const LEASE_DURATION: Duration = Duration::from_secs(4);
/// How often a leader renews.
const PERIOD: Duration = Duration::from_secs(1);
/// How often other candidates check. A dead leader is replaced once its lease has expired and
/// somebody checks.
const LOOK: Duration = Duration::from_millis(500);
/// A leader that could not renew for this long steps down, which is before others take over.
const RENEW_DEADLINE: Duration = Duration::from_secs(3);

/// What a failed write of the Lease object means for the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setback {
    /// The Lease has changed: another candidate may have taken it.
    Outrun,
    /// The store is full, so nobody can write the Lease.
    NoRoom,
    /// The write may succeed the next time.
    Passing,
}

impl Setback {
    fn of(error: &Error) -> Self {
        let why = match error {
            Error::Refused(refusal) => refusal.why,
            Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_) => {
                return Setback::Passing;
            }
        };
        match why {
            Why::Exists | Why::Conflict | Why::Contended | Why::Deposed => Setback::Outrun,
            Why::Full => Setback::NoRoom,
            Why::Mistaken(_)
            | Why::Invalid
            | Why::TooLarge
            | Why::Forbidden
            | Why::NotFound
            | Why::Expired
            | Why::Busy
            | Why::Unavailable
            | Why::Late
            | Why::Unknown
            | Why::Internal => Setback::Passing,
        }
    }
}

/// Campaigns for the leadership of `component`, does its work while it leads, and starts over when
/// the leadership is lost.
/// `term` starts the work of one term. The writes of the client that it gets carry the guard of the
/// leader. The tasks that it spawns, and the future that it returns, are dropped when the
/// leadership is lost. The term also ends when that future ends. When asked to stop, `lead` gives
/// up the leadership, so that another process takes over at once. It does the same when one of the
/// tasks fails, and returns that failure: the cause is a bug, which another term would run into
/// again.
pub async fn lead<W: Future<Output = ()>>(
    (client, component): (&Client, &'static str),
    clock: Clock,
    (rng, health): (&Rng, &Health),
    stop: &Stop,
    mut term: impl FnMut(Client, &Tasks) -> W,
) -> Result<(), PartFailure> {
    let mut election = Election::new(client, component, clock, (rng, health));
    loop {
        let mut leadership = tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            leadership = election.won() => leadership,
        };
        let tasks = Tasks::new(component);
        let leader = client.as_leader(component, &leadership.identity, leadership.term);
        let work = term(leader, &tasks);
        let ended = tokio::select! {
            biased;
            () = stop.requested() => Some(Ok(())),
            failure = tasks.failure() => Some(Err(failure)),
            () = election.keep(&mut leadership) => None,
            () = work => None,
        };
        drop(tasks);
        if let Some(ended) = ended {
            election.resign(leadership).await;
            return ended;
        }
        info!(component, "the term is over");
    }
}

/// A candidate for the leadership of one component.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    component: &'static str,
    identity: String,
    clock: Clock,
    retry: Retry,
    /// The last renewal by another process, and when it was first seen here.
    seen: Option<(LeaseSpec, Instant)>,
}

/// A term in which this process leads.
#[derive(Debug)]
pub struct Leadership {
    /// The identity of the leader.
    pub identity: String,
    /// The number of the term.
    pub term: u64,
    lease: Lease,
    renewed: Instant,
}

impl Election {
    /// Makes a candidate for `component`, with a unique identity.
    pub fn new(
        client: &Client,
        component: &'static str,
        clock: Clock,
        (rng, health): (&Rng, &Health),
    ) -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), PERIOD, rng.clone());
        Self {
            leases: client.api(SYSTEM_NAMESPACE),
            component,
            identity: rng.uuid(),
            clock,
            retry: Retry::new("trying to become the leader", backoff, health),
            seen: None,
        }
    }

    /// Waits until this process leads.
    pub async fn won(&mut self) -> Leadership {
        loop {
            let wait = match self.stand().await {
                Ok(Some(leadership)) => {
                    self.retry.worked();
                    info!(component = self.component, term = leadership.term, "leading");
                    return leadership;
                }
                Ok(None) => {
                    self.retry.worked();
                    LOOK
                }
                Err(error) => {
                    if Setback::of(&error) == Setback::NoRoom {
                        // The holder could not renew either. It gets the full lease duration once
                        // the store has space.
                        self.seen = None;
                    }
                    self.retry.failed(&error)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Tries once to take the lease.
    async fn stand(&mut self) -> Result<Option<Leadership>, Error> {
        let asked = Instant::now();
        let Some(lease) = self.leases.find(self.component).await? else {
            let lease = self.lease(None, 1);
            return self.taken(self.leases.create(&lease).await, asked);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let free = spec.holder_identity.as_deref().unwrap_or_default().is_empty();
        if !free && !self.has_run_out(&spec) {
            return Ok(None);
        }
        // Identities are unique, so two terms with the same number are still different.
        let term = spec.lease_transitions.unwrap_or_default().saturating_add(1);
        let next = self.lease(Some(&lease), term);
        self.taken(self.leases.replace(&next).await, asked)
    }

    fn taken(
        &self,
        answer: Result<Lease, Error>,
        asked: Instant,
    ) -> Result<Option<Leadership>, Error> {
        match answer {
            Ok(lease) => {
                let term = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
                Ok(Some(Leadership {
                    identity: self.identity.clone(),
                    term: u64::try_from(term.unwrap_or_default()).unwrap_or_default(),
                    lease,
                    renewed: asked,
                }))
            }
            Err(error) => match Setback::of(&error) {
                // Another candidate was faster.
                Setback::Outrun => Ok(None),
                Setback::NoRoom | Setback::Passing => Err(error),
            },
        }
    }

    fn has_run_out(&mut self, spec: &LeaseSpec) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == spec => since.elapsed() >= LEASE_DURATION,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn lease(&self, before: Option<&Lease>, term: i32) -> Lease {
        let now = MicroTime(self.clock.now());
        let metadata = match before {
            Some(before) => before.metadata.clone(),
            None => ObjectMeta {
                name: Some(self.component.to_owned()),
                namespace: Some(SYSTEM_NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
        };
        let seconds = i32::try_from(LEASE_DURATION.as_secs()).unwrap_or(i32::MAX);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(term),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Renews the lease until the leadership is lost.
    pub async fn keep(&self, leadership: &mut Leadership) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let asked = Instant::now();
            let mut next = leadership.lease.clone();
            if let Some(spec) = next.spec.as_mut() {
                spec.renew_time = Some(MicroTime(self.clock.now()));
            }
            let left = RENEW_DEADLINE.saturating_sub(leadership.renewed.elapsed());
            match tokio::time::timeout(left, self.leases.replace(&next)).await {
                Ok(Ok(lease)) => {
                    leadership.lease = lease;
                    leadership.renewed = asked;
                }
                Ok(Err(error)) => match Setback::of(&error) {
                    // This may be our own renewal whose answer was lost. Reading the Lease tells.
                    Setback::Outrun => match self.leases.get(next.name()).await {
                        Ok(now) if self.is_ours(&now, leadership.term) => leadership.lease = now,
                        _ => break,
                    },
                    Setback::NoRoom => leadership.renewed = asked,
                    Setback::Passing if leadership.renewed.elapsed() < RENEW_DEADLINE => (),
                    Setback::Passing => break,
                },
                Err(_elapsed) => break,
            }
        }
        info!(component = self.component, term = leadership.term, "no longer the leader");
    }

    fn is_ours(&self, lease: &Lease, term: u64) -> bool {
        let spec = lease.spec.clone().unwrap_or_default();
        let same_term =
            spec.lease_transitions.and_then(|now| u64::try_from(now).ok()) == Some(term);
        same_term && spec.holder_identity.as_deref() == Some(&self.identity)
    }

    /// Gives up the leadership, so that another process takes over at once.
    pub async fn resign(&self, leadership: Leadership) {
        let mut lease = leadership.lease;
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = Some(String::new());
        }
        if let Err(error) = self.leases.replace(&lease).await {
            let (component, error) = (self.component, ErrorChain(&error));
            info!(component, %error, "could not release the leader lease; the next leader waits until it expires");
        }
    }
}
