//! Which groups are valid, and what a group does to the current records. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    Change, Conflict, Expectation, GROUP_BYTES_MAX, GROUP_OPERATIONS_MAX, Group, Guard,
    KEY_BYTES_MAX, Key, LeaseId, Outcome, Record, Revision, VALUE_BYTES_MAX, Write,
};

impl Group {
    /// Adds a condition on a key that is not written.
    #[must_use]
    pub fn guard(mut self, key: impl Into<Key>, expect: Expectation) -> Self {
        self.guards.push(Guard { key: key.into(), expect });
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(self, key: impl Into<Key>, expect: Expectation, value: impl Into<Bytes>) -> Self {
        self.write(key, expect, Change::Put { value: value.into(), lease: None })
    }

    /// Adds a put of a key that is deleted when the node lease ends.
    #[must_use]
    pub fn put_under(
        self,
        lease: LeaseId,
        key: impl Into<Key>,
        expect: Expectation,
        value: impl Into<Bytes>,
    ) -> Self {
        self.write(key, expect, Change::Put { value: value.into(), lease: Some(lease) })
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(self, key: impl Into<Key>, expect: Expectation) -> Self {
        self.write(key, expect, Change::Delete)
    }

    /// Whether it puts something. Groups that only delete need no room.
    pub(crate) fn puts(&self) -> bool {
        self.writes.iter().any(|write| write.change != Change::Delete)
    }

    fn write(mut self, key: impl Into<Key>, expect: Expectation, change: Change) -> Self {
        self.writes.push(Write { key: key.into(), expect, change });
        self
    }
}

impl Expectation {
    /// Whether it holds for the current record.
    pub fn holds(&self, found: Option<&Record>) -> bool {
        match (self, found) {
            (Self::Any, _) | (Self::Absent, None) => true,
            (Self::Modified(revision), Some(record)) => record.modified == *revision,
            (Self::Created(revision), Some(record)) => record.created == *revision,
            (Self::Value(value), Some(record)) => record.value == *value,
            (Self::Absent, Some(_))
            | (Self::Modified(_) | Self::Created(_) | Self::Value(_), None) => false,
        }
    }

    /// How many of etcd's comparisons it needs.
    pub(crate) fn comparisons(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Absent | Self::Modified(_) | Self::Created(_) => 1,
            // Greater than one bound and less than another.
            Self::Value(_) => 2,
        }
    }
}

impl Outcome {
    /// The revision at which the group happened, if it certainly did.
    pub fn done(&self) -> Option<Revision> {
        match self {
            Self::Done { revision, .. } => Some(*revision),
            Self::Refused { .. } | Self::Unknown | Self::Full(_) | Self::Invalid(_) => None,
        }
    }

    /// Whether the group certainly happened.
    pub fn is_done(&self) -> bool {
        self.done().is_some()
    }
}

/// A record and the node lease that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) lease: Option<LeaseId>,
}

/// The current records, by which a group is judged.
pub(crate) trait There {
    type Error;
    fn find(&self, key: &Key) -> Result<Option<Stored>, Self::Error>;
    fn has_lease(&self, lease: LeaseId) -> Result<bool, Self::Error>;
}

/// The result of judging a group.
#[derive(Debug)]
pub(crate) enum Verdict {
    Invalid(String),
    Refused(Vec<Conflict>),
    /// It happens. For each write, what it replaces.
    Happens(Vec<Option<Stored>>),
}

/// Judges a group by the current records.
pub(crate) fn judge<T: There>(group: &Group, there: &T) -> Result<Verdict, T::Error> {
    if let Err(reason) = check_bounds(group) {
        return Ok(Verdict::Invalid(reason));
    }
    let mut conflicts = Vec::new();
    for guard in group.guards.iter().filter(|guard| guard.expect != Expectation::Any) {
        let found = there.find(&guard.key)?.map(|stored| stored.record);
        if !guard.expect.holds(found.as_ref()) {
            conflicts.push(Conflict { key: guard.key.clone(), found });
        }
    }
    let mut before = Vec::with_capacity(group.writes.len());
    for write in &group.writes {
        let found = there.find(&write.key)?;
        let record = found.as_ref().map(|stored| &stored.record);
        if !write.expect.holds(record) {
            conflicts.push(Conflict { key: write.key.clone(), found: record.cloned() });
        }
        before.push(found);
    }
    if !conflicts.is_empty() {
        return Ok(Verdict::Refused(conflicts));
    }
    for write in &group.writes {
        if let Change::Put { lease: Some(lease), .. } = &write.change
            && !there.has_lease(*lease)?
        {
            return Ok(Verdict::Invalid(format!("node lease {} is not there", lease.0)));
        }
    }
    Ok(Verdict::Happens(before))
}

/// Whether the group is within the bounds of every store.
pub(crate) fn check_bounds(group: &Group) -> Result<(), String> {
    let operations = group.guards.len() + group.writes.len();
    if operations > GROUP_OPERATIONS_MAX {
        return Err(format!("{operations} guards and writes; at most {GROUP_OPERATIONS_MAX}"));
    }
    let expected = group.guards.iter().map(|guard| &guard.expect);
    let expected = expected.chain(group.writes.iter().map(|write| &write.expect));
    let comparisons: usize = expected.map(Expectation::comparisons).sum();
    if comparisons > GROUP_OPERATIONS_MAX {
        return Err(format!(
            "expectations of {comparisons} comparisons (a value takes two); at most \
             {GROUP_OPERATIONS_MAX}"
        ));
    }
    let mut bytes = 0;
    for Guard { key, expect } in &group.guards {
        bytes += check_key(key)? + expected_bytes(expect);
    }
    let mut written = BTreeSet::new();
    for Write { key, expect, change } in &group.writes {
        bytes += check_key(key)? + expected_bytes(expect);
        if let Change::Put { value, .. } = change {
            if value.len() > VALUE_BYTES_MAX {
                return Err(format!(
                    "the value of {key} has {} bytes; at most {VALUE_BYTES_MAX}",
                    value.len()
                ));
            }
            bytes += value.len();
        }
        if !written.insert(key) {
            return Err(format!("{key} is written twice"));
        }
    }
    if bytes > GROUP_BYTES_MAX {
        return Err(format!("the group has {bytes} bytes; at most {GROUP_BYTES_MAX}"));
    }
    Ok(())
}

fn check_key(key: &Key) -> Result<usize, String> {
    match key.len() {
        0 => Err("a key is empty".to_owned()),
        1..=KEY_BYTES_MAX => Ok(key.len()),
        bytes => Err(format!("a key has {bytes} bytes; at most {KEY_BYTES_MAX}")),
    }
}

fn expected_bytes(expect: &Expectation) -> usize {
    match expect {
        Expectation::Value(value) => value.len(),
        Expectation::Any
        | Expectation::Absent
        | Expectation::Modified(_)
        | Expectation::Created(_) => 0,
    }
}
