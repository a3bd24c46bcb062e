//! Logs: their records, their files, and what is promised of them.
//!
//! # Design
//!
//! A container's output is kept in files that are rotated: the newest at `<path>`, older ones at
//! `<path>.1`, `<path>.2` and so on, [`LOG_FILES`] of them with [`LOG_BYTES_MAX`] together. The shim
//! of the process engine writes them ([`LogWriter`]); for Docker its `json-file` driver does, in
//! its blocking mode, so that a program that writes faster than the disk waits and loses nothing.
//! A reader reads the files themselves ([`super::log_files`]) and never Docker's own following,
//! which loses and repeats lines where files are rotated under it.
//!
//! A place in a log is a file, known by the time of its first record wherever it is renamed or
//! copied to, and an offset in it ([`Position`]). Each record comes with the position after it,
//! so that a reader goes on exactly there after any of the agent, the apiserver or itself was
//! restarted. Where a reader's next file is gone, it is told of a gap ([`LogEvent::Gap`]).
//!
//! Nothing is held in memory but the record that is being read, and nobody pays for a log that is
//! not read. The records of the shim have the form that Kubernetes' container runtimes write,
//! readable as it is: `<time> stdout|stderr F|P <text>`, one line each, where P marks text that no
//! newline ended; `G` marks that lines were lost there because they could not be written.

use api::log::Position;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::Deserialize;

use super::EngineError;

pub use api::log::Output;
#[cfg(test)]
pub(crate) use shim::log::gap_mark;
pub use shim::log::{LINE_BYTES_MAX, LOG_FILES, Line, LogWriter};
pub(crate) use shim::log::{room_of, rotated};

/// Bytes of log kept for one container, in its stored form, on either side of its end.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Of what is there now, only this many of the last lines.
    pub tail: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Only what comes after this position. Then there is no tail.
    pub after: Option<Position>,
}

/// A line of log, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written to.
    pub output: Output,
    /// When the engine read it.
    pub time: Timestamp,
    /// The line with its newline; without one where none was written (yet), or where a long line
    /// was split.
    pub bytes: Bytes,
}

/// What a log says next, in the order in which it was stored: pieces of a long line may have
/// lines of the other output between them ([`super::log_lines`] puts them together).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// Reading begins here; nothing was told yet.
    From(Position),
    /// A line, or a piece of one.
    Line {
        /// The line.
        line: LogLine,
        /// Where reading goes on after it.
        next: Position,
    },
    /// Lines that were written here are no longer kept, or never were.
    Gap,
}

/// What a log says, as it comes. Ends when the container has ended, or with what is there.
pub type LogStream = BoxStream<'static, Result<LogEvent, EngineError>>;

/// One record of a log's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    Line(LogLine),
    /// From this time on lines could not be written.
    Lost(Timestamp),
}

/// A record as Docker's `json-file` driver writes it.
#[derive(Deserialize)]
struct DockerRecord {
    #[serde(default)]
    log: String,
    stream: DockerStream,
    time: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DockerStream {
    Stdout,
    Stderr,
}

impl Stored {
    /// Reads a record in either form, with or without its newline; nothing where it is damaged.
    pub(crate) fn parse(stored: &[u8]) -> Option<Self> {
        if stored.first() == Some(&b'{') {
            let DockerRecord { log, stream, time } = serde_json::from_slice(stored).ok()?;
            let output = match stream {
                DockerStream::Stdout => Output::Stdout,
                DockerStream::Stderr => Output::Stderr,
            };
            return Some(Self::Line(LogLine { output, time, bytes: log.into() }));
        }
        let stored = stored.strip_suffix(b"\n").unwrap_or(stored);
        let mut parts = stored.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let output = match parts.next()? {
            b"stdout" => Output::Stdout,
            b"stderr" => Output::Stderr,
            _ => return None,
        };
        let tag = parts.next()?;
        let mut bytes = parts.next()?.to_vec();
        match tag {
            b"F" => bytes.push(b'\n'),
            b"P" => (),
            b"G" => return Some(Self::Lost(time)),
            _ => return None,
        }
        Some(Self::Line(LogLine { output, time, bytes: bytes.into() }))
    }

    pub(crate) fn time(&self) -> Timestamp {
        match self {
            Self::Line(line) => line.time,
            Self::Lost(time) => *time,
        }
    }

    /// Whether a line ends with it.
    pub(crate) fn ends_line(&self) -> bool {
        match self {
            Self::Line(line) => line.bytes.ends_with(b"\n"),
            Self::Lost(_) => false,
        }
    }
}

impl LogLine {
    /// The same as it is written ([`LogWriter`]).
    pub fn written(&self) -> Line<'_> {
        let output = match self.output {
            Output::Stdout => shim::log::Output::Stdout,
            Output::Stderr => shim::log::Output::Stderr,
        };
        Line { output, time: self.time, text: &self.bytes }
    }
}

/// Marks, at the beginning of a file that holds the end of another, what it is the end of: which file,
/// and from which byte on. Each such mark is as long.
pub(super) fn part_mark(of: Position) -> String {
    format!("{:.9} stderr G {:020} {:020}\n", Timestamp::UNIX_EPOCH, of.file, of.offset)
}

/// Reads such a mark, with its newline; nothing where it is none.
pub(super) fn parse_part_mark(stored: &[u8]) -> Option<Position> {
    let words = std::str::from_utf8(stored).ok()?.trim_end().split(' ').skip(3);
    let [file, offset] = words.collect::<Vec<_>>().try_into().ok()?;
    Some(Position { file: file.parse().ok()?, offset: offset.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T10:00:00.123456789Z";

    fn line(text: &str) -> LogLine {
        LogLine {
            output: Output::Stderr,
            time: TIME.parse().unwrap(),
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    #[test]
    fn a_line_survives_its_stored_form() {
        for text in ["hello\n", "no newline", "\n", "", "two  spaces \n"] {
            let mut stored = Vec::new();
            line(text).written().write_to(&mut stored);
            assert_eq!(Stored::parse(&stored), Some(Stored::Line(line(text))), "{text:?}");
        }
        assert_eq!(Stored::parse(b"2026-11-21T10:00:00Z stdout"), None);
        assert_eq!(Stored::parse(b"\n"), None);
    }

    #[test]
    fn a_record_of_docker_is_read() {
        let stored = format!(r#"{{"log":"a \u003cb\u003e\n","stream":"stderr","time":"{TIME}"}}"#);
        assert_eq!(Stored::parse(stored.as_bytes()), Some(Stored::Line(line("a <b>\n"))));
        assert_eq!(Stored::parse(b"{\"log\":\"cut off by a cra"), None);
    }
}
