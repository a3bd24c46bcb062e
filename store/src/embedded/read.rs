//! Reads from one snapshot of the database: current records, old records, and events.

use std::ops::Bound;

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};

use crate::embedded::format::{CHANGES, CURRENT, LEASES, LOG, META, META_OLDEST, decode};
use crate::{
    Event, Key, LeaseId, List, PAGE_BYTES_MAX, PAGE_RECORDS_MAX, Page, ReadError, Record, Revision,
};

/// Why a read failed: the old revision is not available, or the database failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Answer(ReadError),
    Database(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// Reads in a thread that may wait for the disk.
pub(crate) async fn in_thread<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        // The runtime is shutting down together with this task, so nobody waits for an answer.
        Err(stopped) if stopped.is_cancelled() => std::future::pending().await,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// The database at one moment.
pub(crate) struct Snapshot {
    current: ReadOnlyTable<&'static str, &'static [u8]>,
    changes: ReadOnlyTable<(&'static str, u64), &'static [u8]>,
    log: ReadOnlyTable<(u64, u32), &'static str>,
    meta: ReadOnlyTable<&'static str, u64>,
    leases: ReadOnlyTable<u64, u64>,
}

impl Snapshot {
    pub(crate) fn of(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        Ok(Self {
            current: transaction.open_table(CURRENT)?,
            changes: transaction.open_table(CHANGES)?,
            log: transaction.open_table(LOG)?,
            meta: transaction.open_table(META)?,
            leases: transaction.open_table(LEASES)?,
        })
    }

    /// The current revision.
    pub(crate) fn revision(&self) -> Result<Revision, redb::Error> {
        let last = self.log.last()?.map_or(0, |(at, _)| at.value().0);
        Ok(Revision(last).max(self.oldest()?))
    }

    /// The oldest revision that can be read.
    pub(crate) fn oldest(&self) -> Result<Revision, redb::Error> {
        Ok(Revision(self.meta.get(META_OLDEST)?.map_or(0, |oldest| oldest.value())))
    }

    /// Every node lease, with its time to live in milliseconds.
    pub(crate) fn leases(&self) -> Result<Vec<(LeaseId, u64)>, redb::Error> {
        let mut leases = Vec::new();
        for entry in self.leases.iter()? {
            let (lease, ttl_ms) = entry?;
            leases.push((LeaseId(lease.value()), ttl_ms.value()));
        }
        Ok(leases)
    }

    /// A page of current or old records.
    pub(crate) fn list(&self, list: &List) -> Result<Page, Failure> {
        let current = self.revision()?;
        let revision = list.at.unwrap_or(current);
        if revision > current {
            return Err(Failure::Answer(ReadError::Future { asked: revision, current }));
        }
        let oldest = self.oldest()?;
        if revision < oldest {
            return Err(Failure::Answer(ReadError::Compacted { asked: revision, oldest }));
        }
        let mut page = Page { revision, records: Vec::new(), more: false };
        let limit = list.limit.min(PAGE_RECORDS_MAX);
        let mut bytes = 0;
        let mut push = |record: Record| {
            page.more = page.records.len() == limit || bytes >= PAGE_BYTES_MAX;
            if !page.more {
                bytes += record.value.len();
                page.records.push(record);
            }
            page.more
        };
        if revision == current {
            self.now(list, &mut push)?;
        } else {
            self.was(list, revision, &mut push)?;
        }
        Ok(page)
    }

    /// Passes current records to `push` until that returns false.
    fn now(&self, list: &List, mut push: impl FnMut(Record) -> bool) -> Result<(), redb::Error> {
        for entry in self.current.range::<&str>((start_of(list), Bound::Unbounded))? {
            let (key, bytes) = entry?;
            let key = key.value();
            if !key.starts_with(&*list.prefix) || push(decode(key.into(), bytes.value()).record) {
                break;
            }
        }
        Ok(())
    }

    /// The same as of `revision`: walks over current records and later changes side by side. The
    /// record of a key at that time is what the first later change has stored as the record before
    /// it.
    fn was(
        &self,
        list: &List,
        revision: Revision,
        mut push: impl FnMut(Record) -> bool,
    ) -> Result<(), redb::Error> {
        let start = start_of(list);
        let mut current = self.current.range::<&str>((start, Bound::Unbounded))?;
        let mut next_current = || -> Result<_, redb::Error> {
            let Some((key, bytes)) = current.next().transpose()? else {
                return Ok(None);
            };
            let key = Key::from(key.value());
            let within = key.starts_with(&*list.prefix);
            Ok(within.then(|| decode(key, bytes.value()).record))
        };
        let mut changes = self.changes.range((changes_from(start), Bound::Unbounded))?;
        let mut next_change = || -> Result<_, redb::Error> {
            for entry in changes.by_ref() {
                let (at, before) = entry?;
                let (key, changed) = at.value();
                if !key.starts_with(&*list.prefix) {
                    break;
                }
                if changed > revision.0 {
                    let key = Key::from(key);
                    let before = decode_before(&key, before.value());
                    return Ok(Some((key, before)));
                }
            }
            Ok(None)
        };
        let (mut here, mut changed) = (next_current()?, next_change()?);
        loop {
            let record = match (&here, &changed) {
                (None, None) => return Ok(()),
                (Some(record), Some((key, _))) if record.key < *key => {
                    std::mem::replace(&mut here, next_current()?)
                }
                (Some(_), None) => std::mem::replace(&mut here, next_current()?),
                (_, Some((key, before))) => {
                    let (key, before) = (key.clone(), before.clone());
                    if here.as_ref().is_some_and(|record| record.key == key) {
                        here = next_current()?;
                    }
                    while changed.as_ref().is_some_and(|(next, _)| *next == key) {
                        changed = next_change()?;
                    }
                    before
                }
            };
            if record.is_some_and(&mut push) {
                return Ok(());
            }
        }
    }

    /// The current record of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Record>, redb::Error> {
        Ok(self.current.get(key)?.map(|found| decode(key.into(), found.value()).record))
    }

    /// The events of keys under `prefix` from `from` to `to`, in whole transactions, reading about
    /// `changes_max` changes. Also returns the revision to continue from.
    pub(crate) fn events(
        &self,
        prefix: &str,
        (from, to): (Revision, Revision),
        changes_max: usize,
    ) -> Result<(Vec<Event>, Revision), Failure> {
        let oldest = self.oldest()?;
        if from < oldest {
            return Err(Failure::Answer(ReadError::Compacted { asked: from, oldest }));
        }
        let mut events = Vec::new();
        let mut last = from.0;
        for (read, entry) in self.log.range((from.0, 0)..=(to.0, u32::MAX))?.enumerate() {
            let (at, key) = entry?;
            let (revision, position) = at.value();
            if read >= changes_max && revision != last {
                return Ok((events, Revision(revision)));
            }
            last = revision;
            if key.value().starts_with(prefix) {
                events.push(self.event(Revision(revision), position, key.value().into())?);
            }
        }
        Ok((events, Revision(to.0 + 1)))
    }

    fn event(&self, revision: Revision, position: u32, key: Key) -> Result<Event, redb::Error> {
        // What this change made is what the next change of the key has stored as the record before.
        let mut later = self.changes.range((&*key, revision.0 + 1)..=(&*key, u64::MAX))?;
        let now = match later.next().transpose()? {
            Some((_, before_next)) => decode_before(&key, before_next.value()),
            None => self.get(&key)?,
        };
        Ok(Event { revision, position, key, now })
    }
}

/// The record before a change; stored as empty bytes if there was none.
fn decode_before(key: &Key, bytes: &[u8]) -> Option<Record> {
    (!bytes.is_empty()).then(|| decode(key.clone(), bytes).record)
}

fn start_of(list: &List) -> Bound<&str> {
    match list.after.as_deref() {
        Some(after) if after >= &*list.prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(&*list.prefix),
    }
}

fn changes_from(start: Bound<&str>) -> Bound<(&str, u64)> {
    match start {
        Bound::Included(key) => Bound::Included((key, 0)),
        // No change has this revision: it means the end of the key's changes.
        Bound::Excluded(key) => Bound::Excluded((key, u64::MAX)),
        Bound::Unbounded => Bound::Unbounded,
    }
}
