//! The attempts to decide about: those that have changed, and those whose time has come.

use std::collections::{BTreeMap, BTreeSet};

use base::Timestamp;

use crate::engine::Identity;
use crate::plan::Which;

/// What to decide about, now and later.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    is_all: bool,
    changed: BTreeSet<Identity>,
    /// When each attempt must be decided about again even if nothing happens.
    wakes: BTreeMap<Identity, Timestamp>,
    /// The same, ordered by time.
    order: BTreeSet<(Timestamp, Identity)>,
}

/// What to decide about now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    All,
    These(BTreeSet<Identity>),
}

impl Due {
    pub(super) fn which(&self) -> Which<'_> {
        match self {
            Self::All => Which::All,
            Self::These(these) => Which::These(these),
        }
    }
}

impl WorkQueue {
    /// These have changed, or containers of theirs.
    pub(super) fn extend(&mut self, identities: impl IntoIterator<Item = Identity>) {
        self.changed.extend(identities.into_iter().map(Identity::into_attempt));
    }

    /// Any may have changed.
    pub(super) fn add_all(&mut self) {
        self.is_all = true;
    }

    /// What to decide about now; nothing if nothing has changed and nothing is due. Their waiting
    /// times are removed.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        while let Some((at, _)) = self.order.first()
            && *at <= now
            && let Some((_, identity)) = self.order.pop_first()
        {
            self.changed.insert(identity);
        }
        let changed = std::mem::take(&mut self.changed);
        if std::mem::take(&mut self.is_all) {
            self.wakes.clear();
            self.order.clear();
            return Some(Due::All);
        }
        for identity in &changed {
            if let Some(at) = self.wakes.remove(identity) {
                self.order.remove(&(at, identity.clone()));
            }
        }
        (!changed.is_empty()).then_some(Due::These(changed))
    }

    /// When the attempts that were just decided about must be decided about again.
    pub(super) fn wait_for(&mut self, wakes: BTreeMap<Identity, Timestamp>) {
        for (identity, at) in wakes {
            self.order.insert((at, identity.clone()));
            if let Some(before) = self.wakes.insert(identity.clone(), at).filter(|it| *it != at) {
                self.order.remove(&(before, identity));
            }
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id(index: u32) -> Identity {
        Identity::new("default", "t", &format!("{index:x}"), 1).unwrap()
    }

    fn these(indexes: &[u32]) -> Option<Due> {
        Some(Due::These(indexes.iter().map(|index| id(*index)).collect()))
    }

    #[test]
    fn each_is_due_when_its_time_has_come_and_once() {
        let mut queue = WorkQueue::default();
        queue.wait_for(BTreeMap::from([(id(1), at(5)), (id(2), at(3)), (id(3), at(9))]));
        assert_eq!(queue.next(), Some(at(3)));
        assert_eq!(queue.take_due(at(2)), None);
        assert_eq!(queue.take_due(at(5)), these(&[1, 2]));
        assert_eq!((queue.take_due(at(5)), queue.next()), (None, Some(at(9))));
    }

    #[test]
    fn what_was_decided_about_waits_only_for_what_was_then_said() {
        let mut queue = WorkQueue::default();
        queue.wait_for(BTreeMap::from([(id(1), at(5)), (id(2), at(6))]));
        queue.extend([id(1)]);
        assert_eq!(queue.take_due(at(1)), these(&[1]));
        assert_eq!(queue.take_due(at(5)), None, "it did not ask for that any more");
        queue.wait_for(BTreeMap::from([(id(2), at(8))]));
        assert_eq!((queue.take_due(at(7)), queue.next()), (None, Some(at(8))));
        queue.add_all();
        assert_eq!((queue.take_due(at(7)), queue.next()), (Some(Due::All), None));
        assert_eq!(queue.take_due(at(9)), None);
    }
}
