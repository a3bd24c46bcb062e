//! Finding nodes for the tasks of a class, one after the other.
//!
//! Classes of different jobs that want the same of a node share an index. Otherwise each task that is
//! placed would have to be noticed by the index of every class: with a hundred jobs that take turns,
//! that was nearly all the work there was.
//!
//! # Invariants
//!
//! * A shared index is that of a job without tasks. The first of its nodes that has no task of the
//!   class's job is the best of all that have none, and those are better than any that has one.
//! * A node that has one is set aside for as long as the class is served; it goes back at the end.

use std::collections::BTreeMap;

use super::against::Against;
use super::filter::has_room;
use super::index::{Choice, Entry, Found, Index, top};
use super::indexes::{IndexOf, Indexes};
use super::score::{HeadStart, score};
use super::wanted::Wanted;
use crate::class::{Class, ClassId, Parked};
use crate::snapshot::node::Nodes;
use crate::snapshot::shapes::Shapes;

/// So many nodes that have tasks of the job are compared for one task. A class that would have to compare
/// more is given an index of its own, which has them in order. (The worlds of tests have few nodes, and
/// are to see both.)
const COMPARED_MAX: usize = if cfg!(test) { 2 } else { 64 };

/// A search for nodes, while a class is served.
#[derive(Debug)]
pub(super) struct Search {
    of: IndexOf,
    index: Index,
    /// What was set aside of a shared index.
    aside: BTreeMap<HeadStart, Vec<Entry>>,
    /// Whether a node was left out that would have been right with fewer tasks of the job.
    is_at_max: bool,
}

impl Search {
    /// Begins with the index of a class, or with that of its shape if others have it, too.
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

    /// The best node for a task that has something against some.
    pub(super) fn best(
        &mut self,
        (id, class): (ClassId, &mut Class),
        wanted: &Wanted<'_>,
        (indexes, nodes): (&mut Indexes, &Nodes),
        against: &Against,
    ) -> Choice {
        if matches!(self.of, IndexOf::Shape(_)) {
            if let Some(choice) = self.best_of_shared(wanted, nodes, against) {
                return choice;
            }
            class.has_own_index = true;
            let own = Self::of(IndexOf::Class(id), wanted, indexes, nodes);
            std::mem::replace(self, own).end(class, (indexes, nodes));
        }
        self.index.best(wanted, nodes, against)
    }

    /// The same in an index that is shared; nothing if too many nodes would have to be compared.
    fn best_of_shared(
        &mut self,
        wanted: &Wanted<'_>,
        nodes: &Nodes,
        against: &Against,
    ) -> Option<Choice> {
        let of_no_job = wanted.of_no_job();
        let mut found = Found::default();
        for (head_start, heap) in &mut self.index.heaps {
            let aside = self.aside.entry(*head_start).or_default();
            // What only this task has something against.
            let mut unwanted = Vec::new();
            let mut is_found = false;
            while !is_found
                && let Some(top) = top(heap, &of_no_job, nodes, &mut self.index.short_of_room)
            {
                if nodes.at(top.node).tasks_of(wanted.job) > 0 {
                    heap.pop();
                    aside.push(top);
                } else if found.takes(against, *head_start, top.score, (top.node, nodes)) {
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
                if found.takes(against, *head_start, score, (node, nodes)) {
                    break;
                }
            }
        }
        Some(found.choice(wanted, nodes))
    }

    /// What may help the class where no node is right for it.
    pub(super) fn parked(&self) -> Parked {
        if self.index.short_of_room || self.is_at_max {
            Parked::UntilRoom
        } else {
            Parked::UntilNode
        }
    }

    /// Keeps the index for the next turn.
    ///
    /// An index of its own would notice, in a turn, each change of a node since the one before; a shared
    /// one sets aside each node with tasks of the job that comes first. A class for which that is more
    /// is given its own.
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
