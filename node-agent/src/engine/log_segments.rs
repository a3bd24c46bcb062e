//! Lists the files of a log while they are rotated, copied and deleted.
//!
//! # Invariants
//!
//! * The list of one folder shows one moment: if files were renamed while it was made, it is made
//!   again. Otherwise two rotations during a scan could put a newer file before an older one.
//! * A file is identified by the time of its first record. Names change with rotation, so whoever
//!   opens a file by its name checks that it is still the listed one.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api::log::Position;
use jiff::Timestamp;

use super::logs::{LOG_FILES, Stored, parse_part_mark, rotated};
use shim::private::named;

/// Longest record, in bytes: Docker escapes each byte of 16 KiB with at most six. A longer one is
/// damaged.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The identity of a file that holds the last part of another one: the mark at its beginning has
/// the time 0.
const PART_ID: i64 = 0;

/// How often a list is made again. A scan takes much less than a millisecond, and rotation needs 8
/// MiB of output, so a few tries are always enough.
const SCANS_MAX: usize = 1_000;

/// Access to files by name. Tests rename files between any two calls.
pub(super) trait Names {
    /// Opens a file for reading; nothing if the name does not exist.
    fn open(&self, path: &Path) -> io::Result<Option<File>>;
    /// The inode of the file that has this name now.
    fn inode(&self, path: &Path) -> io::Result<Option<u64>>;
}

/// The real file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnDisk;

/// Where the files of a log are: first where they are written, then where they are copied to before
/// the originals are deleted.
#[derive(Debug, Clone)]
pub(crate) struct LogFiles<N = OnDisk> {
    pub(super) places: Vec<PathBuf>,
    pub(super) names: N,
}

/// A file of a log at the time it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its first record's time, in nanoseconds.
    pub(super) id: i64,
    pub(super) path: PathBuf,
    /// How many newer files are in the same folder.
    pub(super) number: u32,
    pub(super) bytes: u64,
}

impl Segment {
    /// Whether it is the next to be deleted. If all files are in use, there have been older ones.
    pub(super) fn is_last_place(&self) -> bool {
        self.number + 1 == LOG_FILES
    }
}

impl LogFiles {
    /// The log whose newest file is or was at one of `places`.
    pub(crate) fn at(places: Vec<PathBuf>) -> Self {
        Self { places, names: OnDisk }
    }

    /// Whether any file exists, even an empty one.
    pub(super) fn exist(&self) -> bool {
        let has_any = |place| (0..LOG_FILES).any(|number| rotated(place, number).exists());
        self.places.iter().any(|place| has_any(place))
    }
}

impl<N: Names> LogFiles<N> {
    /// The files with at least one record, the oldest first, each once.
    pub(super) fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut found: Vec<Segment> = Vec::new();
        // Originals first: a file is copied before it is deleted, so it is found in one of the
        // folders.
        for place in &self.places {
            let here = self.list(place)?;
            if has_all(&here, &found) {
                // Within one folder the order is known, even if the clock was set back.
                if here.len() > found.len() {
                    found = here;
                }
                continue;
            }
            // The kept last part of a file is ignored while the file itself exists.
            let is_new = |it: &Segment| {
                let is_part = it.id == PART_ID && !found.is_empty();
                !is_part && found.iter().all(|known| known.id != it.id)
            };
            let new: Vec<Segment> = here.into_iter().filter(is_new).collect();
            if !new.is_empty() {
                found.extend(new);
                found.sort_by_key(|segment| segment.id);
            }
        }
        Ok(found)
    }

    /// The files of one folder at one moment, the oldest first.
    fn list(&self, place: &Path) -> io::Result<Vec<Segment>> {
        for _ in 0..SCANS_MAX {
            if let Some(segments) = self.scan(place)? {
                return Ok(segments);
            }
        }
        let message = "the files of this log rotate faster than they can be listed: try again";
        Err(named(place, &io::Error::other(message)))
    }

    /// One scan; nothing if files were renamed meanwhile.
    fn scan(&self, place: &Path) -> io::Result<Option<Vec<Segment>>> {
        // All files stay open until each was checked twice: the inode of a deleted file is not
        // reused while it is open. So a file that has the same name both times had it in between.
        let mut files = Vec::new();
        for number in 0..LOG_FILES {
            let path = rotated(place, number);
            files.push((number, self.names.open(&path)?, path));
        }
        for (_, file, path) in &files {
            let opened = match file {
                Some(file) => Some(file.metadata()?.ino()),
                None => None,
            };
            if self.names.inode(path)? != opened {
                return Ok(None);
            }
        }
        let mut segments = Vec::new();
        for (number, file, path) in files {
            if let Some(mut file) = file
                && let Some(id) = first_time(&mut file)?
            {
                let bytes = file.metadata()?.len();
                segments.push(Segment { id, path, number, bytes });
            }
        }
        segments.reverse();
        Ok(Some(segments))
    }

    /// Opens a listed file; nothing if its name belongs to another file now.
    pub(super) fn open(&self, segment: &Segment) -> io::Result<Option<File>> {
        let Some(mut file) = self.names.open(&segment.path)? else { return Ok(None) };
        let is_it = first_time(&mut file)? == Some(segment.id);
        Ok(is_it.then_some(file))
    }

    /// Where an offset of a file is in its kept last part; nothing if it is not in there.
    pub(super) fn in_part<'a>(
        &self,
        segments: &'a [Segment],
        place: Position,
    ) -> io::Result<Option<(&'a Segment, u64)>> {
        let Some(part) = segments.iter().find(|segment| segment.id == PART_ID) else {
            return Ok(None);
        };
        let Some(mut file) = self.open(part)? else { return Ok(None) };
        let mark = first_record(&mut file)?;
        let begin = parse_part_mark(&mark).filter(|begin| begin.file == place.file);
        let behind = begin.and_then(|begin| place.offset.checked_sub(begin.offset));
        let offset = behind.map(|behind| mark.len() as u64 + behind);
        Ok(offset.filter(|offset| *offset <= part.bytes).map(|offset| (part, offset)))
    }

    /// The inode of the file that is being written.
    pub(super) fn newest_inode(&self) -> io::Result<Option<u64>> {
        for place in &self.places {
            if let Some(inode) = self.names.inode(place)? {
                return Ok(Some(inode));
            }
        }
        Ok(None)
    }
}

impl Names for OnDisk {
    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        if_there(path, File::open(path))
    }

    fn inode(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(if_there(path, std::fs::metadata(path))?.map(|there| there.ino()))
    }
}

/// Whether `all` of them are among `these`.
fn has_all(these: &[Segment], all: &[Segment]) -> bool {
    all.iter().all(|wanted| these.iter().any(|segment| segment.id == wanted.id))
}

fn if_there<T>(path: &Path, done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, &error)),
    }
}

/// The identity of a file; nothing until its first record is complete. Reads from the beginning of
/// the file and leaves the offset anywhere.
pub(super) fn first_time(file: &mut File) -> io::Result<Option<i64>> {
    let record = first_record(file)?;
    if !record.ends_with(b"\n") && record.len() < RECORD_BYTES_MAX {
        return Ok(None);
    }
    let time = Stored::parse(&record).map(|stored| nanos(stored.time()));
    // A file with a damaged first record is identified by its inode. Its negative value cannot be a
    // time.
    let inode = i64::try_from(file.metadata()?.ino()).unwrap_or(i64::MAX);
    Ok(Some(time.unwrap_or(-inode)))
}

/// The first record, or what exists of it.
fn first_record(file: &mut File) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut record = Vec::new();
    let limit = RECORD_BYTES_MAX as u64;
    BufReader::new(file).take(limit).read_until(b'\n', &mut record)?;
    Ok(record)
}

pub(super) fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}
