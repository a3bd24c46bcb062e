//! Opens the database, or reports clearly why it cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend};

use crate::embedded::format::{
    CHANGES, CURRENT, FORMAT, LEASE_KEYS, LEASES, LOG, META, META_FORMAT,
};

/// Size of the database's page cache: 8 MiB, enough for the inner pages of all tables and what one
/// transaction changes. The operating system caches the rest, and readers of objects use the
/// apiserver's cache.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// The same if the database itself is in memory: 4 MiB.
const CACHE_BYTES_IN_MEMORY: usize = 4 * 1024 * 1024;
pub(crate) const FILE: &str = "store.redb";

/// Why a store cannot be opened: one variant for each thing the user does next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Choose another directory, or fix its permissions.
    #[error("cannot create the directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Stop the other process, or choose another directory.
    #[error("{} is in use by another process", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Use a newer program, or another directory.
    #[error("{} has format {found}; this version reads formats up to {known}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u64,
        /// The newest format that this program reads.
        known: u64,
    },
    /// Restore a backup, or choose another directory.
    #[error("{} is damaged or is not a store: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found wrong.
        reason: String,
    },
    /// The disk or its permissions: look at the cause.
    #[error("open {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Opens the database in `dir`, and makes both if they are not there.
pub(crate) fn open(dir: &Path) -> Result<Database, OpenError> {
    make_directory(dir).map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
    let path = dir.join(FILE);
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create(&path)
        .map_err(|error| broken(&path, error.into()))?;
    prepare(&database, &path)?;
    // The file's directory entry must survive a power cut as well as its content.
    std::fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
    Ok(database)
}

/// A database in memory.
pub(crate) fn in_memory() -> Result<Database, OpenError> {
    over(InMemoryBackend::new())
}

/// A database over any backend.
pub(crate) fn over(backend: impl StorageBackend) -> Result<Database, OpenError> {
    let path = Path::new("(memory)");
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES_IN_MEMORY)
        .create_with_backend(backend)
        .map_err(|error| broken(path, error.into()))?;
    prepare(&database, path)?;
    Ok(database)
}

fn make_directory(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    // Secrets are among the values.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Checks the format. Creates the tables in a new file.
fn prepare(database: &Database, path: &Path) -> Result<(), OpenError> {
    let found = format_of(database).map_err(|error| broken(path, error))?;
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(OpenError::Format { path: path.to_owned(), found, known: FORMAT }),
        None => make_tables(database).map_err(|error| broken(path, error)),
    }
}

fn format_of(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(META_FORMAT)?.map(|format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(CURRENT)?;
    transaction.open_table(CHANGES)?;
    transaction.open_table(LOG)?;
    transaction.open_table(LEASES)?;
    transaction.open_table(LEASE_KEYS)?;
    transaction.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    transaction.commit()?;
    Ok(())
}

/// Classifies the database's errors by what to do about them.
#[expect(clippy::wildcard_enum_match_arm, reason = "the database may add errors")]
pub(crate) fn broken(path: &Path, error: redb::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::Locked { path }
        }
        redb::Error::Corrupted(reason) => OpenError::Damaged { path, reason },
        redb::Error::UpgradeRequired(_) | redb::Error::RepairAborted => {
            OpenError::Damaged { path, reason: error.to_string() }
        }
        redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            OpenError::Damaged { path, reason: source.to_string() }
        }
        redb::Error::Io(source) => OpenError::Io { path, source: Box::new(source) },
        other => OpenError::Io { path, source: Box::new(other) },
    }
}
