//! The nodes that are right for a class, best first.
//!
//! # Invariants
//!
//! * Every node that admits the class has an entry under its head start whose score is no less than
//!   the node's score now. So an entry that was scored at the node's present version and comes first
//!   is the most even of all nodes with that head start, and nothing else need be looked at.
//! * Promises only lower scores and need nothing. Whatever may raise one, or change a head start, is
//!   in the nodes' log, which is read before the index is used.

use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use super::against::Against;
use super::filter::{admits, has_room};
use super::score::{self, Candidate, HeadStart, Score, head_start};
use super::wanted::Wanted;
use crate::snapshot::node::{NodeId, Nodes};

/// The nodes that are right for a class, best first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The most even first, for each head start.
    pub(super) heaps: BTreeMap<HeadStart, BinaryHeap<Entry>>,
    /// How far the nodes' log was read.
    seen: u64,
    /// The ranks that the scores are of.
    epoch: u64,
    /// Whether a node was left out that would have been right with more room.
    pub(crate) short_of_room: bool,
}

/// A node, as it was scored at one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) score: Score,
    pub(super) node: NodeId,
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
        // Made into heaps at once: that is cheaper than one by one.
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

    /// How many entries it has.
    fn len(&self) -> usize {
        self.heaps.values().map(BinaryHeap::len).sum()
    }

    /// How many entries it has memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.heaps.values().map(BinaryHeap::capacity).sum()
    }

    /// Takes in what became better since the index was used last.
    fn refresh(&mut self, wanted: &Wanted<'_>, nodes: &Nodes) {
        let log = nodes.log();
        // Entries of nodes that were looked at again stay until they come first.
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

    /// The best node for a task that has something against some.
    pub(crate) fn best(&mut self, wanted: &Wanted<'_>, nodes: &Nodes, against: &Against) -> Choice {
        // Most tasks have nothing against any node, and most classes no wish that tells nodes apart.
        if against.is_nothing() && self.heaps.len() == 1 {
            let heap = self.heaps.values_mut().next();
            let top = heap.and_then(|heap| top(heap, wanted, nodes, &mut self.short_of_room));
            return top.map_or(Choice::None, |top| Choice::Node(top.node));
        }
        let mut found = Found::default();
        for (head_start, heap) in &mut self.heaps {
            let mut aside = Vec::new();
            while let Some(top) = top(heap, wanted, nodes, &mut self.short_of_room) {
                if found.takes(against, *head_start, top.score, (top.node, nodes)) {
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

/// What was found for a task: the most even node of each head start, and what there is beside these.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    liked: Vec<(Candidate<'a>, NodeId)>,
    /// The place among those that are avoided, and the node.
    last_resort: Option<(usize, NodeId)>,
    any_refused: bool,
}

impl<'a> Found<'a> {
    /// Takes in a node that is right for the class. Whether the task has nothing against it.
    pub(super) fn takes(
        &mut self,
        against: &Against,
        head_start: HeadStart,
        score: Score,
        (id, nodes): (NodeId, &'a Nodes),
    ) -> bool {
        if against.refused.contains(&id) {
            self.any_refused = true;
            return false;
        }
        if let Some(place) = against.avoided.iter().position(|node| *node == id) {
            let one = (place, id);
            self.last_resort = Some(self.last_resort.map_or(one, |other| other.min(one)));
            return false;
        }
        self.liked.push((Candidate { head_start, score, node: nodes.at(id) }, id));
        true
    }

    /// The best of what was found.
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

/// The first entry of a heap, once it is as of now.
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
        // A node whose object changed has another entry by now, if it is right for the class.
        let Some(node) = node.filter(|node| node.object_version <= first.version) else {
            PeekMut::pop(first);
            continue;
        };
        // Only the tasks there have changed.
        if has_room(wanted.shape, wanted.job, node).is_err() {
            *short_of_room = true;
            PeekMut::pop(first);
            continue;
        }
        let score = score::score(&wanted.shape.requests, wanted.job, node);
        (first.score, first.version) = (score, node.version);
    }
}
