//! Partition sets: reports that an assignment names nodes that do not exist.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::object::Kind as _;
use api::{KindId, ObjectKey, PartitionSet};
use runtime::{Any, ReconcileError, Requeue, Snapshot};

use crate::action::Group;
use crate::tools::Tools;
use plan::{concerns, plan};

/// Writes the nodes that a set waits for into its status.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools }
    }
}

impl runtime::Controller for Controller {
    /// The key of a set.
    type Key = ObjectKey;

    const NAME: &'static str = "partition set";

    fn keys(before: Option<&Any>, now: Option<&Any>, snapshot: &Snapshot) -> Vec<ObjectKey> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let (kind, key) = (object.kind(), object.key());
        if kind == KindId::PartitionSet {
            return vec![key];
        }
        // A node changes with every report of its agent. It only matters here that it appeared or
        // disappeared.
        let (came, went) = (before.is_none(), now.is_none());
        if kind != KindId::Node || came == went {
            return Vec::new();
        }
        let sets = snapshot.sets_naming(&key.name);
        sets.filter(|set| concerns(set, &key.name, came)).map(|set| set.key()).collect()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let read = self.tools.cache.read(|snapshot| {
            let set: &Arc<PartitionSet> = snapshot.partition_sets.get(key)?;
            let exists = |node: &str| snapshot.nodes.get(&ObjectKey::new("", node)).is_some();
            Some((plan(set, exists), set.status.missing_nodes.is_empty() || set.is_deleting()))
        });
        let Some((action, is_complete)) = read else { return Ok(Requeue::Gone) };
        self.tools.metrics.viewed(Self::NAME, 1);
        let is_at_rest = action.is_none() && is_complete;
        self.tools.write(Self::NAME, action.into_iter().map(Group::from).collect()).await?;
        Ok(if is_at_rest { Requeue::AtRest } else { Requeue::OnChange })
    }
}
