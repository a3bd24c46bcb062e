//! The known nodes: what each offers, what is taken of it, and what has changed recently.
//!
//! # Invariants
//!
//! * A node's `version` changes whenever a decision about it may change. An entry that was scored
//!   at another version is scored again before it is used.
//! * Everything that makes a node better for some class is in the [`Log`]. What only makes it worse
//!   need not be: a score that is too good is corrected when it comes first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api::room::{HeldPorts, HostPort, Room};
use api::{Kind as _, Node};

use crate::class::{Facts, JobId};
use crate::resources::{Requests, ResourceId, Resources, Row};
use crate::slab::Slab;

/// The number of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

/// A node, or just the name of one that tasks refer to.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) name: Arc<str>,
    /// A number that sorts as the node's name does.
    pub(crate) rank: u64,
    /// `None` for a node that only tasks refer to.
    pub(crate) object: Option<Arc<Node>>,
    pub(crate) allocatable: Row,
    /// Taken by tasks on the node, by promised ones, and by leftovers.
    pub(crate) taken: Row,
    leftovers: Requests,
    leftover_ports: Vec<HostPort>,
    /// Ports that tasks asked for by number, ports of the range that agents reported for tasks, and
    /// those of leftovers.
    ports: HeldPorts,
    /// How many of these are numbers of the range.
    range_held: u32,
    /// Number of ports of the range that were promised and whose numbers are not known yet.
    range_promised: u32,
    jobs: BTreeMap<JobId, u32>,
    /// Number of tasks on the node, promised ones included.
    pub(crate) tasks: u32,
    /// Changes whenever anything here changes.
    pub(crate) version: u64,
    /// Changes whenever `object` changes.
    pub(crate) object_version: u64,
}

/// What a task holds beyond what its shape says: the ports that it was assigned from the range.
pub(crate) type SeenPorts = Vec<u16>;

impl NodeState {
    /// Number of tasks of a job on the node, promised ones included.
    pub(crate) fn tasks_of(&self, job: JobId) -> u32 {
        self.jobs.get(&job).copied().unwrap_or(0)
    }

    /// The taken ports as text, for comparison and for people.
    #[cfg(test)]
    pub(crate) fn ports_taken(&self) -> String {
        let held: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        format!("{} {} {}", held.join(","), self.range_held, self.range_promised)
    }

    fn charge(&mut self, facts: &Facts, seen: &SeenPorts) {
        *self.jobs.entry(facts.job).or_default() += 1;
        self.tasks += 1;
        seen.iter().for_each(|port| self.hold(HostPort::whole(*port)));
        let Some(shape) = &facts.shape else { return };
        for (_, id, amount) in &shape.requests {
            self.taken.add(*id, *amount);
        }
        shape.ports.fixed.iter().for_each(|port| self.hold(*port));
        self.range_promised += unseen(shape.ports.from_range, seen);
    }

    fn discharge(&mut self, facts: &Facts, seen: &SeenPorts) {
        decrement(&mut self.jobs, &facts.job);
        self.tasks -= 1;
        seen.iter().for_each(|port| self.let_go(HostPort::whole(*port)));
        let Some(shape) = &facts.shape else { return };
        for (_, id, amount) in &shape.requests {
            self.taken.subtract(*id, *amount);
        }
        shape.ports.fixed.iter().for_each(|port| self.let_go(*port));
        self.range_promised -= unseen(shape.ports.from_range, seen);
    }

    fn hold(&mut self, port: HostPort) {
        let is_new = self.ports.add(port);
        self.range_held += u32::from(is_new && self.is_in_range(port.port));
    }

    fn let_go(&mut self, port: HostPort) {
        let is_free = self.ports.take_back(port);
        self.range_held -= u32::from(is_free && self.is_in_range(port.port));
    }

    fn is_in_range(&self, port: u16) -> bool {
        self.range().is_some_and(|(first, last)| (first..=last).contains(&port))
    }

    /// Sets the node's object; `None` if it was deleted.
    fn set_object(&mut self, object: Option<Arc<Node>>, resources: &mut Resources) {
        let mut allocatable = Row::default();
        let offered = object.as_ref().map(|object| object.allocatable()).unwrap_or_default();
        for (_, resource, amount) in resources.requests(&offered) {
            allocatable.add(resource, amount);
        }
        self.allocatable = allocatable;
        for (_, resource, amount) in std::mem::take(&mut self.leftovers) {
            self.taken.subtract(resource, amount);
        }
        for port in std::mem::take(&mut self.leftover_ports) {
            self.ports.take_back(port);
        }
        let leftovers = object.iter().flat_map(|object| &object.status.leftovers);
        for leftover in leftovers {
            self.leftovers.extend(resources.requests(&leftover.requests));
            self.leftover_ports.extend(&leftover.ports);
        }
        for (_, resource, amount) in &self.leftovers {
            self.taken.add(*resource, *amount);
        }
        for port in &self.leftover_ports {
            self.ports.add(*port);
        }
        self.object = object;
        self.range_held = self.range().map_or(0, |range| self.ports.numbers_in(range));
    }
}

impl Room<(&str, ResourceId)> for NodeState {
    fn free(&self, (_, id): (&str, ResourceId)) -> u64 {
        self.allocatable.get(id).saturating_sub(self.taken.get(id))
    }

    fn is_held(&self, port: &HostPort) -> bool {
        self.ports.of_number(port.port).any(|held| held.conflicts_with(port))
    }

    fn is_number_held(&self, port: u16) -> bool {
        self.ports.of_number(port).next().is_some()
    }

    fn range(&self) -> Option<(u16, u16)> {
        let range = self.object.as_ref()?.status.port_range;
        range.filter(|(first, last)| first <= last)
    }

    fn free_in_range(&self) -> u32 {
        let all = self.range().map_or(0, |(first, last)| u32::from(last - first) + 1);
        all.saturating_sub(self.range_held).saturating_sub(self.range_promised)
    }
}

/// How many of a task's ports from the range are not known yet.
fn unseen(wanted: u32, seen: &SeenPorts) -> u32 {
    wanted.saturating_sub(u32::try_from(seen.len()).unwrap_or(u32::MAX))
}

/// Decrements a count; a count of 0 is removed.
pub(crate) fn decrement<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// What has improved on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Improvement {
    /// The node itself has changed, so anything may be different.
    Node,
    /// Something that was taken is free.
    Freed,
}

/// Recent improvements. Each reader remembers up to where it has read.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Position of the first entry that is kept.
    start: u64,
    entries: VecDeque<(NodeId, Improvement)>,
}

/// Entries that the log keeps in addition to four for each node.
const LOG_ENTRIES_MIN: usize = 1024;

impl Log {
    /// Position after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// The entries from `position` on; nothing if some of them were dropped.
    pub(crate) fn since(
        &self,
        position: u64,
    ) -> Option<impl Iterator<Item = (NodeId, Improvement)>> {
        let skipped = usize::try_from(position.checked_sub(self.start)?).ok()?;
        Some(self.entries.iter().skip(skipped).copied())
    }

    fn push(&mut self, node: NodeId, improvement: Improvement, nodes: usize) {
        // The second of two equal entries tells a reader nothing new.
        if self.entries.back() == Some(&(node, improvement)) {
            self.start += 1;
            return;
        }
        self.entries.push_back((node, improvement));
        let kept = nodes * 4 + LOG_ENTRIES_MIN;
        if self.entries.len() > kept {
            let dropped = self.entries.len() / 2;
            self.entries.drain(..dropped);
            self.start += dropped as u64;
        }
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    slots: Slab<NodeState>,
    ids: BTreeMap<Arc<str>, NodeId>,
    log: Log,
    version: u64,
    /// Changes when all ranks are assigned anew.
    epoch: u64,
}

/// Distance between ranks when they are assigned anew.
const RANK_GAP: u64 = 1 << 32;

impl Nodes {
    pub(crate) fn at(&self, id: NodeId) -> &NodeState {
        self.slots.at(id.0)
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&NodeState> {
        self.slots.get(id.0)
    }

    pub(crate) fn find(&self, name: &str) -> Option<NodeId> {
        self.ids.get(name).copied()
    }

    /// All nodes with an object, in an order that decisions must not depend on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &NodeState)> {
        let slots = self.slots.iter().map(|(id, node)| (NodeId(id), node));
        slots.filter(|(_, node)| node.object.is_some())
    }

    /// All nodes, including those that only tasks refer to.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> {
        self.ids.values().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// How many times nodes have changed, by themselves or by their tasks.
    pub(crate) fn changes(&self) -> u64 {
        self.version
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The node of a name. It need not have an object yet.
    pub(crate) fn slot(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let rank = self.rank_for(&name);
        self.version += 1;
        let state = NodeState {
            name: Arc::clone(&name),
            rank: rank.unwrap_or(0),
            object: None,
            allocatable: Row::default(),
            taken: Row::default(),
            leftovers: Vec::new(),
            leftover_ports: Vec::new(),
            ports: HeldPorts::default(),
            range_held: 0,
            range_promised: 0,
            jobs: BTreeMap::new(),
            tasks: 0,
            version: self.version,
            object_version: self.version,
        };
        let id = NodeId(self.slots.insert(state));
        self.ids.insert(name, id);
        if rank.is_none() {
            self.rank_anew();
        }
        id
    }

    /// A rank between those of the neighbouring names, if one is left.
    fn rank_for(&self, name: &Arc<str>) -> Option<u64> {
        let rank = |(_, id): (&Arc<str>, &NodeId)| self.at(*id).rank;
        let before = self.ids.range(..Arc::clone(name)).next_back().map_or(0, rank);
        match self.ids.range(Arc::clone(name)..).next().map(rank) {
            None => before.checked_add(RANK_GAP),
            Some(after) => Some(before + (after - before) / 2).filter(|rank| *rank > before),
        }
    }

    fn rank_anew(&mut self) {
        self.epoch += 1;
        for (rank, id) in (1_u64..).zip(self.ids.values()) {
            self.slots.at_mut(id.0).rank = rank * RANK_GAP;
        }
    }

    /// A node was added or changed.
    pub(crate) fn upsert(&mut self, object: Arc<Node>, resources: &mut Resources) {
        let id = self.slot(object.name());
        self.touch_object(id);
        self.slots.at_mut(id.0).set_object(Some(object), resources);
    }

    /// A node was deleted. What tasks hold on it is remembered.
    pub(crate) fn remove(&mut self, name: &str, resources: &mut Resources) {
        let Some(id) = self.find(name) else { return };
        self.touch_object(id);
        self.slots.at_mut(id.0).set_object(None, resources);
        self.release(id);
    }

    /// A task is on a node now, or is promised to it.
    pub(crate) fn charge(&mut self, id: NodeId, facts: &Facts, seen: &SeenPorts) {
        self.version += 1;
        let node = self.slots.at_mut(id.0);
        node.version = self.version;
        node.charge(facts, seen);
    }

    /// It is not any more.
    pub(crate) fn discharge(&mut self, id: NodeId, facts: &Facts, seen: &SeenPorts) {
        self.version += 1;
        let node = self.slots.at_mut(id.0);
        node.version = self.version;
        node.discharge(facts, seen);
        self.log.push(id, Improvement::Freed, self.slots.len());
        self.release(id);
    }

    fn touch_object(&mut self, id: NodeId) {
        self.version += 1;
        let node = self.slots.at_mut(id.0);
        (node.version, node.object_version) = (self.version, self.version);
        self.log.push(id, Improvement::Node, self.slots.len());
    }

    /// Removes a node without object and tasks.
    fn release(&mut self, id: NodeId) {
        let node = self.slots.at(id.0);
        if node.object.is_none() && node.tasks == 0 {
            self.ids.remove(&node.name);
            self.slots.remove(id.0);
        }
    }
}
