//! What is asked for, and what is passed on between a client and an agent.

use std::convert::Infallible;

use tokio::io::DuplexStream;
use tokio::time::sleep;

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
fn an_attempt_that_has_ended_is_refused_by_what_its_task_says() {
    let at = "2026-01-02T11:59:00Z";
    let task = |state: &str| -> Task {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "a-0" },
            "spec": {
                "template": "a", "attempt": 2,
                "binding": { "node": "n1", "attempt": 2, "number": 2, "at": at },
            },
            "status": { "attempt": 2, "binding": 2, "state": state },
        }))
        .unwrap()
    };
    let said = over(&task("Succeeded"), 2);
    let expected = "task \"a-0\" has ended (Succeeded): no command can be run in it";
    assert_eq!(said.as_deref(), Some(expected));
    let said = over(&task("Running"), 1).unwrap();
    assert!(said.starts_with("attempt 1 of task \"a-0\" has ended"), "{said}");
    assert_eq!(over(&task("Running"), 2), None);
    assert_eq!(over(&task("Starting"), 2), None, "its container may run by now");
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

/// A client, its connection of so many bytes, and a command that writes these frames and then is
/// silent. What the client sends arrives at the receiver.
fn connected(
    bytes: usize,
    frames: Vec<Vec<u8>>,
) -> (WebSocketStream<DuplexStream>, impl Future<Output = ()>, mpsc::Receiver<Bytes>) {
    let (here, there) = tokio::io::duplex(bytes);
    let (input, received) = mpsc::channel(MESSAGES_MAX);
    let frames = frames.into_iter().map(|frame| Ok::<_, Infallible>(Bytes::from(frame)));
    let output = Body::from_stream(stream::iter(frames).chain(stream::pending()));
    let bridged = async move {
        let server = WebSocketStream::from_raw_socket(there, Role::Server, None).await;
        bridge(server, input, output).await;
    };
    let client = WebSocketStream::from_raw_socket(here, Role::Client, None);
    (client.now_or_never().expect("it does no I/O"), bridged, received)
}

fn written(pieces: usize) -> Vec<Vec<u8>> {
    let piece = exec::frame(Channel::Stdout, &[b'x'; MESSAGE_BYTES_MAX]);
    let status = serde_json::to_vec(&exec::ended(0)).unwrap();
    let end = exec::frame(Channel::Status, &status);
    std::iter::repeat_n(piece, pieces).chain([end]).collect()
}

/// Reads to the end of the command: bytes of output, and whether it was told how the command ended.
async fn read(client: &mut WebSocketStream<DuplexStream>) -> (usize, bool) {
    let mut output = 0;
    while let Some(Ok(message)) = client.next().await {
        let Message::Binary(bytes) = message else { continue };
        if bytes[0] == Channel::Status.number() {
            return (output, true);
        }
        output += bytes.len() - 1;
    }
    (output, false)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_for_long_is_not_gone() {
    let (mut client, bridged, _received) = connected(4 * 1024, written(8));
    let reads = async {
        sleep(2 * SILENCE_MAX).await;
        let told = read(&mut client).await;
        drop(client);
        told
    };
    let (told, ()) = tokio::join!(reads, bridged);
    assert_eq!(told, (8 * MESSAGE_BYTES_MAX, true));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_no_sign_of_life_is_gone() {
    let (_client, bridged, mut received) = connected(64 * 1024, Vec::new());
    timeout(2 * SILENCE_MAX, bridged).await.expect("it is given up");
    assert_eq!(received.recv().await, None);
}

/// Of the pings that nobody reads the last one fills the connection.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_keeps_no_place_although_the_goodbye_finds_no_room() {
    let (_client, bridged, _received) = connected(10, Vec::new());
    timeout(2 * SILENCE_MAX, bridged).await.expect("it is given up");
}

/// A connection that is closed before its client has read everything may lose the rest.
#[tokio::test(start_paused = true)]
async fn a_connection_is_open_until_its_client_has_read_how_the_command_ended() {
    let (mut client, bridged, _received) = connected(1024 * 1024, written(1));
    let mut bridged = std::pin::pin!(bridged);
    for _ in 0..3 {
        let pause = timeout(SILENCE_MAX / 2, &mut bridged).await;
        assert!(pause.is_err(), "the client reads later, and shows that it is there");
        client.send(Message::Ping(Bytes::new())).await.unwrap();
    }
    assert_eq!(read(&mut client).await, (MESSAGE_BYTES_MAX, true));
    let closed = async { client.close(None).await };
    let (closed, ()) = tokio::join!(closed, bridged);
    closed.unwrap();
}
