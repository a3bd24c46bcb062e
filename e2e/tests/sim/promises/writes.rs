//! Promise 1: an acknowledged write survives, and is seen by whoever reads after it.

use std::collections::{BTreeMap, BTreeSet};

use api::ObjectKey;
use runtime::Snapshot;

use crate::writer::{Answer, Entry, value_of};

/// What may be there, as far as the writer's calls were looked at.
#[derive(Debug, Default)]
pub(super) struct Writes {
    replayed: usize,
    possible: Possible,
}

/// The values that each object may have.
#[derive(Debug, Clone, Default)]
struct Possible(BTreeMap<String, BTreeSet<Option<u64>>>);

impl Writes {
    /// Replays what the writer did: what it read, and what is there now, is the last acknowledged
    /// value or one that may have been written after it.
    pub(super) fn check(&mut self, entries: &[Entry], seen: &Snapshot) {
        // The last may not be answered yet.
        let Some((last, answered)) = entries.split_last() else { return };
        answered[self.replayed..].iter().for_each(|entry| self.possible.replay(entry));
        self.replayed = answered.len();
        let mut possible = self.possible.clone();
        possible.replay(last);
        for (name, values) in possible.0 {
            let object = seen.config_maps.get(&ObjectKey::new("default", &*name));
            let value = object.and_then(|object| value_of(object));
            let fits = values.contains(&value);
            assert!(fits, "promise 1: {name} is {value:?}, and may be {values:?}");
        }
    }
}

impl Possible {
    fn replay(&mut self, entry: &Entry) {
        let (Entry::Wrote { name, value, .. } | Entry::Read { name, value }) = entry;
        let values = self.0.entry(name.clone()).or_insert_with(|| BTreeSet::from([None]));
        match entry {
            Entry::Wrote { answer: Answer::Done, .. } => *values = BTreeSet::from([*value]),
            Entry::Wrote { answer: Answer::Unknown, .. } => drop(values.insert(*value)),
            Entry::Wrote { answer: Answer::NotDone, .. } => (),
            Entry::Read { .. } => {
                let fits = values.contains(value);
                assert!(fits, "promise 1: {name} was read as {value:?}, and may be {values:?}");
            }
        }
    }
}
