//! Commands beside a task, run by the Docker Engine's exec.
//!
//! The engine has no call that ends such a command, and it does not end the command when its
//! connection is closed. But it reports the command's process id. If that process is on this
//! machine and we have the permission, it is signalled. Otherwise the command runs until it ends by
//! itself or its container ends.

use std::time::Duration;

use api::exec::{ExecRequest, TerminalSize};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecInspectResponse;
use futures_util::stream::StreamExt as _;
use futures_util::{FutureExt as _, future};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout};

use super::classify::{Stage, classify, is_conflict, message};
use super::terminal::{self, Streams};
use super::{CALL_TIMEOUT, DockerEngine};
use crate::engine::logs::Output;
use crate::engine::{Answer, EngineError, Exec, ExecControl, Identity, Reason};

/// How often a command is inspected that will end soon: the engine has no call that waits for its
/// end.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The longest interval for a command that runs for a long time.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// How long the engine may take to start a command after it has answered that it would.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a command has to end after it was asked to.
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
        let (id, container) = (created.id, found.id);
        let start_timeout = START_TIMEOUT;
        let control = Box::new(Running { docker, id, container, is_tty, start_timeout });
        Ok(Exec { input: request.stdin.then_some(input), output, control })
    }
}

/// Why no command can be run in an existing container: it is not running, or it is paused, as the
/// engine says.
fn not_running(message: &str) -> EngineError {
    if message.contains("is paused") {
        let why = "the container is paused; docker unpause on its node resumes it";
        EngineError::refused(Reason::Invalid, why)
    } else {
        EngineError::Gone
    }
}

impl DockerEngine {
    /// Starts a command whose stdout and stderr are separate.
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

/// The state of a command that has begun.
#[derive(Debug, PartialEq, Eq)]
enum Begun {
    /// Running, with its process id, which the engine learns shortly after the start.
    Runs(Option<i32>),
    /// Ended, with its exit code.
    Ended(i32),
}

/// The state of a command, as the engine tells it; nothing if it has not begun. The engine answers the
/// start call before it starts the command: until then it neither runs nor has ended.
fn begun(told: &ExecInspectResponse) -> Option<Begun> {
    if told.running == Some(true) {
        let pid = told.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
        return Some(Begun::Runs(pid));
    }
    told.exit_code.map(|code| Begun::Ended(i32::try_from(code).unwrap_or(255)))
}

/// A requested command.
struct Running {
    docker: Docker,
    id: String,
    container: String,
    is_tty: bool,
    /// How long the engine may take to begin the command: [`START_TIMEOUT`], shorter in tests.
    start_timeout: Duration,
}

impl Running {
    async fn look(&self) -> Result<Option<Begun>, EngineError> {
        match timeout(CALL_TIMEOUT, self.docker.inspect_exec(&self.id)).await {
            Ok(told) => told.map(|told| begun(&told)).map_err(|e| classify(&e, Stage::Ask)),
            Err(_) => Err(EngineError::unavailable("the engine did not answer in time")),
        }
    }

    /// Waits until the command runs or has ended. If the container stops between the calls that create
    /// and start the command, it never does, so there is a time limit. The limit applies only while
    /// the engine says that the command has not begun, so a slow engine does not cut off a command
    /// that runs.
    async fn begun(&self) -> Result<Begun, EngineError> {
        let asked = Instant::now();
        loop {
            if let Some(begun) = self.look().await? {
                return Ok(begun);
            }
            if asked.elapsed() >= self.start_timeout {
                return Err(EngineError::unavailable("the engine did not start the command"));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn end(&self) -> Result<i32, EngineError> {
        let mut interval = LOOK_INTERVAL;
        loop {
            if let Begun::Ended(code) = self.begun().await? {
                return Ok(code);
            }
            sleep(interval).await;
            interval = (interval * 2).min(LOOK_INTERVAL_MAX);
        }
    }

    /// The process id of the command; nothing if it has ended.
    async fn process(&self) -> Result<Option<i32>, EngineError> {
        loop {
            match self.begun().await? {
                Begun::Ended(_) => return Ok(None),
                Begun::Runs(Some(pid)) => return Ok(Some(pid)),
                Begun::Runs(None) => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    async fn stop_process(&self) -> Result<(), EngineError> {
        let Some(pid) = self.process().await? else { return Ok(()) };
        if !is_in(pid, &self.container) {
            let message =
                "the process of the command is not on this machine, so it cannot be stopped";
            return Err(EngineError::unavailable(message));
        }
        // A shell at a terminal ignores TERM, but ends when its terminal is closed.
        let ask = if self.is_tty { Signal::SIGHUP } else { Signal::SIGTERM };
        self.signal(pid, ask)?;
        if let Ok(ended) = timeout(GRACE, self.end()).await {
            return ended.map(drop);
        }
        if matches!(self.look().await?, Some(Begun::Runs(_))) && is_in(pid, &self.container) {
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

/// Whether a process of this machine belongs to a container. The engine may be in another process
/// namespace, where the same id means another process.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use axum::http::header::CONTENT_TYPE;
    use base::Tasks;

    use super::*;

    const NOT_BEGUN: &str = r#"{"Running":false,"ExitCode":null,"Pid":0}"#;

    /// The engine takes long to say this.
    const RUNS_SLOWLY: &str = r#"{"Running":true,"ExitCode":null,"Pid":8}"#;
    const SLOW: Duration = Duration::from_millis(300);

    /// A command of an engine that answers each look with the next of `told`, and then with the last.
    fn command(told: &'static [&'static str], dir: &std::path::Path, tasks: &Tasks) -> Running {
        let looks = Arc::new(AtomicUsize::new(0));
        let answer = move || {
            let told = told[looks.fetch_add(1, Relaxed).min(told.len() - 1)];
            async move {
                if told == RUNS_SLOWLY {
                    sleep(SLOW).await;
                }
                ([(CONTENT_TYPE, "application/json")], told)
            }
        };
        let socket = dir.join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let engine = axum::Router::new().fallback(axum::routing::get(answer));
        tasks.spawn("engine", axum::serve(listener, engine).into_future().map(drop));
        let address = format!("unix://{}", socket.display());
        let docker = Docker::connect_with_unix(&address, 60, bollard::API_DEFAULT_VERSION).unwrap();
        let (id, container) = ("e1".to_owned(), "c1".to_owned());
        Running { docker, id, container, is_tty: true, start_timeout: SLOW / 3 }
    }

    #[tokio::test]
    async fn a_command_that_has_not_begun_has_not_ended() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("test"));
        let told = &[
            NOT_BEGUN,
            NOT_BEGUN,
            r#"{"Running":true,"ExitCode":null,"Pid":0}"#,
            RUNS_SLOWLY,
            r#"{"Running":false,"ExitCode":126,"Pid":0}"#,
        ];
        assert_eq!(command(told, dir.path(), &tasks).exit_code().await, Ok(126));
    }

    #[tokio::test]
    async fn a_command_that_is_stopped_before_it_began_is_looked_for_until_it_runs() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("test"));
        let told = &[NOT_BEGUN, NOT_BEGUN, r#"{"Running":true,"ExitCode":null,"Pid":4194303}"#];
        let stopped = command(told, dir.path(), &tasks).stop().await.unwrap_err().to_string();
        assert!(stopped.contains("is not on this machine"), "{stopped}");
    }

    #[tokio::test]
    async fn a_command_that_never_begins_is_told_of() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("test"));
        let never = command(&[NOT_BEGUN], dir.path(), &tasks).exit_code().await;
        assert!(never.unwrap_err().to_string().contains("did not start the command"));
    }
}
