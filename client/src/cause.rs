//! Why a server did not answer, in words for people who do not know the libraries involved.

use std::error::Error;
use std::io;

use base::ErrorChain;

/// The connection was lost before the answer was complete.
const BROKE_OFF: &str = "the connection broke";
/// Nothing was received for too long.
const NO_ANSWER: &str = "no answer in time";

/// Why there was no answer, in a few words: those of the operating system if there are any.
pub fn cause(source: &(dyn Error + 'static)) -> String {
    let (mut said, mut next) = (None, Some(source));
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return of_io(io);
        }
        said = said.or_else(|| error.downcast_ref::<hyper::Error>().and_then(of_hyper));
        next = error.source();
    }
    said.map_or_else(|| ErrorChain(source).to_string(), str::to_owned)
}

/// Whether an established connection was lost.
pub fn broke_off(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

fn of_io(error: &io::Error) -> String {
    if error.raw_os_error().is_some() {
        return error.to_string();
    }
    if broke_off(error) {
        return BROKE_OFF.to_owned();
    }
    if error.kind() == io::ErrorKind::TimedOut { NO_ANSWER.to_owned() } else { error.to_string() }
}

fn of_hyper(error: &hyper::Error) -> Option<&'static str> {
    let broke = error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || error.is_body_write_aborted();
    if broke {
        Some(BROKE_OFF)
    } else if error.is_timeout() {
        Some(NO_ANSWER)
    } else if error.is_parse() {
        Some("the program that answers there does not speak HTTP")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What is said of a server that sends this and closes the connection.
    async fn said(answer: &'static str) -> String {
        let (here, mut there) = tokio::io::duplex(1024);
        let serving = async move {
            let mut asked = [0; 16];
            there.read_exact(&mut asked).await.unwrap();
            there.write_all(answer.as_bytes()).await.unwrap();
        };
        let asking = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(here)).await.unwrap();
            let request = http::Request::builder().uri("/").header("host", "h");
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let asked = async {
                let answer = sender.send_request(request).await?;
                answer.into_body().collect().await.map(drop)
            };
            let (asked, _connection) = tokio::join!(asked, connection);
            cause(&asked.unwrap_err())
        };
        tokio::join!(serving, asking).1
    }

    #[tokio::test]
    async fn what_libraries_say_of_a_broken_connection_reaches_nobody() {
        let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        assert_eq!(said(begun).await, BROKE_OFF);
        assert_eq!(said("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await, BROKE_OFF);
        assert_eq!(said("").await, BROKE_OFF);
        let no_http = "the program that answers there does not speak HTTP";
        assert_eq!(said("SSH-2.0-x\r\n\r\n").await, no_http);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_said_as_that() {
        let never = tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>());
        let late = io::Error::new(io::ErrorKind::TimedOut, never.await.unwrap_err());
        assert_eq!(cause(&late), NO_ANSWER);
        assert_eq!(cause(&io::Error::from_raw_os_error(111)), "Connection refused (os error 111)");
    }
}
