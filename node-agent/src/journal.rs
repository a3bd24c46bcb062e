//! What this node promised, across restarts: one small file.
//!
//! # Invariants
//!
//! * The file is replaced as a whole: after a crash at any byte it holds what was there before or
//!   what was written, nothing else.
//! * What cannot be read is an error, never an empty journal: an agent that forgot what it
//!   promised would start things twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::attempt::Attempt;
use crate::engine::Identity;

/// The form of the file.
const VERSION: u32 = 1;
/// Largest file that is read: some hundred thousand attempts.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// All that an agent remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// The form.
    version: u32,
    /// Which installation of an agent this is; empty before its first start.
    pub agent: String,
    /// The cluster that it works for; nothing before the first contact.
    #[serde(default)]
    pub cluster: Option<Cluster>,
    /// Attempts by identity.
    #[serde(with = "as_list", default)]
    pub attempts: BTreeMap<Identity, Attempt>,
    /// The number of the newest word.
    #[serde(default)]
    pub words: u64,
}

/// A cluster as an agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// Its id.
    pub id: String,
    /// Its store's epoch.
    pub epoch: u64,
}

/// Attempts carry their identity: on disk they are a list.
mod as_list {
    use super::{Attempt, BTreeMap, Deserialize, Deserializer, Identity, Serializer};

    pub(super) fn serialize<S: Serializer>(
        attempts: &BTreeMap<Identity, Attempt>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(attempts.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Identity, Attempt>, D::Error> {
        let list = Vec::<Attempt>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|attempt| (attempt.identity.clone(), attempt)).collect())
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: VERSION,
            agent: String::new(),
            cluster: None,
            attempts: BTreeMap::new(),
            words: 0,
        }
    }
}

/// Where an agent keeps its record.
#[derive(Debug, Clone)]
pub enum Journal {
    /// `journal.json` in a folder.
    File(PathBuf),
    /// In memory, for simulations: clones share it, so that it outlives a crashed agent.
    Memory(
        /// Guards the record for one read or write.
        Arc<Mutex<Vec<u8>>>,
    ),
}

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk does not do its part.
    #[error("use the journal {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no journal of ours.
    #[error(
        "read the journal {path}: it is damaged or of another version. Stop this node's \
         containers and remove the file, or put back a copy of it; then start the agent again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Journal {
    /// The journal in `state_dir`, which is made where it is missing.
    pub fn in_dir(state_dir: &Path) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: state_dir.to_owned(), source };
        fs::create_dir_all(state_dir).map_err(io)?;
        Ok(Self::File(state_dir.join("journal.json")))
    }

    /// An empty journal in memory.
    pub fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// Reads the record; an empty one where there is none.
    pub fn load(&self) -> Result<Record, JournalError> {
        let (path, bytes) = match self {
            Self::File(path) => (path.clone(), read(path)?),
            Self::Memory(bytes) => {
                let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner).clone();
                (PathBuf::from("in memory"), (!bytes.is_empty()).then_some(bytes))
            }
        };
        let Some(bytes) = bytes else {
            return Ok(Record::default());
        };
        parse(&bytes).map_err(|source| JournalError::Damaged { path, source })
    }

    /// Writes the record. What it says counts once this has returned.
    pub async fn save(&self, record: &Record) -> Result<(), JournalError> {
        let bytes = serde_json::to_vec(record).expect("a record has text keys only");
        match self {
            Self::Memory(held) => {
                *held.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
                Ok(())
            }
            Self::File(path) => {
                let path = path.clone();
                let wanted = path.clone();
                let written = tokio::task::spawn_blocking(move || replace(&wanted, &bytes)).await;
                written
                    .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
                    .map_err(|source| JournalError::Io { path, source })
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(facts) if facts.len() > BYTES_MAX => {
            Err(io(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large")))
        }
        Ok(_) => fs::read(path).map(Some).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    }
}

fn parse(bytes: &[u8]) -> Result<Record, serde_json::Error> {
    let record: Record = serde_json::from_slice(bytes)?;
    if record.version == VERSION {
        return Ok(record);
    }
    let why = format!("it has version {}, and this agent reads {VERSION}", record.version);
    Err(serde::de::Error::custom(why))
}

/// Writes beside the file, then takes its place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        // The new name is only kept once the folder is.
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::attempt::Progress;

    fn record(agent: &str) -> Record {
        let identity = Identity::new("default", "web-0", "0af3", 2).unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let attempt = Attempt::found(identity.clone(), Progress::Starting { since });
        Record {
            agent: agent.to_owned(),
            cluster: Some(Cluster { id: "c1".to_owned(), epoch: 3 }),
            attempts: BTreeMap::from([(identity, attempt)]),
            ..Record::default()
        }
    }

    #[tokio::test]
    async fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        for journal in [Journal::in_dir(dir.path()).unwrap(), Journal::in_memory()] {
            assert_eq!(journal.load().unwrap(), Record::default());
            journal.save(&record("a")).await.unwrap();
            journal.save(&record("b")).await.unwrap();
            assert_eq!(journal.clone().load().unwrap(), record("b"));
        }
    }

    #[tokio::test]
    async fn a_write_that_was_cut_at_any_byte_leaves_the_old_record() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::in_dir(dir.path()).unwrap();
        journal.save(&record("old")).await.unwrap();
        let path = dir.path().join("journal.json");
        let new = serde_json::to_vec(&record("new")).unwrap();
        for cut in 0..=new.len() {
            fs::write(beside(&path), &new[..cut]).unwrap();
            assert_eq!(journal.load().unwrap(), record("old"), "cut at {cut}");
        }
        journal.save(&record("new")).await.unwrap();
        assert_eq!(journal.load().unwrap(), record("new"));
    }

    #[tokio::test]
    async fn a_torn_file_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::in_dir(dir.path()).unwrap();
        let whole = serde_json::to_vec(&record("a")).unwrap();
        for cut in 0..whole.len() {
            fs::write(dir.path().join("journal.json"), &whole[..cut]).unwrap();
            let error = journal.load().unwrap_err().to_string();
            assert!(error.contains("remove the file"), "cut at {cut}: {error}");
        }
    }
}
