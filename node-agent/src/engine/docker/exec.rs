//! Commands beside a task, as the Docker Engine's exec runs them.
//!
//! The engine has no call that ends such a command, and does not end it when its connection goes
//! away. But it tells the command's process: where that is one of this machine and we may, it is
//! signalled. Where not, the command goes on until it ends by itself, or its container does.

use std::pin::Pin;
use std::time::Duration;

use api::exec::{ExecRequest, TerminalSize};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecInspectResponse;
use futures_util::stream::{self, StreamExt as _};
use futures_util::{FutureExt as _, future};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWrite;
use tokio::time::{sleep, timeout};

use super::classify::{Stage, classify, is_conflict, message};
use super::{CALL_TIMEOUT, DockerEngine, terminal};
use crate::engine::logs::Output;
use crate::engine::{Answer, EngineError, Exec, ExecControl, Identity, Reason};

/// What a command writes and reads.
pub(super) type Streams = (
    stream::BoxStream<'static, Result<(Output, bytes::Bytes), EngineError>>,
    Pin<Box<dyn AsyncWrite + Send>>,
);

/// How often a command is looked at whose end is near: no call waits for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// One that runs for long is looked at less and less often, down to this.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// How long a command may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);

impl DockerEngine {
    pub(super) async fn run_beside(
        &self,
        identity: &Identity,
        request: &ExecRequest,
    ) -> Result<Exec, EngineError> {
        let found = self.find(identity).await?.into_iter().next().ok_or(EngineError::Gone)?;
        let options = CreateExecOptions {
            attach_stdin: Some(request.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(request.tty),
            cmd: Some(request.command.clone()),
            ..CreateExecOptions::default()
        };
        let created = timeout(CALL_TIMEOUT, self.docker.create_exec(&found.id, options)).await;
        let created = match created {
            Ok(Ok(created)) => created,
            Ok(Err(error)) if is_conflict(&error) => return Err(not_running(&message(&error))),
            Ok(Err(error)) => return Err(classify(&error, Stage::Ask)),
            Err(_) => return Err(EngineError::unavailable("the engine did not answer in time")),
        };
        let (output, input) = if request.tty {
            terminal::start(&self.config.socket, &created.id).await?
        } else {
            self.start_exec(&created.id).await?
        };
        let docker = self.docker.clone();
        let is_tty = request.tty;
        let control = Box::new(Running { docker, id: created.id, container: found.id, is_tty });
        Ok(Exec { input: request.stdin.then_some(input), output, control })
    }
}

/// Why no command can be run in a container that is there: it does not run (any more), unless the engine
/// says that somebody paused it.
fn not_running(message: &str) -> EngineError {
    if message.contains("is paused") {
        let why = "the container is paused; docker unpause on its node resumes it";
        EngineError::refused(Reason::Invalid, why)
    } else {
        EngineError::Gone
    }
}

impl DockerEngine {
    /// Starts a command whose two outputs are told apart.
    async fn start_exec(&self, id: &str) -> Result<Streams, EngineError> {
        let start = StartExecOptions { tty: false, ..StartExecOptions::default() };
        let started = self.act(Stage::Act, self.docker.start_exec(id, Some(start)));
        let StartExecResults::Attached { output, input } = started.await? else {
            return Err(EngineError::refused(
                Reason::Invalid,
                "the engine returned no output streams",
            ));
        };
        let output = output.filter_map(|read| future::ready(written(read).transpose())).boxed();
        Ok((output, input))
    }
}

fn written(
    read: Result<LogOutput, bollard::errors::Error>,
) -> Result<Option<(Output, bytes::Bytes)>, EngineError> {
    match read.map_err(|error| classify(&error, Stage::Ask))? {
        LogOutput::StdErr { message } => Ok(Some((Output::Stderr, message))),
        LogOutput::StdOut { message } | LogOutput::Console { message } => {
            Ok(Some((Output::Stdout, message)))
        }
        LogOutput::StdIn { .. } => Ok(None),
    }
}

/// A command that runs.
struct Running {
    docker: Docker,
    id: String,
    container: String,
    is_tty: bool,
}

impl Running {
    async fn look(&self) -> Result<ExecInspectResponse, EngineError> {
        match timeout(CALL_TIMEOUT, self.docker.inspect_exec(&self.id)).await {
            Ok(seen) => seen.map_err(|error| classify(&error, Stage::Ask)),
            Err(_) => Err(EngineError::unavailable("the engine did not answer in time")),
        }
    }

    async fn end(&self) -> Result<i32, EngineError> {
        let mut interval = LOOK_INTERVAL;
        loop {
            let seen = self.look().await?;
            if seen.running != Some(true) {
                let code = seen.exit_code.and_then(|code| i32::try_from(code).ok());
                return Ok(code.unwrap_or(255));
            }
            sleep(interval).await;
            interval = (interval * 2).min(LOOK_INTERVAL_MAX);
        }
    }

    /// The number of its process; nothing where it has ended. A command runs a moment before the
    /// engine knows that number.
    async fn process(&self) -> Result<Option<i32>, EngineError> {
        loop {
            let seen = self.look().await?;
            if seen.running != Some(true) {
                return Ok(None);
            }
            if let Some(pid) = seen.pid.and_then(|pid| i32::try_from(pid).ok())
                && pid > 1
            {
                return Ok(Some(pid));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn stop_process(&self) -> Result<(), EngineError> {
        let Some(pid) = self.process().await? else { return Ok(()) };
        if !is_in(pid, &self.container) {
            let message =
                "the process of the command is not on this machine, so it cannot be stopped";
            return Err(EngineError::unavailable(message));
        }
        // A shell at a terminal ignores TERM, and ends when its terminal is gone.
        let ask = if self.is_tty { Signal::SIGHUP } else { Signal::SIGTERM };
        self.signal(pid, ask)?;
        if let Ok(ended) = timeout(GRACE, self.end()).await {
            return ended.map(drop);
        }
        if self.look().await?.running == Some(true) && is_in(pid, &self.container) {
            self.signal(pid, Signal::SIGKILL)?;
        }
        Ok(())
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<(), EngineError> {
        kill(Pid::from_raw(pid), signal).map_err(|errno| {
            EngineError::unavailable(format!("cannot signal the command: {errno}"))
        })
    }
}

/// Whether a process of this machine runs in a container. The engine may be in another namespace of
/// processes, where the number means another one.
fn is_in(pid: i32, container: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    groups.is_ok_and(|groups| groups.contains(container))
}

impl ExecControl for Running {
    fn resize(&self, size: TerminalSize) -> Answer<'_, ()> {
        async move {
            let options = ResizeExecOptions { height: size.height, width: size.width };
            match timeout(CALL_TIMEOUT, self.docker.resize_exec(&self.id, options)).await {
                Ok(resized) => resized.map_err(|error| classify(&error, Stage::Ask)),
                Err(_) => Err(EngineError::unavailable("the engine did not answer in time")),
            }
        }
        .boxed()
    }

    fn exit_code(&self) -> Answer<'_, i32> {
        self.end().boxed()
    }

    fn stop(&self) -> Answer<'_, ()> {
        self.stop_process().boxed()
    }
}
