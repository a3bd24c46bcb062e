//! `hctl exec`: a command beside a task.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use api::exec::{self, Channel};
use api::status::Refusal;
use api::task::TaskPhase;
use api::{Kind as _, KindId, Node, Task};
use bytes::Bytes;
use client::{ExecReceiver, ExecSender};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::picked;
use crate::args::Exec;
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::raw::{self, Raw};
use crate::target::{self, Target};
use crate::{not_running, silence, terminal};

/// Most bytes of input in one message.
const INPUT_BYTES: usize = 16 * 1024;
/// How often a sign of life is sent. The server closes a connection that is silent for a minute,
/// which can happen while the reader of the output pauses.
const LIFE_INTERVAL: Duration = Duration::from_secs(15);

pub(super) async fn exec(connection: &Connection, args: Exec) -> Result<(), Failure> {
    let mut task = target::only_one(&args.task, Some(KindId::Task))?;
    if task.kind == KindId::Service {
        task = picked::task_of(connection, &task, "").await?;
    }
    if task.kind != KindId::Task {
        let failure = Failure::usage(format!("commands run in tasks, and {task} is not one"));
        let of_job = (task.kind == KindId::Job).then(|| format!(" --job {}", task.name));
        let tasks = format!("hctl get tasks{}", of_job.unwrap_or_default());
        return Err(failure.hint(format!("choose a running task: {tasks}")));
    }
    let is_terminal = std::io::stdin().is_terminal();
    let tty = args.tty && args.stdin && is_terminal;
    if args.tty && args.stdin && !is_terminal {
        terminal::note("stdin is not a terminal, so the command gets none");
    }
    let before = connection.find::<Task>(&task).await.ok().flatten();
    refuse_lost(connection, before.as_ref(), args.attempt)?;
    let mut signals = Signals::new()?;
    // A terminal without input is useful as well: programs format their output for it.
    let wants_tty = tty || (args.tty && !args.stdin);
    let (mut sender, receiver) = match connection.exec(&task, &query(&args, wants_tty)).await {
        Ok(opened) => opened,
        Err(failure) => {
            return Err(explained(connection, &task, args.attempt, failure).await);
        }
    };
    // From here on the terminal is restored on every way out.
    let raw = if tty { Some(Raw::enter()?) } else { None };
    let ended = {
        let input = send(&mut sender, args.stdin.then(typed), wants_tty, &mut signals.resized);
        tokio::select! {
            biased;
            ended = receive(connection, receiver) => ended,
            failure = input => Err(connection.failure(&failure)),
            () = signals.end.received() => Err(Failure::new("ended by a signal")),
        }
    };
    drop(raw);
    let ended = match ended? {
        Some(status) => outcome(&status),
        None => Err(Failure::new("the connection was lost; the command may still be running")),
    };
    match ended {
        // A command that has ended has its own exit code.
        Err(failure) if !matches!(failure.code, Code::Command(_)) => {
            let attempt = args.attempt.or_else(|| before.as_ref().map(|task| task.spec.attempt));
            let why = cut(connection, before.as_ref(), attempt).await;
            Err(why.unwrap_or_else(|| look_at(failure, &task)))
        }
        ended => ended,
    }
}

/// Refuses a command in a task whose node is lost at once: otherwise it would hang until the
/// connection to the node is given up. Other problems are reported by the server.
fn refuse_lost(
    connection: &Connection,
    task: Option<&Task>,
    attempt: Option<u32>,
) -> Result<(), Failure> {
    let lost = task.filter(|task| task.phase() == TaskPhase::Lost);
    let why = lost.and_then(|task| not_running::no_command(task, attempt, connection.clock.now()));
    why.map_or(Ok(()), Err)
}

/// Why a connection to a command broke, if the cause is the node on which the attempt was running.
async fn cut(
    connection: &Connection,
    before: Option<&Task>,
    attempt: Option<u32>,
) -> Option<Failure> {
    let (before, attempt) = (before?, attempt?);
    let node = Target::new(KindId::Node, silence::node_of(before, attempt)?);
    let node: Node = connection.find(&node).await.ok()??;
    let task = Target::new(KindId::Task, before.name());
    // It may be on another node by now.
    let now = connection.find::<Task>(&task).await.ok()?.unwrap_or_else(|| before.clone());
    silence::cut(&now, attempt, &node, connection.clock.now())
}

/// Adds a hint if nobody has noticed yet that the node is silent.
fn look_at(failure: Failure, task: &Target) -> Failure {
    let hint = format!("check its status with hctl describe {task}");
    if failure.hint.is_some() { failure } else { failure.hint(hint) }
}

/// Why a command could not be started: if the task is not running, it knows the reason better than
/// its node.
async fn explained(
    connection: &Connection,
    task: &Target,
    attempt: Option<u32>,
    failure: Failure,
) -> Failure {
    if failure.is_last {
        return failure;
    }
    let found = connection.find::<Task>(task).await.ok().flatten();
    let why =
        found.and_then(|task| not_running::no_command(&task, attempt, connection.clock.now()));
    why.unwrap_or(failure)
}

fn query(args: &Exec, tty: bool) -> String {
    let words = args.command.iter().map(|word| format!("command={}", escaped(word)));
    let mut query: Vec<String> = words.collect();
    query.push(format!("stdin={}&stdout=true&stderr={}&tty={tty}", args.stdin, !tty));
    query.extend(args.attempt.map(|attempt| format!("attempt={attempt}")));
    query.join("&")
}

/// Text as the value of a query parameter.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The signals that are handled.
struct Signals {
    resized: Signal,
    end: EndSignals,
}

/// Signals that end hctl. Without a terminal for the command, Ctrl-C is one of them.
struct EndSignals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("listen for signals: {error}")))
        };
        Ok(Self {
            resized: listen(SignalKind::window_change())?,
            end: EndSignals {
                int: listen(SignalKind::interrupt())?,
                term: listen(SignalKind::terminate())?,
                hup: listen(SignalKind::hangup())?,
            },
        })
    }
}

impl EndSignals {
    async fn received(&mut self) {
        tokio::select! {
            biased;
            _ = self.int.recv() => (),
            _ = self.term.recv() => (),
            _ = self.hup.recv() => (),
        }
    }
}

/// Reads stdin to its end or to the first error. It can only be read by blocking calls, so a thread
/// does that, one block ahead.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, typed) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; INPUT_BYTES];
        while let Ok(bytes @ 1..) = std::io::stdin().lock().read(&mut buffer) {
            if sender.blocking_send(buffer[..bytes].to_vec()).is_err() {
                return;
            }
        }
    });
    typed
}

/// What to send next.
enum Next {
    Size,
    /// Input; `None` at its end.
    Typed(Option<Vec<u8>>),
    SignOfLife,
}

/// Sends input, terminal sizes and signs of life until the connection ends.
async fn send(
    sender: &mut ExecSender,
    mut input: Option<mpsc::Receiver<Vec<u8>>>,
    tty: bool,
    resized: &mut Signal,
) -> client::Error {
    let mut life = interval(LIFE_INTERVAL);
    life.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = Next::Size;
    loop {
        let sent = match next {
            Next::Size => match raw::size().filter(|_| tty) {
                Some(size) => {
                    let size = serde_json::to_vec(&size).expect("a size is two numbers");
                    sender.send(Channel::Resize, &size).await
                }
                None => Ok(()),
            },
            Next::Typed(Some(bytes)) => sender.send(Channel::Stdin, &bytes).await,
            Next::Typed(None) => {
                input = None;
                sender.send(Channel::Close, &[Channel::Stdin.number()]).await
            }
            Next::SignOfLife => sender.show_life().await,
        };
        if let Err(error) = sent {
            return error;
        }
        let typed = async {
            match &mut input {
                Some(input) => input.recv().await,
                None => std::future::pending().await,
            }
        };
        next = tokio::select! {
            biased;
            _ = resized.recv() => Next::Size,
            typed = typed => Next::Typed(typed),
            _ = life.tick() => Next::SignOfLife,
        };
    }
}

/// Prints the command's output until it ends. Returns how it ended, unless the connection was lost
/// before.
async fn receive(
    connection: &Connection,
    mut from: ExecReceiver,
) -> Result<Option<Bytes>, Failure> {
    loop {
        match from.next().await.map_err(|error| connection.failure(&error))? {
            Some((channel @ (Channel::Stdout | Channel::Stderr), bytes)) => {
                // In another thread: the reader of the output may pause, and signs of life must be
                // sent meanwhile.
                let printed = base::blocking("output", move || print(channel, &bytes)).await;
                printed.map_err(Failure::new)??;
            }
            Some((Channel::Status, status)) => return Ok(Some(status)),
            Some((Channel::Stdin | Channel::Resize | Channel::Close, _)) => (),
            None => return Ok(None),
        }
    }
}

fn print(channel: Channel, bytes: &[u8]) -> Result<(), Failure> {
    if channel == Channel::Stdout {
        return terminal::print_bytes(bytes);
    }
    let mut stderr = std::io::stderr().lock();
    stderr.write_all(bytes)?;
    stderr.flush()?;
    Ok(())
}

fn outcome(status: &[u8]) -> Result<(), Failure> {
    let status: Status = serde_json::from_slice(status).map_err(|error| {
        Failure::new(format!("the exit code of the command is not known: {error}"))
    })?;
    match exec::exit_code(&status) {
        Some(0) => Ok(()),
        Some(code) => {
            let message = format!("command terminated with exit code {code}");
            Err(Failure::new(message).code(Code::Command(u8::try_from(code).unwrap_or(255))))
        }
        None => {
            let message = status.message.clone();
            let message = message.unwrap_or_else(|| "the server ended the command".to_owned());
            let refusal = Refusal::of_status(status).map(|refusal| Failure::of_refusal(&refusal));
            Err(refusal.unwrap_or_else(|| Failure::new(message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use api::status::Why;
    use client::{Dial, Stream, open_exec};
    use futures_util::{FutureExt as _, StreamExt as _, future};
    use http::HeaderValue;
    use tokio_tungstenite::accept_hdr_async;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

    use super::*;

    /// The server closes connections that are silent for too long, even if it is only the output
    /// that nobody reads.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_nothing_to_send_shows_that_it_is_there() {
        let (here, there) = tokio::io::duplex(64 * 1024);
        let here = Arc::new(Mutex::new(Some(here)));
        let dial: Dial = Arc::new(move || {
            let here = here.lock().unwrap().take().expect("it dials once");
            future::ready(Ok(Box::new(here) as Box<dyn Stream>)).boxed()
        });
        #[expect(clippy::result_large_err, reason = "it is the library's")]
        let accept = |_: &Request, mut answer: Response| -> Result<Response, ErrorResponse> {
            let protocol = HeaderValue::from_static(exec::PROTOCOL);
            answer.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, protocol);
            Ok(answer)
        };
        let (opened, server) =
            tokio::join!(open_exec(&dial, "/exec"), accept_hdr_async(there, accept));
        let ((mut sender, _receiver), mut server) = (opened.unwrap(), server.unwrap());
        let mut resized = signal(SignalKind::window_change()).unwrap();
        let sends = send(&mut sender, None, false, &mut resized);
        let heard = async {
            for _ in 0..3 {
                let message = server.next().await.unwrap().unwrap();
                assert!(matches!(message, Message::Ping(_)), "{message:?}");
            }
        };
        tokio::select! {
            error = sends => panic!("{error}"),
            () = heard => (),
        }
    }

    #[test]
    fn words_of_a_command_survive_their_url() {
        let args = Exec {
            task: vec!["t".to_owned()],
            stdin: true,
            tty: false,
            attempt: Some(2),
            command: vec!["sh".to_owned(), "echo 'a&b' +ü".to_owned()],
        };
        assert_eq!(
            query(&args, false),
            "command=sh&command=echo%20%27a%26b%27%20%2B%C3%BC\
             &stdin=true&stdout=true&stderr=true&tty=false&attempt=2"
        );
    }

    #[test]
    fn the_exit_code_is_the_commands() {
        let told = |status: &Status| {
            outcome(&serde_json::to_vec(status).unwrap()).map_err(|it| it.code.number())
        };
        assert_eq!(told(&exec::ended(0)), Ok(()));
        assert_eq!(told(&exec::ended(42)), Err(42));
        let lost = Refusal::new(Why::Unavailable, "lost").to_status();
        assert_eq!(told(&lost), Err(1));
    }
}
