//! What this node knows of its attempts, kept across restarts: one file with a snapshot and the
//! changes since ([`form`]).
//!
//! # Invariants
//!
//! * After a crash at any byte the file holds either what was there before or what was written. A
//!   snapshot replaces the whole file at once; a torn line at the end is ignored.
//! * Any other damage is an error and never read as an empty journal: an agent that forgets its
//!   attempts would start containers twice.
//! * A newer agent's journal is read as far as that is safe ([`form`]), and is an error otherwise.

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
use form::Problem;
pub(crate) use room::{ENOUGH_BYTES, LOW_BYTES};
use shim::private;

/// Largest file that is read, in bytes: some hundred thousand attempts.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// After this many changes, or as many as the snapshot has attempts, a new snapshot is written.
const CHANGES_MAX: usize = 1_000;

/// Everything that an agent remembers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// Which agent it belongs to.
    pub owner: Owner,
    /// Attempts by identity.
    pub attempts: BTreeMap<Identity, Attempt>,
}

/// An agent, and the cluster that it works for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Identity of the agent's installation; empty before the first start.
    pub agent: String,
    /// The node that it works as; empty if an earlier version wrote the journal.
    #[serde(default)]
    pub node: String,
    /// The cluster; `None` before the first contact.
    #[serde(default)]
    pub cluster: Option<Cluster>,
}

impl Owner {
    /// Whether this record belongs to another node than `node` and has attempts. Using it would
    /// forget them: their containers are labelled with the other node's name, so nobody would ever
    /// stop them.
    pub fn is_of_another(&self, node: &str) -> bool {
        !self.node.is_empty() && self.node != node
    }
}

/// Where an agent keeps its record.
#[derive(Debug, Clone)]
pub enum Journal {
    /// A file.
    File(PathBuf),
    /// In memory, for simulations. Clones share it, so that it survives a simulated crash of the
    /// agent.
    Memory(
        /// Guards the bytes for one read or write.
        Arc<Mutex<InMemory>>,
    ),
}

/// A journal in memory.
#[derive(Debug, Default)]
pub struct InMemory {
    bytes: Vec<u8>,
    /// Whether writes fail as on a full disk.
    is_full: bool,
    /// Whether little room is reported.
    is_short: bool,
}

impl InMemory {
    fn room(&self) -> Result<(), JournalError> {
        if self.is_full {
            let (path, source) = (PathBuf::from("in memory"), io::ErrorKind::StorageFull.into());
            return Err(JournalError::Io { path, source });
        }
        Ok(())
    }
}

/// A journal that is open for writing. It must not be used after an error.
#[derive(Debug)]
pub struct Log {
    journal: Journal,
    /// The file, open for appending; `None` for a journal in memory.
    file: Option<Arc<File>>,
    /// The checksum of the whole content.
    sum: u64,
    /// Number of changes since the snapshot.
    changes: usize,
    /// Number of attempts in the snapshot.
    snapshot: usize,
}

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("cannot use the journal {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged, or is not a journal of this version.
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
    /// Another version wrote what this one does not know and must not pass over.
    #[error(
        "version {written_by} of the agent wrote what this version ({}) does not know to the \
         journal {path}. If it was ignored, tasks could be started twice, or stopped. Their \
         containers keep running. Start version {written_by} or a later one again on this node",
        form::OURS
    )]
    NotKnown {
        /// The file.
        path: PathBuf,
        /// The version that wrote it.
        written_by: String,
        /// What is not known.
        source: Damage,
    },
}

impl Journal {
    /// The journal in `state_dir`, which is created if it does not exist.
    pub fn in_dir(state_dir: &Path) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: state_dir.to_owned(), source };
        private::state_folder(state_dir).map_err(io)?;
        Ok(Self::File(state_dir.join("journal.log")))
    }

    /// An empty journal in memory.
    pub fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// For simulations: makes the disk of a journal in memory full, or not full.
    pub fn fill(&self, is_full: bool) {
        if let Self::Memory(held) = self {
            held.lock().unwrap_or_else(PoisonError::into_inner).is_full = is_full;
        }
    }

    /// For simulations: makes the disk of a journal in memory nearly full, or not.
    pub fn run_short(&self, is_short: bool) {
        if let Self::Memory(held) = self {
            held.lock().unwrap_or_else(PoisonError::into_inner).is_short = is_short;
        }
    }

    /// Reads the record; an empty one if there is no journal.
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
            Some(bytes) => form::parse(&bytes).map_err(|problem| match problem {
                Problem::Damaged(source) => JournalError::Damaged { path, source },
                Problem::NotKnown { written_by, what } => {
                    JournalError::NotKnown { path, written_by, source: what }
                }
            }),
        }
    }

    /// Replaces the journal by a whole record. It is durable once this has returned.
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
    /// Appends the current state of attempts; `None` for forgotten ones. Either all of it is
    /// durable once this has returned, or, after a crash before that, nothing.
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

    /// Whether there are so many changes that a new snapshot is worthwhile, with this number of
    /// attempts.
    pub fn is_long(&self, attempts: usize) -> bool {
        self.snapshot + self.changes > 2 * attempts + CHANGES_MAX
    }
}

/// Refuses the first version's journal, which had another name: its attempts must not be forgotten.
fn refuse_older(path: &Path) -> Result<(), JournalError> {
    let path = path.with_extension("json");
    if path.exists() {
        let source = Damage { line: 1, byte: 0, what: "it has version 1".to_owned() };
        return Err(JournalError::Damaged { path, source });
    }
    Ok(())
}

/// Runs disk operations where they block no task.
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

/// Writes a new file beside the old one and renames it. The returned file is open for appending.
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
        // A partly written file is useless and takes room. If it cannot be removed, the next try
        // overwrites it.
        let _stays = fs::remove_file(&beside);
        return Err(error);
    }
    fs::rename(&beside, path)?;
    if let Some(dir) = path.parent() {
        // The rename is only durable once the folder is synced.
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("log.new")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod versions_tests;
