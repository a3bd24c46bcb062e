//! Commands beside a task: processes in its folder, with its environment, each in a group of its own.
//!
//! # Invariants
//!
//! * A command's output ends when the command has, after all that it wrote, whoever else holds the
//!   pipe open: what a command has left behind keeps nobody waiting.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;

use api::exec::{ExecRequest, TerminalSize};
use futures_util::stream::{self, StreamExt as _};
use futures_util::{FutureExt as _, future};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tracing::debug;

use super::dir::{Seen, TaskDir};
use super::{Inner, ProcessEngine, failed};
use crate::engine::logs::Output;
use crate::engine::{Answer, EngineError, Exec, ExecControl, Identity, Reason};

impl ProcessEngine {
    pub(super) async fn run_beside(
        &self,
        identity: &Identity,
        request: &ExecRequest,
    ) -> Result<Exec, EngineError> {
        if request.tty {
            let message = "the process runtime has no terminals: run the command without -t";
            return Err(EngineError::refused(Reason::Invalid, message));
        }
        let asked = identity.clone();
        self.blocking(move |inner| inner.must_run(&asked)).await?;
        let mut child = start(&self.inner.config.shim.words, &self.inner.dir(identity), request)?;
        let input = child.stdin.take().map(|input| Box::pin(input) as _);
        let ended = Arc::new(Ended::of(&child));
        let stdout = child.stdout.take().map(|output| (output.into_owned_fd(), Output::Stdout));
        let stderr = child.stderr.take().map(|output| (output.into_owned_fd(), Output::Stderr));
        let mut outputs = Vec::new();
        for (pipe, of) in [stdout, stderr].into_iter().flatten() {
            let pipe = pipe.and_then(pipe::Receiver::from_owned_fd).map_err(|it| failed(&it))?;
            outputs.push(Written { pipe, of, ended: Arc::clone(&ended), rest: None }.stream());
        }
        let output = stream::select_all(outputs).boxed();
        let control = Box::new(Running { child: Mutex::new(child) });
        Ok(Exec { input, output, control })
    }
}

impl Inner {
    fn must_run(&self, identity: &Identity) -> Result<(), EngineError> {
        match self.look(identity)? {
            Seen::Running(_) => Ok(()),
            Seen::Abandoned | Seen::Starting | Seen::Ended(_) => Err(EngineError::Gone),
        }
    }
}

/// Starts the command by way of the shim, which frees it from what this agent inherited.
fn start(shim: &[OsString], dir: &TaskDir, request: &ExecRequest) -> Result<Child, EngineError> {
    if request.command.is_empty() {
        return Err(EngineError::refused(Reason::CannotRun, "the command is empty"));
    }
    let (program, args) =
        shim.split_first().ok_or_else(|| EngineError::unavailable("no shim is configured"))?;
    Command::new(program)
        .args(args)
        .arg(&dir.0)
        .args(&request.command)
        .stdin(if request.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            EngineError::unavailable(format!("cannot start the shim {program:?}: {error}"))
        })
}

/// The end of a process, for any number of those who wait for it. Nobody else is kept from waiting for
/// the process itself. Tokio waits for any descriptor that can be polled as it waits for a pipe.
struct Ended(Option<pipe::Receiver>);

impl Ended {
    /// To be asked for before anybody has waited for the process: its number is its own until then.
    fn of(child: &Child) -> Self {
        let open = || {
            let number = child.id().and_then(|pid| i32::try_from(pid).ok());
            let pid = number.and_then(rustix::process::Pid::from_raw);
            let pid = pid.ok_or_else(|| io::Error::other("it has no number any more"))?;
            // Nothing is read from it, so that it need not be non-blocking: before Linux 5.10 it cannot be.
            pipe::Receiver::from_owned_fd_unchecked(pidfd_open(pid, PidfdFlags::empty())?)
        };
        Self(open().inspect_err(|error| debug!(%error, "a process's end cannot be seen")).ok())
    }

    /// Waits for it; for ever where the kernel cannot tell (before Linux 5.3).
    async fn wait(&self) {
        match &self.0 {
            Some(descriptor) if descriptor.readable().await.is_ok() => (),
            Some(_) | None => future::pending().await,
        }
    }
}

/// What a command writes to one of its outputs.
struct Written {
    pipe: pipe::Receiver,
    of: Output,
    ended: Arc<Ended>,
    /// Once the command has ended: what is still to be read, in bytes. All that it wrote was in the
    /// pipe by then.
    rest: Option<usize>,
}

/// Bytes that are read together.
const READ_BYTES: usize = 16 * 1024;

impl Written {
    fn stream(self) -> stream::BoxStream<'static, Result<(Output, bytes::Bytes), EngineError>> {
        let next = |written: Option<Self>| async move {
            let mut written = written?;
            match written.next().await {
                Ok(bytes) if bytes.is_empty() => None,
                Ok(bytes) => Some((Ok((written.of, bytes.into())), Some(written))),
                Err(error) => Some((Err(failed(&error)), None)),
            }
        };
        stream::unfold(Some(self), next).boxed()
    }

    /// What comes next; nothing at the end.
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; READ_BYTES];
        let read = match self.rest {
            Some(rest) => self.read_rest(&mut bytes, rest)?,
            None => tokio::select! {
                biased;
                () = self.ended.wait() => {
                    let rest = rustix::io::ioctl_fionread(&self.pipe)?;
                    self.read_rest(&mut bytes, usize::try_from(rest).unwrap_or(usize::MAX))?
                }
                read = self.pipe.read(&mut bytes) => read?,
            },
        };
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads of what is in the pipe. Not by way of tokio, which may not have heard of it yet.
    fn read_rest(&mut self, bytes: &mut [u8], rest: usize) -> io::Result<usize> {
        let wanted = rest.min(bytes.len());
        let read =
            if wanted == 0 { 0 } else { rustix::io::read(&self.pipe, &mut bytes[..wanted])? };
        self.rest = Some(rest - read);
        Ok(read)
    }
}

/// A command that runs. It leads its group.
struct Running {
    /// Guards the process for one operation; held while its end is awaited.
    child: Mutex<Child>,
}

impl ExecControl for Running {
    fn resize(&self, _: TerminalSize) -> Answer<'_, ()> {
        // It has no terminal.
        future::ready(Ok(())).boxed()
    }

    fn exit_code(&self) -> Answer<'_, i32> {
        async {
            let status = self.child.lock().await.wait().await.map_err(|error| failed(&error))?;
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            Ok(code.unwrap_or(255))
        }
        .boxed()
    }

    fn stop(&self) -> Answer<'_, ()> {
        async {
            let mut child = self.child.lock().await;
            // It has a number as long as nobody has waited for it: no other process has that.
            let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
                return Ok(());
            };
            match killpg(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => (),
                Err(errno) => return Err(failed(&errno.into())),
            }
            child.wait().await.map(drop).map_err(|error| failed(&error))
        }
        .boxed()
    }
}
