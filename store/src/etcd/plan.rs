//! Decides which groups are combined into one transaction. It has no side effects.
//!
//! # Invariants
//!
//! * A transaction never has two groups of which one writes what the other writes, guards or
//!   expects: etcd evaluates all comparisons before any write, and refuses a transaction that
//!   writes a key twice.
//! * A transaction of several groups fits etcd's limits in both of its forms: everything at once
//!   and, after a conflict, each group in a nested transaction.
//! * The first waiting group is always included, so that no group waits for ever.
//! * While etcd is full, groups that only delete are not combined with groups that put, since etcd
//!   would refuse both.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::format::HEADER_BYTES;
use crate::{Change, Expectation, Group, Key};

/// etcd's limit for a transaction. It applies to the largest of the numbers of comparisons, writes
/// and nested transactions, plus the largest number in a nested transaction.
const OPERATIONS_MAX: usize = 128;
/// A group with more operations is sent alone, since little else would fit.
const SHARED_OPERATIONS_MAX: usize = 64;
/// The bytes of a transaction's groups, which are sent once in each form. 1 MiB; etcd accepts 1.5
/// MiB.
const TRANSACTION_BYTES_MAX: usize = 1024 * 1024;
/// A larger group is sent alone. 256 KiB.
const SHARED_BYTES_MAX: usize = 256 * 1024;
/// The size of a comparison or a write without its key and value, estimated generously.
const OPERATION_BYTES: usize = 64;
/// How many waiting groups are considered for a transaction.
const LOOKED_AT_MAX: usize = 1024;

/// How much of a transaction a group takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    comparisons: usize,
    writes: usize,
    bytes: usize,
}

impl Load {
    /// How much `group` takes up.
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

    /// Whether it has to be sent alone.
    pub(crate) fn goes_alone(self) -> bool {
        self.operations() > SHARED_OPERATIONS_MAX || self.bytes > SHARED_BYTES_MAX
    }

    /// The number of operations of a nested transaction with this group.
    fn operations(self) -> usize {
        self.comparisons.max(self.writes)
    }
}

/// A waiting group, as planning sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting<'a> {
    pub(crate) group: &'a Group,
    pub(crate) load: Load,
    /// Whether it has to be sent alone.
    pub(crate) alone: bool,
}

/// The indexes in `waiting` of the groups to send in one transaction now.
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

/// For each group of a call, the earlier groups that have to end before it may be sent.
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

/// Every expectation of a group that is not empty, guards first.
pub(crate) fn expected(group: &Group) -> impl Iterator<Item = (&Key, &Expectation)> {
    let guards = group.guards.iter().map(|guard| (&guard.key, &guard.expect));
    let writes = group.writes.iter().map(|write| (&write.key, &write.expect));
    guards.chain(writes).filter(|(_, expect)| **expect != Expectation::Any)
}

/// What a transaction contains so far.
#[derive(Debug, Default)]
struct Transaction<'a> {
    groups: usize,
    /// Distinct ones: what several groups expect alike is compared once.
    comparisons: usize,
    writes: usize,
    /// The largest number of operations of a group.
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

    /// Whether not even a group with a single write would fit.
    fn is_full(&self) -> bool {
        self.comparisons.max(self.writes) >= OPERATIONS_MAX
            || self.groups + self.nested >= OPERATIONS_MAX
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
