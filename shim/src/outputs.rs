//! Copies a program's two outputs into its log, line by line.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::log::{LINE_BYTES_MAX, Line, LogWriter, Output};
use crate::now;

/// Bytes read at once: what a pipe holds by default.
const READ_BYTES: usize = 64 * 1024;

/// The outputs of a program, and the log that they go to.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// The outputs that have not ended.
    open: Vec<Source>,
    log: LogWriter,
}

#[derive(Debug)]
struct Source {
    from: OwnedFd,
    output: Output,
    /// What was read and does not form a complete line yet.
    held: Vec<u8>,
    /// How many of those bytes were already searched for a newline.
    searched: usize,
}

impl Outputs {
    /// Takes the outputs of a child that was just started.
    pub(crate) fn of(child: &mut Child, log: LogWriter) -> Self {
        let stdout = child.stdout.take().map(|pipe| (OwnedFd::from(pipe), Output::Stdout));
        let stderr = child.stderr.take().map(|pipe| (OwnedFd::from(pipe), Output::Stderr));
        let source = |(from, output)| Source { from, output, held: Vec::new(), searched: 0 };
        Self { open: [stdout, stderr].into_iter().flatten().map(source).collect(), log }
    }

    /// Waits until an output or `other` is readable, at most for `wait`, and copies what the
    /// outputs have.
    pub(crate) fn copy(&mut self, other: Option<BorrowedFd<'_>>, wait: Duration) -> io::Result<()> {
        let outputs = self.open.iter().map(|source| source.from.as_fd());
        let mut waited: Vec<PollFd<'_>> =
            outputs.chain(other).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
        match poll(&mut waited, Some(&wait)) {
            // After an interruption, checking once more does no harm.
            Ok(_) | Err(rustix::io::Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        // The end of an output is an event as well.
        let mut has_news = waited.iter().map(|polled| !polled.revents().is_empty());
        let has_news: Vec<bool> = self.open.iter().map(|_| has_news.next() == Some(true)).collect();
        let mut has_news = has_news.into_iter();
        let log = &mut self.log;
        self.open.retain_mut(|source| has_news.next() != Some(true) || source.copy(log));
        Ok(())
    }

    /// Copies until both outputs have ended, at most for `time`.
    pub(crate) fn drain(&mut self, time: Duration) {
        let until = monotonic() + time;
        while !self.open.is_empty() {
            let left = until.saturating_duration_since(monotonic());
            if left.is_zero() || self.copy(None, left).is_err() {
                break;
            }
        }
    }

    /// Ends the log with the rest of unfinished lines.
    pub(crate) fn end(mut self) {
        for source in &mut self.open {
            source.write_rest(&mut self.log);
        }
        // Room for a mark is reserved, so only a defective disk makes this fail. The task's end
        // must be recorded all the same.
        let _broken = self.log.end();
    }
}

impl Source {
    /// Copies what is available. Returns whether more may come.
    fn copy(&mut self, log: &mut LogWriter) -> bool {
        self.held.reserve(READ_BYTES);
        match rustix::io::read(&self.from, spare_capacity(&mut self.held)) {
            Err(rustix::io::Errno::INTR) => true,
            Ok(0) | Err(_) => {
                self.write_rest(log);
                false
            }
            Ok(_) => {
                self.write_lines(log);
                true
            }
        }
    }

    fn write_lines(&mut self, log: &mut LogWriter) {
        let time = now();
        let mut begin = 0;
        while let Some(length) = piece(&self.held[begin..], self.searched) {
            let text = &self.held[begin..begin + length];
            // On a full disk lines are lost, which the log will show; the task must not be stopped
            // for it.
            let _lost = log.write(Line { output: self.output, time, text });
            begin += length;
            self.searched = 0;
        }
        self.held.drain(..begin);
        self.searched = self.held.len();
    }

    fn write_rest(&mut self, log: &mut LogWriter) {
        if !self.held.is_empty() {
            let text = std::mem::take(&mut self.held);
            let _lost = log.write(Line { output: self.output, time: now(), text: &text });
        }
    }
}

/// The length of the first line, or of the first piece of a long line; nothing if neither is
/// complete. The first `searched` bytes contain no newline.
fn piece(held: &[u8], searched: usize) -> Option<usize> {
    let window = &held[..held.len().min(LINE_BYTES_MAX)];
    let searched = searched.min(window.len());
    let end = window[searched..].iter().position(|byte| *byte == b'\n');
    end.map(|end| searched + end + 1).or((window.len() == LINE_BYTES_MAX).then_some(LINE_BYTES_MAX))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shim has no runtime whose clock could be paused"
)]
fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_a_line_or_as_much_of_it_as_a_record_holds() {
        assert_eq!(piece(b"", 0), None);
        assert_eq!(piece(b"no end", 3), None);
        assert_eq!(piece(b"\n", 0), Some(1));
        assert_eq!(piece(b"one\ntwo\n", 0), Some(4));
        assert_eq!(piece(b"one\ntwo\n", 2), Some(4));
        let long = [vec![b'x'; LINE_BYTES_MAX - 1], b"\n\n".to_vec()].concat();
        assert_eq!(piece(&long, 0), Some(LINE_BYTES_MAX), "the longest line is one piece");
        let longer = [vec![b'x'; LINE_BYTES_MAX], b"\n".to_vec()].concat();
        assert_eq!(piece(&longer, LINE_BYTES_MAX), Some(LINE_BYTES_MAX));
        assert_eq!(piece(&longer[LINE_BYTES_MAX..], 0), Some(1));
    }

    /// Reads what was written to a pipe in these parts as a log's lines, after the time.
    fn logged(parts: &[&[u8]]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = LogWriter::open(&path, 1_000_000).unwrap();
        let (from, mut to) = io::pipe().unwrap();
        let mut source =
            Source { from: from.into(), output: Output::Stdout, held: Vec::new(), searched: 0 };
        for part in parts {
            io::Write::write_all(&mut to, part).unwrap();
            assert!(source.copy(&mut log));
        }
        drop(to);
        assert!(!source.copy(&mut log));
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().filter_map(|line| Some(line.split_once(" stdout ")?.1.to_owned())).collect()
    }

    #[test]
    fn lines_are_put_together_over_reads_and_the_last_needs_no_end() {
        assert_eq!(logged(&[b"a", b"b\nc\nd", b"\n"]), ["F ab", "F c", "F d"]);
        assert_eq!(logged(&[b"x\n\ny"]), ["F x", "F ", "P y"]);
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let lengths: Vec<_> = logged(&[&long, b"\n"]).iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX + 2, 3]);
    }
}
