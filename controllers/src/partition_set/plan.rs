//! Decides what the status of a partition set says of nodes that do not exist.
//!
//! # Invariants
//!
//! * On the status that it leads to, `plan` returns nothing.
//! * All else in the status follows from the set itself, and is the apiserver's to write.

use api::PartitionSet;
use api::object::Kind as _;

use crate::action::Action;

/// Another status of the set, where nodes that its assignment names do not exist, or exist by now.
pub fn plan(set: &PartitionSet, exists: impl Fn(&str) -> bool) -> Option<Action> {
    let missing = set.nodes_that_are_not(exists);
    if set.is_deleting() || set.status.missing_nodes == missing {
        return None;
    }
    let mut next = set.clone();
    next.status.missing_nodes = missing;
    Some(Action::status(next))
}

/// Whether it matters to a set that a node came or went. Of one that came it is enough to know the nodes
/// that the set waits for, so that a thousand nodes that join at once cost next to nothing.
pub fn concerns(set: &PartitionSet, node: &str, exists: bool) -> bool {
    if exists {
        set.status.missing_nodes.iter().any(|missing| missing == node)
    } else {
        set.nodes_serving(&[]).any(|named| named == node)
    }
}
