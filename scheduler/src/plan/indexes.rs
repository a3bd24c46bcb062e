//! The indexes of recently served classes and shapes.
//!
//! # Invariants
//!
//! * All indexes together have memory for at most [`ENTRIES_MAX`] entries, unless there is only one
//!   index. An index has an entry for each node, so indexes for all classes would take too much
//!   memory; one that is missing is built again when its class is served.

use std::collections::BTreeMap;

use super::index::Index;
use crate::class::{ClassId, ShapeId};

/// Most entries of all indexes together: some 20 MB, or 100 classes on 5,000 nodes.
const ENTRIES_MAX: usize = 500_000;

/// The fixed memory of an index, counted in entries.
const ENTRIES_OF_AN_EMPTY_ONE: usize = 16;

/// To what an index belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IndexOf {
    /// One class.
    Class(ClassId),
    /// All classes of a shape, which share it.
    Shape(ShapeId),
}

/// Indexes by what they belong to.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    by_owner: BTreeMap<IndexOf, Kept>,
    /// Least recently served first.
    by_turn: BTreeMap<u64, IndexOf>,
    /// How many times an index was kept so far.
    turns: u64,
    entries: usize,
}

#[derive(Debug)]
struct Kept {
    index: Index,
    turn: u64,
    entries: usize,
}

impl Indexes {
    /// Keeps an index and drops the least recently used ones beyond the bound.
    pub(crate) fn keep(&mut self, of: IndexOf, index: Index) {
        let _older = self.take(of);
        self.turns += 1;
        let entries = index.capacity() + ENTRIES_OF_AN_EMPTY_ONE;
        self.entries += entries;
        self.by_turn.insert(self.turns, of);
        self.by_owner.insert(of, Kept { index, turn: self.turns, entries });
        while self.entries > ENTRIES_MAX
            && self.by_owner.len() > 1
            && let Some((_, oldest)) = self.by_turn.first_key_value()
        {
            let _dropped = self.take(*oldest);
        }
    }

    /// Removes an index, to use or to drop it.
    pub(crate) fn take(&mut self, of: IndexOf) -> Option<Index> {
        let kept = self.by_owner.remove(&of)?;
        self.by_turn.remove(&kept.turn);
        self.entries -= kept.entries;
        Some(kept.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_not_used_for_longest_are_let_go() {
        let class = |number| IndexOf::Class(ClassId(number));
        let mut indexes = Indexes::default();
        let fit = u32::try_from(ENTRIES_MAX / ENTRIES_OF_AN_EMPTY_ONE).unwrap();
        for number in 0..fit {
            indexes.keep(class(number), Index::default());
        }
        let first = indexes.take(class(0)).expect("all have room");
        indexes.keep(class(0), first);
        indexes.keep(class(fit), Index::default());
        assert!(indexes.take(class(1)).is_none(), "nobody used it for longest");
        assert!(indexes.take(class(0)).is_some(), "it was used again");
        assert!(indexes.take(class(2)).is_some());
        assert!(indexes.take(class(fit)).is_some());
        assert_eq!(indexes.by_owner.len(), indexes.by_turn.len());
        assert_eq!(indexes.entries, indexes.by_owner.len() * ENTRIES_OF_AN_EMPTY_ONE);
    }
}
