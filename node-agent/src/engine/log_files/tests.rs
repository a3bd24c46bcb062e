//! What is kept of logs, and what is read of it.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::*;
use crate::engine::logs::{LOG_FILES, LogLine, LogWriter, Output, gap_mark, rotated};

/// Bytes of all files of a log in these tests: eight files of some fifteen lines each.
const BYTES_MAX: u64 = 8 * 1000;

struct Log {
    _dir: tempfile::TempDir,
    path: PathBuf,
    writer: LogWriter,
    written: usize,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let writer = LogWriter::open(&path, BYTES_MAX).unwrap();
        Self { _dir: dir, path, writer, written: 0 }
    }

    fn write(&mut self, lines: usize) {
        for _ in 0..lines {
            let line = LogLine {
                output: Output::Stdout,
                time: "2026-11-21T10:00:00Z".parse().unwrap(),
                bytes: Bytes::from(format!("line number {}\n", self.written)),
            };
            self.writer.write(line.written()).unwrap();
            self.written += 1;
        }
    }

    fn files(&self) -> LogFiles {
        LogFiles::at(vec![self.path.clone()])
    }

    fn reader(&self, options: LogOptions) -> Reader {
        Reader::begin(self.files(), options).unwrap()
    }
}

/// Everything up to the present end: numbers of lines, a gap as nothing, and the last position.
pub(super) fn rest<N: Names>(reader: &mut Reader<N>) -> (Vec<Option<usize>>, Option<Position>) {
    let (mut lines, mut last) = (Vec::new(), None);
    loop {
        let events = reader.read().unwrap();
        if events.is_empty() {
            return (lines, last);
        }
        for event in events {
            match event {
                LogEvent::From(_) => (),
                LogEvent::Gap => lines.push(None),
                LogEvent::Line { line, next } => {
                    let text = String::from_utf8(line.bytes.to_vec()).unwrap();
                    let number = text.trim().strip_prefix("line number ").unwrap();
                    lines.push(Some(number.parse().unwrap()));
                    last = Some(next);
                }
            }
        }
    }
}

fn lines(reader: &mut Reader) -> Vec<Option<usize>> {
    rest(reader).0
}

fn numbers(range: std::ops::Range<usize>) -> Vec<Option<usize>> {
    range.map(Some).collect()
}

fn after(position: Position) -> LogOptions {
    LogOptions { after: Some(position), ..LogOptions::default() }
}

#[test]
fn a_follower_that_keeps_up_misses_nothing_and_repeats_nothing() {
    for step in [1, 3, 40, 90] {
        let mut log = Log::new();
        let mut reader = log.reader(LogOptions::default());
        let mut seen = Vec::new();
        while log.written < 1000 {
            log.write(step);
            seen.extend(lines(&mut reader));
        }
        assert_eq!(seen, numbers(0..log.written), "{step} lines at a time");
    }
}

#[test]
fn a_follower_that_is_too_slow_is_told_of_one_gap() {
    let mut log = Log::new();
    log.write(5);
    let mut reader = log.reader(LogOptions::default());
    assert_eq!(lines(&mut reader), numbers(0..5));
    log.write(500);
    let seen = lines(&mut reader);
    let gaps = seen.iter().filter(|line| line.is_none()).count();
    assert_eq!(gaps, 1, "{seen:?}");
    let gap = seen.iter().position(Option::is_none).unwrap();
    assert_eq!(seen[..gap], numbers(5..5 + gap), "what the open file still had comes first");
    let first = seen[gap + 1].unwrap();
    assert!(first > 300, "{seen:?}");
    assert_eq!(seen[gap + 1..], numbers(first..505), "after it nothing is missing");
}

#[test]
fn reading_goes_on_exactly_at_any_position() {
    let mut log = Log::new();
    log.write(60);
    let mut positions = Vec::new();
    let mut reader = log.reader(LogOptions::default());
    loop {
        let events = reader.read().unwrap();
        if events.is_empty() {
            break;
        }
        positions.extend(events.into_iter().filter_map(|event| match event {
            LogEvent::Line { next, .. } => Some(next),
            LogEvent::From(_) | LogEvent::Gap => None,
        }));
    }
    assert_eq!(positions.len(), 60);
    // The files are renamed in between.
    log.write(30);
    for (number, position) in positions.into_iter().enumerate() {
        let seen = lines(&mut log.reader(after(position)));
        assert_eq!(seen, numbers(number + 1..90), "after line {number}");
    }
}

#[test]
fn a_position_that_was_rotated_away_is_a_gap() {
    let mut log = Log::new();
    log.write(3);
    let (_, position) = rest(&mut log.reader(LogOptions::default()));
    log.write(500);
    let seen = lines(&mut log.reader(after(position.unwrap())));
    assert_eq!(seen[0], None);
    assert_eq!(seen[1..], numbers(seen[1].unwrap()..503));
    // A position of another log.
    let other = Position { file: 7, offset: 0 };
    assert_eq!(lines(&mut log.reader(after(other)))[0], None);
    // A position behind the end of its file, as it can be after a crash of the machine.
    let (_, last) = rest(&mut log.reader(LogOptions::default()));
    let last = last.unwrap();
    let beyond = Position { offset: last.offset + 1, ..last };
    assert_eq!(lines(&mut log.reader(after(beyond)))[0], None);
}

#[test]
fn a_log_whose_first_lines_are_gone_begins_with_a_gap() {
    let mut log = Log::new();
    log.write(10);
    assert_eq!(lines(&mut log.reader(LogOptions::default())), numbers(0..10));
    log.write(500);
    assert_eq!(lines(&mut log.reader(LogOptions::default()))[0], None);
    let tail = LogOptions { tail: Some(3), ..LogOptions::default() };
    assert_eq!(lines(&mut log.reader(tail)), numbers(507..510), "who wants the last misses none");
}

#[test]
fn the_tail_is_found_over_files() {
    let mut log = Log::new();
    log.write(70);
    for tail in [0, 1, 14, 15, 16, 17, 69, 70, 71, 1_000_000] {
        let options = LogOptions { tail: Some(tail), ..LogOptions::default() };
        let mut reader = log.reader(options);
        assert_eq!(lines(&mut reader), numbers(70 - tail.min(70)..70), "{tail}");
    }
    let mut reader = log.reader(LogOptions { tail: Some(0), ..LogOptions::default() });
    log.write(40);
    assert_eq!(lines(&mut reader), numbers(70..110), "what comes after it is followed");
}

#[test]
fn where_reading_begins_is_told_before_anything_is_there() {
    let mut log = Log::new();
    log.write(7);
    let nothing = LogOptions { tail: Some(0), ..LogOptions::default() };
    let LogEvent::From(begin) = log.reader(nothing).read().unwrap().remove(0) else {
        panic!("it begins somewhere")
    };
    log.write(2);
    assert_eq!(lines(&mut log.reader(after(begin))), numbers(7..9));
}

#[test]
fn only_lines_from_a_time_on_are_read() {
    let mut log = Log::new();
    log.write(100);
    // Each line is a nanosecond later than the one before.
    for first in [0_u8, 1, 50, 99] {
        let since = "2026-11-21T10:00:00Z".parse::<Timestamp>().unwrap();
        let since = since + std::time::Duration::from_nanos(first.into());
        let options = LogOptions { since: Some(since), ..LogOptions::default() };
        assert_eq!(lines(&mut log.reader(options)), numbers(usize::from(first)..100));
    }
}

#[test]
fn a_log_that_is_copied_and_deleted_is_read_on() {
    let mut log = Log::new();
    log.write(70);
    let kept = log.path.with_file_name("kept.log");
    let files = LogFiles::at(vec![log.path.clone(), kept.clone()]);
    let mut reader = Reader::begin(files.clone(), LogOptions::default()).unwrap();
    let LogEvent::Line { next, .. } = reader.read().unwrap().pop().unwrap() else {
        panic!("a gap")
    };
    for number in (0..LOG_FILES).rev() {
        let (from, to) = (rotated(&log.path, number), rotated(&kept, number));
        if from.exists() {
            std::fs::copy(&from, to).unwrap();
            std::fs::remove_file(from).unwrap();
        }
    }
    let on = lines(&mut reader);
    assert!(!on.is_empty() && on == lines(&mut Reader::begin(files, after(next)).unwrap()));
    assert_eq!(on, numbers(on[0].unwrap()..70));
}

#[test]
fn what_was_kept_of_a_file_in_part_is_not_told_beside_the_file() {
    let mut log = Log::new();
    log.write(10);
    let kept = log.path.with_file_name("kept.log");
    let text = std::fs::read_to_string(&log.path).unwrap();
    let end = text.split_inclusive('\n').skip(7).collect::<String>();
    std::fs::write(&kept, format!("{}{end}", gap_mark(Timestamp::UNIX_EPOCH))).unwrap();
    let files = || LogFiles::at(vec![log.path.clone(), kept.clone()]);
    let all = || lines(&mut Reader::begin(files(), LogOptions::default()).unwrap());
    assert_eq!(all(), numbers(0..10));
    std::fs::remove_file(&log.path).unwrap();
    assert_eq!(all(), [None, Some(7), Some(8), Some(9)]);
}

#[test]
fn damage_is_a_gap_and_what_is_half_written_waits() {
    let mut log = Log::new();
    log.write(2);
    let append = |bytes: &[u8]| {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().append(true).open(&log.path);
        file.unwrap().write_all(bytes).unwrap();
    };
    let mut reader = log.reader(LogOptions::default());
    assert_eq!(lines(&mut reader), numbers(0..2));
    append(b"2026-11-21T10:00:01Z stdout F line num");
    assert_eq!(lines(&mut reader), []);
    append(b"ber 2\n");
    assert_eq!(lines(&mut reader), [Some(2)]);
    append(b"nonsense\n");
    append(&vec![b'x'; 2 * RECORD_BYTES_MAX + 7]);
    append(b"\n2026-11-21T10:00:02Z stdout F line number 3\n");
    assert_eq!(lines(&mut reader), [None, None, Some(3)]);
}

#[test]
fn the_last_line_of_a_long_one_is_whole() {
    let log = Log::new();
    let path: &Path = &log.path;
    let text = "2026-11-21T10:00:00.1Z stdout F line number 0\n\
                2026-11-21T10:00:00.2Z stdout P line number \n\
                2026-11-21T10:00:00.3Z stdout F 1\n\
                2026-11-21T10:00:00.4Z stdout P line number 2\n";
    std::fs::write(path, text).unwrap();
    let text = |tail| {
        let mut reader = log.reader(LogOptions { tail: Some(tail), ..LogOptions::default() });
        let events = reader.read().unwrap().into_iter();
        let pieces = events.map(|event| match event {
            LogEvent::Line { line, .. } => String::from_utf8(line.bytes.to_vec()).unwrap(),
            LogEvent::From(_) => String::new(),
            LogEvent::Gap => "gap".to_owned(),
        });
        pieces.collect::<String>()
    };
    assert_eq!(text(1), "line number 2");
    assert_eq!(text(2), "line number 1\nline number 2");
}

/// Names behind each of which there is another file at every look.
#[derive(Debug)]
struct Fickle {
    files: [PathBuf; 2],
    opened: Cell<usize>,
}

impl Names for Fickle {
    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        if path.extension().is_some_and(|number| number != "log") {
            return Ok(None);
        }
        self.opened.set(self.opened.get() + 1);
        File::open(&self.files[self.opened.get() % 2]).map(Some)
    }

    fn inode(&self, path: &Path) -> io::Result<Option<u64>> {
        if path.extension().is_some_and(|number| number != "log") {
            return Ok(None);
        }
        Ok(Some(self.files[self.opened.get() % 2].metadata()?.ino()))
    }
}

#[test]
fn a_log_whose_files_are_others_at_every_look_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, time: &str| {
        let path = dir.path().join(name);
        let mut writer = LogWriter::open(&path, BYTES_MAX).unwrap();
        let line = LogLine {
            output: Output::Stdout,
            time: time.parse().unwrap(),
            bytes: Bytes::from_static(b"line\n"),
        };
        writer.write(line.written()).unwrap();
        path
    };
    let files = [file("one", "2026-11-21T10:00:00Z"), file("two", "2026-11-21T11:00:00Z")];
    let names = Fickle { files, opened: Cell::new(0) };
    let files = LogFiles { places: vec![dir.path().join("a.log")], names };
    let error = Reader::begin(files, LogOptions::default()).unwrap_err().to_string();
    assert!(error.contains("change faster"), "{error}");
}
