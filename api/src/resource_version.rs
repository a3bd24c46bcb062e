//! `resourceVersion`: a revision and a position in its transaction, as one number.
//!
//! `revision * 1024 + position`. One transaction gives many objects one revision, and a client
//! resumes a watch from the last event that it saw: without the position, a stream cut in the
//! middle of a transaction would lose the rest of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Positions in a transaction: 0 to 1022. 1023 stands for "all of it".
pub const POSITIONS: u64 = 1024;

/// A point in the store's history, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ResourceVersion(u64);

impl ResourceVersion {
    /// The largest revision that has a point. Stores count from 1, so that none comes near it; a
    /// number from outside may be larger, and is to be compared with this before it is used.
    pub const REVISION_MAX: u64 = u64::MAX / POSITIONS;

    /// The point of one event.
    pub fn of_event(revision: u64, position: u32) -> Self {
        Self(first_of(revision) + u64::from(position).min(POSITIONS - 2))
    }

    /// The point after everything of `revision`: what lists and bookmarks answer.
    pub fn after(revision: u64) -> Self {
        Self(first_of(revision) + (POSITIONS - 1))
    }

    /// The revision: what compare-and-swap compares.
    pub fn revision(self) -> u64 {
        self.0 / POSITIONS
    }

    /// The position in the transaction; 1023 means all of it.
    pub fn position(self) -> u64 {
        self.0 % POSITIONS
    }

    /// The point as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The first point of a revision. One that has none counts as the largest that has: an order that
/// ends there is better than one that wraps to its beginning.
fn first_of(revision: u64) -> u64 {
    revision.min(ResourceVersion::REVISION_MAX) * POSITIONS
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ResourceVersion {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for ResourceVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_revision_come_before_its_end_and_after_the_one_before() {
        assert!(ResourceVersion::after(6) < ResourceVersion::of_event(7, 0));
        assert!(ResourceVersion::of_event(7, 0) < ResourceVersion::of_event(7, 1));
        assert!(ResourceVersion::of_event(7, 1022) < ResourceVersion::after(7));
        assert_eq!(ResourceVersion::of_event(7, 3).revision(), 7);
    }

    #[test]
    fn a_revision_that_has_no_point_counts_as_the_largest_that_has() {
        for revision in [ResourceVersion::REVISION_MAX, u64::MAX] {
            assert_eq!(ResourceVersion::after(revision).get(), u64::MAX);
            assert!(
                ResourceVersion::of_event(revision, u32::MAX) < ResourceVersion::after(revision)
            );
        }
    }
}
