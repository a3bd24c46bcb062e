//! Writes a program's output into files of bounded size.
//!
//! The newest file is `<path>`; older ones are `<path>.1`, `<path>.2` and so on, [`LOG_FILES`] of
//! them. Each record is one line in the format of Kubernetes' container runtimes: `<time>
//! stdout|stderr F|P <text>`. P marks text without a newline at its end; `G` marks that lines are
//! missing because they could not be written.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::private::{self, named};

/// Longest text of one record. A longer line is split, so that no program can make shim or agent
/// hold more than this in memory.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Number of files of a log. When the newest is full, the oldest is deleted.
pub const LOG_FILES: u32 = 8;

/// The output that a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a log, or a piece of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it was written to.
    pub output: Output,
    /// When it was read.
    pub time: Timestamp,
    /// The line with its newline. Without one if the program has not written it (yet), or if a long
    /// line was split.
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
/// The times of records always increase, whatever the clock does, so that the time of a file's
/// first record identifies the file.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: File,
    /// Bytes of complete records in the file.
    bytes: u64,
    bytes_max: u64,
    latest: Timestamp,
    /// Whether lines were lost since the last one that was written.
    has_lost: bool,
    /// The reserved room for a mark that the last lines are missing.
    room: Option<PathBuf>,
}

/// Size of that room: a block of most file systems.
const ROOM_BYTES: usize = 4096;

impl LogWriter {
    /// Opens `path` for appending. Together with its older files it never holds more than
    /// `bytes_max`.
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

    /// Opens the log of a writer that was killed, to end it `now`.
    pub fn resume(path: &Path, bytes_max: u64, now: Timestamp) -> io::Result<Self> {
        let mut log = Self::open(path, bytes_max)?;
        log.latest = now;
        log.room = Some(room_of(path)).filter(|room| room.exists());
        Ok(log)
    }

    /// Reserves room for a mark, so that a log whose last lines are lost on a full disk shows that.
    pub fn reserve_mark(&mut self) -> io::Result<()> {
        let room = room_of(&self.path);
        private::reserve(&room, ROOM_BYTES).map_err(|error| named(&room, &error))?;
        self.room = Some(room);
        Ok(())
    }

    /// Appends a line. After an error the line is lost, and the next line that can be written
    /// follows a mark that says so.
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
            // Remove a partly written record, because the next one would be appended to it. If that
            // fails as well, readers see a damaged record, which they treat as a gap, too.
            Err(_) => {
                self.has_lost = true;
                let _ = self.file.set_len(self.bytes);
            }
        }
        written
    }

    /// Notes that lines were lost before they reached the writer. The next line follows a mark.
    pub fn lost(&mut self) {
        self.has_lost = true;
    }

    /// Ends the log: marks lost lines if they were the last ones, and releases the reserved room.
    pub fn end(&mut self) -> io::Result<()> {
        let room = self.room.take();
        if self.has_lost {
            let time = self.latest.saturating_add(Duration::from_nanos(1));
            let time = time.unwrap_or(Timestamp::MAX);
            let mark = gap_mark(time);
            if let Err(error) = self.append(mark.as_bytes()) {
                // Remove a partly written mark.
                let _ = self.file.set_len(self.bytes);
                return self.put_mark(&mark, room.ok_or(error)?);
            }
            (self.latest, self.has_lost) = (time, false);
        }
        room.map_or(Ok(()), std::fs::remove_file)
    }

    /// The disk is full: writes the mark over the reserved file and renames that to be the newest
    /// file of the log, which needs no more room.
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

    /// Renames the older files to make room for a new one, the oldest first, so that a reader that
    /// looks at them from the newest to the oldest misses none.
    ///
    /// It stops at the first free name. A rotation that failed halfway has left one, and is
    /// repeated for each following line; without this stop each repetition would delete one more
    /// old file.
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

/// The file in which room is reserved for a mark in the log at `path`. It is beside the log's
/// files.
pub fn room_of(path: &Path) -> PathBuf {
    path.with_extension("room")
}

/// The mark that lines were lost at `time`.
pub fn gap_mark(time: Timestamp) -> String {
    format!("{time:.9} stderr G \n")
}

/// The path of an older file of a log. The newest has number 0, older ones larger numbers.
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
        // The times differ by one nanosecond each.
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
            // Simulates that the new file cannot be created.
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
