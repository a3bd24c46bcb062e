//! Supervises one task.
//!
//! The shim starts the command in a process group of its own, copies its output into the log with the
//! time of each line, waits, ends what the command has left behind, and writes down how it ended.
//! Where it is killed itself, the agent ends the rest. It has one thread, no runtime, and forwards
//! nothing; the agent may be killed and another one take over. What the agent inherited of whoever
//! started it ends here ([`crate::inherited`]).
//!
//! # Invariants
//!
//! * The exit is written once everything the command's processes wrote is in the log.
//! * With the main process ends all that it has begun, however far that went: into another group or
//!   session (this is a subreaper: what loses its parent becomes its child).
//! * The main process stays unreaped, and so its number unused, until its group was signalled.
//! * A task whose directory was deleted is ended: no agent will ever find it again.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_name};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid, setsid};
use rustix::stdio::stdin;
use serde::de::IgnoredAny;

use crate::log::LogWriter;
use crate::outputs::Outputs;
use crate::private::named;
use crate::records::{ExitRecord, Reserved, RunRecord, ShimAnswer, TaskDir, TaskSpec};
use crate::table::children;
use crate::{inherited, now};

/// How long the task's exit may be delayed by a process that left the process group and keeps the
/// output open.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How many times, and with which pause, the remaining processes of a task are killed until they
/// are gone.
const END_ROUNDS: u32 = 1000;
const END_INTERVAL: Duration = Duration::from_millis(5);

/// How often to check that the task's directory still exists, if nothing else happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How often writing the task's end is tried again after a failure.
const EXIT_INTERVAL: Duration = Duration::from_millis(500);

/// The exit code that shells use for a command that cannot be run.
const CANNOT_RUN: i32 = 127;

/// Runs the task in `dir` to its end.
pub(crate) fn main(dir: &Path) -> ExitCode {
    // The agent starts this program by a descriptor, whose number would be its name otherwise.
    let _ = set_name(c"heliox-shim");
    let _ = inherited::close_descriptors();
    inherited::reset();
    // Fails only if this process leads a session already, which is as good.
    let _ = setsid();
    // Processes that lose their parent become children of this one, even from another group or
    // session. Since Linux 3.4.
    let _ = set_child_subreaper(true);
    let dir = TaskDir(dir.to_owned());
    match run(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            answer(&ShimAnswer::Failed(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &TaskDir) -> io::Result<()> {
    let spec = dir.spec()?.ok_or_else(|| io::Error::other("this directory holds no task"))?;
    let log = LogWriter::open(&spec.log, spec.log_bytes_max);
    let mut log = log.map_err(|error| named(&spec.log, &error))?;
    // Everything that will be written about a process must have its room before the process exists.
    log.reserve_mark()?;
    let (run, exit) = (dir.reserve_run()?, Reserved::at(&spec.exit)?);
    let folder = File::open(&dir.0)?;
    let mut ends = Ends::hear()?;
    let shim = RunRecord::of(std::process::id(), now())?;
    // The lock was inherited as standard input.
    let lock = stdin();
    TaskDir::write_shim(lock, &shim, &folder)?;
    let mut child = match start(&spec) {
        Ok(child) => child,
        Err(message) => {
            refuse(lock, (log, &exit), message);
            return Ok(());
        }
    };
    let mut outputs = Outputs::of(&mut child, log);
    let recorded = shim.of_child(child.id()).and_then(|record| run.write(&record));
    match &recorded {
        Ok(()) => answer(&ShimAnswer::Started),
        // No later agent could find this task, so it must not run.
        Err(_) => child.kill()?,
    }
    let status = wait(&mut child, &mut ends, &mut outputs, &folder)?;
    recorded?;
    let at = now();
    outputs.drain(DRAIN_TIME);
    outputs.end();
    write_exit(&exit, &exit_record(shim.started, at, status), &folder);
    Ok(())
}

/// The program could not be started, which is the end of the task.
fn refuse(lock: BorrowedFd<'_>, (mut log, exit): (LogWriter, &Reserved), message: String) {
    // Nothing was started, so a later agent may try again if this is not heard.
    let _taken_for_started = TaskDir::forget_shim(lock);
    // For a later agent, if the one that asked is gone. Written before the answer, because after
    // the answer the agent removes everything.
    let record = ExitRecord {
        started: None,
        at: now(),
        code: CANNOT_RUN,
        signal: None,
        is_unseen: false,
        message: Some(message.clone()),
    };
    // A later agent that finds no record tries again and gets the same answer.
    let _untold = exit.write(&record);
    // Nothing was logged, so this only releases room. If it fails, the room is released with the
    // log.
    let _stays = log.end();
    answer(&ShimAnswer::Refused(message));
}

/// Writes the record of the task's end. Nobody else knows it, so this is repeated until it succeeds
/// or the task's folder is deleted. Until then the task counts as running.
fn write_exit(exit: &Reserved, record: &ExitRecord, folder: &File) {
    while exit.write(record).is_err() && !is_deleted(folder) {
        // Nothing unparks this thread; an early return would do no harm.
        std::thread::park_timeout(EXIT_INTERVAL);
    }
}

/// A deleted folder has no links any more; a renamed one has.
fn is_deleted(folder: &File) -> bool {
    folder.metadata().is_ok_and(|there| there.nlink() == 0)
}

fn start(spec: &TaskSpec<IgnoredAny>) -> Result<Child, String> {
    let (program, args) =
        spec.argv.split_first().ok_or_else(|| "the command is empty".to_owned())?;
    // The program inherits this process's folder. `Command::current_dir` would copy this process with
    // all its memory for each task, since the C library cannot be asked for more where it is linked
    // statically.
    std::env::set_current_dir(&spec.working_dir)
        .map_err(|error| format!("cannot run in {}: {error}", spec.working_dir.display()))?;
    let child = Command::new(found(program, &spec.env))
        .arg0(program)
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run {program:?}: {error}"));
    // The task's folder may go while this process goes on; where this fails, the folder is busy.
    let _ = std::env::set_current_dir("/");
    child
}

/// Where the task's own PATH has the program; the program itself where it is a path, or nowhere. For a
/// program that it has to look up in another PATH, [`Command`] would copy this process, too.
fn found(program: &str, env: &[(String, String)]) -> PathBuf {
    let is_program = |path: &PathBuf| {
        let mode = path.metadata().map(|there| (there.is_file(), there.permissions().mode()));
        mode.is_ok_and(|(is_file, mode)| is_file && mode & 0o111 != 0)
    };
    if program.contains('/') {
        return PathBuf::from(program);
    }
    // Of a name that is there twice, the last value counts.
    let paths = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, paths)| paths);
    let mut all = paths.into_iter().flat_map(std::env::split_paths).map(|dir| dir.join(program));
    all.find(|path| path.is_absolute() && is_program(path)).unwrap_or_else(|| program.into())
}

/// Answers the agent. If it is gone, nothing is lost.
fn answer(answer: &ShimAnswer) {
    if let Ok(line) = serde_json::to_string(answer) {
        // The agent reads up to the end of this line, so the output need not be closed.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// Reports ended children by a descriptor that can be polled together with others.
struct Ends(SignalFd);

impl Ends {
    /// Must be called before there is a child. Blocks the signal in this process; [`Command`]
    /// resets that for what it starts.
    fn hear() -> io::Result<Self> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGCHLD);
        ends.thread_block()?;
        Ok(Self(SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Whether the main process has ended; it is not reaped. Other ended children are reaped: they
    /// became children of this process when their parents ended, so nobody else does that.
    fn have_come_to(&mut self, main: Pid) -> io::Result<bool> {
        if self.0.read_signal()?.is_none() {
            return Ok(false);
        }
        // One signal may stand for several ended children.
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
            match waitid(Id::All, flags) {
                Err(Errno::EINTR) => (),
                Err(errno) => return Err(errno.into()),
                Ok(status) => match status.pid() {
                    None => return Ok(false),
                    Some(ended) if ended == main => return Ok(true),
                    Some(other) => drop(waitpid(other, None)),
                },
            }
        }
    }
}

/// Copies the outputs until the main process has ended, then ends everything that it has left
/// behind.
fn wait(
    child: &mut Child,
    ends: &mut Ends,
    outputs: &mut Outputs,
    folder: &File,
) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    while !ends.have_come_to(pid)? {
        if is_deleted(folder) {
            let _ = killpg(pid, Signal::SIGKILL);
        }
        outputs.copy(Some(ends.0.as_fd()), LOOK_INTERVAL)?;
    }
    // The group may be empty.
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait()?;
    end_children();
    Ok(status)
}

/// Ends the processes that the task has left behind. They are children of this process by now, and
/// so will be what they leave behind. A process that cannot die because it waits for a defective
/// disk delays the task's end only for a bounded time.
fn end_children() {
    for _ in 0..END_ROUNDS {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                // No child is left.
                Err(Errno::ECHILD) => return,
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => (),
            }
        }
        // Only this process reaps them, so their ids cannot have been reused.
        for child in children(getpid().as_raw()).unwrap_or_default() {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        std::thread::park_timeout(END_INTERVAL);
    }
}

fn exit_record(started: Timestamp, at: Timestamp, status: ExitStatus) -> ExitRecord {
    let signal = status.signal();
    let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(255);
    ExitRecord { started: Some(started), at, code, signal, is_unseen: false, message: None }
}
