//! Commands that run beside tasks: a WebSocket with the client on one side, and a request to the
//! agent of the node on the other.
//!
//! # Invariants
//!
//! * The agent has started the command before the connection is upgraded. So a refusal is a normal
//!   answer with a status.
//! * Each direction waits only for its own reader.
//! * A client that does not read is not considered gone: the time in which a message waits to be
//!   sent to it does not count as silence.

use std::time::Duration;

use api::exec::{self, Channel, ExecRequest, Frames, MESSAGE_BYTES_MAX, Malformed, PROTOCOL};
use api::query::pairs;
use api::status::{Refusal, Why};
use api::verb::Verb;
use api::{Kind as _, Task};
use axum::body::Body;
use base::ErrorChain;
use bytes::Bytes;
use futures_util::stream::{self, SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;

use super::extract::{Answer, Call, ObjectPath};
use super::query::{Query, bad};
use super::{agents, log};

/// How many input messages may wait for the agent.
const MESSAGES_MAX: usize = 4;
/// How often a client is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A client that is silent for this long is considered gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a client may take to read the close message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

type Sink<S> = SplitSink<WebSocketStream<S>, Message>;
type Source<S> = SplitStream<WebSocketStream<S>>;

/// Runs a command beside a task.
pub(super) async fn exec(
    call: Call,
    place: ObjectPath,
    query: Query,
    request: Request<Body>,
) -> Answer {
    let server = &*call.server;
    let accept = accept(request.headers())?;
    let asked = asked(request.uri().query().unwrap_or_default())?;
    let task = log::task(server, &place).await?;
    let attempt = query.attempt.unwrap_or(task.spec.attempt);
    let node = log::node_of(&task, attempt)?;
    if let Some(why) = over(&task, attempt) {
        return Err(Refusal::new(Why::Conflict, why).into());
    }
    let path = format!("/exec/{}/{attempt}", task.uid());
    let (input, rest) = mpsc::channel::<Bytes>(MESSAGES_MAX);
    let first = serde_json::to_vec(&asked).expect("a command is text");
    let first = Bytes::from(exec::frame(Channel::Stdin, &first));
    let body = stream::unfold((Some(first), rest), |(first, mut rest)| async move {
        let next = match first {
            Some(first) => first,
            None => rest.recv().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(next), (None, rest)))
    });
    let mut question = Request::new(Body::from_stream(body));
    *question.method_mut() = Method::POST;
    let verb = if request.method() == Method::GET { Verb::Get } else { Verb::Create };
    let on_behalf = call.on_behalf(verb, &place);
    let answer = agents::ask(server, &on_behalf, node, question, &path).await?;
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let upgrade = hyper::upgrade::on(request);
    server.spawner.spawn("exec", async move {
        let socket = match upgrade.await {
            Ok(upgraded) => upgraded,
            // Dropping both bodies tells the agent.
            Err(error) => return debug!(error = %ErrorChain(&error), "no connection came of it"),
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX + 1))
            .max_frame_size(Some(MESSAGE_BYTES_MAX + 1));
        let socket = TokioIo::new(socket);
        let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
        bridge(socket, input, answer.into_body()).await;
    });
    Ok(switching(accept))
}

/// An error if the task says that the attempt has ended. The agent would only know that it runs no
/// such attempt.
fn over(task: &Task, attempt: u32) -> Option<String> {
    let name = task.name();
    if attempt < task.spec.attempt {
        return Some(format!(
            "attempt {attempt} of task {name:?} has ended: no command can be run in it"
        ));
    }
    task.has_ended().then(|| {
        let phase = task.phase();
        format!("task {name:?} has ended ({phase}): no command can be run in it")
    })
}

/// The key that accepts the upgrade requested by the headers.
fn accept(headers: &HeaderMap) -> Result<String, Refusal> {
    let has = |name, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        let mut words = values.flat_map(|value| value.split(','));
        words.any(|found| found.trim().eq_ignore_ascii_case(word))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let is_upgrade = has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade");
    let Some(key) = key.filter(|_| is_upgrade && has(header::SEC_WEBSOCKET_VERSION, "13")) else {
        return Err(bad("exec needs a WebSocket: send an upgrade request"));
    };
    if !has(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
        return Err(bad(format!("the WebSocket must use the subprotocol {PROTOCOL}")));
    }
    Ok(derive_accept_key(key.as_bytes()))
}

fn switching(accept: String) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let accept = HeaderValue::try_from(accept).expect("a key is base64");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Reads the query: `command=sh&command=-c&command=...&stdin=true&tty=false`.
fn asked(query: &str) -> Result<ExecRequest, Refusal> {
    let mut asked = ExecRequest { command: Vec::new(), stdin: false, tty: false };
    for (key, value) in pairs(query).map_err(|error| bad(error.to_string()))? {
        let is_true = matches!(value.as_str(), "true" | "1");
        match key.as_str() {
            "command" => asked.command.push(value),
            "stdin" => asked.stdin = is_true,
            "tty" => asked.tty = is_true,
            // Output is always sent. A client that does not want it can ignore it.
            _ => (),
        }
    }
    match asked.problem() {
        Some(problem) => Err(bad(problem)),
        None => Ok(asked),
    }
}

/// Forwards messages in both directions until one side is done.
async fn bridge<S>(socket: WebSocketStream<S>, input: mpsc::Sender<Bytes>, output: Body)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, mut from_client) = socket.split();
    let (room, room_changes) = watch::channel(Room::Since(Instant::now()));
    let mut to_client = ToClient { sink, room };
    // Both bodies are dropped when either direction ends, which tells the agent.
    let passed = tokio::select! {
        biased;
        passed = pass_output(&mut to_client, output) => Some(passed),
        () = pass_input(&mut from_client, input, room_changes) => None,
    };
    match passed {
        Some(Ok(())) => part(&mut to_client.sink, from_client).await,
        // The connection is broken.
        Some(Err(_)) => (),
        // The client is gone or has closed the connection. The time limit is for a client that has
        // vanished while the send buffer is full. Without it, it would keep its connection slot for
        // as long as the kernel retries.
        None => drop(timeout(CLOSE_TIMEOUT, to_client.sink.close()).await),
    }
}

/// Sends a close message, and waits until the client answers it, closes the connection or is silent
/// for too long. Whatever the client still sends is read, because closing a connection with unread
/// input discards output that is still on the way.
async fn part<S>(sink: &mut Sink<S>, mut from_client: Source<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let left =
        async { while let Ok(Some(Ok(_))) = timeout(SILENCE_MAX, from_client.next()).await {} };
    let closed = async {
        // If this fails, reading from the connection fails, too.
        let _broken = sink.close().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = left => (),
        () = closed => (),
    }
}

/// Whether there is room to send to the client.
#[derive(Debug, Clone, Copy)]
enum Room {
    /// A message is waiting because the client, or the network, takes nothing at the moment. If the
    /// client has vanished, the kernel notices this, because its probes get no answer.
    None,
    /// There has been room since this time. Sending the message that waited before counts as a sign
    /// of life.
    Since(Instant),
}

/// The sending side of the connection to the client.
struct ToClient<S> {
    sink: Sink<S>,
    room: watch::Sender<Room>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ToClient<S> {
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        let mut sending = self.sink.send(message);
        if let Some(sent) = (&mut sending).now_or_never() {
            return sent;
        }
        self.room.send_replace(Room::None);
        let sent = sending.await;
        self.room.send_replace(Room::Since(Instant::now()));
        sent
    }
}

/// Returns when a client that was last heard at `heard` has been silent for too long.
async fn silence(heard: Instant, room: &mut watch::Receiver<Room>) {
    loop {
        let since = match *room.borrow_and_update() {
            Room::None => None,
            Room::Since(since) => Some(since.max(heard)),
        };
        let over = async {
            match since {
                Some(since) => sleep_until(since + SILENCE_MAX).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Ok(()) = room.changed() => (),
            () = over => return,
        }
    }
}

/// Forwards what the client sends, until it is gone.
async fn pass_input<S>(
    client: &mut Source<S>,
    input: mpsc::Sender<Bytes>,
    mut room: watch::Receiver<Room>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        // This also counts after waiting for the agent, since nobody read from the client
        // meanwhile.
        let heard = Instant::now();
        let message = tokio::select! {
            biased;
            message = client.next() => message,
            () = silence(heard, &mut room) => return,
        };
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_) | Message::Frame(_) | Message::Close(_)) | Err(_)) | None => {
                return;
            }
        };
        let Some((channel, bytes)) = bytes.split_first() else { continue };
        let Some(channel) = Channel::of_number(*channel) else { return };
        if input.send(Bytes::from(exec::frame(channel, bytes))).await.is_err() {
            // The agent no longer reads; its output says why.
            std::future::pending::<()>().await;
        }
    }
}

/// Forwards the output of the command, and how it ended.
async fn pass_output<S>(client: &mut ToClient<S>, output: Body) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut output, mut frames) = (output.into_data_stream(), Frames::default());
    let mut ping = interval(PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let bytes = tokio::select! {
            biased;
            bytes = output.next() => bytes,
            _ = ping.tick() => {
                client.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        };
        match bytes {
            Some(Ok(bytes)) => frames.add(&bytes),
            Some(Err(_)) | None => return client.send(lost()).await,
        }
        loop {
            match frames.take() {
                Ok(Some((channel, bytes))) => {
                    client.send(message(channel, &bytes)).await?;
                    if channel == Channel::Status {
                        return Ok(());
                    }
                }
                Ok(None) => break,
                Err(Malformed) => return client.send(lost()).await,
            }
        }
    }
}

fn message(channel: Channel, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(channel.number());
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

/// The agent disconnected before it said how the command ended.
fn lost() -> Message {
    let why = "the connection to the node was lost; the command may still be running";
    let status = Refusal::new(Why::Unavailable, why);
    let status = serde_json::to_vec(&status.to_status()).expect("a status has text keys only");
    message(Channel::Status, &status)
}

#[cfg(test)]
mod tests;
