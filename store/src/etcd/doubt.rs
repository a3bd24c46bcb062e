//! Decides what happened to a group whose transaction got no answer. It has no side effects.
//! The history since before it was sent shows this, since a record contains the id of the write
//! that put it. So a put that happened is found even if the key was changed or deleted later. A put
//! that is not found did not happen and can be sent again. A delete leaves no id: if a delete is
//! seen and the group only deletes, nobody can say who made it.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::format::WriteId;
use crate::etcd::transaction::{Named, positions_around};
use crate::{Change, Key, Outcome, Revision};

/// What happened between two revisions.
#[derive(Debug, Default)]
pub(crate) struct History {
    puts: BTreeMap<WriteId, Put>,
    deleted: BTreeSet<Key>,
}

#[derive(Debug)]
struct Put {
    revision: Revision,
    position: u32,
    key: Key,
}

/// What happened to a group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ended like this.
    Ended(Outcome),
    /// It has not happened: send it again.
    NotHappened,
}

impl History {
    /// Adds the put of a record.
    pub(crate) fn put(&mut self, id: WriteId, key: Key, revision: Revision, position: u32) {
        // The first put of a group counts, in case etcd has delayed another attempt.
        self.puts.entry(id).or_insert(Put { revision, position, key });
    }

    /// Adds a delete.
    pub(crate) fn delete(&mut self, key: Key) {
        self.deleted.insert(key);
    }

    /// Decides about a group that was sent after the history began.
    pub(crate) fn judge(&self, Named { group, id }: &Named) -> Verdict {
        if let Some(put) = self.puts.get(id) {
            let index = group.writes.iter().position(|write| write.key == put.key);
            let positions = positions_around(group, index.unwrap_or(0), put.position);
            return Verdict::Ended(Outcome::Done { revision: put.revision, positions });
        }
        let puts = group.writes.iter().any(|write| write.change != Change::Delete);
        if !puts && group.writes.iter().any(|write| self.deleted.contains(&write.key)) {
            return Verdict::Ended(Outcome::Unknown);
        }
        Verdict::NotHappened
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expectation, Group};

    const MINE: WriteId = WriteId(7);

    fn judge(group: Group, history: &History) -> Verdict {
        history.judge(&Named { group, id: MINE })
    }

    fn swap() -> Group {
        Group::default()
            .delete("/gone", Expectation::Any)
            .put("/a", Expectation::Modified(Revision(3)), "x")
            .put("/b", Expectation::Any, "x")
    }

    #[test]
    fn a_group_whose_write_id_is_found_happened_there() {
        let mut history = History::default();
        history.put(MINE, "/a".into(), Revision(9), 5);
        history.put(MINE, "/b".into(), Revision(9), 6);
        history.put(WriteId(8), "/a".into(), Revision(10), 0);
        history.delete("/b".into());
        let done = Outcome::Done { revision: Revision(9), positions: vec![4, 5, 6] };
        assert_eq!(judge(swap(), &history), Verdict::Ended(done));
    }

    #[test]
    fn a_group_that_puts_and_is_not_found_did_not_happen_whoever_else_wrote() {
        let mut history = History::default();
        history.put(WriteId(8), "/a".into(), Revision(9), 0);
        history.delete("/gone".into());
        assert_eq!(judge(swap(), &history), Verdict::NotHappened);
    }

    #[test]
    fn a_delete_is_not_known_to_be_ones_own() {
        let group = || Group::default().delete("/gone", Expectation::Any);
        let mut history = History::default();
        assert_eq!(judge(group(), &history), Verdict::NotHappened);
        history.delete("/gone".into());
        assert_eq!(judge(group(), &history), Verdict::Ended(Outcome::Unknown));
    }
}
