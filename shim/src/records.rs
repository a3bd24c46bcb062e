//! The files by which the process engine, its shims and a later agent know of a task.
//!
//! ```text
//! <state>/tasks/<stem>/spec.json   what is to run; written before the shim starts
//!                      shim.json   the shim; locked as long as it lives, and written by it before
//!                                  it starts the program
//!                      run.json    the main process; written by the shim
//!                      work/       where the task starts, by default
//! <state>/exits/<stem>             how it ended; written by the shim, last of all
//! <state>/logs/<stem>.log          what it wrote; outlives the rest
//! ```
//!
//! # Invariants
//!
//! * A task directory appears whole (renamed into place), and its lock is taken before its shim
//!   starts and is handed over to it: a free lock means that no shim runs or ever will. (Older versions
//!   locked a file `lock` of its own: where there is one, it is the lock.)
//! * An exit is written before the lock is released, atomically, and never changed.
//! * What a killed process leaves of a record is whole or nothing.
//! * Before the program starts, `spec.json` and `shim.json` are on disk: an agent that starts after
//!   the machine has lost its power knows that the program was started.
//!
//! # What is synced, and what is not
//!
//! A sync costs as much as all else that is done to a file, so only what must outlive a loss of power
//! is synced: the two records above. `run.json` means nothing to another boot, since all processes are
//! gone. An exit counts for an agent once its journal holds it, which is synced, once for many tasks,
//! before anybody is told; where power is lost before that, the task counts as one that ran when the
//! power was lost. Either may then be found empty or in part, so of an earlier boot a record that
//! cannot be read is taken as absent ([`TaskDir::is_of_earlier_boot`]).

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::private::{self, named};
use crate::table::{self, stat};

/// The record of a task's shim. Its file is the lock as well.
const SHIM: &str = "shim.json";

/// How many times, and with which pause, a killed process is checked until it is gone.
const DEATH_LOOKS: u32 = 200;
const DEATH_INTERVAL: Duration = Duration::from_millis(5);

/// What the shim is told to run. Only the agent reads the identity `I`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec<I> {
    /// Id of the agent's cluster.
    pub cluster: String,
    /// Name of the agent's node.
    pub node: String,
    /// The identity of the container.
    pub identity: I,
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub working_dir: PathBuf,
    /// The file for its output.
    pub log: PathBuf,
    /// How many bytes of output are kept.
    pub log_bytes_max: u64,
    /// The file for the record of its end.
    pub exit: PathBuf,
}

/// Identifies a task's main process, or its shim while there is none, and distinguishes it from any
/// later process with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The process id. A main process leads its process group, a shim leads its session.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub start_ticks: u64,
    /// The session, which the shim leads; 0 in a record of an older version.
    #[serde(default)]
    pub session: i32,
    /// The boot id of the machine when it was started.
    pub boot_id: String,
    /// When the task started.
    pub started: Timestamp,
}

/// How the main process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// When it started; `None` if it never did.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub at: Timestamp,
    /// Its exit code: 128 + n where signal n ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether nobody saw how it ended.
    #[serde(default)]
    pub is_unseen: bool,
    /// More details.
    pub message: Option<String>,
}

/// The shim's answer to the agent that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShimAnswer {
    /// The program is running.
    Started,
    /// It cannot run, however often it is tried.
    Refused(String),
    /// The task's own files cannot be used, for example on a full disk. It may run another time.
    Failed(String),
}

/// A task's directory.
#[derive(Debug, Clone)]
pub struct TaskDir(
    /// Its path.
    pub PathBuf,
);

impl TaskDir {
    /// What to run; nothing if the directory is gone.
    pub fn spec<I: DeserializeOwned>(&self) -> io::Result<Option<TaskSpec<I>>> {
        read(&self.0.join("spec.json"))
    }

    /// Writes what to run, into a directory that does not have its final name yet, so that nobody
    /// reads it before it is complete.
    pub fn write_spec<I: Serialize>(&self, spec: &TaskSpec<I>) -> io::Result<()> {
        create(&self.0.join("spec.json"), spec)
    }

    /// The main process, once the shim has recorded it.
    pub fn run(&self) -> io::Result<Option<RunRecord>> {
        read(&self.0.join("run.json"))
    }

    /// The shim, if it has come as far as starting the program. Before that, the file exists and is
    /// empty.
    pub fn shim(&self) -> io::Result<Option<RunRecord>> {
        let path = self.0.join(SHIM);
        if std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            return Ok(None);
        }
        read(&path)
    }

    /// Records the shim's own process before the program starts. If the shim is killed before it
    /// has recorded the main process, the program can be found by the shim's session.
    ///
    /// `lock` must be the descriptor that was inherited from [`TaskDir::lock`]: opening and closing
    /// the file again would look like the end of the shim. `folder` is this directory, opened.
    /// Nobody reads the record while the lock is held.
    pub fn write_shim(lock: BorrowedFd<'_>, shim: &RunRecord, folder: &File) -> io::Result<()> {
        let bytes = serde_json::to_vec(shim)?;
        let written = write_all(lock, &bytes).and_then(|()| rustix::fs::fsync(lock));
        if let Err(error) = written {
            // A partly written record is useless. If it stays, the task counts as damaged and is
            // not started twice.
            let _stays = Self::forget_shim(lock);
            return Err(error.into());
        }
        // Makes the name of the file durable, too. Journaling file systems have done that with the
        // file's sync.
        folder.sync_all()
    }

    /// Removes that record: the program could not be started.
    pub fn forget_shim(lock: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(lock, 0)?)
    }

    /// Reserves room for the record of the main process.
    pub fn reserve_run(&self) -> io::Result<Reserved> {
        Reserved::at(&self.0.join("run.json"))
    }

    /// Takes the lock, which is held while the file or a copy of its descriptor is open.
    pub fn lock(&self) -> io::Result<File> {
        let file = private::appended(&self.0.join(SHIM))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(file)
    }

    /// The file that is locked.
    pub fn lock_path(&self) -> PathBuf {
        let of_older_version = self.0.join("lock");
        if of_older_version.exists() { of_older_version } else { self.0.join(SHIM) }
    }

    /// Whether a shim is running or about to start.
    pub fn has_shim(&self) -> io::Result<bool> {
        let file = match File::open(self.lock_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether the program was started before the machine booted: then none of its processes
    /// exists, and records that were not synced may be empty or incomplete.
    pub fn is_of_earlier_boot(&self) -> bool {
        self.shim().is_ok_and(|shim| shim.is_some_and(|shim| !shim.is_of_this_boot()))
    }
}

impl RunRecord {
    /// Describes the current process with the id `pid`.
    pub fn of(pid: u32, started: Timestamp) -> io::Result<Self> {
        Self::with(pid, started, boot_id()?)
    }

    /// Describes another process of the same task.
    pub fn of_child(&self, pid: u32) -> io::Result<Self> {
        Self::with(pid, self.started, self.boot_id.clone())
    }

    fn with(pid: u32, started: Timestamp, boot_id: String) -> io::Result<Self> {
        let number = i32::try_from(pid).map_err(io::Error::other)?;
        let stat = stat(number)?
            .ok_or_else(|| io::Error::other(format!("process {pid} has no readable start time")))?;
        let table::Stat { start_ticks, session, .. } = stat;
        Ok(Self { pid: number, start_ticks, session, boot_id, started })
    }

    /// Whether the machine has not been restarted since.
    pub fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// Whether this very process still exists.
    pub fn is_alive(&self) -> bool {
        self.is_of_this_boot()
            && stat(self.pid).is_ok_and(|stat| {
                stat.is_some_and(|stat| !stat.is_zombie && stat.start_ticks == self.start_ticks)
            })
    }

    /// Whether the killed process disappears soon. Its parent is gone, so there is no event to wait
    /// for.
    pub fn dies(&self) -> bool {
        for _ in 0..DEATH_LOOKS {
            if !self.is_alive() {
                return true;
            }
            std::thread::park_timeout(DEATH_INTERVAL);
        }
        !self.is_alive()
    }

    /// Signals the process's group, unless the process does not exist any more.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match killpg(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads a record; nothing if it does not exist.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, &error)),
    }
}

/// A record is written atomically, so somebody else has changed it, or the disk is defective.
fn damaged(path: &Path, error: &serde_json::Error) -> io::Error {
    let is_exit = path.extension().is_none();
    let what = if is_exit { path } else { path.parent().unwrap_or(path) };
    let message = format!(
        "{} is damaged: {error}. Until the file is repaired, the task is left as it is, and its \
         node accepts no new tasks. Restore a copy of the file; or end the task's processes by \
         hand, if any are running, and remove {}",
        path.display(),
        what.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Whether an error means a damaged record. Such a task must be left alone.
pub fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Writes a record that nobody reads before it is complete, and syncs it.
fn create<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let written = serde_json::to_vec(record).map_err(io::Error::from).and_then(|bytes| {
        let mut file = private::file(path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        // A partly written record is useless and takes room.
        let _stays = std::fs::remove_file(path);
        named(path, &error)
    })
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where a record is written before it is renamed.
pub fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Bytes reserved for a record: a block of most file systems, and more than any record needs.
const RESERVED_BYTES: usize = 4096;

/// Reserved room for a record that is written later, when the disk may be full. Otherwise the
/// record of a running process, or of its end, could be lost.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
}

impl Reserved {
    /// Reserves room for the record at `path`.
    pub fn at(path: &Path) -> io::Result<Self> {
        let room = private::reserve(&beside(path), RESERVED_BYTES);
        room.map_err(|error| named(path, &error))?;
        Ok(Self { path: path.to_owned() })
    }

    /// The room that a shim has reserved which is gone, if any.
    pub fn kept(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Writes the record over the reserved file and renames it: the record exists completely or not
    /// at all, even if this process is killed. May be repeated after an error.
    pub fn write<T: Serialize>(&self, record: &T) -> io::Result<()> {
        self.put(record).map_err(|error| named(&self.path, &error))
    }

    fn put<T: Serialize>(&self, record: &T) -> io::Result<()> {
        let (new, bytes) = (beside(&self.path), serde_json::to_vec(record)?);
        let mut file = private::overwritten(&new)?;
        file.write_all(&bytes)?;
        // The reserved file was longer.
        file.set_len(bytes.len() as u64)?;
        std::fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_damaged_record_is_named_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("0af3-1");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("spec.json"), "{}").unwrap();
        let said = TaskDir(folder.clone()).spec::<String>().unwrap_err().to_string();
        let file = folder.join("spec.json");
        assert!(said.starts_with(&format!("{} is damaged: ", file.display())), "{said}");
        assert!(said.ends_with(&format!("and remove {}", folder.display())), "{said}");
    }

    #[test]
    fn a_record_is_written_over_its_room_and_nothing_else_is_left() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0af3-1");
        let reserved = Reserved::at(&path).unwrap();
        assert_eq!(read::<String>(&path).unwrap(), None, "room is no record");
        reserved.write(&"what is known").unwrap();
        assert_eq!(read::<String>(&path).unwrap().as_deref(), Some("what is known"));
        assert!(!beside(&path).exists());
        reserved.write(&"x".repeat(2 * RESERVED_BYTES)).unwrap();
        assert_eq!(read::<String>(&path).unwrap().map(|it| it.len()), Some(2 * RESERVED_BYTES));
    }

    #[test]
    fn another_process_with_the_same_number_is_not_signalled() {
        let mut own = RunRecord::of(std::process::id(), Timestamp::UNIX_EPOCH).unwrap();
        assert!(own.is_alive());
        own.start_ticks += 1;
        assert!(!own.is_alive());
        // Would end this test process.
        own.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_shim_is_known_once_its_record_is_written_and_no_more_when_that_is_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let (dir, folder) = (TaskDir(root.path().to_owned()), File::open(root.path()).unwrap());
        assert!(!dir.has_shim().unwrap());
        let lock = dir.lock().unwrap();
        assert!(dir.has_shim().unwrap());
        assert_eq!(dir.shim().unwrap(), None, "it has started nothing");
        let shim = RunRecord::of(std::process::id(), Timestamp::UNIX_EPOCH).unwrap();
        TaskDir::write_shim(lock.as_fd(), &shim, &folder).unwrap();
        assert_eq!(dir.shim().unwrap(), Some(shim));
        TaskDir::forget_shim(lock.as_fd()).unwrap();
        assert_eq!(dir.shim().unwrap(), None);
        std::fs::write(root.path().join(SHIM), "{").unwrap();
        assert!(is_damage(&dir.shim().unwrap_err()), "anything else is damage");
        drop(lock);
        assert!(!dir.has_shim().unwrap());
    }

    #[test]
    fn a_lock_of_an_older_version_is_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let dir = TaskDir(root.path().to_owned());
        std::fs::write(root.path().join(SHIM), "").unwrap();
        let lock = private::appended(&root.path().join("lock")).unwrap();
        lock.try_lock().unwrap();
        assert!(dir.has_shim().unwrap());
        drop(lock);
        assert!(!dir.has_shim().unwrap());
    }
}
