//! Decides which events go.
//!
//! # Invariants
//!
//! * What is kept is what was seen last: of two events the older one goes first.
//! * An event that claims to be of the future counts as of when it was made: else it would stay for
//!   ever, and push out the others.

use api::Timestamp;
use api::core::{EVENTS_BYTES_MAX, EVENTS_MAX, Event};
use api::object::Kind as _;
use api::size::json_bytes;
use jiff::SignedDuration;

use crate::action::{Action, Group};

/// How long events stay, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For how long after they were seen last.
    pub ttl: SignedDuration,
    /// At most so many.
    pub count: usize,
    /// At most so many bytes, about.
    pub bytes: usize,
}

impl Limits {
    /// The usual bounds, and a time to live of one's own.
    pub fn with_ttl(ttl: SignedDuration) -> Self {
        Self { ttl, count: EVENTS_MAX, bytes: EVENTS_BYTES_MAX }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Deletes, independent of each other.
    pub groups: Vec<Group>,
    /// When the next one has been there for long enough.
    pub wake_at: Option<Timestamp>,
}

/// Deletes that a plan asks for at most; the next plan asks for the rest. As many as a few batches
/// take, so that what goes keeps up with what comes.
pub const ROUND_OPS_MAX: usize = 10_000;

/// Which events go now.
pub fn plan<'a>(events: impl Iterator<Item = &'a Event>, limits: Limits, now: Timestamp) -> Plan {
    let mut all: Vec<(Timestamp, &Event)> = events
        .filter(|event| !event.is_deleting())
        .map(|event| (seen(event, now), event))
        .collect();
    // The newest first; the key makes equal inputs give equal plans.
    all.sort_unstable_by_key(|(seen, event)| (std::cmp::Reverse(*seen), key(event)));
    let until = |seen: Timestamp| seen.saturating_add(limits.ttl).unwrap_or(Timestamp::MAX);
    let (mut bytes, mut kept) = (0_usize, 0);
    for (seen, event) in &all {
        bytes = bytes.saturating_add(weight(event));
        if kept >= limits.count || bytes > limits.bytes || until(*seen) <= now {
            break;
        }
        kept += 1;
    }
    let (kept, gone) = all.split_at(kept);
    let oldest_first = gone.iter().rev().take(ROUND_OPS_MAX);
    Plan {
        groups: oldest_first.map(|(_, event)| Action::delete(*event).into()).collect(),
        wake_at: kept.last().map(|(seen, _)| until(*seen)),
    }
}

fn key(event: &Event) -> (&str, &str) {
    (event.namespace(), event.name())
}

/// When an event was seen last.
fn seen(event: &Event, now: Timestamp) -> Timestamp {
    let series = event.series.as_ref().and_then(|it| it.last_observed_time.as_ref()).map(|it| it.0);
    let told = series.or(event.last_timestamp.as_ref().map(|it| it.0));
    let told = told.or(event.event_time.as_ref().map(|it| it.0));
    let made = event.created().unwrap_or(Timestamp::UNIX_EPOCH);
    told.filter(|told| *told <= now).map_or(made, |told| told.max(made))
}

/// What an event takes, counted over all its fields as the apiserver does: it refuses new events when
/// there are too many bytes, so what it counts and this did not would never be removed.
fn weight(event: &Event) -> usize {
    json_bytes(event)
}
