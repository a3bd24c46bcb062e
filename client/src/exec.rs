//! A command beside a task: its streams over a WebSocket.

use api::exec::{Channel, MESSAGE_BYTES_MAX, PROTOCOL};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::error::Error;
use crate::tunnel::{Dial, Stream};

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Sends to a command.
#[derive(Debug)]
pub struct ExecSender(SplitSink<Socket, Message>);

/// Receives from a command.
#[derive(Debug)]
pub struct ExecReceiver(SplitStream<Socket>);

/// Runs a command. `path` names it with its arguments.
///
/// # Errors
/// As for any call, except that `Unknown` does not occur: a command whose streams were never
/// connected is ended.
pub async fn open_exec(dial: &Dial, path: &str) -> Result<(ExecSender, ExecReceiver), Error> {
    let stream = dial().await.map_err(|error| Error::Unavailable(error.into()))?;
    let mut request =
        format!("ws://heliox{path}").into_client_request().map_err(Error::malformed)?;
    let protocol = HeaderValue::from_static(PROTOCOL);
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX + 1))
        .max_frame_size(Some(MESSAGE_BYTES_MAX + 1));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => {
            let (sender, receiver) = socket.split();
            Ok((ExecSender(sender), ExecReceiver(receiver)))
        }
        Err(WsError::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            Err(Error::of_answer(answer.status(), body))
        }
        Err(error) => Err(Error::Unavailable(error.into())),
    }
}

impl ExecSender {
    /// Sends a message of at most [`MESSAGE_BYTES_MAX`] bytes. Waits until there is room for it.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn send(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), Error> {
        let mut message = Vec::with_capacity(1 + bytes.len());
        message.push(channel.number());
        message.extend_from_slice(bytes);
        let sent = self.0.send(Message::Binary(message.into())).await;
        sent.map_err(|error| Error::Unavailable(error.into()))
    }

    /// Sends a sign of life, for a client that neither sends nor reads anything for a long time.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn show_life(&mut self) -> Result<(), Error> {
        let sent = self.0.send(Message::Ping(Bytes::new())).await;
        sent.map_err(|error| Error::Unavailable(error.into()))
    }
}

impl ExecReceiver {
    /// The next message; nothing after the connection was closed.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn next(&mut self) -> Result<Option<(Channel, Bytes)>, Error> {
        loop {
            let bytes = match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(
                    Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => continue,
                Some(Err(error)) => return Err(Error::Unavailable(error.into())),
            };
            let channel = bytes.first().copied().and_then(Channel::of_number);
            if let Some(channel) = channel {
                return Ok(Some((channel, bytes.slice(1..))));
            }
        }
    }
}
