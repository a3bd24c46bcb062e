//! The files by which the process engine, its shims and a later agent know of a task.
//!
//! ```text
//! <state>/tasks/<uid>-<attempt>/spec.json   what is to run; written before the shim starts
//!                               shim.json   the shim; written by it before it starts the program
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
use std::time::Duration;

use api::table::some_of;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::table::{self, end_family, stat};
use crate::engine::logs::LogWriter;
use crate::engine::{ContainerState, Identity, Signal};
use crate::private::{self, named};

/// How often, and with which rest, a killed process is looked at until it is gone.
const DEATH_LOOKS: u32 = 200;
const DEATH_INTERVAL: Duration = Duration::from_millis(5);

/// So many processes that are left of a task are named.
const LEFT_SHOWN_MAX: usize = 10;

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

/// A task's main process, or its shim as long as there is none, told apart from any later process with
/// the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The process. A main process leads its group, and a shim its session.
    pub(crate) pid: i32,
    /// Its start in clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// The session, which the shim leads; 0 in a record of an older version.
    #[serde(default)]
    pub(crate) session: i32,
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
    /// Nobody saw how it ended.
    #[serde(default)]
    pub(crate) is_unseen: bool,
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
    /// Nothing runs and nothing ever ran: whoever made the directory died before its shim came to
    /// start the program.
    Abandoned,
    /// The shim has not started the command yet.
    Starting,
    Running(RunRecord),
    Ended(ExitRecord),
}

/// What a look at the files of a task comes to.
#[derive(Debug)]
pub(crate) enum Found {
    Said(Seen),
    /// It ran, and its shim is gone: see [`end_orphaned`].
    Orphaned(RunRecord),
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

    /// The shim that was about to start the program, if one came so far.
    pub(crate) fn shim(&self) -> io::Result<Option<RunRecord>> {
        read(&self.0.join("shim.json"))
    }

    /// Says which process the shim is, before the program starts. Where the shim is killed before it
    /// has recorded the main process, the program is found by the shim's session.
    pub(crate) fn write_shim(&self, shim: &RunRecord) -> io::Result<()> {
        write(&self.0.join("shim.json"), shim)
    }

    /// Takes that back: the program could not be started.
    pub(crate) fn forget_shim(&self) -> io::Result<()> {
        std::fs::remove_file(self.0.join("shim.json"))
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

    /// What the files say.
    pub(crate) fn look(&self, exit: &Path) -> io::Result<Found> {
        let has_shim = self.has_shim()?;
        // Read after the lock: a shim that has just released it has written its exit before.
        if let Some(exit) = read(exit)? {
            return Ok(Found::Said(Seen::Ended(exit)));
        }
        Ok(match (self.run()?, has_shim) {
            (Some(run), true) => Found::Said(Seen::Running(run)),
            (None, true) => Found::Said(Seen::Starting),
            (Some(run), false) => Found::Orphaned(run),
            // Whether the program was started, nobody knows: it must not be started twice.
            (None, false) => match self.shim()? {
                Some(shim) => Found::Orphaned(shim),
                None => Found::Said(Seen::Abandoned),
            },
        })
    }
}

/// Ends what is left of a task whose shim is gone, because it or the machine was killed: what it
/// writes goes nowhere, and nobody will see how it ends. That is written down as its end. To be called
/// by one at a time. What cannot be ended runs on, and is tried again by the next look: it keeps
/// nothing else of the node waiting.
pub(crate) fn end_orphaned(spec: &TaskSpec, run: RunRecord, now: Timestamp) -> Seen {
    let message = if run.is_of_this_boot() {
        let left = match end_family(run.pid, run.start_ticks, run.session) {
            Ok(left) => left,
            Err(error) => {
                warn!(%error, identity = %spec.identity, "a task whose shim is gone could not be killed");
                return Seen::Running(run);
            }
        };
        if left.contains(&run.pid) {
            warn!(identity = %spec.identity, pid = run.pid, "not permitted to kill a task whose shim is gone");
            return Seen::Running(run);
        }
        if !run.dies() {
            return Seen::Running(run);
        }
        ended_message(&left)
    } else {
        "the node was rebooted while the task ran: its result is unknown, and the last lines \
         of its log may be missing"
            .to_owned()
    };
    // Before the end, so that who hears of that finds it. A second mark, after a crash between the two,
    // says nothing wrong.
    if let Err(error) = mark_cut(spec, now) {
        warn!(%error, "could not note in a log that its last lines may be missing");
    }
    let exit = ExitRecord {
        started: Some(run.started),
        at: now,
        code: CODE_UNKNOWN,
        signal: None,
        is_unseen: true,
        message: Some(message),
    };
    // It has ended, whether that can be written down or not. The next look tries again.
    if let Err(error) = Reserved::kept(&spec.exit).write(&exit) {
        warn!(%error, "could not record that a task ended unseen");
    }
    Seen::Ended(exit)
}

/// How a task ended that was ended without its shim, except for those that are left.
fn ended_message(left: &[i32]) -> String {
    let mut message =
        "the process that supervises the task (its shim) was killed, so the task was ended: its \
         result is unknown, and the last lines of its log may be missing"
            .to_owned();
    if !left.is_empty() {
        message.push_str("; ");
        message.push_str(&not_permitted(left));
    }
    message
}

/// Says which processes are left of a task, with what to do.
pub(crate) fn not_permitted(left: &[i32]) -> String {
    format!(
        "the agent's user is not permitted to kill the processes {} that the task left running: kill them by hand",
        some_of(left.iter(), LEFT_SHOWN_MAX)
    )
}

/// Marks that the last lines of a log may be missing, in the room that its shim has set aside.
fn mark_cut(spec: &TaskSpec, now: Timestamp) -> io::Result<()> {
    let mut log = LogWriter::resume(&spec.log, spec.log_bytes_max, now)?;
    log.lost();
    log.end()
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
                is_unseen: exit.is_unseen,
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
        let table::Stat { start_ticks, session, .. } = stat;
        Ok(Self { pid: number, start_ticks, session, boot_id: boot_id()?, started })
    }

    /// Whether the machine was not started anew since.
    fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// Whether that very process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_of_this_boot()
            && stat(self.pid).is_ok_and(|stat| {
                stat.is_some_and(|stat| !stat.is_zombie && stat.start_ticks == self.start_ticks)
            })
    }

    /// Whether the process, which was killed, is gone soon. Nobody tells of it: its parent is gone.
    fn dies(&self) -> bool {
        for _ in 0..DEATH_LOOKS {
            if !self.is_alive() {
                return true;
            }
            std::thread::park_timeout(DEATH_INTERVAL);
        }
        !self.is_alive()
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
        "{} is damaged: {error}. Until the file is repaired, the task is left as it is, and its \
         node accepts no new tasks. Restore a copy of the file; or end the task's processes by \
         hand, if any are running, and remove {}",
        path.display(),
        what.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Whether a record is damaged, of a task that is to be left alone therefore.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
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

    /// What a shim that is gone has kept, if anything.
    fn kept(path: &Path) -> Self {
        Self { path: path.to_owned() }
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
    fn what_could_not_be_ended_is_named_in_the_end() {
        assert!(ended_message(&[]).ends_with("may be missing"));
        let said = ended_message(&[7, 8]);
        assert!(
            said.ends_with("the processes 7, 8 that the task left running: kill them by hand"),
            "{said}"
        );
        let said = ended_message(&(1..=12).collect::<Vec<_>>());
        assert!(said.contains("9, 10 and 2 more that"), "{said}");
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
