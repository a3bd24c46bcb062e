//! Commands beside tasks: a WebSocket on one side, a request to the node's agent on the other.
//!
//! # Invariants
//!
//! * The agent has started the command before the connection is upgraded: a refusal is an answer with
//!   a status, as for any other request.
//! * Each direction waits for its own reader alone.

use std::sync::Arc;
use std::time::Duration;

use api::Kind as _;
use api::exec::{self, Channel, ExecRequest, Frames, MESSAGE_BYTES_MAX, Malformed, PROTOCOL};
use api::query::pairs;
use api::status::{Reason, failure};
use axum::body::Body;
use base::ErrorChain;
use bytes::Bytes;
use futures_util::stream::{self, SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;

use super::asks::Asks;
use super::query::{Query, bad};
use super::{Answer, Place, agents, log};
use crate::Server;

/// Messages of input that wait for the agent.
const MESSAGES_MAX: usize = 4;
/// How often a client is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A client that gave none for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Runs a command beside a task.
pub(super) async fn exec(server: &Arc<Server>, place: &Place, request: Request<Body>) -> Answer {
    let accept = accept(request.headers())?;
    let asked = asked(request.uri().query().unwrap_or_default())?;
    let query = Query::parse(request.uri(), Asks::Exec)?;
    let task = log::task(server, place).await?;
    let attempt = query.attempt.unwrap_or(task.spec.attempt);
    let node = log::node_of(&task, attempt)?;
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
    let answer = agents::ask(server, node, question, &path).await?;
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

/// The key that accepts the upgrade which the headers ask for.
fn accept(headers: &HeaderMap) -> Result<String, Box<Status>> {
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

/// What the query asks for: `command=sh&command=-c&command=...&stdin=true&tty=false`.
fn asked(query: &str) -> Result<ExecRequest, Box<Status>> {
    let mut asked = ExecRequest { command: Vec::new(), stdin: false, tty: false };
    for (key, value) in pairs(query).map_err(|error| bad(error.to_string()))? {
        let is_true = matches!(value.as_str(), "true" | "1");
        match key.as_str() {
            "command" => asked.command.push(value),
            "stdin" => asked.stdin = is_true,
            "tty" => asked.tty = is_true,
            // Output is always passed on; who does not want it does not look.
            _ => (),
        }
    }
    match asked.problem() {
        Some(problem) => Err(bad(problem)),
        None => Ok(asked),
    }
}

/// Passes messages on in both directions until one side is done.
async fn bridge(socket: Socket, input: mpsc::Sender<Bytes>, output: Body) {
    let (mut to_client, from_client) = socket.split();
    // It ends first when the client goes: dropped with it, the bodies tell the agent.
    tokio::select! {
        biased;
        _ended = pass_output(&mut to_client, output) => (),
        () = pass_input(from_client, input) => (),
    }
    // It may be gone.
    let _closed = to_client.close().await;
}

/// Passes on what the client sends, until it is gone.
async fn pass_input(mut client: SplitStream<Socket>, input: mpsc::Sender<Bytes>) {
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            biased;
            message = client.next() => message,
            () = tokio::time::sleep_until(heard + SILENCE_MAX) => return,
        };
        heard = Instant::now();
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
            // The agent reads no more; its output says why.
            std::future::pending::<()>().await;
        }
    }
}

/// Passes on what the command writes, and how it ended.
async fn pass_output(client: &mut SplitSink<Socket, Message>, output: Body) -> Result<(), Error> {
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

/// The agent went away before it said how the command ended.
fn lost() -> Message {
    let why = "the connection to the node was lost; the command may still be running";
    let status = failure(Reason::ServiceUnavailable, why);
    message(Channel::Status, &serde_json::to_vec(&status).expect("a status has text keys only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_word_by_word() {
        let query = "command=sh&command=-c&stdin=true&command=echo+%26%3D%2B+a%20b&tty=0&stdout=1";
        let wanted = ["sh", "-c", "echo &=+ a b"].map(str::to_owned).into();
        let request = ExecRequest { command: wanted, stdin: true, tty: false };
        assert_eq!(asked(query), Ok(request));
        for bad in ["", "stdin=true", "command=", "command=%zz", "command=a%00"] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_websocket_that_speaks_the_protocol_is_accepted() {
        let mut headers = HeaderMap::new();
        let all = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in all {
            assert!(accept(&headers).is_err(), "{name} is missing");
            headers.insert(name, HeaderValue::from_static(value));
        }
        // The example of RFC 6455.
        assert_eq!(accept(&headers), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
    }
}
