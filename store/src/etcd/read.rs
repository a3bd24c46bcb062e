//! Reads keys, lists (in chunks of one revision), and the oldest revision that can be read.
//!
//! # Invariants
//!
//! * The oldest revision is the one that etcd was compacted at, by whatever process. It can still
//!   be read, and is at most the current one. etcd may not send a delete at this very revision to
//!   watchers, so a watch can only start after it.

use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, Error, GetOptions, GetResponse, WatchOptions};
use tracing::warn;

use crate::etcd::Remote;
use crate::etcd::format::{Decoded, Keyspace, revision, signed};
use crate::etcd::members::{MESSAGE_BYTES_MAX, Trouble};
use crate::{List, PAGE_BYTES_MAX, PAGE_RECORDS_MAX, Page, ReadError, Record, Revision};

/// The bytes of one chunk of a list: an amount that is quick to make, send and read.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// The number of records in the first chunk, before anything is known about their size.
const FIRST_CHUNK_RECORDS: usize = 64;

/// An estimate of the size of a record in a list.
#[derive(Debug)]
pub(crate) struct RecordBytes(AtomicUsize);

impl Default for RecordBytes {
    fn default() -> Self {
        Self(AtomicUsize::new(CHUNK_BYTES / FIRST_CHUNK_RECORDS))
    }
}

impl RecordBytes {
    fn chunk_records(&self) -> usize {
        (CHUNK_BYTES / self.0.load(Ordering::Relaxed).max(1)).clamp(1, PAGE_RECORDS_MAX)
    }

    fn learn(&self, records: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(records) {
            self.0.store(each, Ordering::Relaxed);
        }
    }

    fn double(&self) {
        self.0.store(2 * self.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A chunk of a list.
struct Chunk {
    at: Revision,
    records: Vec<Record>,
    /// The last key in it, as etcd has it, even if callers cannot use it.
    last: Option<Vec<u8>>,
    more: bool,
}

impl Remote {
    pub(crate) async fn read_key(&self, key: &str) -> Result<Option<Record>, ReadError> {
        if key.is_empty() || Keyspace::is_own(key) {
            return Ok(None);
        }
        let stored = self.keys.stored(key);
        let mut answer = self
            .members
            .call_patiently(|client| get(client, stored.clone(), GetOptions::new()))
            .await?;
        self.members.learn(answer.header())?;
        let Some(pair) = answer.0.kvs.pop() else {
            return Ok(None);
        };
        match self.keys.decode(pair) {
            // A caller that reads a single key is about to act on its value.
            Some(Decoded { id: None, .. }) => Err(ReadError::Unavailable(foreign(key))),
            decoded => Ok(decoded.map(|decoded| decoded.record)),
        }
    }

    pub(crate) async fn read_revision(&self) -> Result<Revision, ReadError> {
        let barrier = self.keys.barrier();
        let options = GetOptions::new().with_count_only();
        let ask = |client| get(client, barrier.clone(), options.clone());
        let answer = self.members.call_patiently(ask).await?;
        Ok(self.members.learn(answer.header())?)
    }

    /// etcd only says what it has compacted when somebody watches a compacted revision.
    pub(crate) async fn read_oldest(&self) -> Result<Revision, ReadError> {
        // The first revision has nothing that could be compacted.
        let first = Revision(1);
        let barrier = self.keys.barrier();
        let options = GetOptions::new().with_count_only().with_revision(1);
        let ask = |client| get(client, barrier.clone(), options.clone());
        match self.members.call_patiently(ask).await {
            Ok(_) => return Ok(first),
            Err(Trouble::Compacted) => (),
            Err(trouble) => return Err(trouble.into()),
        }
        let compacted =
            self.members.call_patiently(|client| compacted_at(client, barrier.clone())).await?;
        Ok(revision(compacted))
    }

    /// Checks that a watch can start at `from`.
    pub(crate) async fn check_kept(&self, from: Revision) -> Result<(), ReadError> {
        // `from` itself need not exist yet if the watch waits for what comes.
        let before = Revision(from.0.saturating_sub(1));
        if before.0 == 0 {
            let oldest = self.read_oldest().await?;
            return if from < oldest {
                Err(ReadError::Compacted { asked: from, oldest })
            } else {
                Ok(())
            };
        }
        loop {
            let Some(before) = signed(before.0) else {
                let current = self.read_revision().await?;
                return Err(ReadError::Future { asked: from, current });
            };
            let barrier = self.keys.barrier();
            let options = GetOptions::new().with_count_only().with_revision(before);
            let ask = |client| get(client, barrier.clone(), options.clone());
            match self.members.call_patiently(ask).await {
                Ok(answer) => {
                    self.members.learn(answer.header())?;
                    return Ok(());
                }
                Err(trouble) => match self.refusal(trouble, from, Revision(from.0 - 1)).await? {
                    Some(error) => return Err(error),
                    None => continue,
                },
            }
        }
    }

    /// The error for a revision that etcd does not have; `None` if it has it by now.
    async fn refusal(
        &self,
        trouble: Trouble,
        asked: Revision,
        needed: Revision,
    ) -> Result<Option<ReadError>, ReadError> {
        match trouble {
            Trouble::Compacted => {
                let oldest = self.read_oldest().await?;
                Ok(Some(ReadError::Compacted { asked, oldest }))
            }
            Trouble::Future => {
                let current = self.read_revision().await?;
                Ok((needed > current).then_some(ReadError::Future { asked, current }))
            }
            trouble @ (Trouble::NoLease
            | Trouble::Invalid(_)
            | Trouble::TooLong(_)
            | Trouble::LoggedOut(_)
            | Trouble::Forbidden(_)
            | Trouble::Full
            | Trouble::Lost(_)) => Err(trouble.into()),
        }
    }

    pub(crate) async fn read_list(&self, list: List) -> Result<Page, ReadError> {
        let limit = list.limit.min(PAGE_RECORDS_MAX);
        let mut page =
            Page { revision: list.at.unwrap_or_default(), records: Vec::new(), more: true };
        let after = list.after.as_ref().map(|after| self.keys.stored(after));
        let (mut at, mut after, mut bytes) = (list.at, after, 0);
        while page.more && (page.records.len() < limit || at.is_none()) && bytes < PAGE_BYTES_MAX {
            let wanted = (limit - page.records.len()).min(self.record_bytes.chunk_records());
            let chunk = match self.read_chunk(&list, at, after.as_deref(), wanted.max(1)).await {
                Ok(chunk) => chunk,
                Err(Trouble::TooLong(_)) if wanted > 1 => {
                    self.record_bytes.double();
                    continue;
                }
                Err(trouble) => {
                    let asked = at.unwrap_or_default();
                    match self.refusal(trouble, asked, asked).await? {
                        Some(error) => return Err(error),
                        None => continue,
                    }
                }
            };
            page.revision = chunk.at;
            at = Some(chunk.at);
            page.more = chunk.more;
            let new: usize = chunk.records.iter().map(|record| record.value.len()).sum();
            self.record_bytes.learn(chunk.records.len(), new);
            for record in chunk.records {
                if page.records.len() == limit || bytes >= PAGE_BYTES_MAX {
                    page.more = true;
                    break;
                }
                bytes += record.value.len();
                page.records.push(record);
            }
            after = chunk.last.or(after);
            if limit == 0 {
                break;
            }
        }
        Ok(page)
    }

    /// Reads some records of a list, as of `at` or as of now.
    async fn read_chunk(
        &self,
        list: &List,
        at: Option<Revision>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Chunk, Trouble> {
        let (mut start, end) = self.keys.range(&list.prefix);
        if let Some(after) = after {
            let mut next = after.to_vec();
            next.push(0);
            start = start.max(next);
        }
        if end != [0] && start >= end {
            start.clone_from(&end);
        }
        let number = |at: Revision| signed(at.0).ok_or(Trouble::Future);
        let limit = i64::try_from(limit).expect("a page's bound fits");
        let mut options = GetOptions::new().with_range(end).with_limit(limit);
        match at {
            // etcd would take it to mean the current revision.
            Some(Revision(0)) => return Err(Trouble::Compacted),
            Some(at) => options = options.with_revision(number(at)?),
            None => (),
        }
        let range = self
            .members
            .call_patiently(|client| {
                let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
                let (start, options) = (start.clone(), options.clone());
                async move { kv.get(start, Some(options)).await }
            })
            .await?;
        let now = self.members.learn(range.header())?;
        let more = range.more();
        let last = range.kvs().last().map(|pair| pair.key().to_vec());
        let mut records = Vec::with_capacity(range.kvs().len());
        for pair in range.0.kvs {
            let Some(Decoded { record, id }) = self.keys.decode(pair) else { continue };
            if id.is_none() {
                warn!("{}", foreign(&record.key));
            }
            records.push(record);
        }
        Ok(Chunk { at: at.unwrap_or(now), records, last, more })
    }

    /// Makes etcd compact what was before `keep_from`.
    pub(crate) async fn forget(&self, keep_from: Revision) -> Result<(), ReadError> {
        let current = self.read_revision().await?;
        let Some(oldest) = signed(keep_from.min(current).0).filter(|it| *it > 1) else {
            return Ok(());
        };
        let ask = |mut client: Client| async move { client.compact(oldest, None).await };
        match self.members.call_patiently(ask).await {
            Ok(_) | Err(Trouble::Compacted) => Ok(()),
            Err(trouble) => Err(trouble.into()),
        }
    }
}

async fn get(client: Client, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, Error> {
    client.kv_client().get(key, Some(options)).await
}

/// The last revision that was compacted, which must be greater than 1.
async fn compacted_at(client: Client, key: Vec<u8>) -> Result<i64, Error> {
    let options = WatchOptions::new().with_start_revision(1);
    let mut stream = client.watch_client().watch(key, Some(options)).await?;
    while let Some(answer) = stream.message().await? {
        if answer.compact_revision() > 0 {
            return Ok(answer.compact_revision());
        }
    }
    Err(Error::WatchError("the watch ended early".to_owned()))
}

/// The message for a key that another program has put.
pub(crate) fn foreign(key: &str) -> String {
    format!(
        "{key} was not written by Heliox, or was written by a newer version: see \"A key that was not \
         written by Heliox\" in docs/operations.md"
    )
}
