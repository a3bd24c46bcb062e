//! Finds nodes for the tasks of a class, one after the other.
//!
//! Classes of different jobs with the same requirements share an index. Otherwise each placement
//! would have to be noticed by the index of every class; with a hundred jobs taking turns, that was
//! nearly all of the work.
//!
//! # Invariants
//!
//! * A shared index is computed for a job without tasks. The first of its nodes without a task of
//!   the class's job is the best of all such nodes, and these are better than any node with such a
//!   task.
//! * Nodes with such a task are set aside while the class is served, and put back at the end.

use std::collections::BTreeMap;

use super::exclusions::Exclusions;
use super::filter::has_room;
use super::index::{Choice, Entry, Found, Index, top};
use super::indexes::{IndexOf, Indexes};
use super::score::{HeadStart, score};
use super::wanted::Wanted;
use crate::class::{Class, ClassId, Parked};
use crate::snapshot::node::Nodes;
use crate::snapshot::shapes::Shapes;

/// Most nodes with tasks of the job that are compared for one task. A class that would have to
/// compare more gets an index of its own, in which they are sorted. (Tests have few nodes, and
/// should exercise both.)
const COMPARED_MAX: usize = if cfg!(test) { 2 } else { 64 };

/// A search for nodes while a class is served.
#[derive(Debug)]
pub(super) struct Search {
    of: IndexOf,
    index: Index,
    /// Entries that were set aside from a shared index.
    aside: BTreeMap<HeadStart, Vec<Entry>>,
    /// Whether a node was skipped that would fit with fewer tasks of the job.
    is_at_max: bool,
}

impl Search {
    /// Starts with the index of the class, or with that of its shape if other classes share it.
    pub(super) fn begin(
        (id, class): (ClassId, &Class),
        wanted: &Wanted<'_>,
        shapes: &Shapes,
        (indexes, nodes): (&mut Indexes, &Nodes),
    ) -> Self {
        let shape = class.facts.shape_id.filter(|shape| {
            shapes.is_shared(*shape) && !class.has_own_index && wanted.shape.is_same_for_all_jobs()
        });
        match shape {
            Some(shape) => Self::of(IndexOf::Shape(shape), &wanted.of_no_job(), indexes, nodes),
            None => Self::of(IndexOf::Class(id), wanted, indexes, nodes),
        }
    }

    fn of(of: IndexOf, wanted: &Wanted<'_>, indexes: &mut Indexes, nodes: &Nodes) -> Self {
        let index = Index::ready(indexes.take(of), wanted, nodes);
        Self { of, index, aside: BTreeMap::new(), is_at_max: false }
    }

    /// The best node for a task, given the nodes that it avoids or is refused by.
    pub(super) fn best(
        &mut self,
        (id, class): (ClassId, &mut Class),
        wanted: &Wanted<'_>,
        (indexes, nodes): (&mut Indexes, &Nodes),
        exclusions: &Exclusions,
    ) -> Choice {
        if matches!(self.of, IndexOf::Shape(_)) {
            if let Some(choice) = self.best_of_shared(wanted, nodes, exclusions) {
                return choice;
            }
            class.has_own_index = true;
            let own = Self::of(IndexOf::Class(id), wanted, indexes, nodes);
            std::mem::replace(self, own).end(class, (indexes, nodes));
        }
        self.index.best(wanted, nodes, exclusions)
    }

    /// The same in a shared index; nothing if too many nodes would have to be compared.
    fn best_of_shared(
        &mut self,
        wanted: &Wanted<'_>,
        nodes: &Nodes,
        exclusions: &Exclusions,
    ) -> Option<Choice> {
        let of_no_job = wanted.of_no_job();
        let mut found = Found::default();
        for (head_start, heap) in &mut self.index.heaps {
            let aside = self.aside.entry(*head_start).or_default();
            // Entries of nodes that only this task avoids or is refused by.
            let mut unwanted = Vec::new();
            let mut is_found = false;
            while !is_found
                && let Some(top) = top(heap, &of_no_job, nodes, &mut self.index.short_of_room)
            {
                if nodes.at(top.node).tasks_of(wanted.job) > 0 {
                    heap.pop();
                    aside.push(top);
                } else if found.takes(exclusions, *head_start, top.score, (top.node, nodes)) {
                    is_found = true;
                } else {
                    heap.pop();
                    unwanted.push(top);
                }
            }
            heap.extend(unwanted);
            if is_found {
                continue;
            }
            if aside.len() > COMPARED_MAX {
                return None;
            }
            let mut right: Vec<_> = Vec::new();
            for entry in aside.iter() {
                let node = nodes.at(entry.node);
                match has_room(wanted.shape, wanted.job, node) {
                    Ok(()) => {
                        let score = score(&wanted.shape.requests, wanted.job, node);
                        right.push((score, entry.node));
                    }
                    Err(_) => self.is_at_max = true,
                }
            }
            right.sort_unstable_by(|one, other| other.cmp(one));
            for (score, node) in right {
                if found.takes(exclusions, *head_start, score, (node, nodes)) {
                    break;
                }
            }
        }
        Some(found.choice(wanted, nodes))
    }

    /// What has to happen before the class is tried again, if no node fits it.
    pub(super) fn parked(&self) -> Parked {
        if self.index.short_of_room || self.is_at_max {
            Parked::UntilRoom
        } else {
            Parked::UntilNode
        }
    }

    /// Keeps the index for the next turn.
    ///
    /// With an index of its own, the class has to process every node change since its last turn;
    /// with a shared one, it has to set aside every node with tasks of its job. If the latter is
    /// more, it gets an index of its own.
    pub(super) fn end(mut self, class: &mut Class, (indexes, nodes): (&mut Indexes, &Nodes)) {
        let aside = self.aside.values().map(Vec::len).sum::<usize>();
        let changes = usize::try_from(nodes.changes() - class.served_at).unwrap_or(usize::MAX);
        class.has_own_index |= aside > changes.max(COMPARED_MAX);
        class.served_at = nodes.changes();
        for (head_start, aside) in self.aside {
            self.index.heaps.entry(head_start).or_default().extend(aside);
        }
        indexes.keep(self.of, self.index);
    }
}
