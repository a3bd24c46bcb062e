//! Reads a store for a backup, page by page, all at one revision.

use std::sync::Arc;

use api::Timestamp;
use bytes::Bytes;
use store::{Key, List, ReadError, Revision, Store};

use super::form::{Header, Writer, error_line};
use crate::keys;

/// How many records are read at once.
const PAGE_RECORDS: usize = 1_000;

/// Why a store cannot be backed up.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store has no cluster, or an incomplete one.
    #[error("{0}")]
    NoCluster(String),
    /// The store cannot be read. If its history was compacted meanwhile, the backup took too long.
    #[error("cannot read the store")]
    Read(#[from] ReadError),
}

/// The lines of a backup, produced while the store is read.
#[derive(Debug)]
pub struct Lines {
    store: Arc<dyn Store>,
    writer: Writer,
    at: Revision,
    /// The first lines, if not returned yet.
    first: Option<Bytes>,
    after: Option<Key>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Records,
    End,
    Over,
}

/// Starts a backup of the current state of the store.
pub async fn backup(store: Arc<dyn Store>, now: Timestamp) -> Result<Lines, BackupError> {
    let none = |why: &str| BackupError::NoCluster(why.to_owned());
    if store.get(keys::RESTORING).await?.is_some() {
        return Err(none("a restore into this store is not finished; run it again first"));
    }
    let text = |record: store::Record| String::from_utf8(record.value.to_vec()).ok();
    let cluster = store.get(keys::CLUSTER).await?.and_then(text);
    let epoch = store.get(keys::EPOCH).await?.and_then(text).and_then(|it| it.parse().ok());
    let (Some(cluster), Some(epoch)) = (cluster, epoch) else {
        return Err(none("the store holds no Heliox cluster"));
    };
    let at = store.revision().await?;
    let mut writer = Writer::default();
    let first = Some(writer.header(Header::new((cluster, epoch), at.0, now)).into());
    Ok(Lines { store, writer, at, first, after: None, state: State::Records })
}

impl Lines {
    /// The revision that is backed up.
    pub(crate) fn revision(&self) -> Revision {
        self.at
    }

    /// The next lines, or `None` at the end. After an error there are no more lines, and the ones
    /// returned so far are not a backup.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let mut lines = Vec::new();
        while lines.is_empty() {
            match self.state {
                State::Records => self.page(&mut lines).await?,
                State::End => {
                    self.state = State::Over;
                    lines = self.writer.end();
                }
                State::Over => return Ok(None),
            }
        }
        Ok(Some(lines.into()))
    }

    /// Like [`Lines::next`], but reports an error in the last line, for callers with no other way
    /// to pass it on.
    pub(crate) async fn next_or_why_not(&mut self) -> Option<Bytes> {
        match self.next().await {
            Ok(lines) => lines,
            Err(error) => {
                self.state = State::Over;
                Some(error_line(&base::ErrorChain(&error).to_string()).into())
            }
        }
    }

    async fn page(&mut self, lines: &mut Vec<u8>) -> Result<(), BackupError> {
        let (prefix, after) = (keys::PREFIX.into(), self.after.take());
        let list = List { prefix, at: Some(self.at), after, limit: PAGE_RECORDS };
        let page = self.store.list(list).await?;
        for record in &page.records {
            let key = record.key.strip_prefix(keys::PREFIX).unwrap_or(&record.key);
            if keys::is_backed_up(key) {
                lines.extend(self.writer.record(key, &record.value));
            }
        }
        self.after = page.records.last().map(|record| Arc::clone(&record.key));
        if !page.more {
            self.state = State::End;
        }
        Ok(())
    }
}
