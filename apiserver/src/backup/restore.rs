//! Restores a backup into an empty store, and starts a new epoch.
//! First, the store is marked as being restored, so that no apiserver serves it. Then the records
//! are written. Last, one write removes the mark and gives the store the id of the cluster. A
//! restore that was interrupted can be started again with the same backup; otherwise the store has
//! to be cleared.

use std::time::Duration;

use api::cluster::Cluster;
use api::resource_version::ResourceVersion;
use api::task::restore::restored;
use api::{KindId, Task, Timestamp};
use base::Rng;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{BeginError, Expectation, Group, List, Outcome, ReadError, Revision, Store};

use super::form::Summary;
use crate::identity::Restored;
use crate::{carried, encoding, keys, kinds};

/// How many revisions the lost store may have made since the backup: at 30,000 a second, a year's
/// worth.
const REVISIONS_SINCE_MAX: u64 = 1 << 40;
/// The number of writes in a group, and of groups in a call.
const GROUP_WRITES: usize = 60;
/// The number of bytes in a group: what the etcd store sends at once.
const GROUP_BYTES: usize = 512 * 1024;
/// How often a write with an unknown outcome is tried.
const TRIES_MAX: usize = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How many records are counted to describe what a store contains.
const COUNTED_MAX: usize = 1_000;

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store is not empty. Choose an empty one.
    #[error("the store is not empty: {0}")]
    NotEmpty(String),
    /// Another restore was begun. Finish that one, or clear the store.
    #[error("{0}")]
    Unfinished(String),
    /// The backup has a record that this version does not understand.
    #[error("cannot restore record {key}: {why}")]
    Record {
        /// The key of the record.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store cannot be read or written. Try again: a restore that was begun is continued.
    #[error("cannot write to the store: {0}; run the same command again to continue")]
    Store(String),
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Marks a store as being restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mark {
    /// The checksum of the backup.
    sha256: String,
    /// What the store becomes once it is restored.
    restored: Restored,
}

/// A restore in progress.
#[derive(Debug)]
pub struct Restore<'a> {
    store: &'a dyn Store,
    summary: &'a Summary,
    restored: Restored,
    mark: Revision,
    waiting: Vec<(String, Bytes)>,
}

/// Returns a record's value as it is written to the restored store.
fn revised(key: &str, value: Bytes, now: Timestamp) -> Result<Bytes, RestoreError> {
    let wrong = |why: String| RestoreError::Record { key: key.to_owned(), why };
    let full = format!("{}{key}", keys::PREFIX);
    if !keys::is_backed_up(key) {
        return Err(wrong("backups do not contain such records".to_owned()));
    }
    let kind = keys::kind_of(&full).ok_or_else(|| wrong("unknown kind".to_owned()))?;
    let json = encoding::json(&value).map_err(|error| wrong(error.to_string()))?;
    if kind != KindId::Task {
        // Nobody could read this record in the restored store either, and then its work would not
        // go on.
        let read = (kinds::strategy(kind).to_wire)(json, ResourceVersion::default());
        return read.map(|_| value.clone()).map_err(|error| wrong(error.to_string()));
    }
    let task: Task = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    let stored = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    let restored = restored(&task, now).to_stored();
    Ok(encoding::encode(&carried::over(stored, &task, &restored)))
}

/// The epoch that follows the backup's.
fn next_epoch(summary: &Summary) -> Result<u64, RestoreError> {
    summary.header.epoch.checked_add(1).ok_or_else(|| RestoreError::Record {
        key: "(header)".to_owned(),
        why:
            "its epoch is the largest possible number, so there is none left for the restored store"
                .to_owned(),
    })
}

/// Checks that revisions can continue to grow from the backup's, for any realistic time.
fn check_revision(summary: &Summary) -> Result<(), RestoreError> {
    let revision = summary.header.revision;
    if revision < ResourceVersion::REVISION_MAX / 2 {
        return Ok(());
    }
    let why = format!("its revision {revision} leaves no numbers for later changes");
    Err(RestoreError::Record { key: "(header)".to_owned(), why })
}

/// Checks that a record of a backup can be restored.
///
/// # Errors
/// This version does not understand it.
pub fn check(key: &str, value: Bytes) -> Result<(), RestoreError> {
    revised(key, value, Timestamp::UNIX_EPOCH).map(drop)
}

impl<'a> Restore<'a> {
    /// Marks an empty store as being restored, or continues this restore if it was begun before.
    ///
    /// # Errors
    /// The store has other content. Nothing was changed.
    pub async fn begin(
        store: &'a dyn Store,
        summary: &'a Summary,
        (now, rng): (Timestamp, &Rng),
    ) -> Result<Self, RestoreError> {
        next_epoch(summary)?;
        check_revision(summary)?;
        if let Some((mark, at)) = find_mark(store).await? {
            return Self::go_on(store, summary, mark, at);
        }
        if let Some(what) = contents(store).await? {
            return Err(RestoreError::NotEmpty(what));
        }
        let began_after = summary.header.revision.saturating_add(REVISIONS_SINCE_MAX);
        match store.begin_after(Revision(began_after)).await {
            Ok(()) => (),
            Err(BeginError::NotEmpty) => {
                let what = "it holds keys that do not belong to a Heliox cluster";
                return Err(RestoreError::NotEmpty(what.to_owned()));
            }
            Err(BeginError::Read(error)) => return Err(error.into()),
        }
        let backup_taken_at = summary.header.taken_at;
        let restore = rng.uuid().chars().take(8).collect();
        let restored = Restored { restore, at: now, backup_taken_at, began_after };
        let sha256 = summary.sha256.clone();
        let mark = Mark { sha256, restored };
        let value = serde_json::to_vec(&mark).expect("a mark has text keys only");
        let group = Group::default().guard(keys::CLUSTER, Expectation::Absent);
        let group = group.put(keys::RESTORING, Expectation::Absent, value);
        // Whatever the outcome, the next read shows what is in the store now.
        let _told_below = store.commit(vec![group]).await;
        match find_mark(store).await? {
            Some((found, at)) if found == mark => Self::go_on(store, summary, mark, at),
            _ => Err(disturbed()),
        }
    }

    fn go_on(
        store: &'a dyn Store,
        summary: &'a Summary,
        mark: Mark,
        at: Revision,
    ) -> Result<Self, RestoreError> {
        if mark.sha256 != summary.sha256 {
            return Err(RestoreError::Unfinished(format!(
                "another backup (of {}, SHA-256 {}) is being restored into this store, and its \
                 restore is not finished: run the same command with that backup, or clear the \
                 store",
                mark.restored.backup_taken_at, mark.sha256
            )));
        }
        Ok(Self { store, summary, restored: mark.restored, mark: at, waiting: Vec::new() })
    }

    /// Writes a record, possibly later, together with others.
    ///
    /// # Errors
    /// The store cannot be written, or another process is changing it.
    pub async fn put(&mut self, key: &str, value: Bytes) -> Result<(), RestoreError> {
        let value = revised(key, value, self.restored.at)?;
        let bytes: usize = self.waiting.iter().map(|(key, value)| key.len() + value.len()).sum();
        if self.waiting.len() == GROUP_WRITES || bytes + value.len() > GROUP_BYTES {
            self.flush().await?;
        }
        self.waiting.push((format!("{}{key}", keys::PREFIX), value));
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), RestoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let group = Group::default().guard(keys::RESTORING, Expectation::Modified(self.mark));
        let group = waiting
            .into_iter()
            .fold(group, |group, (key, value)| group.put(key, Expectation::Any, value));
        for _ in 0..TRIES_MAX {
            match self.store.commit(vec![group.clone()]).await.pop() {
                Some(Outcome::Done { .. }) => return Ok(()),
                Some(Outcome::Refused { .. }) => return Err(disturbed()),
                Some(Outcome::Full(why) | Outcome::Invalid(why)) => {
                    return Err(RestoreError::Store(why));
                }
                Some(Outcome::Unknown) | None => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
        Err(RestoreError::Store("the store does not answer".to_owned()))
    }

    /// Gives the store the id of the cluster. Only after this will an apiserver serve it.
    ///
    /// # Errors
    /// The same as those of [`Restore::put`].
    pub async fn finish(mut self) -> Result<Cluster, RestoreError> {
        self.flush().await?;
        let epoch = next_epoch(self.summary)?;
        let restored = serde_json::to_vec(&self.restored).expect("it has text keys only");
        let (id, restore) = (self.summary.header.cluster.clone(), self.restored.restore.clone());
        let group = Group::default()
            .delete(keys::RESTORING, Expectation::Modified(self.mark))
            .put(keys::CLUSTER, Expectation::Absent, id.clone())
            .put(keys::EPOCH, Expectation::Absent, epoch.to_string())
            .put(keys::RESTORED, Expectation::Absent, restored.clone());
        for _ in 0..TRIES_MAX {
            match self.store.commit(vec![group.clone()]).await.pop() {
                Some(Outcome::Done { .. }) => return Ok(Cluster { id, epoch, restore }),
                Some(Outcome::Full(why) | Outcome::Invalid(why)) => {
                    return Err(RestoreError::Store(why));
                }
                Some(Outcome::Refused { .. }) => {
                    let found = self.store.get(keys::RESTORED).await?;
                    // Our own write succeeded, and the answer was lost.
                    return if found.is_some_and(|it| it.value == restored) {
                        Ok(Cluster { id, epoch, restore })
                    } else {
                        Err(disturbed())
                    };
                }
                Some(Outcome::Unknown) | None => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
        Err(RestoreError::Store("the store does not answer".to_owned()))
    }
}

fn disturbed() -> RestoreError {
    RestoreError::Unfinished("another process is writing to this store".to_owned())
}

async fn find_mark(store: &dyn Store) -> Result<Option<(Mark, Revision)>, RestoreError> {
    let Some(record) = store.get(keys::RESTORING).await? else { return Ok(None) };
    match serde_json::from_slice(&record.value) {
        Ok(mark) => Ok(Some((mark, record.modified))),
        Err(error) => {
            let why = format!(
                "a restore that another version of heliox began here is not finished: {error}"
            );
            Err(RestoreError::Unfinished(why))
        }
    }
}

/// Describes the content of a store; `None` if it is empty.
async fn contents(store: &dyn Store) -> Result<Option<String>, RestoreError> {
    let list = List { prefix: keys::PREFIX.into(), at: None, after: None, limit: COUNTED_MAX };
    let page = store.list(list).await?;
    if page.records.is_empty() {
        return Ok(None);
    }
    let text = |record: store::Record| String::from_utf8_lossy(&record.value).into_owned();
    let cluster = store.get(keys::CLUSTER).await?.map_or_else(|| "unknown".to_owned(), text);
    let epoch = store.get(keys::EPOCH).await?.map_or_else(|| "unknown".to_owned(), text);
    let more = if page.more { "more than " } else { "" };
    let count = page.records.len();
    Ok(Some(format!("it holds cluster {cluster} (epoch {epoch}) with {more}{count} records")))
}
