//! The process that stands beside each task of the process engine.
//!
//! It starts the command in a process group of its own, copies its output into the log with the
//! time of each line, waits, ends what the command has left behind, and writes down how it ended.
//! Where it is killed itself, the agent ends the rest ([`crate::engine::process`]).
//! It has no runtime and forwards nothing; the agent may be killed and another one take over. What
//! the agent inherited of whoever started it ends here ([`crate::inherited`]).
//!
//! # Invariants
//!
//! * The exit is written once everything the command's processes wrote is in the log.
//! * With the main process ends all that it has begun, however far that went: into another group or
//!   session (this is a subreaper: what loses its parent becomes its child).
//! * The main process stays unreaped, and so its number unused, until its group was signalled.
//! * A task whose directory was deleted is ended: no agent will ever find it again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Clock;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid, getppid, setsid};

use crate::engine::logs::{LINE_BYTES_MAX, LogLine, LogWriter, Output};
use crate::engine::process::dir::{ExitRecord, Reserved, RunRecord, ShimAnswer, TaskDir, TaskSpec};
use crate::engine::process::table::children;
use crate::inherited;
use crate::private::named;

/// How long a program that left the task's process group may hold back its exit by keeping its
/// output open.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How often, and with which rest, what a task has left behind is killed until it is gone.
const END_ROUNDS: u32 = 1000;
const END_INTERVAL: Duration = Duration::from_millis(5);

/// How often the task's directory is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How often it is tried to write down a task's end, where that fails.
const EXIT_INTERVAL: Duration = Duration::from_millis(500);

/// Exit code of a shell for a command that cannot be run.
const CANNOT_RUN: i32 = 127;
/// The same, of a command beside a task.
const CANNOT_RUN_BESIDE: u8 = 127;

/// Runs the task in `dir` to its end.
pub fn main(dir: &Path) -> ExitCode {
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

/// Becomes a command beside the task in `dir`, with its environment and folder, and as free of what
/// the agent inherited.
pub fn beside(dir: &Path, command: &[OsString]) -> ExitCode {
    let _ = inherited::close_descriptors();
    inherited::reset();
    // An agent that is killed can end nothing any more, so the kernel ends the command with it: with
    // the thread that started it, which an agent's runtime keeps as long as it runs. What the command
    // has itself started is not ended by that.
    let agent = getppid();
    let _ = set_pdeathsig(Signal::SIGKILL);
    if getppid() != agent {
        // It was killed a moment before.
        return ExitCode::from(CANNOT_RUN_BESIDE);
    }
    let message = match TaskDir(dir.to_owned()).spec() {
        Ok(Some(spec)) => become_command(&spec, command),
        Ok(None) => "the task is gone".to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(CANNOT_RUN_BESIDE)
}

/// Returns only where that is not possible, and says why.
fn become_command(spec: &TaskSpec, command: &[OsString]) -> String {
    let Some((program, args)) = command.split_first() else {
        return "the command is empty".to_owned();
    };
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&spec.working_dir)
        .exec();
    format!("cannot run {}: {error}", program.display())
}

fn run(dir: &TaskDir) -> io::Result<()> {
    let clock = Clock::system();
    let spec = dir.spec()?.ok_or_else(|| io::Error::other("this directory holds no task"))?;
    let log = LogWriter::open(&spec.log, spec.log_bytes_max);
    let mut log = log.map_err(|error| named(&spec.log, &error))?;
    // What is to be written of a process is sure of its room before there is one.
    log.reserve_mark()?;
    let (run, exit) = (dir.reserve_run()?, Reserved::at(&spec.exit)?);
    let folder = File::open(&dir.0)?;
    let started = clock.now();
    dir.write_shim(&RunRecord::of(std::process::id(), started)?)?;
    let mut child = match start(&spec) {
        Ok(child) => child,
        Err(message) => {
            // Nothing was started, so it may be tried again where nobody hears of this.
            let _taken_for_started = dir.forget_shim();
            // For a later agent, where the one that asked is not there any more. Written first:
            // who hears the answer removes everything.
            let record = ExitRecord {
                started: None,
                at: clock.now(),
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
            return Ok(());
        }
    };
    // Guards the file for one line.
    let log = Arc::new(Mutex::new(log));
    let pumps = pump(&mut child, &log, &clock);
    let recorded = RunRecord::of(child.id(), started).and_then(|record| run.write(&record));
    match &recorded {
        Ok(()) => answer(&ShimAnswer::Started),
        // A task that no later agent could find must not run.
        Err(_) => child.kill()?,
    }
    let status = wait(&mut child, &folder)?;
    recorded?;
    let at = clock.now();
    drain(&pumps);
    // There is room for the mark that this may write: nothing but a broken disk makes it fail, and
    // that must not cost the task's end as well.
    let _broken = log.lock().unwrap_or_else(PoisonError::into_inner).end();
    write_exit(&exit, &exit_record(started, at, status), &folder);
    Ok(())
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

fn start(spec: &TaskSpec) -> Result<Child, String> {
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

/// Tells the agent and closes the channel to it. It may be gone, which is no fault.
fn answer(answer: &ShimAnswer) {
    if let Ok(line) = serde_json::to_string(answer) {
        let _ = writeln!(io::stdout(), "{line}");
    }
    // The agent reads to the end of this line, so that nothing has to be closed.
    let _ = io::stdout().flush();
}

/// Copies both outputs into the log. Each sender is dropped when its output has ended.
fn pump(child: &mut Child, log: &Arc<Mutex<LogWriter>>, clock: &Clock) -> Receiver<()> {
    let (sender, ended) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        copy_in_thread(output, Output::Stdout, log, clock, sender.clone());
    }
    if let Some(output) = child.stderr.take() {
        copy_in_thread(output, Output::Stderr, log, clock, sender);
    }
    ended
}

fn copy_in_thread(
    from: impl Read + Send + 'static,
    output: Output,
    log: &Arc<Mutex<LogWriter>>,
    clock: &Clock,
    sender: Sender<()>,
) {
    let (log, clock) = (Arc::clone(log), clock.clone());
    std::thread::spawn(move || {
        let _ended = sender;
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let limit = LINE_BYTES_MAX as u64;
            match (&mut from).take(limit).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => (),
            }
            let line =
                LogLine { output, time: clock.now(), bytes: bytes::Bytes::copy_from_slice(&bytes) };
            // A full disk costs lines of log; it must not stop the task.
            let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write(&line);
        }
    });
}

/// Waits for the main process, then ends all that it has left behind.
fn wait(child: &mut Child, folder: &File) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let has_ended = end_without(folder.try_clone()?, pid);
    loop {
        let ended = ended_child()?;
        if ended == pid {
            break;
        }
        // It became this one's when its parent ended: nobody else waits for it.
        let _ = waitpid(ended, None);
    }
    // From here on the number may become another process's: the thread beside must not use it.
    *has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    // There may be nobody left.
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait()?;
    end_children();
    Ok(status)
}

/// Waits until a child has ended; its remains stay.
fn ended_child() -> io::Result<Pid> {
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Err(Errno::EINTR) => (),
            Err(errno) => return Err(errno.into()),
            Ok(status) => return status.pid().ok_or_else(|| io::Error::other("nobody ended")),
        }
    }
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

/// Ends the task, from a thread of its own, when its directory is deleted. What is returned guards
/// the process's number: it is set before that is let go.
fn end_without(folder: File, pid: Pid) -> Arc<Mutex<bool>> {
    let has_ended = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&has_ended);
    std::thread::spawn(move || {
        loop {
            // Nobody wakes this thread earlier, and no harm would be done.
            std::thread::park_timeout(LOOK_INTERVAL);
            let has_ended = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *has_ended {
                return;
            }
            if is_deleted(&folder) {
                let _ = killpg(pid, Signal::SIGKILL);
            }
        }
    });
    has_ended
}

/// Waits until both outputs have ended, or have been held open for long enough.
fn drain(pumps: &Receiver<()>) {
    // Nothing is ever sent: this ends as all senders are gone, or after the time.
    let _ = pumps.recv_timeout(DRAIN_TIME);
}

fn exit_record(started: Timestamp, at: Timestamp, status: ExitStatus) -> ExitRecord {
    let signal = status.signal();
    let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(255);
    ExitRecord { started: Some(started), at, code, signal, is_unseen: false, message: None }
}
