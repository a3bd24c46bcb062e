//! Starts a command that has a terminal.
//!
//! The stream of such a command is raw. bollard tells raw streams from those with headers by
//! looking at the bytes, and mistakes a terminal's bytes 0 to 2 for a header; so this one call is
//! made without bollard.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use crate::engine::logs::Output;
use crate::engine::{EngineError, Reason};

/// Output and input of a command.
pub(super) type Streams =
    (BoxStream<'static, Result<(Output, Bytes), EngineError>>, Pin<Box<dyn AsyncWrite + Send>>);

/// How long the engine may take to start it.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of the engine's answer, and longest message of a refusal, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Starts the command that was created under `id`.
pub(super) async fn start(socket: &str, id: &str) -> Result<Streams, EngineError> {
    match timeout(START_TIMEOUT, ask(socket, id)).await {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => Err(EngineError::unknown(format!("cannot start the command: {error}"))),
        Err(_) => Err(EngineError::unknown("the engine did not answer in time")),
    }
}

async fn ask(socket: &str, id: &str) -> io::Result<Result<Streams, EngineError>> {
    let path = socket.strip_prefix("unix://").unwrap_or(socket);
    let mut stream = UnixStream::connect(path).await?;
    let body = r#"{"Detach":false,"Tty":true}"#;
    let request = format!(
        "POST /exec/{id}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    // One byte at a time: everything after the head belongs to the command.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < ANSWER_BYTES_MAX {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if !is_upgraded(&head) {
        return Ok(Err(refused(&head, stream).await));
    }
    // These halves do not shut anything down when one is dropped. If the input of a terminal were
    // shut down, its output would end as well.
    let (output, input) = tokio::io::split(stream);
    let output = ReaderStream::new(output).map(|read| {
        read.map(|bytes: Bytes| (Output::Stdout, bytes))
            .map_err(|error| EngineError::unavailable(error.to_string()))
    });
    Ok(Ok((output.boxed(), Box::pin(input))))
}

/// Whether the stream belongs to the command from here on. Older engines answer with a plain 200.
fn is_upgraded(head: &str) -> bool {
    let code = head.split(' ').nth(1);
    code == Some("101")
        || (code == Some("200") && head.contains("application/vnd.docker.raw-stream"))
}

async fn refused(head: &str, stream: UnixStream) -> EngineError {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
    });
    let mut reason = Vec::new();
    let limit = length.unwrap_or_default().min(ANSWER_BYTES_MAX as u64);
    // If this fails, only the message is shorter.
    let _read = stream.take(limit).read_to_end(&mut reason).await;
    let status = head.lines().next().unwrap_or_default().to_owned();
    let reason = serde_json::from_slice::<serde_json::Value>(&reason)
        .ok()
        .and_then(|json| json["message"].as_str().map(str::to_owned))
        .unwrap_or(status);
    EngineError::refused(Reason::CannotRun, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_told_from_a_refusal() {
        assert!(is_upgraded("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n"));
        let old = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
        assert!(is_upgraded(old));
        assert!(!is_upgraded("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n"));
    }
}
