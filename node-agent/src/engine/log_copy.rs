//! Copies a log file, or as much of its end as the disk has room for.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use api::log::Position;

use super::log_segments::first_time;
use super::logs::part_mark;
use shim::private::{self, named, remove_if_there};

/// A position in no file.
const NOWHERE: Position = Position { file: i64::MIN, offset: 0 };

/// With less room than this no records are kept.
const END_BYTES_MIN: u64 = 512;

/// Copies a file. After an error `to` holds the newest records for which there is room, after a
/// mark that others are missing. If not even the mark could be written, `to` does not exist.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Err(error) = std::fs::copy(from, to) else { return Ok(()) };
    // A partial copy holds the oldest records, which are the least useful ones. But its size tells
    // how much room there is.
    let room = std::fs::metadata(to).map_or(0, |half| half.len());
    let fewer = std::iter::successors(Some(room), |bytes| Some(bytes / 2));
    let ends = fewer.take_while(|bytes| *bytes >= END_BYTES_MIN).chain([0]);
    let mut is_kept = false;
    for bytes in ends {
        remove_if_there(to)?;
        // Other programs write to the same disk, so there may be less room than just before.
        is_kept = copy_end(from, to, bytes).is_ok();
        if is_kept {
            break;
        }
    }
    if !is_kept {
        remove_if_there(to)?;
    }
    Err(named(to, &error))
}

/// Copies the last whole records that, with the mark before them, take at most `bytes` bytes. The
/// mark tells where in the file they were, for readers with a position in that file.
fn copy_end(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let wanted = bytes.saturating_sub(part_mark(NOWHERE).len() as u64);
    if wanted == 0 {
        // Works for a file that cannot be read any more, too.
        let end = open(from).map_or(NOWHERE, |(_, end)| end);
        return private::file(to)?.write_all(part_mark(end).as_bytes());
    }
    let (mut source, end) = open(from)?;
    // One byte more, to find out whether a record begins exactly there.
    let begin = end.offset.saturating_sub(wanted + 1);
    source.seek(SeekFrom::Start(begin))?;
    let mut source = BufReader::new(source);
    let offset = begin + source.skip_until(b'\n')? as u64;
    let mut kept = private::file(to)?;
    kept.write_all(part_mark(Position { offset, ..end }).as_bytes())?;
    io::copy(&mut source, &mut kept)?;
    Ok(())
}

/// Opens a file and returns its end.
fn open(path: &Path) -> io::Result<(File, Position)> {
    let mut file = File::open(path)?;
    let id = first_time(&mut file)?.unwrap_or(NOWHERE.file);
    let offset = file.metadata()?.len();
    Ok((file, Position { file: id, offset }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_end_of_a_file_begins_with_a_whole_record_behind_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, "one\ntwo\nthree\n").unwrap();
        // A damaged file is identified by its inode.
        let file = -i64::try_from(std::fs::metadata(&from).unwrap().ino()).unwrap();
        let mark = |offset| part_mark(Position { file, offset });
        for (bytes, offset, end) in [
            (0, 14, ""),
            (5, 14, ""),
            (6, 8, "three\n"),
            (9, 8, "three\n"),
            (10, 4, "two\nthree\n"),
        ] {
            copy_end(&from, &to, mark(0).len() as u64 + bytes).unwrap();
            let expected = format!("{}{end}", mark(offset));
            assert_eq!(std::fs::read_to_string(&to).unwrap(), expected, "{bytes}");
            let (begin, _) = expected.split_at(mark(0).len());
            let said = super::super::logs::parse_part_mark(begin.as_bytes());
            assert_eq!(said, Some(Position { file, offset }));
        }
    }
}
