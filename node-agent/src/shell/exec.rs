//! Commands beside tasks, asked for by the apiserver.
//!
//! # Invariants
//!
//! * Nothing is read that cannot be passed on: each side that is slow holds the other one back, and
//!   input never holds back output.
//! * When the one who asked goes away, or the task ends, the command is ended, where the engine can.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::exec::{self, Channel, ExecRequest, Frames, MESSAGE_BYTES_MAX, TerminalSize};
use api::status::{Reason, failure};
use base::ErrorChain;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::serving::{Body, NO_ENGINE, Served, text};
use crate::engine::logs::Output;
use crate::engine::{ContainerState, Engine, EngineError, Exec, ExecControl, Identity};

/// Commands that run at the same time.
pub(super) const EXECS_MAX: usize = 32;
/// How long the request may take to arrive after its headers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages of output that wait for the one who asked.
const MESSAGES_MAX: usize = 4;
/// How often it is looked whether the task still runs.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long ending a command may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts what is asked for at `path`, and answers with its streams.
pub(super) async fn answer(served: &Served, path: &str, body: Incoming) -> Response<Body> {
    match start(served, path, body).await {
        Ok(response) => response,
        Err((code, message)) => text(code, &message),
    }
}

type Refusal = (StatusCode, String);

async fn start(served: &Served, path: &str, body: Incoming) -> Result<Response<Body>, Refusal> {
    let identity = identity(served, path).ok_or_else(|| {
        (StatusCode::NOT_FOUND, "commands are at /exec/{uid}/{attempt}".to_owned())
    })?;
    let place = served.place_for_exec().ok_or_else(|| {
        let message = format!("{EXECS_MAX} commands run on this node already; try again later");
        (StatusCode::TOO_MANY_REQUESTS, message)
    })?;
    let mut asked = Asked { body, frames: Frames::default() };
    let request = match timeout(REQUEST_TIMEOUT, asked.next()).await {
        Ok(Some((Channel::Stdin, request))) => serde_json::from_slice::<ExecRequest>(&request),
        Ok(_) | Err(_) => {
            return Err((StatusCode::BAD_REQUEST, "no command was received".to_owned()));
        }
    };
    let request = request.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    if let Some(problem) = request.problem() {
        return Err((StatusCode::BAD_REQUEST, problem));
    }
    let engine =
        served.engine().ok_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, NO_ENGINE.to_owned()))?;
    let exec = begin(&engine, &identity, &request).await?;
    info!(%identity, tty = request.tty, "a command runs beside a task");
    let (sender, output) = mpsc::channel(MESSAGES_MAX);
    let session = Session { engine, identity, sender, _place: place };
    served.spawner().spawn("exec", session.run(exec, asked));
    let frames = stream::unfold(output, |mut output| async move {
        let message: Bytes = output.recv().await?;
        Some((Ok(Frame::data(message)), output))
    });
    Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
}

async fn begin(
    engine: &Arc<dyn Engine>,
    identity: &Identity,
    request: &ExecRequest,
) -> Result<Exec, Refusal> {
    engine.exec(identity, request).await.map_err(|error| match error {
        EngineError::Gone => {
            (StatusCode::CONFLICT, "the task does not run there (any more)".to_owned())
        }
        EngineError::Refused { message, .. } => (StatusCode::BAD_REQUEST, message),
        error @ (EngineError::NeedsImage
        | EngineError::Failed { .. }
        | EngineError::Unavailable { .. }
        | EngineError::Unknown { .. }) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    })
}

/// The attempt that `/exec/{uid}/{attempt}` names.
fn identity(served: &Served, path: &str) -> Option<Identity> {
    let (uid, attempt) = path.strip_prefix("/exec/")?.split_once('/')?;
    served.find(uid, attempt.parse().ok()?)
}

/// What comes from the one who asked.
struct Asked {
    body: Incoming,
    frames: Frames,
}

impl Asked {
    /// The next message; nothing when they are gone, or make no sense.
    async fn next(&mut self) -> Option<(Channel, Vec<u8>)> {
        loop {
            if let Some(frame) = self.frames.take().ok()? {
                return Some(frame);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(bytes) = frame.into_data() {
                self.frames.add(&bytes);
            }
        }
    }
}

/// A command, and the one who asked for it.
struct Session {
    engine: Arc<dyn Engine>,
    identity: Identity,
    sender: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
}

/// How a session ended.
enum End {
    Exited(Result<i32, EngineError>),
    /// The one who asked is gone.
    Left,
    /// The task has ended.
    TaskEnded,
}

impl Session {
    async fn run(self, exec: Exec, asked: Asked) {
        let Exec { input, output, control } = exec;
        let end = {
            let exited = async {
                if !self.pass_on(output).await {
                    return End::Left;
                }
                End::Exited(control.exit_code().await)
            };
            let left = async {
                obey(asked, input, control.as_ref()).await;
                End::Left
            };
            let ended = async {
                self.task_ended().await;
                End::TaskEnded
            };
            tokio::select! {
                biased;
                end = exited => end,
                end = left => end,
                end = ended => end,
            }
        };
        let status = match end {
            End::Exited(Ok(code)) => exec::ended(code),
            End::Exited(Err(error)) => {
                failure(Reason::InternalError, ErrorChain(&error).to_string())
            }
            End::TaskEnded => {
                stop(&self.identity, control.as_ref()).await;
                failure(Reason::InternalError, "the task has ended, and the command with it")
            }
            End::Left => return stop(&self.identity, control.as_ref()).await,
        };
        self.tell(&status).await;
    }

    /// Passes on what the command writes, until it has ended; whether there is anybody to read it.
    async fn pass_on(
        &self,
        mut output: stream::BoxStream<'static, Result<(Output, Bytes), EngineError>>,
    ) -> bool {
        loop {
            let read = tokio::select! {
                biased;
                () = self.sender.closed() => return false,
                read = output.next() => read,
            };
            // The exit code tells what became of a command whose output broke.
            let Some(Ok((of, bytes))) = read else { return true };
            let channel = match of {
                Output::Stdout => Channel::Stdout,
                Output::Stderr => Channel::Stderr,
            };
            for piece in bytes.chunks(MESSAGE_BYTES_MAX) {
                let message = Bytes::from(exec::frame(channel, piece));
                if self.sender.send(message).await.is_err() {
                    return false;
                }
            }
        }
    }

    async fn tell(&self, status: &Status) {
        let json = serde_json::to_vec(status).expect("a status has text keys only");
        let message = Bytes::from(exec::frame(Channel::Status, &json));
        if self.sender.send(message).await.is_err() {
            debug!(identity = %self.identity, "nobody waits for the command's end");
        }
    }

    /// Ends when the task does not run any more.
    async fn task_ended(&self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            match self.engine.inspect(&self.identity).await {
                Ok(Some(ContainerState::Exited { .. }) | None) => return,
                // An engine that does not answer says nothing of the task.
                Ok(Some(ContainerState::Created | ContainerState::Running { .. })) | Err(_) => (),
            }
        }
    }
}

/// Does what comes from the one who asked, until they are gone.
async fn obey(
    mut asked: Asked,
    mut input: Option<std::pin::Pin<Box<dyn AsyncWrite + Send>>>,
    control: &dyn ExecControl,
) {
    while let Some((channel, message)) = asked.next().await {
        match channel {
            Channel::Stdin => {
                if let Some(writer) = &mut input
                    && write(writer, &message).await.is_err()
                {
                    // The command reads no more, which is its right.
                    input = None;
                }
            }
            Channel::Close if message == [Channel::Stdin.number()] => {
                if let Some(mut writer) = input.take() {
                    // It fails where the command has ended, which is told elsewhere.
                    let _ended = writer.shutdown().await;
                }
            }
            Channel::Resize => {
                if let Ok(size) = serde_json::from_slice::<TerminalSize>(&message)
                    && let Err(error) = control.resize(size).await
                {
                    debug!(%error, "the terminal keeps its size");
                }
            }
            Channel::Close | Channel::Stdout | Channel::Stderr | Channel::Status => (),
        }
    }
}

async fn write(
    writer: &mut std::pin::Pin<Box<dyn AsyncWrite + Send>>,
    bytes: &[u8],
) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

async fn stop(identity: &Identity, control: &dyn ExecControl) {
    match timeout(STOP_TIMEOUT, control.stop()).await {
        Ok(Ok(())) => debug!(%identity, "a command was ended"),
        Ok(Err(error)) => info!(%identity, %error, "a command goes on that nobody waits for"),
        Err(_elapsed) => info!(%identity, "a command goes on that nobody waits for"),
    }
}
