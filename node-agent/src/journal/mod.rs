//! What this node promised, across restarts: one file, a snapshot and the changes since ([`form`]).
//!
//! # Invariants
//!
//! * After a crash at any byte the file holds what was there before or what was written, nothing
//!   else. A snapshot takes the place of the file as a whole; what is added and was torn is dropped.
//! * What cannot be read otherwise is an error, never an empty journal: an agent that forgot what
//!   it promised would start things twice.

mod form;
mod room;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use api::cluster::Cluster;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::attempt::Attempt;
use crate::engine::Identity;
pub use form::Damage;
pub(crate) use room::{ENOUGH_BYTES, LOW_BYTES};
use shim::private;

/// Largest file that is read: some hundred thousand attempts.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Changes after which a new snapshot is made, beside those that the snapshot itself outweighs.
const CHANGES_MAX: usize = 1_000;

/// All that an agent remembers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// Who remembers it.
    pub owner: Owner,
    /// Attempts by identity.
    pub attempts: BTreeMap<Identity, Attempt>,
}

/// An agent, and for whom it works.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// Which installation of an agent this is; empty before its first start.
    pub agent: String,
    /// The node whose attempts it keeps; empty where an older version wrote it.
    #[serde(default)]
    pub node: String,
    /// The cluster that it works for; nothing before the first contact.
    #[serde(default)]
    pub cluster: Option<Cluster>,
}

impl Owner {
    /// Whether another node's attempts would be forgotten, were this record used for `node`: their
    /// containers carry that node's name, so nobody would stop them any more.
    pub fn is_of_another(&self, node: &str) -> bool {
        !self.node.is_empty() && self.node != node
    }
}

/// Where an agent keeps its record.
#[derive(Debug, Clone)]
pub enum Journal {
    /// A file.
    File(PathBuf),
    /// In memory, for simulations: clones share it, so that it outlives a crashed agent.
    Memory(
        /// Guards what the file would hold for one read or write.
        Arc<Mutex<Held>>,
    ),
}

/// What a journal in memory holds.
#[derive(Debug, Default)]
pub struct Held {
    bytes: Vec<u8>,
    /// Nothing more is written: a disk without room.
    is_full: bool,
    /// There is little room.
    is_short: bool,
}

impl Held {
    fn room(&self) -> Result<(), JournalError> {
        if self.is_full {
            let (path, source) = (PathBuf::from("in memory"), io::ErrorKind::StorageFull.into());
            return Err(JournalError::Io { path, source });
        }
        Ok(())
    }
}

/// A journal that is being written. Not to be used any more after an error.
#[derive(Debug)]
pub struct Log {
    journal: Journal,
    /// Open where changes are added; nothing of a journal in memory.
    file: Option<Arc<File>>,
    /// The checksum of all that is there.
    sum: u64,
    /// Changes since the snapshot.
    changes: usize,
    /// Attempts in the snapshot.
    snapshot: usize,
}

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk does not do its part.
    #[error("cannot use the journal {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no journal of ours.
    #[error(
        "the journal {path} is damaged or has another version, and without it the agent could \
         start tasks twice. Its containers keep running. Restore a copy of the file; or stop this \
         node's containers and remove the file. Then start the agent again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
}

impl Journal {
    /// The journal in `state_dir`, which is made where it is missing.
    pub fn in_dir(state_dir: &Path) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: state_dir.to_owned(), source };
        private::state_folder(state_dir).map_err(io)?;
        Ok(Self::File(state_dir.join("journal.log")))
    }

    /// An empty journal in memory.
    pub fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// The disk of a journal in memory is full from now on, or has room again.
    pub fn fill(&self, is_full: bool) {
        if let Self::Memory(held) = self {
            held.lock().unwrap_or_else(PoisonError::into_inner).is_full = is_full;
        }
    }

    /// The disk of a journal in memory is nearly full from now on, or has room again.
    pub fn run_short(&self, is_short: bool) {
        if let Self::Memory(held) = self {
            held.lock().unwrap_or_else(PoisonError::into_inner).is_short = is_short;
        }
    }

    /// Reads the record; an empty one where there is none.
    pub fn load(&self) -> Result<Record, JournalError> {
        let (path, bytes) = match self {
            Self::File(path) => {
                refuse_older(path)?;
                (path.clone(), read(path)?)
            }
            Self::Memory(held) => {
                let bytes = held.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone();
                (PathBuf::from("in memory"), (!bytes.is_empty()).then_some(bytes))
            }
        };
        match bytes {
            None => Ok(Record::default()),
            Some(bytes) => {
                form::parse(&bytes).map_err(|source| JournalError::Damaged { path, source })
            }
        }
    }

    /// Writes all of a record in place of what was there. It counts once this has returned.
    pub async fn begin(
        &self,
        owner: &Owner,
        attempts: &BTreeMap<Identity, Attempt>,
    ) -> Result<Log, JournalError> {
        let (bytes, sum) = form::snapshot(owner, attempts);
        let file = match self {
            Self::Memory(held) => {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                held.room()?;
                held.bytes = bytes;
                None
            }
            Self::File(path) => {
                let wanted = path.clone();
                Some(Arc::new(blocking(path, move || replace(&wanted, &bytes)).await?))
            }
        };
        Ok(Log { journal: self.clone(), file, sum, changes: 0, snapshot: attempts.len() })
    }
}

impl Log {
    /// Adds what attempts are now; nothing of those that are forgotten. All of it counts once this
    /// has returned, and nothing of it after a crash before.
    pub async fn append(
        &mut self,
        changes: &[(Identity, Option<Attempt>)],
    ) -> Result<(), JournalError> {
        let line = form::changes(changes, &mut self.sum);
        self.changes += changes.len();
        match (&self.journal, &self.file) {
            (Journal::Memory(held), _) => {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                held.room()?;
                held.bytes.extend(line);
            }
            (Journal::File(path), Some(file)) => {
                let file = Arc::clone(file);
                blocking(path, move || {
                    (&*file).write_all(&line)?;
                    file.sync_data()
                })
                .await?;
            }
            (Journal::File(_), None) => unreachable!("a log of a file begins with the file"),
        }
        Ok(())
    }

    /// Whether the file has grown so long that a new snapshot is worth its while, where so many
    /// attempts are known.
    pub fn is_long(&self, attempts: usize) -> bool {
        self.snapshot + self.changes > 2 * attempts + CHANGES_MAX
    }
}

/// The first form had another name: what it promised is not to be forgotten either.
fn refuse_older(path: &Path) -> Result<(), JournalError> {
    let path = path.with_extension("json");
    if path.exists() {
        let source = Damage { line: 1, byte: 0, what: "it has version 1".to_owned() };
        return Err(JournalError::Damaged { path, source });
    }
    Ok(())
}

/// Waits for the disk where that holds nobody up.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, JournalError> {
    base::blocking("journal", work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
        .map_err(|source| JournalError::Io { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(facts) if facts.len() > BYTES_MAX => {
            let message = format!(
                "the file has {} bytes, but a journal has at most {BYTES_MAX}: it is not a \
                 journal. Restore a copy of the file; or stop this node's containers and remove \
                 the file. Then start the agent again",
                facts.len()
            );
            Err(io(io::Error::new(io::ErrorKind::FileTooLarge, message)))
        }
        Ok(_) => fs::read(path).map(Some).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    }
}

/// Writes beside the file, then takes its place. What is written to it next is added.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let beside = beside(path);
    let mut file = private::file(&beside)?;
    let mut written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
        && room::give_back(path)
    {
        file = private::file(&beside)?;
        written = file.write_all(bytes).and_then(|()| file.sync_all());
    }
    if let Err(error) = written {
        // Half of a file is no use, and takes what room there is. If it stays, the next try
        // overwrites it.
        let _stays = fs::remove_file(&beside);
        return Err(error);
    }
    fs::rename(&beside, path)?;
    if let Some(dir) = path.parent() {
        // The new name is only kept once the folder is.
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("log.new")
}

#[cfg(test)]
mod tests;
