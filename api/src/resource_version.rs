//! `resourceVersion`: a store revision and a position within its transaction, as one number.
//!
//! `revision * 1024 + position`. All objects that one transaction writes have the same revision,
//! but a client resumes a watch from the last event that it saw. Without the position, a stream
//! that breaks in the middle of a transaction would lose the rest of that transaction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Number of positions in a transaction: 0 to 1022, and 1023 for "all of it".
pub const POSITIONS: u64 = 1024;

/// A point in the store's history, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ResourceVersion(u64);

impl ResourceVersion {
    /// Largest revision that a resourceVersion can represent. Stores count from 1 and never come
    /// near it. A number from outside may be larger and must be compared with this before it is
    /// used.
    pub const REVISION_MAX: u64 = u64::MAX / POSITIONS;

    /// The resourceVersion of one event.
    pub fn of_event(revision: u64, position: u32) -> Self {
        Self(first_of(revision) + u64::from(position).min(POSITIONS - 2))
    }

    /// The resourceVersion after everything of `revision`: the one of lists and bookmarks.
    pub fn after(revision: u64) -> Self {
        Self(first_of(revision) + (POSITIONS - 1))
    }

    /// The revision, which compare-and-swap compares.
    pub fn revision(self) -> u64 {
        self.0 / POSITIONS
    }

    /// The position in the transaction; 1023 means all of it.
    pub fn position(self) -> u64 {
        self.0 % POSITIONS
    }

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The first point of a revision, saturating: for a revision that is too large the order must not
/// wrap round to the beginning.
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
