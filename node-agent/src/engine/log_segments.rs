//! Lists the files of a log while they are rotated, copied and deleted.
//!
//! # Invariants
//!
//! * A list of one place is of one moment: were files renamed while it was made, it is made anew.
//!   Otherwise two rotations during a scan would put a newer file before an older one.
//! * A file is known by the time of its first record. Names change as files are rotated, so whoever
//!   opens one by its name looks whether it is still the file that was listed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api::log::Position;
use jiff::Timestamp;

use super::logs::{LOG_FILES, Stored, parse_part_mark, rotated};
use shim::private::named;

/// Longest record: Docker escapes each byte of 16 KiB with at most six. What is longer is damaged.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;

/// By what a file is known that holds the end of another: the mark before it is of the time 0.
const PART_ID: i64 = 0;

/// How often a list is begun anew. A scan takes well under a millisecond, and a file takes 8 MiB of
/// output until it is rotated: nobody writes so fast that the next scan or the one after fails.
const SCANS_MAX: usize = 1_000;

/// Looks at files by their names. In tests files are renamed between any two looks.
pub(super) trait Names {
    /// Opens a file to read it; nothing where there is none of that name.
    fn open(&self, path: &Path) -> io::Result<Option<File>>;
    /// The number in the file system of the file that has this name now.
    fn inode(&self, path: &Path) -> io::Result<Option<u64>>;
}

/// The names that the file system has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnDisk;

/// Where the files of a log are: where they are written, and where they are copied to before those
/// are deleted.
#[derive(Debug, Clone)]
pub(crate) struct LogFiles<N = OnDisk> {
    pub(super) places: Vec<PathBuf>,
    pub(super) names: N,
}

/// A file of a log, as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its first record's time, in nanoseconds.
    pub(super) id: i64,
    pub(super) path: PathBuf,
    /// How many files there are that are newer, and in the same place.
    pub(super) number: u32,
    pub(super) bytes: u64,
}

impl Segment {
    /// Whether it is next to be deleted. Where all files are in use, there were older ones.
    pub(super) fn is_last_place(&self) -> bool {
        self.number + 1 == LOG_FILES
    }
}

impl LogFiles {
    /// The log whose newest file is, or was, at one of `places`.
    pub(crate) fn at(places: Vec<PathBuf>) -> Self {
        Self { places, names: OnDisk }
    }

    /// Whether there is any file, even an empty one.
    pub(super) fn exist(&self) -> bool {
        let has_any = |place| (0..LOG_FILES).any(|number| rotated(place, number).exists());
        self.places.iter().any(|place| has_any(place))
    }
}

impl<N: Names> LogFiles<N> {
    /// The files that hold a record at least, the oldest first, each once.
    pub(super) fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut found: Vec<Segment> = Vec::new();
        // What was copied is there before the original is deleted: looked for last, it is found.
        for place in &self.places {
            let here = self.list(place)?;
            if has_all(&here, &found) {
                // Of one place the order is known, whatever a clock has done.
                if here.len() > found.len() {
                    found = here;
                }
                continue;
            }
            // What was kept of a file in part, behind a mark, is in the file itself as long as that
            // is there.
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

    /// The files of one place at one moment, the oldest first.
    fn list(&self, place: &Path) -> io::Result<Vec<Segment>> {
        for _ in 0..SCANS_MAX {
            if let Some(segments) = self.scan(place)? {
                return Ok(segments);
            }
        }
        let message = "the files of this log rotate faster than they can be listed: try again";
        Err(named(place, &io::Error::other(message)))
    }

    /// The same; nothing where files were renamed meanwhile.
    fn scan(&self, place: &Path) -> io::Result<Option<Vec<Segment>>> {
        // All stay open until all were looked at twice: the number of a deleted file that is open is
        // not given to a new one. What has the same name both times had it in between, too.
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

    /// Opens a file that was listed; nothing where its name is another file's by now.
    pub(super) fn open(&self, segment: &Segment) -> io::Result<Option<File>> {
        let Some(mut file) = self.names.open(&segment.path)? else { return Ok(None) };
        let is_it = first_time(&mut file)? == Some(segment.id);
        Ok(is_it.then_some(file))
    }

    /// Where a place in a file is in what was kept of that file; nothing where it is not.
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

    /// The file that is written to now, by its number in the file system.
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

/// By what a file is known; nothing until its first record is whole. The file is read from its
/// beginning, and left anywhere.
pub(super) fn first_time(file: &mut File) -> io::Result<Option<i64>> {
    let record = first_record(file)?;
    if !record.ends_with(b"\n") && record.len() < RECORD_BYTES_MAX {
        return Ok(None);
    }
    let time = Stored::parse(&record).map(|stored| nanos(stored.time()));
    // A damaged one is known by its number in the file system, which is no time.
    let inode = i64::try_from(file.metadata()?.ino()).unwrap_or(i64::MAX);
    Ok(Some(time.unwrap_or(-inode)))
}

/// The first record, or as much of it as there is.
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
