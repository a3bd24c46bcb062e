//! The format of a backup: lines of JSON.
//!
//! ```text
//! {"header":{"format":1,"cluster":...,"epoch":2,"revision":345,"takenAt":...,"version":...}}
//! {"record":{"key":"jobs/default/a","value":"<base64>"}}       in the order of the keys
//! {"end":{"records":1,"sha256":"<of all lines before>"}}
//! ```
//!
//! A backup that could not be completed ends with `{"error":"why"}`, or without a last line.

use std::io::{self, BufRead, Read as _};

use api::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The format that this program writes, and the newest one that it reads.
const FORMAT: u32 = 1;
/// The maximum length of a line: a value of 1 MiB in base64, and its key.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Describes a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// The format of the lines.
    pub format: u32,
    /// The id of the cluster.
    pub cluster: String,
    /// The store's epoch.
    pub epoch: u64,
    /// The revision of the store that was backed up.
    pub revision: u64,
    /// When the backup was taken.
    pub taken_at: Timestamp,
    /// The version of the program that took it.
    pub version: String,
}

impl Header {
    pub(super) fn new(cluster: (String, u64), revision: u64, taken_at: Timestamp) -> Self {
        let ((cluster, epoch), version) = (cluster, env!("CARGO_PKG_VERSION").to_owned());
        Self { format: FORMAT, cluster, epoch, revision, taken_at, version }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Line {
    Header(Header),
    Record { key: String, value: String },
    End { records: u64, sha256: String },
    Error(String),
}

/// The part of the first line that every format has.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyFormat,
}

#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It could not be read.
    #[error("cannot read the file")]
    Io(#[from] io::Error),
    /// It is not a backup, or it was changed.
    #[error("line {line}: {what}")]
    Line {
        /// The number of the line, counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// It ends too early.
    #[error("the file ends too early, after line {lines}")]
    Cut {
        /// The number of complete lines.
        lines: u64,
    },
    /// Taking the backup failed.
    #[error("the backup was not completed: {0}")]
    Unfinished(String),
    /// A newer version of the program took it.
    #[error(
        "the backup has format {0}; this version of heliox reads formats up to {FORMAT}: use a newer one"
    )]
    Newer(u32),
}

/// Describes a complete backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its header.
    pub header: Header,
    /// The number of records.
    pub records: u64,
    /// The checksum of its content.
    pub sha256: String,
}

/// Writes the lines of a backup.
#[derive(Debug, Default)]
pub(super) struct Writer {
    sum: Sha256,
    records: u64,
}

impl Writer {
    pub(super) fn header(&mut self, header: Header) -> Vec<u8> {
        self.line(&Line::Header(header))
    }

    pub(super) fn record(&mut self, key: &str, value: &[u8]) -> Vec<u8> {
        self.records += 1;
        self.line(&Line::Record { key: key.to_owned(), value: STANDARD.encode(value) })
    }

    pub(super) fn end(&mut self) -> Vec<u8> {
        let sha256 = hex(self.sum.clone());
        let records = self.records;
        self.line(&Line::End { records, sha256 })
    }

    fn line(&mut self, line: &Line) -> Vec<u8> {
        let bytes = line_of(line);
        self.sum.update(&bytes);
        bytes
    }
}

/// The last line of a backup that could not be completed.
pub(super) fn error_line(why: &str) -> Vec<u8> {
    line_of(&Line::Error(why.to_owned()))
}

fn line_of(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("lines have text keys only");
    bytes.push(b'\n');
    bytes
}

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a backup line by line. Do not rely on any of it before [`Reader::summary`] returns
/// something: only the last line shows that the backup is complete.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    header: Header,
    sum: Sha256,
    lines: u64,
    records: u64,
    last_key: String,
    end: Option<String>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is not a backup, or its format is newer than this program.
    pub fn open(mut source: R) -> Result<Self, Damage> {
        let mut sum = Sha256::new();
        let line = read_line(&mut source, 0)?;
        let wrong = |what: &str| Damage::Line { line: 1, what: what.to_owned() };
        let any: Result<AnyHeader, _> = serde_json::from_slice(&line);
        if let Ok(AnyHeader { header: AnyFormat { format } }) = any
            && format > FORMAT
        {
            return Err(Damage::Newer(format));
        }
        let Ok(Line::Header(header)) = serde_json::from_slice(&line) else {
            return Err(wrong("not the header of a Heliox backup"));
        };
        sum.update(&line);
        let last_key = String::new();
        Ok(Self { source, header, sum, lines: 1, records: 0, last_key, end: None })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the key and value of the next record, or `None` at the end.
    ///
    /// # Errors
    /// The backup is damaged or incomplete.
    pub fn next_record(&mut self) -> Result<Option<(String, Bytes)>, Damage> {
        if self.end.is_some() {
            return Ok(None);
        }
        let line = read_line(&mut self.source, self.lines)?;
        self.lines += 1;
        let parsed = serde_json::from_slice(&line);
        match parsed.map_err(|error| self.wrong(&error.to_string()))? {
            Line::Record { key, value } => {
                self.sum.update(&line);
                self.records += 1;
                let value =
                    STANDARD.decode(value).map_err(|error| self.wrong(&error.to_string()))?;
                if key <= self.last_key {
                    return Err(self.wrong("the record is out of order"));
                }
                self.last_key.clone_from(&key);
                Ok(Some((key, value.into())))
            }
            Line::End { records, sha256 } => {
                if records != self.records || sha256 != hex(self.sum.clone()) {
                    return Err(
                        self.wrong("checksum mismatch: the file was changed before this line")
                    );
                }
                if self.source.read(&mut [0])? > 0 {
                    return Err(self.wrong("unexpected data after the end of the backup"));
                }
                self.end = Some(sha256);
                Ok(None)
            }
            Line::Error(why) => Err(Damage::Unfinished(why)),
            Line::Header(_) => Err(self.wrong("unexpected second header")),
        }
    }

    /// A description of the backup, once its end has been read.
    pub fn summary(&self) -> Option<Summary> {
        let sha256 = self.end.clone()?;
        Some(Summary { header: self.header.clone(), records: self.records, sha256 })
    }

    fn wrong(&self, what: &str) -> Damage {
        Damage::Line { line: self.lines, what: what.to_owned() }
    }
}

/// Reads a line, including the line break.
fn read_line(source: &mut impl BufRead, lines: u64) -> Result<Vec<u8>, Damage> {
    let mut line = Vec::new();
    source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.last() {
        Some(b'\n') => Ok(line),
        Some(_) if u64::try_from(line.len()).unwrap_or(u64::MAX) >= LINE_BYTES_MAX => {
            Err(Damage::Line { line: lines + 1, what: "the line is too long".to_owned() })
        }
        Some(_) | None => Err(Damage::Cut { lines }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Vec<u8> {
        let mut writer = Writer::default();
        let header = Header::new(("c".to_owned(), 1), 7, Timestamp::UNIX_EPOCH);
        let mut bytes = writer.header(header);
        for key in ["jobs/a", "jobs/b", "tasks/a"] {
            bytes.extend(writer.record(key, &[1, 2, 255]));
        }
        bytes.extend(writer.end());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Vec<String>, Summary), Damage> {
        let mut reader = Reader::open(bytes)?;
        let mut keys = Vec::new();
        while let Some((key, value)) = reader.next_record()? {
            keys.push(format!("{key}={value:?}"));
        }
        Ok((keys, reader.summary().unwrap()))
    }

    #[test]
    fn what_is_written_is_read() {
        let (records, summary) = read(&backup()).unwrap();
        assert_eq!((records.len(), summary.records), (3, 3));
        assert_eq!(records[2], r#"tasks/a=b"\x01\x02\xff""#);
        assert_eq!((summary.header.revision, summary.sha256.len()), (7, 64));
    }

    #[test]
    fn a_backup_that_was_cut_anywhere_is_refused() {
        let whole = backup();
        for length in 0..whole.len() {
            let damage = read(&whole[..length]).expect_err("it is cut");
            assert!(matches!(damage, Damage::Cut { .. }), "after {length} bytes: {damage}");
        }
    }

    #[test]
    fn a_backup_of_which_any_byte_was_changed_is_refused() {
        let whole = backup();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(read(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn lines_that_were_lost_doubled_or_moved_are_refused() {
        let text = String::from_utf8(backup()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let of = |places: &[usize]| {
            let lines: String = places.iter().map(|place| format!("{}\n", lines[*place])).collect();
            read(lines.as_bytes()).map(drop).map_err(|damage| damage.to_string())
        };
        assert_eq!(of(&[0, 1, 2, 3, 4]), Ok(()));
        let sum = "checksum mismatch: the file was changed before this line";
        assert_eq!(of(&[0, 1, 3, 4]), Err(format!("line 4: {sum}")));
        assert_eq!(of(&[0, 1, 1, 2, 3, 4]), Err("line 3: the record is out of order".to_owned()));
        assert_eq!(of(&[0, 2, 1, 3, 4]), Err("line 3: the record is out of order".to_owned()));
        assert_eq!(
            of(&[0, 1, 2, 3, 4, 4]),
            Err("line 5: unexpected data after the end of the backup".to_owned())
        );
        assert_eq!(of(&[0, 0, 1]), Err("line 2: unexpected second header".to_owned()));
        assert_eq!(of(&[1, 2]), Err("line 1: not the header of a Heliox backup".to_owned()));
    }

    #[test]
    fn newer_and_unfinished_ones_are_said_to_be() {
        let newer = read(b"{\"header\":{\"format\":9,\"new\":1}}\n").unwrap_err().to_string();
        assert!(newer.contains("format 9") && newer.contains("newer"), "{newer}");
        let mut writer = Writer::default();
        let header = Header::new(("c".to_owned(), 1), 7, Timestamp::UNIX_EPOCH);
        let bytes = [writer.header(header), error_line("history is gone")].concat();
        let unfinished = read(&bytes).unwrap_err().to_string();
        assert_eq!(unfinished, "the backup was not completed: history is gone");
    }
}
