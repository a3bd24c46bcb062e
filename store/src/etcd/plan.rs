//! Decides which groups go into one transaction: pure.
//!
//! # Invariants
//!
//! * No transaction holds two groups of which one writes what the other writes, guards or expects:
//!   etcd evaluates all comparisons before any write, and refuses a transaction that writes a key
//!   twice.
//! * A transaction of several groups fits etcd's limits in both of its forms: everything at once and,
//!   should that be refused, each group by itself inside of it.
//! * The first of those that wait is always taken, so that nobody waits for ever.
//! * While etcd is full, what only deletes does not travel with what puts: etcd would refuse both.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::format::HEADER_BYTES;
use crate::{Change, Expectation, Group, Key};

/// etcd's limit on a transaction: the most of its comparisons, writes and nested transactions, and
/// on top of that the most of what a nested one has.
const OPERATIONS_MAX: usize = 128;
/// A group with more operations than this goes alone: little else would fit beside it.
const SHARED_OPERATIONS_MAX: usize = 64;
/// Bytes of a transaction's groups, which travel once in each form; etcd takes 1.5 MiB. 1 MiB.
const TRANSACTION_BYTES_MAX: usize = 1024 * 1024;
/// A larger group goes alone. 256 KiB.
const SHARED_BYTES_MAX: usize = 256 * 1024;
/// What a comparison or a write takes beside its key and value, generously.
const OPERATION_BYTES: usize = 64;
/// How many of those that wait are looked at for one transaction.
const LOOKED_AT_MAX: usize = 1024;

/// What a group takes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    comparisons: usize,
    writes: usize,
    bytes: usize,
}

impl Load {
    /// What `group` takes.
    pub(crate) fn of(group: &Group) -> Self {
        let mut load = Self { comparisons: 0, writes: group.writes.len(), bytes: 0 };
        for (key, expect) in expected(group) {
            load.comparisons += expect.comparisons();
            load.bytes += 2 * key.len() + OPERATION_BYTES;
        }
        for write in &group.writes {
            let value = match &write.change {
                Change::Put { value, .. } => value.len() + HEADER_BYTES,
                Change::Delete => 0,
            };
            load.bytes += write.key.len() + value + OPERATION_BYTES;
        }
        load
    }

    /// Whether it must have a transaction for itself.
    pub(crate) fn goes_alone(self) -> bool {
        self.operations() > SHARED_OPERATIONS_MAX || self.bytes > SHARED_BYTES_MAX
    }

    /// What a nested transaction of this group counts.
    fn operations(self) -> usize {
        self.comparisons.max(self.writes)
    }
}

/// A group that waits, as far as planning is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting<'a> {
    pub(crate) group: &'a Group,
    pub(crate) load: Load,
    /// Must have a transaction for itself.
    pub(crate) alone: bool,
}

/// The places of those among `waiting` that go into one transaction now.
pub(crate) fn gather<'a>(
    waiting: impl IntoIterator<Item = Waiting<'a>>,
    is_full: bool,
) -> Vec<usize> {
    let mut transaction = Transaction::default();
    let mut chosen = Vec::new();
    let mut puts = None;
    for (place, candidate) in waiting.into_iter().enumerate().take(LOOKED_AT_MAX) {
        if candidate.alone {
            if place == 0 {
                return vec![place];
            }
            continue;
        }
        if is_full && *puts.get_or_insert_with(|| candidate.group.puts()) != candidate.group.puts()
        {
            continue;
        }
        if transaction.takes(&candidate) {
            transaction.add(candidate);
            chosen.push(place);
        } else if transaction.is_full() {
            break;
        }
    }
    chosen
}

/// For each group of one call, the earlier ones that must have ended before it may be sent.
pub(crate) fn waits_for(groups: &[Group]) -> Vec<BTreeSet<usize>> {
    let mut writers: BTreeMap<&Key, usize> = BTreeMap::new();
    let mut lookers: BTreeMap<&Key, Vec<usize>> = BTreeMap::new();
    let mut all = Vec::with_capacity(groups.len());
    for (index, group) in groups.iter().enumerate() {
        let mut before = BTreeSet::new();
        for (key, _) in expected(group) {
            before.extend(writers.get(key));
        }
        for write in &group.writes {
            before.extend(writers.get(&write.key));
            before.extend(lookers.remove(&write.key).unwrap_or_default());
        }
        for (key, _) in expected(group) {
            lookers.entry(key).or_default().push(index);
        }
        for write in &group.writes {
            writers.insert(&write.key, index);
        }
        all.push(before);
    }
    all
}

/// Every expectation of a group that says something, guards first.
pub(crate) fn expected(group: &Group) -> impl Iterator<Item = (&Key, &Expectation)> {
    let guards = group.guards.iter().map(|guard| (&guard.key, &guard.expect));
    let writes = group.writes.iter().map(|write| (&write.key, &write.expect));
    guards.chain(writes).filter(|(_, expect)| **expect != Expectation::Any)
}

/// What a transaction holds so far.
#[derive(Debug, Default)]
struct Transaction<'a> {
    groups: usize,
    /// Distinct ones: what many groups expect alike is compared once.
    comparisons: usize,
    writes: usize,
    /// The most that one group counts.
    nested: usize,
    bytes: usize,
    expected: BTreeMap<&'a Key, Vec<&'a Expectation>>,
    written: BTreeSet<&'a Key>,
}

impl<'a> Transaction<'a> {
    fn takes(&self, candidate: &Waiting<'a>) -> bool {
        let new: usize = self.new_comparisons(candidate.group);
        let together = (self.comparisons + new).max(self.writes + candidate.load.writes);
        let nested = self.nested.max(candidate.load.operations());
        together <= OPERATIONS_MAX
            && self.groups + 1 + nested <= OPERATIONS_MAX
            && self.bytes + candidate.load.bytes <= TRANSACTION_BYTES_MAX
            && !self.collides(candidate.group)
    }

    fn collides(&self, group: &Group) -> bool {
        let written = |key| self.written.contains(key);
        group
            .writes
            .iter()
            .any(|write| written(&write.key) || self.expected.contains_key(&write.key))
            || expected(group).any(|(key, _)| written(key))
    }

    fn new_comparisons(&self, group: &Group) -> usize {
        let known = |key: &Key, expect: &Expectation| {
            self.expected.get(key).is_some_and(|all| all.contains(&expect))
        };
        let new = expected(group).filter(|(key, expect)| !known(key, expect));
        new.map(|(_, expect)| expect.comparisons()).sum()
    }

    fn add(&mut self, candidate: Waiting<'a>) {
        self.groups += 1;
        self.comparisons += self.new_comparisons(candidate.group);
        self.writes += candidate.load.writes;
        self.nested = self.nested.max(candidate.load.operations());
        self.bytes += candidate.load.bytes;
        for (key, expect) in expected(candidate.group) {
            self.expected.entry(key).or_default().push(expect);
        }
        self.written.extend(candidate.group.writes.iter().map(|write| &write.key));
    }

    /// Whether not even a group of one write would fit.
    fn is_full(&self) -> bool {
        self.comparisons.max(self.writes) >= OPERATIONS_MAX
            || self.groups + self.nested >= OPERATIONS_MAX
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
