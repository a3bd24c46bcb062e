//! Lines of log, and the files they are kept in.
//!
//! The format is the one that Kubernetes' container runtimes write, readable as it is:
//! `<time> stdout|stderr F|P <text>`, one line each, where P marks text that no newline ended.
//! A file is rotated once: what is kept is between half of the limit and all of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::EngineError;

/// Longest text of one stored line. A longer one is split, so that no program can make the agent
/// hold more than this.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Of what is there now, only this many of the last lines.
    pub tail: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
}

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of log.
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

/// Lines as they come. Ends when the container has ended, or with what is there.
pub type LogStream = BoxStream<'static, Result<LogLine, EngineError>>;

impl LogLine {
    /// Appends the stored form.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let output = match self.output {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        };
        let (text, tag) = match self.bytes.strip_suffix(b"\n") {
            Some(text) => (text, 'F'),
            None => (&self.bytes[..], 'P'),
        };
        out.extend_from_slice(format!("{:.9} {output} {tag} ", self.time).as_bytes());
        out.extend_from_slice(text);
        out.push(b'\n');
    }

    /// Reads the stored form, with or without its newline; nothing where it is damaged.
    pub fn parse(stored: &[u8]) -> Option<Self> {
        let stored = stored.strip_suffix(b"\n").unwrap_or(stored);
        let mut parts = stored.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let output = match parts.next()? {
            b"stdout" => Output::Stdout,
            b"stderr" => Output::Stderr,
            _ => return None,
        };
        let is_whole = match parts.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let mut bytes = parts.next()?.to_vec();
        if is_whole {
            bytes.push(b'\n');
        }
        Some(Self { output, time, bytes: bytes.into() })
    }
}

/// Appends lines to a file of bounded size.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogWriter {
    /// Opens `path` to append to it; with its rotated half it never holds more than `bytes_max`.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max })
    }

    /// Appends a line.
    pub fn write(&mut self, line: &LogLine) -> io::Result<()> {
        let mut stored = Vec::with_capacity(line.bytes.len() + 48);
        line.write_to(&mut stored);
        let length = stored.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.bytes_max / 2 {
            std::fs::rename(&self.path, rotated(&self.path))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(&stored)?;
        self.bytes += length;
        Ok(())
    }
}

/// Where the older half of a log is.
pub(crate) fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine {
            output: Output::Stderr,
            time: "2026-11-21T10:00:00.123456Z".parse().unwrap(),
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    #[test]
    fn a_line_survives_its_stored_form() {
        for text in ["hello\n", "no newline", "\n", "", "two  spaces \n"] {
            let mut stored = Vec::new();
            line(text).write_to(&mut stored);
            assert_eq!(LogLine::parse(&stored), Some(line(text)), "{text:?}");
        }
        assert_eq!(LogLine::parse(b"2026-11-21T10:00:00Z stdout"), None);
        assert_eq!(LogLine::parse(b"\n"), None);
    }

    #[test]
    fn a_log_keeps_its_newest_lines_within_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut writer = LogWriter::open(&path, 2_000).unwrap();
        for n in 0..500 {
            writer.write(&line(&format!("line {n}\n"))).unwrap();
        }
        let new = std::fs::read(&path).unwrap();
        let old = std::fs::read(rotated(&path)).unwrap();
        assert!(new.len() + old.len() <= 2_000);
        let last = new.split_inclusive(|b| *b == b'\n').next_back().unwrap();
        assert_eq!(LogLine::parse(last), Some(line("line 499\n")));
    }
}
