//! Reading the files of a log, while they are written, rotated, copied and deleted.
//!
//! All of it is plain blocking I/O in small pieces ([`BATCH_BYTES`]); [`super::log_store`] runs it
//! off the executor.
//!
//! # Invariants
//!
//! * A file is known by the time of its first record. Names change as files are rotated; which
//!   file was opened is looked at after it was opened.
//! * A file is left for the next one only after it was read to its end once the next one was there.
//! * What was read once is not read again, and what is skipped is told as a gap.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api::log::Position;
use jiff::Timestamp;

use super::log_tail;
use super::logs::{LOG_FILES, LogEvent, LogOptions, Stored, rotated};

/// Bytes of records that are read together.
const BATCH_BYTES: usize = 64 * 1024;
/// Longest record: Docker escapes each byte of 16 KiB with at most six. What is longer is damaged.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Where the files of a log are: where they are written, and where they are copied to before those
/// are deleted.
#[derive(Debug, Clone)]
pub(crate) struct LogFiles {
    pub(crate) places: Vec<PathBuf>,
}

/// A file of a log, as it was just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its first record's time, in nanoseconds.
    pub(super) id: i64,
    pub(super) path: PathBuf,
    /// How many files there are that are newer, and in the same place.
    number: u32,
    bytes: u64,
}

impl LogFiles {
    /// The files that hold a record at least, the oldest first, each once.
    pub(super) fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut found: Vec<Segment> = Vec::new();
        // What was copied is there before the original is deleted: looked for last, it is found.
        for place in &self.places {
            let mut here: Vec<Segment> = Vec::new();
            // From the newest on: a file that is renamed meanwhile is met later, and never missed.
            for number in 0..LOG_FILES {
                let path = rotated(place, number);
                let Some(mut file) = open(&path)? else { continue };
                let Some(id) = first_time(&mut file)? else { continue };
                let is_new = |segment: &Segment| segment.id != id;
                if found.iter().all(is_new) && here.iter().all(is_new) {
                    let bytes = file.metadata()?.len();
                    here.push(Segment { id, path, number, bytes });
                }
            }
            here.reverse();
            let are_apart = !found.is_empty() && !here.is_empty();
            found.append(&mut here);
            if are_apart {
                // Of one place their order is known, whatever a clock has done.
                found.sort_by_key(|segment| segment.id);
            }
        }
        Ok(found)
    }

    /// Whether there is any file, even an empty one.
    pub(super) fn exist(&self) -> bool {
        self.places.iter().any(|place| place.exists() || rotated(place, 1).exists())
    }

    /// The file that is written to now, by its number in the file system.
    fn newest_inode(&self) -> Option<u64> {
        let there = self.places.iter().find_map(|place| std::fs::metadata(place).ok());
        there.map(|there| there.ino())
    }
}

pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, &error)),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// By what a file is known; nothing until its first record is whole. The file is read from its
/// beginning, and left anywhere.
fn first_time(file: &mut File) -> io::Result<Option<i64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut record = Vec::new();
    let limit = RECORD_BYTES_MAX as u64;
    BufReader::new(&mut *file).take(limit).read_until(b'\n', &mut record)?;
    if !record.ends_with(b"\n") && record.len() < RECORD_BYTES_MAX {
        return Ok(None);
    }
    let time = Stored::parse(&record).map(|stored| nanos(stored.time()));
    // A damaged one is known by its number in the file system, which is no time.
    let inode = i64::try_from(file.metadata()?.ino()).unwrap_or(i64::MAX);
    Ok(Some(time.unwrap_or(-inode)))
}

fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// An open file and how far it was read.
#[derive(Debug)]
struct Open {
    id: i64,
    inode: u64,
    file: BufReader<File>,
    /// Bytes of whole records that were read.
    offset: u64,
    /// The record that is not whole yet.
    partial: Vec<u8>,
    /// Whether the record that is read is too long to be one.
    is_damaged: bool,
}

impl Open {
    /// Opens a file of a log at an offset; nothing where it is not there any more.
    fn at(segment: &Segment, offset: u64) -> io::Result<Option<Self>> {
        let Some(mut file) = open(&segment.path)? else { return Ok(None) };
        if first_time(&mut file)? != Some(segment.id) {
            return Ok(None);
        }
        let there = file.metadata()?;
        if there.len() < offset {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(Self {
            id: segment.id,
            inode: there.ino(),
            file: BufReader::with_capacity(BATCH_BYTES, file),
            offset,
            partial: Vec::new(),
            is_damaged: false,
        }))
    }

    /// The next record that is whole; a damaged one is nothing.
    fn next(&mut self) -> io::Result<Option<(Option<Stored>, Position)>> {
        loop {
            let room = RECORD_BYTES_MAX - self.partial.len();
            let read = (&mut self.file).take(room as u64).read_until(b'\n', &mut self.partial)?;
            let is_whole = self.partial.ends_with(b"\n");
            if !is_whole && self.partial.len() < RECORD_BYTES_MAX {
                debug_assert!(read <= room);
                return Ok(None);
            }
            self.offset += self.partial.len() as u64;
            let stored =
                if is_whole && !self.is_damaged { Stored::parse(&self.partial) } else { None };
            self.partial.clear();
            self.is_damaged = !is_whole;
            if is_whole {
                return Ok(Some((stored, Position { file: self.id, offset: self.offset })));
            }
        }
    }
}

/// Reads a log from a position on.
#[derive(Debug)]
pub(super) struct Reader {
    files: LogFiles,
    since: Option<Timestamp>,
    /// Nothing as long as the log has no record.
    open: Option<Open>,
    /// What was written before `open` and is wanted is gone.
    has_gap: bool,
    /// Where reading begins, until that was told.
    begin: Option<Position>,
    /// The file after this one. It is gone on to once this one is read to its end again.
    next: Option<Next>,
}

#[derive(Debug)]
struct Next {
    segment: Segment,
    /// Whether files in between may be gone.
    has_gap: bool,
}

impl Reader {
    /// Begins where `options` say.
    pub(super) fn begin(files: LogFiles, options: LogOptions) -> io::Result<Self> {
        let mut reader = Self {
            files,
            since: options.since,
            open: None,
            has_gap: false,
            begin: None,
            next: None,
        };
        // Files are rotated while this looks for a place in them: then it looks again.
        while !reader.find(options)? {}
        Ok(reader)
    }

    /// Opens the file in which reading begins; false where it is not there any more.
    fn find(&mut self, options: LogOptions) -> io::Result<bool> {
        let segments = self.files.segments()?;
        let Some(oldest) = segments.first() else {
            self.has_gap = options.after.is_some();
            return Ok(true);
        };
        let (segment, offset) = if let Some(after) = options.after {
            let found = segments.iter().find(|segment| segment.id == after.file);
            let found = found.filter(|segment| segment.bytes >= after.offset);
            self.has_gap = found.is_none();
            found.map_or((oldest, 0), |segment| (segment, after.offset))
        } else if let Some(tail) = options.tail {
            let Some(found) = log_tail::start(&segments, tail)? else { return Ok(false) };
            found
        } else {
            let since = options.since.map(nanos);
            let before = segments.iter().rev().find(|it| since.is_some_and(|since| it.id < since));
            // Where all files are in use, there were older ones.
            self.has_gap = since.is_none() && oldest.number + 1 == LOG_FILES;
            (before.unwrap_or(oldest), 0)
        };
        self.open = Open::at(segment, offset)?;
        self.begin = Some(Position { file: segment.id, offset });
        Ok(self.open.is_some())
    }

    /// Reads on: what there is, in small batches; nothing at the present end.
    pub(super) fn read(&mut self) -> io::Result<Vec<LogEvent>> {
        let mut events = Vec::new();
        loop {
            if std::mem::take(&mut self.has_gap) {
                events.push(LogEvent::Gap);
            }
            events.extend(self.begin.take().map(LogEvent::From));
            let is_at_end = self.read_file(&mut events)?;
            if !events.is_empty() || (is_at_end && !self.go_on()?) {
                return Ok(events);
            }
        }
    }

    /// Reads a batch; whether the file has no more.
    fn read_file(&mut self, events: &mut Vec<LogEvent>) -> io::Result<bool> {
        let Some(open) = &mut self.open else { return Ok(true) };
        let begin = open.offset;
        while open.offset - begin < BATCH_BYTES as u64 {
            let Some((stored, next)) = open.next()? else { return Ok(true) };
            match stored {
                Some(Stored::Line(line)) => {
                    if self.since.is_none_or(|since| line.time >= since) {
                        events.push(LogEvent::Line { line, next });
                    }
                }
                Some(Stored::Lost(_)) | None => events.push(LogEvent::Gap),
            }
        }
        Ok(false)
    }

    /// At the end of a file: whether there is more to read, in this one or the next.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(open) = &self.open else {
            let first = self.files.segments()?.into_iter().next();
            self.open = first.map_or(Ok(None), |first| Open::at(&first, 0))?;
            return Ok(self.open.is_some());
        };
        if let Some(Next { segment, has_gap }) = self.next.take()
            && let Some(next) = Open::at(&segment, 0)?
        {
            self.open = Some(next);
            self.has_gap = has_gap;
            return Ok(true);
        }
        if self.files.newest_inode() == Some(open.inode) {
            return Ok(false);
        }
        let segments = self.files.segments()?;
        let here = segments.iter().position(|segment| segment.id == open.id);
        // Where this file was deleted and others are there, its successor may have been as well.
        let next = here.map_or(0, |here| here + 1);
        let next = segments.into_iter().nth(next);
        self.next = next.map(|segment| Next { segment, has_gap: here.is_none() });
        Ok(self.next.is_some())
    }
}

#[cfg(test)]
mod tests;
