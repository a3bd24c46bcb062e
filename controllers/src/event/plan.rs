//! Decides which events are deleted.
//!
//! # Invariants
//!
//! * The events that were seen last are kept: of two events, the older one is deleted first.
//! * An event that claims to be from the future counts from its creation time. Otherwise it would
//!   stay for ever, and displace the others.

use api::Timestamp;
use api::core::{EVENTS_BYTES_MAX, EVENTS_MAX, Event};
use api::object::Kind as _;
use api::size::json_bytes;
use jiff::SignedDuration;

use crate::action::{Action, Group};

/// How long events are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an event is kept after it was last seen.
    pub ttl: SignedDuration,
    /// The maximum number of events.
    pub count: usize,
    /// The approximate maximum size of all events, in bytes.
    pub bytes: usize,
}

impl Limits {
    /// The default limits, with a different time to live.
    pub fn with_ttl(ttl: SignedDuration) -> Self {
        Self { ttl, count: EVENTS_MAX, bytes: EVENTS_BYTES_MAX }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The deletions, which are independent of each other.
    pub groups: Vec<Group>,
    /// When the next event will be old enough.
    pub wake_at: Option<Timestamp>,
}

/// The maximum number of deletions in a plan; the next plan asks for the rest. This is as much as a
/// few batches take, so that deletions keep up with new events.
pub const ROUND_OPS_MAX: usize = 10_000;

/// Decides which events are deleted now.
pub fn plan<'a>(events: impl Iterator<Item = &'a Event>, limits: Limits, now: Timestamp) -> Plan {
    let mut all: Vec<(Timestamp, &Event)> = events
        .filter(|event| !event.is_deleting())
        .map(|event| (seen(event, now), event))
        .collect();
    // Newest first. Comparing the keys makes equal inputs give equal plans.
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

/// When an event was last seen.
fn seen(event: &Event, now: Timestamp) -> Timestamp {
    let series = event.series.as_ref().and_then(|it| it.last_observed_time.as_ref()).map(|it| it.0);
    let told = series.or(event.last_timestamp.as_ref().map(|it| it.0));
    let told = told.or(event.event_time.as_ref().map(|it| it.0));
    let made = event.created().unwrap_or(Timestamp::UNIX_EPOCH);
    told.filter(|told| *told <= now).map_or(made, |told| told.max(made))
}

/// The size of an event, over all its fields, as the apiserver counts it. The apiserver refuses new
/// events when the total is too high; if this counted less, the events would never be removed.
fn weight(event: &Event) -> usize {
    json_bytes(event)
}
