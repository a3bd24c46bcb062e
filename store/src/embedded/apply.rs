//! Makes a batch of work durable: everything that waits becomes one database transaction.

use std::time::Duration;

use redb::{Database, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use crate::embedded::format::{
    CHANGES, CURRENT, LEASE_KEYS, LEASES, LOG, META, META_LAST_LEASE, META_OLDEST, decode, encode,
    encoded_bytes,
};
use crate::gathering::{Effect, Gathering, Transaction};
use crate::group::{Stored, There, Verdict, judge};
use crate::{Expectation, Group, Key, LeaseId, Outcome, POSITIONS_MAX, Revision};

/// Most changes that one batch removes in a compaction, so that writers do not wait long for it.
const TRIM_CHANGES_MAX: usize = 2_000;

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Work {
    Commit(Vec<Group>),
    Grant(Duration),
    Revoke(Vec<LeaseId>),
    Compact(Revision),
    BeginAfter(Revision),
}

/// The result of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Committed(Vec<Outcome>),
    Granted(LeaseId, Duration),
    Revoked(Vec<LeaseId>),
    /// If `more` is set, there is more to compact: ask again.
    Compacted {
        oldest: Revision,
        more: bool,
    },
    /// The new current revision; nothing if the store is not empty.
    Begun(Option<Revision>),
}

/// A durable batch.
#[derive(Debug)]
pub(crate) struct Applied {
    /// One result for each request, in order.
    pub(crate) answers: Vec<Answer>,
    pub(crate) transactions: Vec<Transaction>,
}

/// Carries out all of `work` after `revision` and returns when it is on disk. After an error the
/// state on disk is not known until the database is opened again.
pub(crate) fn apply(
    database: &Database,
    revision: Revision,
    work: Vec<Work>,
) -> Result<Applied, redb::Error> {
    let transaction = database.begin_write()?;
    let (applied, dirty) = change(&transaction, revision, work)?;
    if dirty {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(applied)
}

/// Carries out all of `work` in a transaction. Returns whether there is anything to make durable.
fn change(
    transaction: &WriteTransaction,
    revision: Revision,
    work: Vec<Work>,
) -> Result<(Applied, bool), redb::Error> {
    let mut batch = Batch::new(transaction, revision)?;
    let mut answers = Vec::with_capacity(work.len());
    for work in work {
        answers.push(match work {
            Work::Commit(groups) => Answer::Committed(
                groups.into_iter().map(|group| batch.commit(group)).collect::<Result<_, _>>()?,
            ),
            Work::Grant(ttl) => Answer::Granted(batch.grant(ttl)?, ttl),
            Work::Revoke(leases) => {
                for lease in &leases {
                    batch.revoke(*lease)?;
                }
                Answer::Revoked(leases)
            }
            Work::Compact(keep_from) => batch.compact(keep_from)?,
            Work::BeginAfter(revision) => Answer::Begun(batch.begin_after(revision)?),
        });
    }
    Ok((Applied { answers, transactions: batch.gathering.finish() }, batch.dirty))
}

struct Tables<'a> {
    current: Table<'a, &'static str, &'static [u8]>,
    changes: Table<'a, (&'static str, u64), &'static [u8]>,
    log: Table<'a, (u64, u32), &'static str>,
    leases: Table<'a, u64, u64>,
    lease_keys: Table<'a, (u64, &'static str), ()>,
    meta: Table<'a, &'static str, u64>,
}

impl There for Tables<'_> {
    type Error = redb::Error;

    fn find(&self, key: &Key) -> Result<Option<Stored>, redb::Error> {
        Ok(self.current.get(&**key)?.map(|found| decode(key.clone(), found.value())))
    }

    fn has_lease(&self, lease: LeaseId) -> Result<bool, redb::Error> {
        Ok(self.leases.get(lease.0)?.is_some())
    }
}

struct Batch<'a> {
    tables: Tables<'a>,
    gathering: Gathering,
    /// Whether there is anything to make durable.
    dirty: bool,
}

impl<'a> Batch<'a> {
    fn new(transaction: &'a WriteTransaction, revision: Revision) -> Result<Self, redb::Error> {
        let tables = Tables {
            current: transaction.open_table(CURRENT)?,
            changes: transaction.open_table(CHANGES)?,
            log: transaction.open_table(LOG)?,
            leases: transaction.open_table(LEASES)?,
            lease_keys: transaction.open_table(LEASE_KEYS)?,
            meta: transaction.open_table(META)?,
        };
        Ok(Self { tables, gathering: Gathering::after(revision), dirty: false })
    }

    fn commit(&mut self, group: Group) -> Result<Outcome, redb::Error> {
        match judge(&group, &self.tables)? {
            Verdict::Invalid(reason) => Ok(Outcome::Invalid(reason)),
            Verdict::Refused(conflicts) => Ok(Outcome::Refused { conflicts }),
            Verdict::Happens(before) => self.happen(group, before),
        }
    }

    fn happen(
        &mut self,
        group: Group,
        before: Vec<Option<Stored>>,
    ) -> Result<Outcome, redb::Error> {
        let (outcome, effects) = self.gathering.place(group, before);
        for effect in &effects {
            self.write(effect)?;
        }
        self.dirty |= !effects.is_empty();
        Ok(outcome)
    }

    fn write(&mut self, effect: &Effect) -> Result<(), redb::Error> {
        let Effect { event, before, lease, lease_before } = effect;
        let key = &*event.key;
        let tables = &mut self.tables;
        match &event.now {
            Some(record) => encode(
                record,
                *lease,
                tables.current.insert_reserve(key, encoded_bytes(record))?.as_mut(),
            ),
            None => drop(tables.current.remove(key)?),
        }
        let change = (key, event.revision.0);
        match before {
            Some(record) => encode(
                record,
                None,
                tables.changes.insert_reserve(change, encoded_bytes(record))?.as_mut(),
            ),
            None => drop(tables.changes.insert(change, &[][..])?),
        }
        tables.log.insert((event.revision.0, event.position), key)?;
        if lease_before != lease {
            if let Some(lease) = lease_before {
                tables.lease_keys.remove((lease.0, key))?;
            }
            if let Some(lease) = lease {
                tables.lease_keys.insert((lease.0, key), ())?;
            }
        }
        Ok(())
    }

    fn grant(&mut self, ttl: Duration) -> Result<LeaseId, redb::Error> {
        let last = self.tables.meta.get(META_LAST_LEASE)?.map_or(0, |last| last.value());
        let lease = last + 1;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.tables.meta.insert(META_LAST_LEASE, lease)?;
        self.tables.leases.insert(lease, ttl_ms)?;
        self.dirty = true;
        Ok(LeaseId(lease))
    }

    fn revoke(&mut self, lease: LeaseId) -> Result<(), redb::Error> {
        if self.tables.leases.remove(lease.0)?.is_none() {
            return Ok(());
        }
        self.dirty = true;
        let mut keys = Vec::new();
        for entry in self.tables.lease_keys.range((lease.0, "")..)? {
            let (entry, ()) = entry.map(|(entry, nothing)| (entry, nothing.value()))?;
            let (of, key) = entry.value();
            if of != lease.0 {
                break;
            }
            keys.push(Key::from(key));
        }
        // Expiries are in transactions of their own.
        self.gathering.cut();
        let most = usize::try_from(POSITIONS_MAX).expect("a few bits");
        for keys in keys.chunks(most) {
            let mut group = Group::default();
            let mut before = Vec::with_capacity(keys.len());
            for key in keys {
                before.push(self.tables.find(key)?);
                group = group.delete(key.clone(), Expectation::Any);
            }
            self.happen(group, before)?;
        }
        self.gathering.cut();
        Ok(())
    }

    fn begin_after(&mut self, revision: Revision) -> Result<Option<Revision>, redb::Error> {
        if !self.tables.current.is_empty()? {
            return Ok(None);
        }
        // Data at the current revision belongs to the old history; ours starts after it.
        self.gathering.skip_to(revision.max(Revision(self.gathering.revision().0 + 1)));
        let current = self.gathering.revision();
        self.tables.meta.insert(META_OLDEST, current.0)?;
        self.dirty = true;
        Ok(Some(current))
    }

    fn compact(&mut self, keep_from: Revision) -> Result<Answer, redb::Error> {
        let Tables { log, changes, meta, .. } = &mut self.tables;
        let before = meta.get(META_OLDEST)?.map_or(0, |oldest| oldest.value());
        let oldest = before.max(keep_from.min(self.gathering.revision()).0);
        if oldest != before {
            meta.insert(META_OLDEST, oldest)?;
            self.dirty = true;
        }
        let mut trimmed = 0;
        for entry in log.extract_from_if(..(oldest, 0), |_, _| true)?.take(TRIM_CHANGES_MAX) {
            let (at, key) = entry?;
            changes.remove((key.value(), at.value().0))?;
            trimmed += 1;
        }
        self.dirty |= trimmed > 0;
        let more = trimmed == TRIM_CHANGES_MAX;
        Ok(Answer::Compacted { oldest: Revision(oldest), more })
    }
}
