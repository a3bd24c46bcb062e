//! Joins the pieces of long lines, so that what is one line for a program is one line for every
//! reader, whatever its length, and whatever the program writes to its other output in between.
//!
//! Lines are not collected: the pieces of a line are passed on as they come, and what the other
//! output wrote is held back until the line has ended. An engine stores a piece without an end only
//! for lines longer than [`super::logs::LINE_BYTES_MAX`] and at the end of the output, so text is
//! held back only while a long line is being written. At most [`HELD_BYTES_MAX`] are held back;
//! then the line is broken. Pure: the same records give the same lines from any reported position.

use std::collections::VecDeque;

use api::log::Position;

use super::logs::{LogEvent, LogLine, Output};

/// Most bytes of the other output that are held back until a line ends.
const HELD_BYTES_MAX: usize = 1024 * 1024;
/// What a held line takes in memory besides its text.
const HELD_LINE_BYTES: usize = 64;

/// A piece of the joined output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A line, or the next piece of the last line.
    Text {
        line: LogLine,
        /// Whether it is the beginning of a line.
        starts: bool,
    },
    /// The last line has no end, and another line follows.
    Break,
    /// Everything up to here was passed on.
    Position(Position),
    Gap,
}

/// Lines that are put together.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The output whose line has not ended.
    open: Option<Output>,
    held: VecDeque<LogLine>,
    held_bytes: usize,
    shown: Vec<Shown>,
    /// The last position up to which everything was passed on, and where it belongs in `shown`.
    safe: Option<(usize, Position)>,
}

impl Lines {
    /// Adds the next event of a log.
    pub(crate) fn add(&mut self, event: LogEvent) {
        match event {
            LogEvent::Gap => {
                self.end();
                if self.open.take().is_some() {
                    self.shown.push(Shown::Break);
                }
                self.shown.push(Shown::Gap);
            }
            LogEvent::From(position) => self.reached(position),
            LogEvent::Line { line, next } => {
                self.put(line);
                self.reached(next);
            }
        }
    }

    /// Remembers a position if everything before it was passed on.
    fn reached(&mut self, position: Position) {
        if self.open.is_none() && self.held.is_empty() {
            self.safe = Some((self.shown.len(), position));
        }
    }

    /// The log has ended, or what follows has a gap: passes on what was held back.
    pub(crate) fn end(&mut self) {
        while self.open.is_some() && !self.held.is_empty() {
            self.break_line();
        }
    }

    /// Takes what can be passed on.
    pub(crate) fn take(&mut self) -> Vec<Shown> {
        let mut shown = std::mem::take(&mut self.shown);
        if let Some((at, position)) = self.safe.take() {
            shown.insert(at, Shown::Position(position));
        }
        shown
    }

    fn put(&mut self, line: LogLine) {
        if self.open.is_some_and(|open| open != line.output) {
            self.held_bytes += line.bytes.len() + HELD_LINE_BYTES;
            self.held.push_back(line);
            if self.held_bytes > HELD_BYTES_MAX {
                self.break_line();
            }
            return;
        }
        self.show(line);
        if self.open.is_none() {
            self.release();
        }
    }

    fn show(&mut self, line: LogLine) {
        let starts = self.open.is_none();
        self.open = (!line.bytes.ends_with(b"\n")).then_some(line.output);
        self.shown.push(Shown::Text { line, starts });
    }

    fn break_line(&mut self) {
        self.shown.push(Shown::Break);
        self.open = None;
        self.release();
    }

    /// Passes on held lines, up to one that has not ended.
    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        for line in held {
            // If a line is open again, lines of the other output are held back again.
            self.put(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;

    /// What is shown of records such as `o:text`, where `|` is the end of a line; with the positions
    /// behind the records by number.
    fn shown(records: &[&str]) -> String {
        let mut lines = Lines::default();
        let mut told = String::new();
        for (number, record) in records.iter().enumerate() {
            lines.add(event(record, number as u64 + 1));
            told.push_str(&text(lines.take()));
        }
        lines.end();
        told.push_str(&text(lines.take()));
        told
    }

    fn event(record: &str, number: u64) -> LogEvent {
        let Some((output, text)) = record.split_once(':') else { return LogEvent::Gap };
        let output = if output == "o" { Output::Stdout } else { Output::Stderr };
        let bytes = Bytes::from(text.replace('|', "\n"));
        let line = LogLine { output, time: Timestamp::UNIX_EPOCH, bytes };
        LogEvent::Line { line, next: Position { file: 0, offset: number } }
    }

    fn text(shown: Vec<Shown>) -> String {
        let text = shown.into_iter().map(|shown| match shown {
            Shown::Text { line, starts } => {
                let text = String::from_utf8_lossy(&line.bytes).replace('\n', "|");
                format!("{}{text}", if starts { ">" } else { "" })
            }
            Shown::Break => "/".to_owned(),
            Shown::Position(position) => format!("{} ", position.offset),
            Shown::Gap => "GAP ".to_owned(),
        });
        text.collect()
    }

    #[test]
    fn lines_are_shown_in_the_order_they_were_stored_in() {
        assert_eq!(shown(&["o:a|", "e:b|", "o:c|"]), ">a|1 >b|2 >c|3 ");
    }

    #[test]
    fn pieces_of_a_line_follow_each_other() {
        assert_eq!(shown(&["o:a", "o:b", "o:c|", "o:d|"]), ">abc|3 >d|4 ");
        assert_eq!(shown(&["o:a", "e:x|", "o:b|", "o:c|"]), ">ab|>x|3 >c|4 ");
        // The other output's line is long as well.
        assert_eq!(shown(&["o:a", "e:x", "o:b|", "o:c|", "e:y|"]), ">ab|>xy|>c|5 ");
    }

    #[test]
    fn an_end_and_a_gap_show_what_was_held_back() {
        assert_eq!(shown(&["o:a"]), ">a");
        assert_eq!(shown(&["o:a", "e:x|"]), ">a/>x|");
        assert_eq!(shown(&["o:a", "e:x", "gap", "o:b|"]), ">a/>x/GAP >b|4 ");
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut lines = Lines::default();
        lines.add(event("o:open", 1));
        let long = format!("e:{}|", "x".repeat(16 * 1024));
        let mut shown_at = None;
        for number in 0..100 {
            lines.add(event(&long, number + 2));
            if lines.take().iter().any(|shown| matches!(shown, Shown::Break)) {
                shown_at = shown_at.or(Some(number));
            }
            assert!(lines.held_bytes <= HELD_BYTES_MAX + long.len() + HELD_LINE_BYTES);
        }
        assert_eq!(shown_at, Some(63), "64 lines of 16 KiB and their cost are 1 MiB");
    }
}
