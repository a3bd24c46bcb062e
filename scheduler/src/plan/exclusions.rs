//! Nodes that one task avoids or is refused by. Everything else is the same for all tasks of its
//! class.

use api::Timestamp;
use jiff::SignedDuration;

use crate::snapshot::node::{NodeId, Nodes};
use crate::snapshot::task::TaskEntry;

/// How often a task is tried again that fits only nodes which returned it, however long their waits
/// are: another node may have room by then.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Nodes that one task avoids or is refused by.
#[derive(Debug, Default)]
pub(crate) struct Exclusions {
    /// Nodes to use only if no other fits; then the first of them.
    pub(super) avoided: Vec<NodeId>,
    /// Nodes that returned the task and must not be offered it yet.
    pub(super) refused: Vec<NodeId>,
    /// When the first of those may be offered it again.
    over_at: Option<Timestamp>,
}

impl Exclusions {
    pub(super) fn of(entry: &TaskEntry, nodes: &Nodes, now: Timestamp) -> Self {
        let avoided = entry.object.spec.avoid.iter().filter_map(|name| nodes.find(name)).collect();
        let refused = entry.refused_by(now).filter_map(|(name, _)| nodes.find(name)).collect();
        let over_at = entry.refused_by(now).map(|(_, over_at)| over_at).min();
        Self { avoided, refused, over_at }
    }

    /// Whether the task has no such nodes.
    pub(super) fn is_nothing(&self) -> bool {
        self.avoided.is_empty() && self.refused.is_empty()
    }

    /// When a task that fits no other node is tried again.
    pub(super) fn look_again_at(&self, now: Timestamp) -> Timestamp {
        let soon = now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        self.over_at.map_or(soon, |over_at| over_at.min(soon))
    }
}
