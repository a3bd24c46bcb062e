//! Commands beside a task: processes in its folder, with its environment, each in a group of its own.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use api::exec::{ExecRequest, TerminalSize};
use futures_util::stream::{self, StreamExt as _};
use futures_util::{FutureExt as _, future};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio_util::io::ReaderStream;

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
            let message = "the process runtime has no terminals: run it without -t";
            return Err(EngineError::refused(Reason::Invalid, message));
        }
        let asked = identity.clone();
        self.blocking(move |inner| inner.must_run(&asked)).await?;
        let mut child = start(&self.inner.config.shim, &self.inner.dir(identity), request)?;
        let input = child.stdin.take().map(|input| Box::pin(input) as _);
        let outputs = [
            child.stdout.take().map(|output| read(output, Output::Stdout)),
            child.stderr.take().map(|output| read(output, Output::Stderr)),
        ];
        let output = stream::select_all(outputs.into_iter().flatten()).boxed();
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

fn read(
    from: impl AsyncRead + Send + 'static,
    output: Output,
) -> stream::BoxStream<'static, Result<(Output, bytes::Bytes), EngineError>> {
    ReaderStream::new(from)
        .map(move |read| read.map(|bytes| (output, bytes)).map_err(|error| failed(&error)))
        .boxed()
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
