//! Finding the last lines of a log without reading the rest: from the end of its files backwards.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use super::log_segments::{LogFiles, Names, RECORD_BYTES_MAX, Segment};
use super::logs::Stored;

const BLOCK_BYTES: u64 = 64 * 1024;

/// Where the last `lines` lines begin: a file and an offset in it; nothing where a file is not there
/// any more. A long line counts once, however many records it is stored in.
pub(super) fn start<'a>(
    files: &LogFiles<impl Names>,
    segments: &'a [Segment],
    lines: usize,
) -> io::Result<Option<(&'a Segment, u64)>> {
    let mut seen = 0;
    // The last record of all ends a line even if the program has not ended it.
    let mut is_last = true;
    for segment in segments.iter().rev() {
        let Some(file) = files.open(segment)? else { return Ok(None) };
        let mut records = Backwards::of(file)?;
        while let Some((end, record)) = records.next()? {
            // What is damaged is shown as a gap, and no line.
            let ends_line = Stored::parse(&record).is_some_and(|stored| stored.ends_line());
            if ends_line || is_last {
                if seen == lines {
                    return Ok(Some((segment, end)));
                }
                seen += 1;
            }
            is_last = false;
        }
    }
    Ok(segments.first().map(|oldest| (oldest, 0)))
}

/// The records of a file, the last one first.
struct Backwards {
    file: File,
    /// Bytes of the file before `buffer`.
    before: u64,
    /// What was read and not returned. Ends with a record's end.
    buffer: Vec<u8>,
}

impl Backwards {
    fn of(mut file: File) -> io::Result<Self> {
        let before = file.seek(SeekFrom::End(0))?;
        let mut records = Self { file, before, buffer: Vec::new() };
        // What is being written at the end is no record yet.
        while !records.buffer.contains(&b'\n') && records.load()? {}
        let end = records.buffer.iter().rposition(|byte| *byte == b'\n');
        records.buffer.truncate(end.map_or(0, |end| end + 1));
        Ok(records)
    }

    /// Reads the block before what was read; false where there is none.
    fn load(&mut self) -> io::Result<bool> {
        let length = self.before.min(BLOCK_BYTES);
        if length == 0 || self.buffer.len() > RECORD_BYTES_MAX {
            return Ok(false);
        }
        self.before -= length;
        self.file.seek(SeekFrom::Start(self.before))?;
        let mut block = Vec::with_capacity(self.buffer.len() + 64 * 1024);
        (&mut self.file).take(length).read_to_end(&mut block)?;
        block.append(&mut self.buffer);
        self.buffer = block;
        Ok(true)
    }

    /// The record before, and the offset at which it ends.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let Some(body) = self.buffer.len().checked_sub(1) else {
                if !self.load()? {
                    return Ok(None);
                }
                continue;
            };
            let begin = self.buffer[..body].iter().rposition(|byte| *byte == b'\n');
            // At the file's beginning the rest is a record; beyond the longest record, damage is.
            if begin.is_none() && self.load()? {
                continue;
            }
            let end = self.before + self.buffer.len() as u64;
            let record = self.buffer.split_off(begin.map_or(0, |begin| begin + 1));
            return Ok(Some((end, record)));
        }
    }
}
