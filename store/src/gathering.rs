//! Assigns revisions and positions to the groups that become durable together. Pure.
//!
//! # Invariants
//!
//! * A key changes at most once in a transaction. A group that changes a key again begins the next
//!   transaction; otherwise a compare-and-swap by revision would not notice the second change.
//! * A group is never split over two transactions.

use std::collections::BTreeSet;

use crate::group::Stored;
use crate::{Change, Event, Group, Key, LeaseId, Outcome, POSITIONS_MAX, Record, Revision};

/// Everything that happened at one revision.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) revision: Revision,
    /// Never empty; in the order of their positions.
    pub(crate) events: Vec<Event>,
}

/// A change, with what a store must keep of it beyond the event.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) event: Event,
    pub(crate) before: Option<Record>,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) lease_before: Option<LeaseId>,
}

/// Groups that become durable together.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// The last assigned revision.
    revision: Revision,
    /// The transaction that further groups may join.
    open: Option<Open>,
    finished: Vec<Transaction>,
}

#[derive(Debug, Default)]
struct Open {
    events: Vec<Event>,
    changed: BTreeSet<Key>,
    next_position: u32,
}

impl Gathering {
    /// An empty gathering after `revision`.
    pub(crate) fn after(revision: Revision) -> Self {
        Self { revision, open: None, finished: Vec::new() }
    }

    /// Assigns a revision and positions to a group that happens. `before` is what each of its
    /// writes replaces.
    pub(crate) fn place(
        &mut self,
        group: Group,
        before: Vec<Option<Stored>>,
    ) -> (Outcome, Vec<Effect>) {
        let count = u32::try_from(group.writes.len()).expect("a group's bound fits");
        let no_change = group
            .writes
            .iter()
            .zip(&before)
            .all(|(write, before)| before.is_none() && write.change == Change::Delete);
        if no_change {
            let positions = vec![0; group.writes.len()];
            return (Outcome::Done { revision: self.revision, positions }, Vec::new());
        }
        let joins = self.open.as_ref().is_some_and(|open| {
            open.next_position + count <= POSITIONS_MAX
                && group.writes.iter().all(|write| !open.changed.contains(&write.key))
        });
        if !joins {
            self.cut();
            self.revision.0 += 1;
        }
        let revision = self.revision;
        let open = self.open.get_or_insert_default();
        let first = open.next_position;
        open.next_position += count;
        let mut effects = Vec::with_capacity(group.writes.len());
        for ((write, before), position) in group.writes.into_iter().zip(before).zip(first..) {
            let key = write.key;
            let created = before.as_ref().map_or(revision, |stored| stored.record.created);
            let (now, lease) = match write.change {
                Change::Put { value, lease } => {
                    let key = key.clone();
                    (Some(Record { key, value, created, modified: revision, position }), lease)
                }
                Change::Delete if before.is_none() => continue,
                Change::Delete => (None, None),
            };
            let lease_before = before.as_ref().and_then(|stored| stored.lease);
            let before = before.map(|stored| stored.record);
            open.changed.insert(key.clone());
            let event = Event { revision, position, key, now };
            open.events.push(event.clone());
            effects.push(Effect { event, before, lease, lease_before });
        }
        (Outcome::Done { revision, positions: (first..first + count).collect() }, effects)
    }

    /// Ends the open transaction: the next group begins another one.
    pub(crate) fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            self.finished.push(Transaction { revision: self.revision, events: open.events });
        }
    }

    /// Makes the next transaction's revision greater than `revision`.
    pub(crate) fn skip_to(&mut self, revision: Revision) {
        self.cut();
        self.revision = self.revision.max(revision);
    }

    /// The last assigned revision.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The transactions, in order.
    pub(crate) fn finish(mut self) -> Vec<Transaction> {
        self.cut();
        self.finished
    }
}
