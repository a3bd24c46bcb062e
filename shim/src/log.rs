//! Writes what a program says into files of bounded size.
//!
//! The newest file is at `<path>`, older ones are at `<path>.1`, `<path>.2` and so on, [`LOG_FILES`]
//! of them. Each record is one line, in the form that Kubernetes' container runtimes write:
//! `<time> stdout|stderr F|P <text>`, where P marks text that no newline ended; `G` marks that lines
//! were lost there because they could not be written.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::private::{self, named};

/// Longest text of one record. A longer line is split into several, so that no program can make the
/// shim or the agent hold more than this.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Files that a log is kept in: when the last is full, the oldest is deleted.
pub const LOG_FILES: u32 = 8;

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of log, or a piece of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it was written to.
    pub output: Output,
    /// When it was read.
    pub time: Timestamp,
    /// The line with its newline; without one where none was written (yet), or where a long line was
    /// split.
    pub text: &'a [u8],
}

impl Line<'_> {
    /// Appends the stored form.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let output = match self.output {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        };
        let (text, tag) = match self.text.strip_suffix(b"\n") {
            Some(text) => (text, 'F'),
            None => (self.text, 'P'),
        };
        out.extend_from_slice(format!("{:.9} {output} {tag} ", self.time).as_bytes());
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

/// Appends lines to files of bounded size.
///
/// Each record is later than the one before, whatever the clock does, so that the time of a
/// file's first record tells it from all others.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: File,
    /// Whole records in the file, in bytes.
    bytes: u64,
    bytes_max: u64,
    latest: Timestamp,
    /// Whether lines were lost since the last one that was written.
    has_lost: bool,
    /// Room on the disk for a mark that the last lines were lost.
    room: Option<PathBuf>,
}

/// Bytes that are kept free for a last mark: a block of most file systems.
const ROOM_BYTES: usize = 4096;

impl LogWriter {
    /// Opens `path` to append to it; with its older files it never holds more than `bytes_max`.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = private::appended(path)?;
        let bytes = file.metadata()?.len();
        let latest = Timestamp::UNIX_EPOCH;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
            latest,
            has_lost: false,
            room: None,
        })
    }

    /// Opens a log whose writer was killed, to end it `now`.
    pub fn resume(path: &Path, bytes_max: u64, now: Timestamp) -> io::Result<Self> {
        let mut log = Self::open(path, bytes_max)?;
        log.latest = now;
        log.room = Some(room_of(path)).filter(|room| room.exists());
        Ok(log)
    }

    /// Sets room aside for a mark, so that a log whose last lines are lost on a full disk says so.
    pub fn reserve_mark(&mut self) -> io::Result<()> {
        let room = room_of(&self.path);
        private::reserve(&room, ROOM_BYTES).map_err(|error| named(&room, &error))?;
        self.room = Some(room);
        Ok(())
    }

    /// Appends a line. After an error the line is lost, and the next one that can be written
    /// stands behind a mark that says so.
    pub fn write(&mut self, line: Line<'_>) -> io::Result<()> {
        let next = self.latest.saturating_add(Duration::from_nanos(1));
        let time = next.map_or(line.time, |next| next.max(line.time));
        let mut stored = Vec::with_capacity(line.text.len() + 48);
        if self.has_lost {
            stored.extend_from_slice(gap_mark(time).as_bytes());
        }
        Line { time, ..line }.write_to(&mut stored);
        let written = self.append(&stored);
        match &written {
            Ok(()) => (self.latest, self.has_lost) = (time, false),
            // Of a record that was written in half nothing may stay: the next would be its end.
            // Where that fails as well, the reader sees a damaged record, which is a gap, too.
            Err(_) => {
                self.has_lost = true;
                let _ = self.file.set_len(self.bytes);
            }
        }
        written
    }

    /// Lines that come here were lost before they came to this: that is marked with the next one.
    pub fn lost(&mut self) {
        self.has_lost = true;
    }

    /// Marks that the last lines were lost, where they were, and gives back the room that was set
    /// aside for that.
    pub fn end(&mut self) -> io::Result<()> {
        let room = self.room.take();
        if self.has_lost {
            let time = self.latest.saturating_add(Duration::from_nanos(1));
            let time = time.unwrap_or(Timestamp::MAX);
            let mark = gap_mark(time);
            if let Err(error) = self.append(mark.as_bytes()) {
                // Of a mark that was written in half nothing may stay, either.
                let _ = self.file.set_len(self.bytes);
                return self.put_mark(&mark, room.ok_or(error)?);
            }
            (self.latest, self.has_lost) = (time, false);
        }
        room.map_or(Ok(()), std::fs::remove_file)
    }

    /// The disk is full: the mark is written over what was set aside, and that becomes the log's
    /// newest file. Names take no room.
    fn put_mark(&mut self, mark: &str, room: PathBuf) -> io::Result<()> {
        let mut file = private::overwritten(&room)?;
        file.write_all(mark.as_bytes())?;
        file.set_len(mark.len() as u64)?;
        if self.bytes > 0 {
            self.move_up()?;
        }
        std::fs::rename(&room, &self.path)?;
        self.file = private::appended(&self.path)?;
        (self.bytes, self.has_lost) = (mark.len() as u64, false);
        Ok(())
    }

    fn append(&mut self, stored: &[u8]) -> io::Result<()> {
        let length = stored.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.bytes_max / u64::from(LOG_FILES) {
            self.rotate()?;
        }
        self.file.write_all(stored)?;
        self.bytes += length;
        Ok(())
    }

    /// Begins a new file.
    fn rotate(&mut self) -> io::Result<()> {
        self.move_up()?;
        self.file = private::appended(&self.path)?;
        self.bytes = 0;
        Ok(())
    }

    /// Makes room for a new file. Older files move up, so that a reader that looks at them from the
    /// newest to the oldest misses none.
    ///
    /// None is moved beyond a place that is free. A rotation that failed halfway has left one, and
    /// each line after it rotates again: it must not push out one old file after the other.
    fn move_up(&self) -> io::Result<()> {
        let mut free = 0;
        while free < LOG_FILES - 1 && rotated(&self.path, free).try_exists()? {
            free += 1;
        }
        for number in (1..=free).rev() {
            let (from, to) = (rotated(&self.path, number - 1), rotated(&self.path, number));
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => (),
            }
        }
        Ok(())
    }
}

/// Where room is set aside for a mark in the log at `path`: it goes with the log's other files.
pub fn room_of(path: &Path) -> PathBuf {
    path.with_extension("room")
}

/// Marks that lines were lost at `time`.
pub fn gap_mark(time: Timestamp) -> String {
    format!("{time:.9} stderr G \n")
}

/// Where an older file of a log is: the older, the larger its number. The newest is number 0.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T10:00:00.123456789Z";

    fn line(text: &str) -> Line<'_> {
        Line { output: Output::Stderr, time: TIME.parse().unwrap(), text: text.as_bytes() }
    }

    #[test]
    fn a_log_keeps_its_newest_lines_within_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut writer = LogWriter::open(&path, 4_000).unwrap();
        for n in 0..500 {
            writer.write(line(&format!("line {n}\n"))).unwrap();
        }
        let files = std::fs::read_dir(dir.path()).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!((3_000..=4_000).contains(&bytes), "{bytes}");
        let new = std::fs::read(&path).unwrap();
        let last = new.split_inclusive(|b| *b == b'\n').next_back().unwrap();
        // Each is a nanosecond later than the one before.
        assert_eq!(last, b"2026-11-21T10:00:00.123457288Z stderr F line 499\n");
    }

    #[test]
    fn a_rotation_that_fails_again_and_again_destroys_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut writer = LogWriter::open(&path, 4_000).unwrap();
        for n in 0..500 {
            writer.write(line(&format!("line {n}\n"))).unwrap();
        }
        let read = |number| std::fs::read(rotated(&path, number)).unwrap_or_default();
        let newest = read(0);
        writer.rotate().unwrap();
        let older: Vec<_> = (1..LOG_FILES).map(read).collect();
        assert_eq!(older[0], newest);
        for _ in 0..LOG_FILES {
            // As if the new file could not be made.
            std::fs::remove_file(&path).unwrap();
            writer.rotate().unwrap();
        }
        assert_eq!((1..LOG_FILES).map(read).collect::<Vec<_>>(), older);
    }

    #[test]
    fn lines_that_cannot_be_written_leave_a_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut writer = LogWriter::open(&path, 4_000_000).unwrap();
        writer.write(line("one\n")).unwrap();
        // A disk that is full: every write to it fails.
        let disk =
            std::mem::replace(&mut writer.file, private::appended(Path::new("/dev/full")).unwrap());
        writer.write(line("two\n")).unwrap_err();
        writer.file = disk;
        writer.write(line("three\n")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let told: Vec<_> = text.lines().filter_map(|record| record.split_once(' ')).collect();
        let told: Vec<_> = told.into_iter().map(|(_, record)| record).collect();
        assert_eq!(told, ["stderr F one", "stderr G ", "stderr F three"]);
    }
}
