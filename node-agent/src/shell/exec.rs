//! Commands beside tasks, requested by the apiserver.
//!
//! # Invariants
//!
//! * Nothing is read that cannot be passed on: a slow side slows down the other one, and input
//!   never blocks output.
//! * The end of a command is reported once it has ended and its output was passed on, even if a
//!   process that it left behind holds its output open.
//! * One task has a command's place and supervises it, from before the engine begins it until it
//!   has ended: a client that leaves while the engine begins it leaves nothing running.
//! * If the client disconnects, or the task or the agent ends, the command is ended, if the engine
//!   can do that.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::exec::{self, Channel, ExecRequest, Frames, MESSAGE_BYTES_MAX, TerminalSize};
use api::status::{Mistake, Refusal, Why};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base::ErrorChain;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Body as HttpBody;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::answers::{Refused, no_engine};
use super::served::{EXECS_MAX, Named, Served};
use crate::engine::logs::Output;
use crate::engine::{ContainerState, Engine, EngineError, Exec, ExecControl, Identity};

/// How long the request body may take to arrive after its headers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most output messages that wait to be sent.
const MESSAGES_MAX: usize = 4;
/// How often to check that the task is still running.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// An ended command has written everything, and the rest is on its way. If nothing has come for
/// this long, nothing more will come: a process that it left behind holds its output open.
const DRAIN_SILENCE: Duration = Duration::from_secs(3);
/// Most bytes that are passed on after a command has ended: as much as all buffers on the way can
/// hold. More than that is written by a process that it left behind.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long ending a command may take: longer than an engine may take to begin one.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts the requested command beside an attempt, and answers with its streams.
pub(super) async fn answer(
    State(served): State<Served>,
    Named(identity): Named,
    body: Body,
) -> Result<Response, Refused> {
    let place = served.place_for_exec().ok_or_else(|| {
        let message = format!(
            "too many commands: {EXECS_MAX} are running on this node already; try again later"
        );
        Refusal::new(Why::Busy, message)
    })?;
    let mut asked = ClientInput { body, frames: Frames::default() };
    let request = match timeout(REQUEST_TIMEOUT, asked.next()).await {
        Ok(Some((Channel::Stdin, request))) => serde_json::from_slice::<ExecRequest>(&request),
        Ok(_) | Err(_) => {
            let message = "no command was received";
            return Err(Refusal::new(Why::Mistaken(Mistake::Request), message).into());
        }
    };
    let request = request
        .map_err(|error| Refusal::new(Why::Mistaken(Mistake::Request), error.to_string()))?;
    if let Some(problem) = request.problem() {
        return Err(Refusal::new(Why::Mistaken(Mistake::Request), problem).into());
    }
    let engine = served.engine().ok_or_else(no_engine)?;
    let (sender, output) = mpsc::channel(MESSAGES_MAX);
    let (told, begun) = oneshot::channel();
    let ending = served.ending();
    let session = Session { engine, identity, sender, ending, _place: place };
    // A task of its own, because this one is dropped when the apiserver waits no longer: an engine
    // that is slow would then begin a command that nobody supervises.
    served.spawner().spawn("exec", async move {
        let exec = begin(&session.engine, &session.identity, &request).await;
        session.serve(exec, told, asked).await;
    });
    let lost = |_| Refusal::new(Why::Unavailable, "the agent of the node is ending");
    begun.await.map_err(lost)??;
    let frames = stream::unfold(output, |mut output| async move {
        let message: Bytes = output.recv().await?;
        Some((Ok::<_, Infallible>(message), output))
    });
    Ok(Body::from_stream(frames).into_response())
}

async fn begin(
    engine: &Arc<dyn Engine>,
    identity: &Identity,
    request: &ExecRequest,
) -> Result<Exec, Refusal> {
    engine.exec(identity, request).await.map_err(|error| match error {
        EngineError::Gone => {
            Refusal::new(Why::Conflict, "the task is not running on this node".to_owned())
        }
        EngineError::Refused { message, .. } => {
            Refusal::new(Why::Mistaken(Mistake::Request), message)
        }
        error @ (EngineError::NeedsImage
        | EngineError::Failed { .. }
        | EngineError::Unavailable { .. }
        | EngineError::Unknown { .. }) => Refusal::new(Why::Unavailable, error.to_string()),
    })
}

/// What the client sends.
struct ClientInput<B = Body> {
    body: B,
    frames: Frames,
}

impl<B: HttpBody<Data = Bytes> + Unpin> ClientInput<B> {
    /// The next message; nothing if the client has disconnected or sends no valid frames.
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

/// A running command and its client.
struct Session {
    engine: Arc<dyn Engine>,
    identity: Identity,
    sender: mpsc::Sender<Bytes>,
    /// Becomes true when the agent ends.
    ending: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

/// How a session ended.
enum End {
    Exited(Result<i32, EngineError>),
    /// The client has disconnected.
    Left,
    /// The task has ended.
    TaskEnded,
    /// The agent ends.
    AgentEnds,
}

impl Session {
    /// Tells whether the command has begun, and supervises it until its end. If nobody waits for it
    /// any more, it is stopped.
    async fn serve(
        self,
        exec: Result<Exec, Refusal>,
        told: oneshot::Sender<Result<(), Refusal>>,
        asked: ClientInput<impl HttpBody<Data = Bytes> + Unpin>,
    ) {
        let exec = match exec {
            Ok(exec) => exec,
            // If nobody waits for it, nothing has to be done.
            Err(refusal) => return drop(told.send(Err(refusal))),
        };
        info!(identity = %self.identity, "running a command beside a task");
        match told.send(Ok(())) {
            Ok(()) => self.run(exec, asked).await,
            Err(_left) => stop(&self.identity, exec.control.as_ref()).await,
        }
    }

    async fn run(self, exec: Exec, asked: ClientInput<impl HttpBody<Data = Bytes> + Unpin>) {
        let Exec { input, output, control } = exec;
        let end = {
            let exited = self.pass_on(output, control.as_ref());
            let left = async {
                obey(asked, input, control.as_ref()).await;
                End::Left
            };
            let ended = async {
                self.task_ended().await;
                End::TaskEnded
            };
            let mut ending = self.ending.clone();
            tokio::select! {
                biased;
                Ok(_) = ending.wait_for(|is_ending| *is_ending) => End::AgentEnds,
                end = exited => end,
                end = left => end,
                end = ended => end,
            }
        };
        let status = match end {
            End::Exited(Ok(code)) => exec::ended(code),
            End::Exited(Err(error)) => {
                // Whether the command has ended is not known, so it must not be left running.
                stop(&self.identity, control.as_ref()).await;
                Refusal::new(Why::Internal, ErrorChain(&error).to_string()).to_status()
            }
            End::TaskEnded => {
                stop(&self.identity, control.as_ref()).await;
                let why = "the task ended, and the command with it";
                Refusal::new(Why::Internal, why).to_status()
            }
            End::AgentEnds => {
                stop(&self.identity, control.as_ref()).await;
                let why = "the agent of the node was stopped, and the command with it";
                Refusal::new(Why::Unavailable, why).to_status()
            }
            End::Left => return stop(&self.identity, control.as_ref()).await,
        };
        self.tell(&status).await;
    }

    /// Passes on the command's output until the command has ended, whatever else holds the output
    /// open.
    async fn pass_on(
        &self,
        mut output: stream::BoxStream<'static, Result<(Output, Bytes), EngineError>>,
        control: &dyn ExecControl,
    ) -> End {
        let (mut exit, mut exited, mut drained) = (control.exit_code(), None, 0);
        loop {
            let read = tokio::select! {
                biased;
                () = self.sender.closed() => return End::Left,
                // Before the output in this order, because output may come without end.
                code = &mut exit, if exited.is_none() => {
                    exited = Some(code);
                    continue;
                }
                read = output.next() => read,
                () = sleep(DRAIN_SILENCE), if exited.is_some() => None,
            };
            // If reading the output fails, the exit code still tells how the command ended.
            let Some(Ok((of, bytes))) = read else { break };
            let channel = match of {
                Output::Stdout => Channel::Stdout,
                Output::Stderr => Channel::Stderr,
            };
            for piece in bytes.chunks(MESSAGE_BYTES_MAX) {
                let message = Bytes::from(exec::frame(channel, piece));
                if self.sender.send(message).await.is_err() {
                    return End::Left;
                }
            }
            if exited.is_some() {
                drained += bytes.len();
                if drained > DRAIN_BYTES_MAX {
                    break;
                }
            }
        }
        drop(exit);
        match exited {
            Some(code) => End::Exited(code),
            // A new call: an engine that has to be polled for the end polls most often at the
            // beginning.
            None => End::Exited(control.exit_code().await),
        }
    }

    async fn tell(&self, status: &Status) {
        let json = serde_json::to_vec(status).expect("a status has text keys only");
        let message = Bytes::from(exec::frame(Channel::Status, &json));
        if self.sender.send(message).await.is_err() {
            debug!(identity = %self.identity, "the client has gone before the command ended");
        }
    }

    /// Resolves when the task is not running any more.
    async fn task_ended(&self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            match self.engine.inspect(&self.identity).await {
                Ok(Some(ContainerState::Exited { .. }) | None) => return,
                // If the engine does not answer, nothing is known of the task.
                Ok(Some(
                    ContainerState::Created
                    | ContainerState::Running { .. }
                    | ContainerState::Unreadable { .. },
                ))
                | Err(_) => (),
            }
        }
    }
}

/// Handles the client's messages until it disconnects.
async fn obey(
    mut asked: ClientInput<impl HttpBody<Data = Bytes> + Unpin>,
    mut input: Option<std::pin::Pin<Box<dyn AsyncWrite + Send>>>,
    control: &dyn ExecControl,
) {
    while let Some((channel, message)) = asked.next().await {
        match channel {
            Channel::Stdin => {
                if let Some(writer) = &mut input
                    && write(writer, &message).await.is_err()
                {
                    // The command has closed its input, which is allowed.
                    input = None;
                }
            }
            Channel::Close if message == [Channel::Stdin.number()] => {
                if let Some(mut writer) = input.take() {
                    // Fails if the command has ended, which is handled elsewhere.
                    let _ended = writer.shutdown().await;
                }
            }
            Channel::Resize => {
                if let Ok(size) = serde_json::from_slice::<TerminalSize>(&message)
                    && let Err(error) = control.resize(size).await
                {
                    debug!(%error, "cannot resize the terminal");
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
        Ok(Ok(())) => debug!(%identity, "killed a command whose client has gone"),
        Ok(Err(error)) => {
            info!(%identity, %error, "a command keeps running although its client has disconnected")
        }
        Err(_elapsed) => {
            info!(%identity, "a command keeps running although its client has disconnected");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use base::Clock;
    use futures_util::FutureExt as _;
    use futures_util::future::{pending, ready};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::engine::sim::SimMachine;
    use crate::engine::{Answer, Scope};

    /// A test command that ends with this code, or runs on.
    struct Ends(Option<i32>);

    impl ExecControl for Ends {
        fn resize(&self, _: TerminalSize) -> Answer<'_, ()> {
            ready(Ok(())).boxed()
        }

        fn exit_code(&self) -> Answer<'_, i32> {
            self.0.map_or_else(|| pending().boxed(), |code| ready(Ok(code)).boxed())
        }

        fn stop(&self) -> Answer<'_, ()> {
            ready(Ok(())).boxed()
        }
    }

    fn session() -> (Session, mpsc::Receiver<Bytes>) {
        let machine = SimMachine::new(Clock::system(), 1, 1 << 30);
        let engine = Arc::new(machine.engine(Scope::new("c", "n").unwrap()));
        let identity = Identity::new("default", "t", "0af3", 1).unwrap();
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let _place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (_, ending) = watch::channel(false);
        (Session { engine, identity, sender, ending, _place }, receiver)
    }

    type Written = Result<(Output, Bytes), EngineError>;

    fn writes(text: &'static [u8]) -> Written {
        Ok((Output::Stdout, Bytes::from_static(text)))
    }

    async fn passed_on(output: stream::BoxStream<'static, Written>, control: Ends) -> (End, usize) {
        let (session, mut receiver) = session();
        let read = async {
            let mut bytes = 0;
            while let Some(frame) = receiver.recv().await {
                bytes += frame.len() - 5;
            }
            bytes
        };
        let run = async {
            let end = session.pass_on(output, &control).await;
            drop(session);
            end
        };
        tokio::join!(run, read)
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_has_ended_although_what_it_left_behind_holds_its_output() {
        let silent = stream::iter([writes(b"hi\n")]).chain(stream::pending()).boxed();
        let (end, bytes) = passed_on(silent, Ends(Some(3))).await;
        assert!(matches!(end, End::Exited(Ok(3))) && bytes == 3);
        let talking = stream::repeat_with(|| writes(&[b'y'; 1024])).boxed();
        let (end, bytes) = passed_on(talking, Ends(Some(0))).await;
        assert!(matches!(end, End::Exited(Ok(0))));
        assert!((DRAIN_BYTES_MAX..2 * DRAIN_BYTES_MAX).contains(&bytes), "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_command_wrote_before_its_end_is_passed_on_however_late_it_comes() {
        let late = stream::iter(0..40).then(|_| async {
            sleep(DRAIN_SILENCE - Duration::from_millis(1)).await;
            writes(b"line\n")
        });
        let (end, bytes) = passed_on(late.boxed(), Ends(Some(0))).await;
        assert!(matches!(end, End::Exited(Ok(0))));
        assert_eq!(bytes, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_goes_on_is_passed_on() {
        let output = stream::iter([writes(b"a"), writes(b"b")]).chain(stream::pending()).boxed();
        let (session, mut receiver) = session();
        let control = Ends(None);
        let pass_on = session.pass_on(output, &control);
        tokio::select! {
            _ended = pass_on => panic!("it goes on"),
            () = async {
                receiver.recv().await;
                receiver.recv().await;
                sleep(Duration::from_secs(3600)).await;
            } => (),
        }
    }

    /// A test command that runs until it is stopped.
    struct Endless(Arc<AtomicBool>);

    impl ExecControl for Endless {
        fn resize(&self, _: TerminalSize) -> Answer<'_, ()> {
            ready(Ok(())).boxed()
        }

        fn exit_code(&self) -> Answer<'_, i32> {
            pending().boxed()
        }

        fn stop(&self) -> Answer<'_, ()> {
            self.0.store(true, Ordering::Relaxed);
            ready(Ok(())).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_ends_with_the_agent() {
        let (mut session, mut receiver) = session();
        let (end, ending) = watch::channel(false);
        session.ending = ending;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let control = Box::new(Endless(Arc::clone(&is_stopped)));
        let exec = Exec { input: None, output: stream::pending().boxed(), control };
        end.send_replace(true);
        session.run(exec, nothing()).await;
        assert!(is_stopped.load(Ordering::Relaxed));
        let told = receiver.recv().await.unwrap();
        assert!(String::from_utf8_lossy(&told).contains("was stopped, and the command with it"));
    }

    fn nothing() -> ClientInput {
        let nothing = stream::pending::<io::Result<Bytes>>();
        ClientInput { body: Body::from_stream(nothing), frames: Frames::default() }
    }

    /// An engine may take longer to begin a command than an apiserver waits.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_has_begun_when_nobody_waits_any_more_is_stopped() {
        let (session, _receiver) = session();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let control = Box::new(Endless(Arc::clone(&is_stopped)));
        let exec = Exec { input: None, output: stream::pending().boxed(), control };
        let (told, begun) = oneshot::channel();
        drop(begun);
        session.serve(Ok(exec), told, nothing()).await;
        assert!(is_stopped.load(Ordering::Relaxed));
    }
}
