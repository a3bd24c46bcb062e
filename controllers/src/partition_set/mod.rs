//! Partition sets: one whose assignment names a node that does not exist says so.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::batch::Op;
use api::object::Kind as _;
use api::{KindId, ObjectKey, PartitionSet};
use runtime::{Any, ReconcileError, Requeue};

use crate::tools::Tools;
use plan::{concerns, plan};

/// Keeps the nodes that a set waits for in its status.
#[derive(Debug)]
pub(crate) struct Controller {
    tools: Tools,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A set.
    Set(ObjectKey),
    /// All sets to which it matters whether a node of this name exists.
    Node(String),
}

impl Controller {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools }
    }

    async fn look(&self, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
        let next = self.tools.cache.read(|snapshot| {
            let set: &Arc<PartitionSet> = snapshot.partition_sets.get(key)?;
            let exists = |node: &str| snapshot.nodes.get(&ObjectKey::new("", node)).is_some();
            Some(plan(set, exists))
        });
        let Some(next) = next else { return Ok(Requeue::Gone) };
        let groups = next.map(|next| Op::status(&next).into()).into_iter().collect();
        self.tools.write("partition set", groups).await?;
        Ok(Requeue::OnChange)
    }
}

impl runtime::Controller for Controller {
    type Key = Key;

    const NAME: &'static str = "partition set";

    fn keys(&self, before: Option<&Any>, now: Option<&Any>) -> Vec<Key> {
        let Some(object) = now.or(before) else { return Vec::new() };
        let (kind, key) = (object.kind(), object.key());
        if kind == KindId::PartitionSet {
            return vec![Key::Set(key)];
        }
        // Nodes change with every report of their agents: only that one came or went matters here.
        let came_or_went = before.is_some() != now.is_some();
        (kind == KindId::Node && came_or_went).then_some(Key::Node(key.name)).into_iter().collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, ReconcileError> {
        let node = match key {
            Key::Set(set) => return self.look(set).await,
            Key::Node(node) => node,
        };
        let sets: Vec<ObjectKey> = self.tools.cache.read(|snapshot| {
            let exists = snapshot.nodes.get(&ObjectKey::new("", &**node)).is_some();
            let sets = snapshot.partition_sets.iter();
            sets.filter(|set| concerns(set, node, exists)).map(|set| set.key()).collect()
        });
        for set in sets {
            self.look(&set).await?;
        }
        Ok(Requeue::Gone)
    }
}
