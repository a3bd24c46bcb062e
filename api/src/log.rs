//! How a log travels between an agent, an apiserver and a client that needs more than its text.
//! Pure.
//!
//! A plain client gets the text of a log, as from Kubernetes. A client that asks for `records=true`
//! gets a sequence of records: one byte of type, four bytes of length, and the content. Records
//! tell what text cannot: which output a line was written to and when, up to which position
//! everything was sent ([`Position`]), that lines are missing, and that the log has ended. If the
//! body ends without [`Record::End`], the connection was lost, and the client asks again with
//! `after=<position>`.

use std::fmt;
use std::str::FromStr;

/// Most bytes of text in one record. A longer line is sent in several.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

const HEADER_BYTES: usize = 5;
/// What precedes the text in a record: eight bytes of time, and one that says whether a line
/// begins.
const TEXT_HEADER_BYTES: usize = 9;

/// A position in a log. It has a meaning only for the log that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which of the log's files: the time of its first line, in nanoseconds since 1970. A file
    /// keeps this identity when it is rotated or copied.
    pub file: i64,
    /// Offset in that file, in bytes.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.file, self.offset)
    }
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPosition;

impl fmt::Display for InvalidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid position in a log; send one that a record gave")
    }
}

impl std::error::Error for InvalidPosition {}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (file, offset) = text.split_once('.').ok_or(InvalidPosition)?;
        let file = file.parse().map_err(|_| InvalidPosition)?;
        let offset = offset.parse().map_err(|_| InvalidPosition)?;
        Ok(Self { file, offset })
    }
}

/// The output that a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One record of a log stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A line, or a piece of a long line. The pieces of a line follow each other.
    Text {
        /// The output it was written to.
        output: Output,
        /// When it was written, in nanoseconds since 1970.
        nanos: i64,
        /// Whether it is the beginning of a line.
        starts: bool,
        /// The text, with its newline if it has one.
        bytes: Vec<u8>,
    },
    /// Everything before this position was sent.
    Position(Position),
    /// Lines are missing here: they were lost or removed by rotation.
    Gap,
    /// Everything was sent that the log has.
    End {
        /// Whether the container has ended, so that nothing will ever be added to the log.
        complete: bool,
    },
}

impl Record {
    /// Appends the encoded record.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let (kind, text) = match self {
            Record::Text { output, nanos, starts, bytes } => {
                return write_text(out, (*output, *nanos, *starts), bytes);
            }
            Record::Position(position) => (3, position.to_string()),
            Record::Gap => (4, String::new()),
            Record::End { complete } => (5, complete.to_string()),
        };
        write_header(out, kind, text.len());
        out.extend_from_slice(text.as_bytes());
    }

    fn read(kind: u8, rest: &[u8]) -> Option<Self> {
        let text = || std::str::from_utf8(rest).ok();
        match kind {
            1 | 2 => {
                let (header, bytes) = rest.split_at_checked(TEXT_HEADER_BYTES)?;
                let nanos = i64::from_be_bytes(*header.first_chunk()?);
                let output = if kind == 1 { Output::Stdout } else { Output::Stderr };
                let starts = header[TEXT_HEADER_BYTES - 1] == 1;
                Some(Record::Text { output, nanos, starts, bytes: bytes.to_vec() })
            }
            3 => text()?.parse().ok().map(Record::Position),
            4 => Some(Record::Gap),
            5 => text()?.parse().ok().map(|complete| Record::End { complete }),
            _ => None,
        }
    }
}

/// Appends a text record without copying the text first.
pub fn write_text(out: &mut Vec<u8>, of: (Output, i64, bool), bytes: &[u8]) {
    let (output, nanos, mut starts) = of;
    let kind = match output {
        Output::Stdout => 1,
        Output::Stderr => 2,
    };
    for piece in bytes.chunks(TEXT_BYTES_MAX) {
        write_header(out, kind, TEXT_HEADER_BYTES + piece.len());
        out.extend_from_slice(&nanos.to_be_bytes());
        out.push(u8::from(starts));
        out.extend_from_slice(piece);
        starts = false;
    }
}

fn write_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    let length = u32::try_from(length).expect("a record is far below 4 GiB");
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
}

/// The bytes are not records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("received invalid log records")
    }
}

impl std::error::Error for Malformed {}

/// Decodes records from bytes that arrive in pieces.
///
/// Invariant: it holds at most one record beyond the bytes that were added last.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// How many of the bytes were decoded already.
    taken: usize,
}

impl Records {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next record that is complete; nothing until more bytes come.
    ///
    /// # Errors
    /// The type is not known, the record is too long, or its content is not valid.
    pub fn take(&mut self) -> Result<Option<Record>, Malformed> {
        let rest = &self.bytes[self.taken..];
        let Some((header, rest)) = rest.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        if !(1..=5).contains(&header[0]) || length > TEXT_HEADER_BYTES + TEXT_BYTES_MAX {
            return Err(Malformed);
        }
        let Some(rest) = rest.get(..length) else { return Ok(None) };
        let record = Record::read(header[0], rest).ok_or(Malformed)?;
        self.taken += HEADER_BYTES + length;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in_however_they_are_cut() {
        let text = |output, starts, bytes: &[u8]| Record::Text {
            output,
            nanos: 1_764_213_000_123_456_789,
            starts,
            bytes: bytes.to_vec(),
        };
        let sent = [
            Record::Gap,
            text(Output::Stdout, true, b"one\n"),
            text(Output::Stderr, true, b""),
            text(Output::Stderr, false, &[0, 255, b'\n']),
            Record::Position(Position { file: -1, offset: u64::MAX }),
            Record::End { complete: false },
            Record::End { complete: true },
        ];
        let mut wire = Vec::new();
        // The empty text is written by no chunk.
        let written = sent.iter().filter(|record| !is_empty(record));
        written.clone().for_each(|record| record.write_to(&mut wire));
        for piece in [1, 4, 5, 7, wire.len()] {
            let (mut records, mut received) = (Records::default(), Vec::new());
            for bytes in wire.chunks(piece) {
                records.add(bytes);
                while let Some(record) = records.take().unwrap() {
                    received.push(record);
                }
            }
            assert!(received.iter().eq(written.clone()), "in pieces of {piece}: {received:?}");
        }
    }

    fn is_empty(record: &Record) -> bool {
        matches!(record, Record::Text { bytes, .. } if bytes.is_empty())
    }

    #[test]
    fn a_long_text_is_cut_and_begins_one_line() {
        let mut wire = Vec::new();
        let long = vec![b'x'; TEXT_BYTES_MAX + 1];
        write_text(&mut wire, (Output::Stdout, 7, true), &long);
        let mut records = Records::default();
        records.add(&wire);
        let mut starts = Vec::new();
        while let Some(Record::Text { starts: first, bytes, .. }) = records.take().unwrap() {
            starts.push((first, bytes.len()));
        }
        assert_eq!(starts, [(true, TEXT_BYTES_MAX), (false, 1)]);
    }

    #[test]
    fn what_is_no_record_is_refused_before_it_is_there() {
        let wires: [&[u8]; 5] = [
            &[9, 0, 0, 0, 1],
            &[1, 255, 255, 255, 255],
            &[1, 0, 0, 0, 1, 7],
            &[3, 0, 0, 0, 1, b'x'],
            &[5, 0, 0, 0, 1, b'x'],
        ];
        for wire in wires {
            let mut records = Records::default();
            records.add(wire);
            assert_eq!(records.take(), Err(Malformed), "{wire:?}");
        }
    }

    #[test]
    fn positions_survive_their_text() {
        let position = Position { file: 1_764_213_000_123_456_789, offset: 4096 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for wrong in ["", ".", "1", "1.", ".1", "1.-1", "a.1", "1.1.1"] {
            assert_eq!(wrong.parse::<Position>(), Err(InvalidPosition), "{wrong}");
        }
    }
}
