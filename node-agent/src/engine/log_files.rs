//! Reads the files of a log while they are written, rotated, copied and deleted.
//!
//! This is plain blocking I/O in small pieces ([`BATCH_BYTES`]); [`super::log_store`] runs it
//! outside the executor. [`super::log_segments`] finds the files and their order.
//!
//! # Invariants
//!
//! * A reader goes on to the next file only after it has read this one to its end while the next
//!   one already existed. Otherwise it would miss what is written last.
//! * Nothing is read twice, and skipped records are reported as a gap.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use api::log::Position;
use jiff::Timestamp;

use super::log_segments::{LogFiles, Names, OnDisk, RECORD_BYTES_MAX, Segment, nanos};
use super::log_tail;
use super::logs::{LogEvent, LogOptions, Stored};

/// Bytes of records that are read together.
const BATCH_BYTES: usize = 64 * 1024;

/// How often a file to read is searched. Between two tries all files must have been rotated, which
/// takes megabytes of output, so a few tries are always enough.
const LOOKS_MAX: usize = 1_000;

/// An open file and how far it has been read.
#[derive(Debug)]
struct Open {
    id: i64,
    inode: u64,
    file: BufReader<File>,
    /// Bytes of complete records that were read.
    offset: u64,
    /// The beginning of a record whose end has not been read.
    partial: Vec<u8>,
    /// Whether the current record is too long to be valid.
    is_damaged: bool,
}

impl Open {
    /// Opens a log file at an offset; nothing if it does not exist any more.
    fn at(
        files: &LogFiles<impl Names>,
        segment: &Segment,
        offset: u64,
    ) -> io::Result<Option<Self>> {
        let Some(mut file) = files.open(segment)? else { return Ok(None) };
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

    /// The next complete record; `None` in its place if it is damaged.
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
pub(super) struct Reader<N = OnDisk> {
    files: LogFiles<N>,
    since: Option<Timestamp>,
    /// `None` while the log has no record.
    open: Option<Open>,
    /// Whether records before `open` that were asked for are gone.
    has_gap: bool,
    /// Where reading begins, until it has been reported.
    begin: Option<Position>,
    /// The next file. Reading continues there once this one has been read to its end again.
    next: Option<Next>,
}

#[derive(Debug)]
struct Next {
    segment: Segment,
    /// Where to begin in it.
    offset: u64,
    /// Whether files before it may be gone.
    has_gap: bool,
}

impl<N: Names> Reader<N> {
    /// Begins where `options` say.
    pub(super) fn begin(files: LogFiles<N>, options: LogOptions) -> io::Result<Self> {
        let mut reader = Self {
            files,
            since: options.since,
            open: None,
            has_gap: false,
            begin: None,
            next: None,
        };
        // Files may be rotated during the search; then it is repeated.
        for _ in 0..LOOKS_MAX {
            if reader.find(options)? {
                return Ok(reader);
            }
        }
        Err(changing())
    }

    /// Whether a file is open. If not, the log had no record.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens the file in which reading begins; false if it does not exist any more.
    fn find(&mut self, options: LogOptions) -> io::Result<bool> {
        let segments = self.files.segments()?;
        let Some(oldest) = segments.first() else {
            self.has_gap = options.after.is_some();
            return Ok(true);
        };
        let (segment, offset) = if let Some(after) = options.after {
            let found = segments.iter().find(|segment| segment.id == after.file);
            let found = found.filter(|segment| segment.bytes >= after.offset);
            let found = match found {
                Some(segment) => Some((segment, after.offset)),
                None => self.files.in_part(&segments, after)?,
            };
            self.has_gap = found.is_none();
            found.unwrap_or((oldest, 0))
        } else if let Some(tail) = options.tail {
            let Some(found) = log_tail::start(&self.files, &segments, tail)? else {
                return Ok(false);
            };
            found
        } else {
            let since = options.since.map(nanos);
            let before = segments.iter().rev().find(|it| since.is_some_and(|since| it.id < since));
            // If all files begin later, an older one may have been deleted.
            self.has_gap = before.is_none() && oldest.is_last_place();
            (before.unwrap_or(oldest), 0)
        };
        self.open = Open::at(&self.files, segment, offset)?;
        self.begin = Some(Position { file: segment.id, offset });
        Ok(self.open.is_some())
    }

    /// The next records, in small batches; empty at the current end.
    pub(super) fn read(&mut self) -> io::Result<Vec<LogEvent>> {
        let mut events = Vec::new();
        let mut looks = 0;
        loop {
            if std::mem::take(&mut self.has_gap) {
                events.push(LogEvent::Gap);
            }
            events.extend(self.begin.take().map(LogEvent::From));
            let is_at_end = self.read_file(&mut events)?;
            if !events.is_empty() {
                return Ok(events);
            }
            if !is_at_end {
                continue;
            }
            if !self.go_on()? {
                return Ok(events);
            }
            looks += 1;
            if looks == LOOKS_MAX {
                return Err(changing());
            }
        }
    }

    /// Reads a batch. Returns whether the end of the file was reached.
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

    /// At the end of a file: whether there is more to read, in this file or in the next.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(open) = &self.open else {
            let Some(first) = self.files.segments()?.into_iter().next() else { return Ok(false) };
            self.open = Open::at(&self.files, &first, 0)?;
            // So much may have been written since the last look that the beginning is gone.
            self.has_gap = self.open.is_some() && first.is_last_place();
            return Ok(true);
        };
        if let Some(Next { segment, offset, has_gap }) = self.next.take()
            && let Some(next) = Open::at(&self.files, &segment, offset)?
        {
            self.open = Some(next);
            self.has_gap = has_gap;
            return Ok(true);
        }
        if self.files.newest_inode()? == Some(open.inode) {
            return Ok(false);
        }
        let segments = self.files.segments()?;
        let here = segments.iter().position(|segment| segment.id == open.id);
        let place = Position { file: open.id, offset: open.offset };
        if here.is_none()
            && let Some((part, offset)) = self.files.in_part(&segments, place)?
        {
            // This file was deleted, and its last part was kept.
            self.next = Some(Next { segment: part.clone(), offset, has_gap: false });
            return Ok(true);
        }
        // This file was deleted while others exist, so its successor may have been deleted as well.
        let next = here.map_or(0, |here| here + 1);
        let next = segments.into_iter().nth(next);
        self.next = next.map(|segment| Next { segment, offset: 0, has_gap: here.is_none() });
        Ok(self.next.is_some())
    }
}

fn changing() -> io::Error {
    io::Error::other("the files of this log change faster than they can be opened: try again")
}

#[cfg(test)]
mod rotations;
#[cfg(test)]
mod tests;
