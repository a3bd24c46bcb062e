//! What speaks against nodes for one task: all else is the same for all tasks of its class.

use api::Timestamp;
use jiff::SignedDuration;

use crate::snapshot::node::{NodeId, Nodes};
use crate::snapshot::task::TaskEntry;

/// A task that only nodes would take which gave it back is looked at again so often, whatever their
/// waits: another node may have room by then.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// What speaks against nodes for one task.
#[derive(Debug, Default)]
pub(crate) struct Against {
    /// Others are better, if there are any; and of these, the first.
    pub(super) avoided: Vec<NodeId>,
    /// These gave the task back, and are not asked again yet.
    pub(super) refused: Vec<NodeId>,
    /// When the first of those may be asked again.
    over_at: Option<Timestamp>,
}

impl Against {
    pub(super) fn of(entry: &TaskEntry, nodes: &Nodes, now: Timestamp) -> Self {
        let avoided = entry.object.spec.avoid.iter().filter_map(|name| nodes.find(name)).collect();
        let refused = entry.refused_by(now).filter_map(|(name, _)| nodes.find(name)).collect();
        let over_at = entry.refused_by(now).map(|(_, over_at)| over_at).min();
        Self { avoided, refused, over_at }
    }

    /// Whether all nodes are the same to it.
    pub(super) fn is_nothing(&self) -> bool {
        self.avoided.is_empty() && self.refused.is_empty()
    }

    /// When a task that no other node takes is looked at again.
    pub(super) fn look_again_at(&self, now: Timestamp) -> Timestamp {
        let soon = now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        self.over_at.map_or(soon, |over_at| over_at.min(soon))
    }
}
