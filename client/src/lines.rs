//! Splits a body into lines.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;

use crate::error::Error;
use crate::transport::Body;

/// Longest line, in bytes: an object of 1 MiB with its escapes and the surrounding event.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads a body line by line.
#[derive(Debug)]
pub struct Lines {
    body: Body,
    /// What was read and not returned. There is no newline before `searched`.
    buffer: BytesMut,
    searched: usize,
}

impl Lines {
    /// The lines of `body`.
    pub fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line without its newline; nothing at the end of the body. An incomplete line at the
    /// end is an error, because the connection was lost. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                    if self.buffer.len() > LINE_BYTES_MAX && !self.buffer.contains(&b'\n') {
                        return Err(Error::malformed("a line is longer than 4 MiB"));
                    }
                }
                Some(Err(error)) => return Err(Error::Unavailable(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    return Err(Error::Unavailable(
                        "the answer ended in the middle of a line".into(),
                    ));
                }
            }
        }
    }

    /// A line that was received already, without waiting.
    pub fn buffered(&mut self) -> Option<Bytes> {
        let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::transport::{BoxError, boxed_body};

    #[tokio::test]
    async fn lines_do_not_depend_on_how_the_body_is_cut() {
        let text = b"one\n\ntwo\nthree\n";
        for size in 1..text.len() {
            let frames: Vec<Result<Frame<Bytes>, BoxError>> = text
                .chunks(size)
                .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
                .collect();
            let body = boxed_body(StreamBody::new(futures_util::stream::iter(frames)));
            let mut lines = Lines::new(body);
            let mut read = Vec::new();
            while let Some(line) = lines.next().await.unwrap() {
                read.push(line);
            }
            assert_eq!(read, ["one", "", "two", "three"].map(Bytes::from), "chunks of {size}");
        }
    }

    #[tokio::test]
    async fn half_a_line_is_an_error() {
        let mut lines = Lines::new(boxed_body(http_body_util::Full::new(Bytes::from("one\ntw"))));
        assert_eq!(lines.next().await.unwrap().unwrap(), "one");
        assert!(lines.next().await.is_err());
    }
}
