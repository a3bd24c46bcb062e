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
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
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

/// How long a program that left the task's process group may hold back its exit by keeping its
/// output open.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How often, and with which rest, what a task has left behind is killed until it is gone.
const END_ROUNDS: u32 = 1000;
const END_INTERVAL: Duration = Duration::from_millis(5);

/// How often the task's directory is looked for, where nothing else happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How often it is tried to write down a task's end, where that fails.
const EXIT_INTERVAL: Duration = Duration::from_millis(500);

/// Exit code of a shell for a command that cannot be run.
const CANNOT_RUN: i32 = 127;

/// Runs the task in `dir` to its end.
pub(crate) fn main(dir: &Path) -> ExitCode {
    // The agent starts this through a descriptor, and the kernel takes its number for a name.
    let _ = set_name(c"heliox-shim");
    let _ = inherited::close_descriptors();
    inherited::reset();
    // Fails only where this is a session's leader already, which serves as well.
    let _ = setsid();
    // What the task's processes leave behind becomes this one's children, however far it went: into
    // another group or session. Known since Linux 3.4.
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
    // What is to be written of a process is sure of its room before there is one.
    log.reserve_mark()?;
    let (run, exit) = (dir.reserve_run()?, Reserved::at(&spec.exit)?);
    let folder = File::open(&dir.0)?;
    let mut ends = Ends::hear()?;
    let shim = RunRecord::of(std::process::id(), now())?;
    // The agent has handed the lock over.
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
        // A task that no later agent could find must not run.
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

/// The program could not be started: that is the task's end.
fn refuse(lock: BorrowedFd<'_>, (mut log, exit): (LogWriter, &Reserved), message: String) {
    // Nothing was started, so it may be tried again where nobody hears of this.
    let _taken_for_started = TaskDir::forget_shim(lock);
    // For a later agent, where the one that asked is not there any more. Written first: who hears the
    // answer removes everything.
    let record = ExitRecord {
        started: None,
        at: now(),
        code: CANNOT_RUN,
        signal: None,
        is_unseen: false,
        message: Some(message.clone()),
    };
    // A later agent that finds nothing tries it again, and is told the same.
    let _untold = exit.write(&record);
    // Nothing was written, so this only gives back room. If that fails, it goes with the log.
    let _stays = log.end();
    answer(&ShimAnswer::Refused(message));
}

/// Writes down how a task ended. Nobody else knows, so it is tried as long as that takes, or until
/// the task's folder is deleted. Meanwhile the task is taken to be running.
fn write_exit(exit: &Reserved, record: &ExitRecord, folder: &File) {
    while exit.write(record).is_err() && !is_deleted(folder) {
        // Nobody wakes this thread earlier, and no harm would be done.
        std::thread::park_timeout(EXIT_INTERVAL);
    }
}

/// A directory that was deleted has no name any more; one that was moved has.
fn is_deleted(folder: &File) -> bool {
    folder.metadata().is_ok_and(|there| there.nlink() == 0)
}

fn start(spec: &TaskSpec<IgnoredAny>) -> Result<Child, String> {
    let (program, args) =
        spec.argv.split_first().ok_or_else(|| "the command is empty".to_owned())?;
    Command::new(program)
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&spec.working_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run {program:?}: {error}"))
}

/// Tells the agent. It may be gone, which is no fault.
fn answer(answer: &ShimAnswer) {
    if let Ok(line) = serde_json::to_string(answer) {
        // The agent reads to the end of this line, so that nothing has to be closed.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// Tells of the ends of children, in a descriptor that can be waited for beside others.
struct Ends(SignalFd);

impl Ends {
    /// To be called before there is a child. The signal is blocked in this process from then on, and not
    /// in what it starts: [`Command`] resets that.
    fn hear() -> io::Result<Self> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGCHLD);
        ends.thread_block()?;
        Ok(Self(SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Whether the main process has ended; its remains stay. Others that have are waited for: they
    /// became this one's when their parent ended, so nobody else does.
    fn have_come_to(&mut self, main: Pid) -> io::Result<bool> {
        if self.0.read_signal()?.is_none() {
            return Ok(false);
        }
        // Several ends may have come as one signal.
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

/// Copies the outputs until the main process has ended, then ends all that it has left behind.
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
    // There may be nobody left.
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait()?;
    end_children();
    Ok(status)
}

/// Ends the processes that the task has left behind. They are this one's children by now, and what
/// they leave behind in turn becomes so. One that does not die, since it waits for a broken disk,
/// holds back the task's end for a while only.
fn end_children() {
    for _ in 0..END_ROUNDS {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                // None is left.
                Err(Errno::ECHILD) => return,
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => (),
            }
        }
        // Nobody else waits for these, so their numbers are theirs.
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
