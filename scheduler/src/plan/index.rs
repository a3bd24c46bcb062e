//! The nodes that are right for a class, best first.
//!
//! # Invariants
//!
//! * Every node that admits the class has an entry whose score is no less than the node's score
//!   now. So an entry that was scored at the node's present version and comes first is the best of
//!   all nodes, and nothing else need be looked at.
//! * Promises only lower scores and need nothing. Whatever may raise one is in the nodes' log, which
//!   is read before the index is used.

use std::collections::BinaryHeap;

use super::against::Against;
use super::filter::{admits, has_room};
use super::score::{Score, score};
use super::wanted::Wanted;
use crate::snapshot::{NodeId, NodeState, Nodes};

/// The nodes that are right for a class, best first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    heap: BinaryHeap<Entry>,
    /// How far the nodes' log was read.
    seen: u64,
    /// The ranks that the scores are of.
    epoch: u64,
    /// Whether a node was left out that would have been right with more room.
    pub(crate) short_of_room: bool,
}

/// A node, as it was scored at one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    score: Score,
    node: NodeId,
    version: u64,
}

/// Which node is the best for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one.
    Node(NodeId),
    /// Those that would do gave the task back, and are not asked again yet.
    Refused,
    /// None is right for its class.
    None,
}

impl Index {
    /// Looks at all nodes that may be right.
    fn new(wanted: &Wanted<'_>, nodes: &Nodes) -> Self {
        let (seen, epoch) = (nodes.log().end(), nodes.epoch());
        let mut index = Self { seen, epoch, ..Self::default() };
        let mut entries = Vec::new();
        let mut look = |id| entries.extend(index.entry(wanted, nodes, id));
        if let Some(at) = &wanted.target {
            at.nodes().filter_map(|name| nodes.find(name)).for_each(look);
        } else if wanted.shape.nodes.is_empty() {
            nodes.iter().for_each(|(id, _)| look(id));
        } else {
            wanted.shape.nodes.iter().filter_map(|name| nodes.find(name)).for_each(look);
        }
        index.heap = entries.into();
        index
    }

    /// An index as of now, from one that was kept if there is one.
    pub(crate) fn ready(kept: Option<Self>, wanted: &Wanted<'_>, nodes: &Nodes) -> Self {
        match kept {
            Some(mut index) => {
                index.refresh(wanted, nodes);
                index
            }
            None => Self::new(wanted, nodes),
        }
    }

    /// Whether it has no entries.
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Takes in what became better since the index was used last.
    fn refresh(&mut self, wanted: &Wanted<'_>, nodes: &Nodes) {
        let log = nodes.log();
        // Entries of nodes that were looked at again stay until they come first.
        let is_bloated = self.heap.len() > nodes.len() * 2 + 64;
        match log.since(self.seen) {
            Some(news) if self.epoch == nodes.epoch() && !is_bloated => {
                for (id, _) in news {
                    let entry = self.entry(wanted, nodes, id);
                    self.heap.extend(entry);
                }
                self.seen = log.end();
            }
            Some(_) | None => *self = Self::new(wanted, nodes),
        }
    }

    fn entry(&mut self, wanted: &Wanted<'_>, nodes: &Nodes, id: NodeId) -> Option<Entry> {
        let node = nodes.get(id)?;
        match admits(wanted, node) {
            Ok(()) => Some(Entry { score: score(wanted, node), node: id, version: node.version }),
            Err(rejection) => {
                self.short_of_room |= rejection.is_for_room();
                None
            }
        }
    }

    /// The best node for a task that has something against some.
    pub(crate) fn best(&mut self, wanted: &Wanted<'_>, nodes: &Nodes, against: &Against) -> Choice {
        let mut best: Option<Entry> = None;
        let mut aside = Vec::new();
        while let Some(top) = self.top(wanted, nodes) {
            if best.is_some_and(|best| best.score >= top.score) {
                break;
            }
            let is_avoided = against.avoided.contains(&top.node);
            let is_refused = against.refused.contains(&top.node);
            if !is_avoided && !is_refused {
                best = Some(top);
                break;
            }
            self.heap.pop();
            aside.push(top);
            if !is_refused {
                // It is worse than the index says, though it may still be the best.
                let score = Score { not_avoided: false, ..top.score };
                best = best.max(Some(Entry { score, ..top }));
            }
        }
        let none_is_right = aside.is_empty();
        self.heap.extend(aside);
        match best {
            Some(best) => Choice::Node(best.node),
            None if none_is_right => Choice::None,
            None => Choice::Refused,
        }
    }

    /// The first entry, once it is as of now.
    fn top(&mut self, wanted: &Wanted<'_>, nodes: &Nodes) -> Option<Entry> {
        loop {
            let top = *self.heap.peek()?;
            let node = nodes.get(top.node);
            if node.is_some_and(|node| node.version == top.version) {
                return Some(top);
            }
            let renewed = node.and_then(|node| self.renewed(wanted, nodes, top, node));
            match (self.heap.peek_mut(), renewed) {
                (Some(mut first), Some(renewed)) => *first = renewed,
                (Some(first), None) => {
                    std::collections::binary_heap::PeekMut::pop(first);
                }
                (None, _) => return None,
            }
        }
    }

    fn renewed(
        &mut self,
        wanted: &Wanted<'_>,
        nodes: &Nodes,
        old: Entry,
        node: &NodeState,
    ) -> Option<Entry> {
        if node.object_version > old.version {
            return self.entry(wanted, nodes, old.node);
        }
        // Only the tasks there have changed.
        if has_room(wanted.shape, wanted.job, node).is_err() {
            self.short_of_room = true;
            return None;
        }
        let score = old.score.with_room(&wanted.shape.requests, wanted.job, node);
        Some(Entry { score, version: node.version, ..old })
    }
}
