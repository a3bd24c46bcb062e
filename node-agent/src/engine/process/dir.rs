//! The files by which the process engine, its shims and a later agent know of a task.
//!
//! ```text
//! <state>/tasks/<uid>-<attempt>/spec.json   what is to run; written before the shim starts
//!                               run.json    the main process; written by the shim
//!                               lock        locked as long as the shim lives
//!                               work/       where the task starts, by default
//! <state>/exits/<uid>-<attempt>             how it ended; written by the shim, last of all
//! <state>/logs/<uid>-<attempt>.log          what it wrote; outlives the rest
//! ```
//!
//! # Invariants
//!
//! * A task directory appears whole (renamed into place), and its lock is taken before its shim
//!   starts and is handed over to it: a free lock means that no shim runs or ever will.
//! * An exit is written before the lock is released, atomically, and never changed.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::engine::{ContainerState, Identity, Signal};
use crate::private::{self, named};

/// The exit code of a process that nobody saw end.
const CODE_UNKNOWN: i32 = 255;

/// What the shim is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskSpec {
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) identity: Identity,
    /// The program and its arguments; never empty.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) log_bytes_max: u64,
    pub(crate) exit: PathBuf,
}

/// A process, told apart from any later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The main process, which leads its group.
    pub(crate) pid: i32,
    /// Its start in clock ticks since boot.
    pub(crate) start_ticks: u64,
    pub(crate) boot_id: String,
    pub(crate) started: Timestamp,
}

/// How the main process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) started: Option<Timestamp>,
    pub(crate) at: Timestamp,
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) message: Option<String>,
}

/// What the shim says to the agent that started it, before it closes its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShimAnswer {
    Started,
    /// It will not run, however often it is tried.
    Refused(String),
    /// The task's own files cannot be used, such as on a full disk: it may run another time.
    Failed(String),
}

/// A task's directory.
#[derive(Debug, Clone)]
pub(crate) struct TaskDir(pub(crate) PathBuf);

/// What the files of a task say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing runs and nothing ever ran: whoever made the directory died before its shim ran.
    Abandoned,
    /// The shim has not started the command yet.
    Starting,
    Running(RunRecord),
    Ended(ExitRecord),
}

impl TaskDir {
    pub(crate) fn spec(&self) -> io::Result<Option<TaskSpec>> {
        read(&self.0.join("spec.json"))
    }

    pub(crate) fn write_spec(&self, spec: &TaskSpec) -> io::Result<()> {
        write(&self.0.join("spec.json"), spec)
    }

    pub(crate) fn run(&self) -> io::Result<Option<RunRecord>> {
        read(&self.0.join("run.json"))
    }

    /// Room for the record of the main process.
    pub(crate) fn reserve_run(&self) -> io::Result<Reserved> {
        Reserved::at(&self.0.join("run.json"))
    }

    /// Takes the lock for as long as the file, or a copy of its descriptor, is open.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let file = private::appended(&self.0.join("lock"))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(file)
    }

    pub(crate) fn has_shim(&self) -> io::Result<bool> {
        let file = match File::open(self.0.join("lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What the files say. Where the task ran and nobody saw how it ended, because the machine or
    /// the shim was killed, that is written down as its end.
    pub(crate) fn look(&self, exit_path: &Path, now: Timestamp) -> io::Result<Seen> {
        let has_shim = self.has_shim()?;
        // Read after the lock: a shim that has just released it has written its exit before.
        if let Some(exit) = read(exit_path)? {
            return Ok(Seen::Ended(exit));
        }
        Ok(match (self.run()?, has_shim) {
            (Some(run), true) => Seen::Running(run),
            (None, true) => Seen::Starting,
            (Some(run), false) if run.is_alive() => Seen::Running(run),
            (Some(run), false) => {
                let exit = ExitRecord {
                    started: Some(run.started),
                    at: now,
                    code: CODE_UNKNOWN,
                    signal: None,
                    message: Some("the process is gone and nobody saw how it ended".to_owned()),
                };
                // It has ended, whether that can be written down or not. The next look tries again.
                if let Err(error) = write(exit_path, &exit) {
                    warn!(%error, "the end of a task that nobody saw is not written down");
                }
                Seen::Ended(exit)
            }
            (None, false) => Seen::Abandoned,
        })
    }
}

impl Seen {
    /// As every engine says it.
    pub(crate) fn state(self) -> ContainerState {
        match self {
            Self::Abandoned | Self::Starting => ContainerState::Created,
            Self::Running(run) => ContainerState::Running { since: run.started },
            Self::Ended(exit) => ContainerState::Exited {
                started: exit.started,
                at: exit.at,
                code: exit.code,
                signal: exit.signal,
                oom_killed: false,
                message: exit.message,
            },
        }
    }
}

impl RunRecord {
    /// Describes the process `pid` as it is now.
    pub(crate) fn of(pid: u32, started: Timestamp) -> io::Result<Self> {
        let number = i32::try_from(pid).map_err(io::Error::other)?;
        let stat = stat(number)?
            .ok_or_else(|| io::Error::other(format!("process {pid} has no readable start time")))?;
        Ok(Self { pid: number, start_ticks: stat.start_ticks, boot_id: boot_id()?, started })
    }

    /// Whether that very process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && stat(self.pid).is_ok_and(|stat| {
                stat.is_some_and(|stat| !stat.is_zombie && stat.start_ticks == self.start_ticks)
            })
    }

    /// Signals the process's group, unless the process is not there any more.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match killpg(Pid::from_raw(self.pid), signal.as_nix()) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Of `/proc/<pid>/stat`, what tells a process from others and from its remains.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    is_zombie: bool,
    start_ticks: u64,
}

/// Nothing where there is no such process.
fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(line) => Ok(parse_stat(&line)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The command's name is in parentheses and may hold anything, spaces and parentheses too.
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let is_zombie = fields.next()? == "Z";
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { is_zombie, start_ticks })
}

/// Reads a record; nothing where it is missing.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, &error)),
    }
}

/// Records are never there in part: somebody else wrote to this one, or the disk has changed it.
fn damaged(path: &Path, error: &serde_json::Error) -> io::Error {
    let is_exit = path.extension().is_none();
    let what = if is_exit { path } else { path.parent().unwrap_or(path) };
    let message = format!(
        "{} is damaged: {error}. Nothing is started or stopped on this node before that is mended: \
         put back a copy of it; or end the task's processes by hand, if any run, and remove {}",
        path.display(),
        what.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Writes a record so that it is there whole or not at all, whatever is killed.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let new = beside(path);
    let written = put(path, private::file(&new), record);
    written.map_err(|error| {
        // Half of a record is no use, and takes what room there is.
        let _stays = std::fs::remove_file(&new);
        named(path, &error)
    })
}

/// Where a record is written before it takes its place.
pub(crate) fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Writes a record to the file beside its place, and moves it there.
fn put<T: Serialize>(path: &Path, new: io::Result<File>, record: &T) -> io::Result<()> {
    let (mut file, bytes) = (new?, serde_json::to_vec(record)?);
    file.write_all(&bytes)?;
    // What was reserved was longer.
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    std::fs::rename(beside(path), path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Bytes that are kept free for a record: a block of most file systems, and more than any takes.
const RESERVED_BYTES: usize = 4096;

/// Room for a record that is to be written later, when the disk may be full. Without it what is known
/// of a running process, or how it ended, could be lost.
#[derive(Debug)]
pub(crate) struct Reserved {
    path: PathBuf,
}

impl Reserved {
    /// Keeps room for the record that is to be at `path`.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let room = private::reserve(&beside(path), RESERVED_BYTES);
        room.map_err(|error| named(path, &error))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Writes the record over what was kept. May be tried again after an error.
    pub(crate) fn write<T: Serialize>(&self, record: &T) -> io::Result<()> {
        let new = private::overwritten(&beside(&self.path));
        put(&self.path, new, record).map_err(|error| named(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "7 (a ) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 10 11";
        assert_eq!(parse_stat(stat), Some(Stat { is_zombie: false, start_ticks: 4711 }));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_damaged_record_is_named_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("0af3-1");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("spec.json"), "{}").unwrap();
        let said = TaskDir(folder.clone()).spec().unwrap_err().to_string();
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
        // Would end this test.
        own.signal(Signal::KILL).unwrap();
    }
}
