//! The indexes of the classes that were served lately.
//!
//! # Invariants
//!
//! * Together they have memory for at most [`ENTRIES_MAX`] entries, unless there is only one. An index has an
//!   entry for each node, so those of all classes would be too much memory; one that is not there is
//!   made again when its class is served.

use std::collections::BTreeMap;

use super::Index;
use crate::class::ClassId;

/// Entries of all indexes together: some 20 MB, which is 100 classes of 5,000 nodes each.
const ENTRIES_MAX: usize = 500_000;

/// What an index takes beside its entries, in entries.
const ENTRIES_OF_AN_EMPTY_ONE: usize = 16;

/// Indexes by class.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    by_class: BTreeMap<ClassId, Kept>,
    /// Classes in the order in which they were served.
    by_turn: BTreeMap<u64, ClassId>,
    /// How many indexes were kept so far.
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
    /// Keeps a class's index, and lets go of those that were not used for longest.
    pub(crate) fn keep(&mut self, class: ClassId, index: Index) {
        let _older = self.take(class);
        self.turns += 1;
        let entries = index.capacity() + ENTRIES_OF_AN_EMPTY_ONE;
        self.entries += entries;
        self.by_turn.insert(self.turns, class);
        self.by_class.insert(class, Kept { index, turn: self.turns, entries });
        while self.entries > ENTRIES_MAX
            && self.by_class.len() > 1
            && let Some((_, oldest)) = self.by_turn.first_key_value()
        {
            let _dropped = self.take(*oldest);
        }
    }

    /// Takes a class's index out, to use it or to forget it.
    pub(crate) fn take(&mut self, class: ClassId) -> Option<Index> {
        let kept = self.by_class.remove(&class)?;
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
        let mut indexes = Indexes::default();
        let fit = u32::try_from(ENTRIES_MAX / ENTRIES_OF_AN_EMPTY_ONE).unwrap();
        for class in 0..fit {
            indexes.keep(ClassId(class), Index::default());
        }
        let first = indexes.take(ClassId(0)).expect("all have room");
        indexes.keep(ClassId(0), first);
        indexes.keep(ClassId(fit), Index::default());
        assert!(indexes.take(ClassId(1)).is_none(), "nobody used it for longest");
        assert!(indexes.take(ClassId(0)).is_some(), "it was used again");
        assert!(indexes.take(ClassId(2)).is_some());
        assert!(indexes.take(ClassId(fit)).is_some());
        assert_eq!(indexes.by_class.len(), indexes.by_turn.len());
        assert_eq!(indexes.entries, indexes.by_class.len() * ENTRIES_OF_AN_EMPTY_ONE);
    }
}
