//! Decides what the status of a partition set says about nodes that do not exist.
//!
//! # Invariants
//!
//! * Given the status that it has produced, `plan` returns nothing.
//! * The rest of the status is derived from the set itself, by the apiserver.

use api::PartitionSet;
use api::object::Kind as _;

use crate::action::Action;

/// Updates the status of the set when nodes in its assignment are missing, or are no longer
/// missing.
pub fn plan(set: &PartitionSet, exists: impl Fn(&str) -> bool) -> Option<Action> {
    let missing = set.nodes_that_are_not(exists);
    if set.is_deleting() || set.status.missing_nodes == missing {
        return None;
    }
    let mut next = set.clone();
    next.status.missing_nodes = missing;
    Some(Action::status(next))
}

/// Whether a set has to be looked at because a node appeared or disappeared. For a new node, this
/// only looks at the nodes that the set waits for, so that a thousand nodes can join at once at
/// little cost.
pub fn concerns(set: &PartitionSet, node: &str, exists: bool) -> bool {
    if exists {
        set.status.missing_nodes.iter().any(|missing| missing == node)
    } else {
        set.nodes_serving(&[]).any(|named| named == node)
    }
}
