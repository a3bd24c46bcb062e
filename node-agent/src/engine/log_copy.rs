//! Copies a file of a log, or as much of its end as there is room for.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use jiff::Timestamp;

use super::log_store::remove_if_there;
use super::logs::gap_mark;
use crate::private::{self, named};

/// Less room than this is worth no records.
const END_BYTES_MIN: u64 = 512;

/// Copies a file. After an error `to` holds the newest records that there is room for, with a mark
/// before them that others are missing; or it is not there, where not even the mark could be written.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Err(error) = std::fs::copy(from, to) else { return Ok(()) };
    // Half of a file is no use: it has the oldest records. But it tells how much room there is.
    let room = std::fs::metadata(to).map_or(0, |half| half.len());
    let fewer = std::iter::successors(Some(room), |bytes| Some(bytes / 2));
    let ends = fewer.take_while(|bytes| *bytes >= END_BYTES_MIN).chain([0]);
    let mut is_kept = false;
    for bytes in ends {
        remove_if_there(to)?;
        // Others write to the same disk: what was free may be less by now.
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

/// Copies the whole records at the end of a file that take, with the mark before them, no more than
/// so many bytes.
fn copy_end(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let mark = gap_mark(Timestamp::UNIX_EPOCH);
    let mut kept = private::file(to)?;
    kept.write_all(mark.as_bytes())?;
    let wanted = bytes.saturating_sub(mark.len() as u64);
    if wanted == 0 {
        return Ok(());
    }
    let mut source = File::open(from)?;
    // One byte more, so that a record that begins just there is seen to.
    let begin = source.metadata()?.len().saturating_sub(wanted + 1);
    source.seek(SeekFrom::Start(begin))?;
    let mut source = BufReader::new(source);
    source.skip_until(b'\n')?;
    io::copy(&mut source, &mut kept)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_file_begins_with_a_whole_record_behind_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, "one\ntwo\nthree\n").unwrap();
        let mark = gap_mark(Timestamp::UNIX_EPOCH);
        for (bytes, end) in [(0, ""), (5, ""), (6, "three\n"), (9, "three\n"), (10, "two\nthree\n")]
        {
            copy_end(&from, &to, mark.len() as u64 + bytes).unwrap();
            assert_eq!(std::fs::read_to_string(&to).unwrap(), format!("{mark}{end}"), "{bytes}");
        }
    }
}
