//! An index of the nodes that fit a class, the best first.
//!
//! # Invariants
//!
//! * Every node that fits the class has an entry under its head start, with a score that is not
//!   worse than its current one. So if the first entry is up to date, its node is the best of all
//!   nodes with that head start, and no other entry has to be looked at.
//! * A placement only lowers scores, so the index need not be updated for it. Everything that may
//!   raise a score or change a head start is in the nodes' log, which is read before the index is
//!   used.

use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use super::exclusions::Exclusions;
use super::filter::{admits, has_room};
use super::score::{self, Candidate, HeadStart, Score, head_start};
use super::wanted::Wanted;
use crate::snapshot::node::{NodeId, Nodes};

/// The nodes that fit a class, the best first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// For each head start, the node on which the tasks are spread most evenly first.
    pub(super) heaps: BTreeMap<HeadStart, BinaryHeap<Entry>>,
    /// Up to where the nodes' log was read.
    seen: u64,
    /// The epoch of the ranks in the scores.
    epoch: u64,
    /// Whether a node is missing that would fit with more free room.
    pub(crate) short_of_room: bool,
}

/// A node with the score that it had at one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) score: Score,
    pub(super) node: NodeId,
    version: u64,
}

/// The best node for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one.
    Node(NodeId),
    /// All nodes that fit have returned the task and must not be offered it yet.
    Refused,
    /// No node fits the class.
    None,
}

impl Index {
    /// Examines all nodes that may fit.
    fn new(wanted: &Wanted<'_>, nodes: &Nodes) -> Self {
        let (seen, epoch) = (nodes.log().end(), nodes.epoch());
        let mut index = Self { seen, epoch, ..Self::default() };
        // Building a heap at once is cheaper than inserting one by one.
        let mut entries = BTreeMap::<HeadStart, Vec<Entry>>::new();
        let mut look = |id| {
            if let Some((head_start, entry)) = index.entry(wanted, nodes, id) {
                entries.entry(head_start).or_default().push(entry);
            }
        };
        if let Some(at) = &wanted.target {
            at.nodes().filter_map(|name| nodes.find(name)).for_each(look);
        } else if wanted.shape.nodes.is_empty() {
            nodes.iter().for_each(|(id, _)| look(id));
        } else {
            wanted.shape.nodes.iter().filter_map(|name| nodes.find(name)).for_each(look);
        }
        let heaps = entries.into_iter().map(|(head_start, entries)| (head_start, entries.into()));
        index.heaps = heaps.collect();
        index
    }

    /// An up-to-date index, made from the kept one if there is one.
    pub(crate) fn ready(kept: Option<Self>, wanted: &Wanted<'_>, nodes: &Nodes) -> Self {
        match kept {
            Some(mut index) => {
                index.refresh(wanted, nodes);
                index
            }
            None => Self::new(wanted, nodes),
        }
    }

    /// Number of entries.
    fn len(&self) -> usize {
        self.heaps.values().map(BinaryHeap::len).sum()
    }

    /// Number of entries for which it has memory.
    pub(crate) fn capacity(&self) -> usize {
        self.heaps.values().map(BinaryHeap::capacity).sum()
    }

    /// Adds what has improved since the index was last used.
    fn refresh(&mut self, wanted: &Wanted<'_>, nodes: &Nodes) {
        let log = nodes.log();
        // Outdated entries of nodes stay until they come first, so there may be more entries than
        // nodes.
        let is_bloated = self.len() > nodes.len() * 2 + 64;
        match log.since(self.seen) {
            Some(news) if self.epoch == nodes.epoch() && !is_bloated => {
                for (id, _) in news {
                    if let Some((head_start, entry)) = self.entry(wanted, nodes, id) {
                        self.heaps.entry(head_start).or_default().push(entry);
                    }
                }
                self.seen = log.end();
            }
            Some(_) | None => *self = Self::new(wanted, nodes),
        }
    }

    fn entry(
        &mut self,
        wanted: &Wanted<'_>,
        nodes: &Nodes,
        id: NodeId,
    ) -> Option<(HeadStart, Entry)> {
        let node = nodes.get(id)?;
        match admits(wanted, node) {
            Ok(()) => {
                let score = score::score(&wanted.shape.requests, wanted.job, node);
                Some((head_start(wanted, node), Entry { score, node: id, version: node.version }))
            }
            Err(rejection) => {
                self.short_of_room |= rejection.is_for_room();
                None
            }
        }
    }

    /// The best node for a task, given the nodes that it avoids or is refused by.
    pub(crate) fn best(
        &mut self,
        wanted: &Wanted<'_>,
        nodes: &Nodes,
        exclusions: &Exclusions,
    ) -> Choice {
        // The fast path: most tasks avoid no node, and most classes have only one head start.
        if exclusions.is_nothing() && self.heaps.len() == 1 {
            let heap = self.heaps.values_mut().next();
            let top = heap.and_then(|heap| top(heap, wanted, nodes, &mut self.short_of_room));
            return top.map_or(Choice::None, |top| Choice::Node(top.node));
        }
        let mut found = Found::default();
        for (head_start, heap) in &mut self.heaps {
            let mut aside = Vec::new();
            while let Some(top) = top(heap, wanted, nodes, &mut self.short_of_room) {
                if found.takes(exclusions, *head_start, top.score, (top.node, nodes)) {
                    break;
                }
                heap.pop();
                aside.push(top);
            }
            heap.extend(aside);
        }
        found.choice(wanted, nodes)
    }
}

/// The candidates for a task: the best node of each head start, and nodes to use only if there is
/// none.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    liked: Vec<(Candidate<'a>, NodeId)>,
    /// The position in the list of avoided nodes, and the node.
    last_resort: Option<(usize, NodeId)>,
    any_refused: bool,
}

impl<'a> Found<'a> {
    /// Adds a node that fits the class. Returns whether the task neither avoids it nor is refused
    /// by it.
    pub(super) fn takes(
        &mut self,
        exclusions: &Exclusions,
        head_start: HeadStart,
        score: Score,
        (id, nodes): (NodeId, &'a Nodes),
    ) -> bool {
        if exclusions.refused.contains(&id) {
            self.any_refused = true;
            return false;
        }
        if let Some(place) = exclusions.avoided.iter().position(|node| *node == id) {
            let one = (place, id);
            self.last_resort = Some(self.last_resort.map_or(one, |other| other.min(one)));
            return false;
        }
        self.liked.push((Candidate { head_start, score, node: nodes.at(id) }, id));
        true
    }

    /// The best of the candidates.
    pub(super) fn choice(self, wanted: &Wanted<'_>, nodes: &Nodes) -> Choice {
        match self.liked[..] {
            [] => match self.last_resort {
                Some((_, node)) => Choice::Node(node),
                None if self.any_refused => Choice::Refused,
                None => Choice::None,
            },
            [(_, only)] => Choice::Node(only),
            ref several => {
                let scored: Vec<Candidate<'_>> = several.iter().map(|(it, _)| *it).collect();
                let best =
                    score::best(wanted, &scored).and_then(|best| nodes.find(&best.node.name));
                best.map_or(Choice::None, Choice::Node)
            }
        }
    }
}

/// The first entry of a heap after bringing it up to date.
pub(super) fn top(
    heap: &mut BinaryHeap<Entry>,
    wanted: &Wanted<'_>,
    nodes: &Nodes,
    short_of_room: &mut bool,
) -> Option<Entry> {
    loop {
        let mut first = heap.peek_mut()?;
        let node = nodes.get(first.node);
        if node.is_some_and(|node| node.version == first.version) {
            return Some(*first);
        }
        // If the node's object has changed, the node has a newer entry if it still fits.
        let Some(node) = node.filter(|node| node.object_version <= first.version) else {
            PeekMut::pop(first);
            continue;
        };
        // Only the tasks on the node have changed.
        if has_room(wanted.shape, wanted.job, node).is_err() {
            *short_of_room = true;
            PeekMut::pop(first);
            continue;
        }
        let score = score::score(&wanted.shape.requests, wanted.job, node);
        (first.score, first.version) = (score, node.version);
    }
}
