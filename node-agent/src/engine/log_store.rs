//! The folder in which logs outlive their containers, and how logs are read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::ErrorChain;
use futures_util::future::{BoxFuture, Fuse};
use futures_util::{FutureExt as _, StreamExt, future, stream};
use jiff::Timestamp;

use super::log_files::Reader;
use super::log_segments::LogFiles;
use super::logs::{LOG_FILES, LogEvent, LogOptions, LogStream, LogWriter, rotated};
use super::{EngineError, Identity, log_copy};
use crate::free::Free;
use crate::private;

/// How often a followed log is looked at again.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of logs that are kept of containers that were removed. Beyond that the oldest logs go.
const KEPT_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;

/// What a log takes beside its lines, or less: the ends of the last blocks of its files, and the room
/// for a mark.
const MARGIN_BYTES: u64 = 4096 * (LOG_FILES as u64 + 2);

/// Resolves once nothing will be written to a log any more.
pub(crate) type End = BoxFuture<'static, ()>;

/// Logs by identity.
#[derive(Debug, Clone)]
pub struct LogStore {
    dir: PathBuf,
}

impl LogStore {
    /// Makes the folder where it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        private::folder(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where a container's log is.
    pub fn path(&self, identity: &Identity) -> PathBuf {
        self.dir.join(format!("{}.log", identity.file_stem()))
    }

    /// Whether anything of a container's log was kept.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        LogFiles::at(vec![self.path(identity)]).exist()
    }

    /// Reads a container's log, which nobody writes to. `Gone` where there is none.
    pub async fn read(
        &self,
        identity: &Identity,
        options: LogOptions,
    ) -> Result<LogStream, EngineError> {
        let files = LogFiles::at(vec![self.path(identity)]);
        read_files(files, options, future::ready(()).boxed()).await
    }

    /// Deletes the logs last written before `before`, and the oldest ones where all together are too
    /// large; but not those that `is_kept` says are in use.
    pub(crate) fn prune(
        &self,
        before: Timestamp,
        is_kept: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        self.prune_to(before, KEPT_BYTES_MAX, is_kept)
    }

    fn prune_to(
        &self,
        before: Timestamp,
        bytes_max: u64,
        is_kept: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        let mut logs: BTreeMap<String, KeptLog> = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let stem = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let log = logs.entry(stem.to_owned()).or_default();
            let written = Timestamp::try_from(metadata.modified()?).ok();
            log.written = log.written.max(written);
            log.bytes += metadata.len();
            log.files.push(entry.path());
        }
        logs.retain(|stem, _| !is_kept(stem));
        let mut bytes: u64 = logs.values().map(|log| log.bytes).sum();
        let mut oldest_first: Vec<KeptLog> = logs.into_values().collect();
        oldest_first.sort_by_key(|log| log.written);
        for log in oldest_first {
            let is_old = log.written.is_none_or(|written| written < before);
            if is_old || bytes > bytes_max {
                bytes -= log.bytes;
                log.files.iter().try_for_each(|file| remove_if_there(file))?;
            }
        }
        Ok(())
    }

    /// Keeps the files of a log that is about to be deleted at `from`, to which nobody writes. Where
    /// there are none (any more), what an earlier try has kept stays.
    pub(crate) fn keep_files(&self, identity: &Identity, from: &Path) -> io::Result<()> {
        let path = self.path(identity);
        if !LogFiles::at(vec![from.to_owned()]).exist() {
            return Ok(());
        }
        // The newest first: where the disk has no room for all, the oldest lines are missed least.
        for number in 0..LOG_FILES {
            let (from, to) = (rotated(from, number), rotated(&path, number));
            // What an earlier try has kept of a file that the engine has deleted since stays.
            if !from.try_exists()? {
                continue;
            }
            remove_if_there(&to)?;
            if let Err(error) = self.keep_file(identity, &from, &to) {
                // Of this file its end is kept, behind a mark that says so: a new file, since the one
                // that is there may be a link to the engine's own. Without room even for a mark, that
                // is told otherwise.
                if !to.exists() {
                    tell_by_name(&path, number)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn keep_file(&self, identity: &Identity, from: &Path, to: &Path) -> io::Result<()> {
        // The same file under a second name, where both are in one file system. It becomes private
        // under the engine's name, too, which the engine is about to delete; until then it reads it
        // as the file's owner or as root.
        if std::fs::hard_link(from, to).and_then(|()| private::take_over(to)).is_ok() {
            return Ok(());
        }
        // A link to a file of somebody else, which cannot be made private.
        remove_if_there(to)?;
        let copy = self.dir.join(format!("{}.copy", identity.file_stem()));
        let copied = log_copy::copy(from, &copy);
        if copied.is_ok() || copy.exists() {
            private::take_over(&copy)?;
            std::fs::rename(&copy, to)?;
        }
        copied
    }

    /// Replaces what is kept of a container by what `events` say, if they say anything: the engine may
    /// have deleted the log in an earlier try to remove the container, which has kept it.
    pub(crate) async fn keep(
        &self,
        identity: &Identity,
        mut events: LogStream,
        bytes_max: u64,
    ) -> Result<(), EngineError> {
        let path = self.path(identity);
        let failed = |error: &io::Error| io_failed(&path, error);
        // An engine tells the oldest lines first. As a log with less room keeps its newest lines, so
        // does the copy where the disk has less.
        let room = Free::on(&self.dir).map_err(|error| failed(&error))?.bytes;
        let bytes_max = bytes_max.min(room.saturating_sub(MARGIN_BYTES).max(MARGIN_BYTES));
        let mut next = events.next().await;
        let says_something = matches!(next, Some(Ok(_)));
        if !says_something && self.has(identity) {
            return Ok(());
        }
        // What a copy that was cut off has left, too.
        for number in 0..LOG_FILES {
            remove_if_there(&rotated(&path, number)).map_err(|error| failed(&error))?;
        }
        let opened = LogWriter::open(&path, bytes_max).and_then(|mut writer| {
            writer.reserve_mark()?;
            Ok(writer)
        });
        let mut writer = opened.map_err(|error| {
            // An empty log would say that the container wrote nothing.
            let _stays = remove_if_there(&path);
            failed(&error)
        })?;
        while let Some(event) = next {
            let kept = match event {
                Ok(LogEvent::Line { line, .. }) => writer.write(&line).map_err(|it| failed(&it)),
                Ok(LogEvent::Gap) => {
                    writer.lost();
                    Ok(())
                }
                Ok(LogEvent::From(_)) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = kept {
                // The rest is missing, which the log says: there is room for that.
                writer.lost();
                let _broken = writer.end();
                return Err(error);
            }
            next = events.next().await;
        }
        writer.end().map_err(|error| failed(&error))
    }
}

/// The files of a log whose container was removed.
#[derive(Debug, Default)]
struct KeptLog {
    written: Option<Timestamp>,
    bytes: u64,
    files: Vec<PathBuf>,
}

/// Says that there was more of a log than is kept, where the file of this number and older ones are
/// not: without a byte. The oldest file that is kept goes to the last place, by which readers know
/// that others were deleted. Where nothing is kept, they are told that there is no log.
fn tell_by_name(path: &Path, number: u32) -> io::Result<()> {
    // What an earlier try has kept of older files would be taken for newer than that.
    for older in number..LOG_FILES {
        remove_if_there(&rotated(path, older))?;
    }
    let newer = (0..number).rev().map(|newer| rotated(path, newer)).find(|newer| newer.exists());
    newer.map_or(Ok(()), |newer| std::fs::rename(newer, rotated(path, LOG_FILES - 1)))
}

/// Deletes a file that may not be there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads the files of a log; if that is wanted, until `end` says that nothing more will be written.
pub(crate) async fn read_files(
    files: LogFiles,
    options: LogOptions,
    end: End,
) -> Result<LogStream, EngineError> {
    let reader =
        blocking(
            move || {
                if files.exist() { Reader::begin(files, options).map(Some) } else { Ok(None) }
            },
        );
    let reader = reader.await?.ok_or(EngineError::Gone)?;
    let following = Following {
        reader: Some(reader),
        end: end.fuse(),
        // What is there now is read to its end.
        has_ended: !options.follow,
    };
    let batches = stream::unfold(Some(following), |following| async move {
        let mut following = following?;
        match following.next().await {
            Ok(None) => None,
            Ok(Some(events)) => Some((Ok(events), Some(following))),
            Err(error) => Some((Err(error), None)),
        }
    });
    let events = batches.flat_map(|batch| match batch {
        Ok(events) => stream::iter(events.into_iter().map(Ok)).left_stream(),
        Err(error) => stream::iter([Err(error)]).right_stream(),
    });
    Ok(events.boxed())
}

/// A log that is read until its end.
struct Following {
    /// Here between two reads.
    reader: Option<Reader>,
    end: Fuse<End>,
    has_ended: bool,
}

impl Following {
    /// What comes next; nothing after the end.
    async fn next(&mut self) -> Result<Option<Vec<LogEvent>>, EngineError> {
        loop {
            // Known before the files are read: what was written before the end is then read.
            let had_ended = self.has_ended;
            let Some(mut reader) = self.reader.take() else { return Ok(None) };
            let read = blocking(move || {
                let events = reader.read()?;
                Ok((reader, events))
            });
            let (reader, events) = read.await?;
            self.reader = Some(reader);
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if had_ended {
                return Ok(None);
            }
            tokio::select! {
                biased;
                () = &mut self.end => self.has_ended = true,
                () = tokio::time::sleep(FOLLOW_INTERVAL) => (),
            }
        }
    }
}

/// Runs file operations off the executor: they may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    match base::blocking("logs", work).await {
        Ok(done) => done.map_err(|error| EngineError::unavailable(ErrorChain(&error).to_string())),
        Err(panic) => Err(EngineError::unavailable(panic)),
    }
}

fn io_failed(path: &Path, error: &io::Error) -> EngineError {
    EngineError::unavailable(format!("{}: {}", path.display(), ErrorChain(error)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use api::log::Position;

    use super::*;
    use crate::engine::logs::{LogLine, Output, Stored, gap_mark};

    /// A store, an attempt, and where its engine has the log.
    fn store_in(dir: &Path) -> (LogStore, Identity, PathBuf) {
        let store = LogStore::open(&dir.join("logs")).unwrap();
        (store, Identity::new("default", "t", "0af3", 1).unwrap(), dir.join("source"))
    }

    /// The engine has two files of the log, which are kept.
    fn keep_new_and_old(store: &LogStore, identity: &Identity, source: &Path) {
        std::fs::write(source, "new").unwrap();
        std::fs::write(rotated(source, 1), "old").unwrap();
        store.keep_files(identity, source).unwrap();
    }

    fn assert_new_and_old_are_kept(store: &LogStore, identity: &Identity) {
        let kept = store.path(identity);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(rotated(&kept, 1)).unwrap(), "old");
    }

    #[tokio::test]
    async fn a_log_that_was_kept_stays_where_its_source_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (store, identity, source) = store_in(dir.path());
        keep_new_and_old(&store, &identity, &source);
        std::fs::remove_file(&source).unwrap();
        std::fs::remove_file(rotated(&source, 1)).unwrap();
        store.keep_files(&identity, &source).unwrap();
        store.keep(&identity, stream::empty().boxed(), 1000).await.unwrap();
        let gone = stream::iter([Err(EngineError::Gone)]).boxed();
        store.keep(&identity, gone, 1000).await.unwrap();
        assert_new_and_old_are_kept(&store, &identity);
    }

    #[test]
    fn what_was_kept_of_a_log_stays_where_the_engine_has_deleted_a_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, identity, source) = store_in(dir.path());
        keep_new_and_old(&store, &identity, &source);
        // The engine dies while it deletes the container, whose removal is tried again.
        std::fs::remove_file(rotated(&source, 1)).unwrap();
        store.keep_files(&identity, &source).unwrap();
        assert_new_and_old_are_kept(&store, &identity);
    }

    #[test]
    fn a_gap_is_never_marked_in_the_engines_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let (source, kept) = (dir.path().join("source"), dir.path().join("kept"));
        std::fs::write(&source, "lines").unwrap();
        std::fs::hard_link(&source, &kept).unwrap();
        // A folder cannot be copied: it stands for any fault.
        log_copy::copy(dir.path(), &kept).unwrap_err();
        assert_eq!(std::fs::read_to_string(&source).unwrap(), "lines");
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), gap_mark(Timestamp::UNIX_EPOCH));
    }

    #[tokio::test]
    async fn a_log_that_can_only_be_kept_in_part_keeps_its_newest_lines_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (store, identity, source) = store_in(dir.path());
        let line = |text: &str| format!("2026-11-21T10:00:0{text}Z stdout F line {text}\n");
        std::fs::write(&source, line("3")).unwrap();
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::write(rotated(&source, 1), line("2")).unwrap();
        // A folder is neither linked nor copied: it stands for any fault, such as a full disk.
        std::fs::create_dir(rotated(&source, 2)).unwrap();
        std::fs::write(rotated(&source, 3), line("0")).unwrap();
        store.keep_files(&identity, &source).unwrap_err();
        let log = store.read(&identity, LogOptions::default()).await.unwrap();
        let told: Vec<String> = log
            .filter_map(|event| async {
                match event.unwrap() {
                    LogEvent::From(_) => None,
                    LogEvent::Gap => Some("gap".to_owned()),
                    LogEvent::Line { line, .. } => {
                        Some(String::from_utf8_lossy(&line.bytes).trim().to_owned())
                    }
                }
            })
            .collect()
            .await;
        assert_eq!(told, ["gap", "line 2", "line 3"]);
        for number in 0..3 {
            let kept = rotated(&store.path(&identity), number);
            let mode = std::fs::metadata(kept).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{number}");
        }
        let copies = std::fs::read_dir(dir.path().join("logs")).unwrap();
        let copies = copies.filter(|it| it.as_ref().unwrap().path().ends_with("copy"));
        assert_eq!(copies.count(), 0);
    }

    /// A disk of its own, which needs root; the folder beside it has room.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn new() -> Self {
            let disk = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(disk.0.path().join("disk")).unwrap();
            disk.run(&["mount", "-t", "tmpfs", "-o", "size=256k", "small"]);
            disk
        }

        fn run(&self, command: &[&str]) {
            let mut run = std::process::Command::new(command[0]);
            let status = run.args(&command[1..]).arg(self.0.path().join("disk")).status().unwrap();
            assert!(status.success(), "{command:?} needs root");
        }

        /// Takes what is left but so many blocks.
        fn fill_but(&self, blocks: u64) {
            let path = self.0.path().join("disk/filler");
            let mut file = private::file(&path).unwrap();
            while io::Write::write_all(&mut file, &[b'x'; 4096]).is_ok() {}
            file.set_len((file.metadata().unwrap().len() / 4096 - blocks) * 4096).unwrap();
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            self.run(&["umount", "--lazy"]);
        }
    }

    /// A record of 100 bytes.
    fn record(number: usize) -> String {
        format!("2026-11-21T10:00:00.{number:09}Z stdout F {}{number:05}\n", "x".repeat(54))
    }

    /// Keeps a log of two files of 1,000 records each on a disk with so many free blocks; what the
    /// log then says: the number of each line, and nothing for a gap.
    async fn kept_with(blocks: u64) -> Option<Vec<Option<usize>>> {
        let disk = SmallDisk::new();
        let store = LogStore::open(&disk.0.path().join("disk/logs")).unwrap();
        let identity = Identity::new("default", "t", "0af3", 1).unwrap();
        let source = disk.0.path().join("source");
        std::fs::write(rotated(&source, 1), (0..1000).map(record).collect::<String>()).unwrap();
        std::fs::write(&source, (1000..2000).map(record).collect::<String>()).unwrap();
        disk.fill_but(blocks);
        store.keep_files(&identity, &source).unwrap_err();
        let log = match store.read(&identity, LogOptions::default()).await {
            Err(EngineError::Gone) => return None,
            log => log.unwrap(),
        };
        let told = log.filter_map(|event| async {
            match event.unwrap() {
                LogEvent::From(_) => None,
                LogEvent::Gap => Some(None),
                LogEvent::Line { line, .. } => {
                    let text = String::from_utf8_lossy(&line.bytes).trim().to_owned();
                    Some(Some(text.trim_start_matches('x').parse().unwrap()))
                }
            }
        });
        Some(told.collect().await)
    }

    #[tokio::test]
    async fn of_a_log_the_newest_lines_are_kept_as_far_as_there_is_room_behind_a_gap() {
        for (blocks, expected) in
            [(1, 1960), (10, 1591), (24, 1018), (25, 1000), (26, 960), (40, 387)]
        {
            let told = kept_with(blocks).await.unwrap();
            assert_eq!(told[0], None, "with {blocks} blocks");
            let lines: Vec<_> = told[1..].iter().map(|line| line.unwrap()).collect();
            assert_eq!(lines, (expected..2000).collect::<Vec<_>>(), "with {blocks} blocks");
        }
    }

    #[tokio::test]
    async fn of_a_log_for_which_there_is_no_room_at_all_nothing_is_kept_and_that_is_said() {
        assert_eq!(kept_with(0).await, None);
    }

    #[tokio::test]
    async fn what_an_engine_tells_is_not_kept_as_an_empty_log_on_a_full_disk() {
        let disk = SmallDisk::new();
        let store = LogStore::open(&disk.0.path().join("disk/logs")).unwrap();
        let identity = Identity::new("default", "t", "0af3", 1).unwrap();
        disk.fill_but(0);
        let event = |number: usize| {
            let line = LogLine {
                output: Output::Stdout,
                time: "2026-11-21T10:00:00Z".parse().unwrap(),
                bytes: record(number).into(),
            };
            Ok(LogEvent::Line { line, next: Position { file: 0, offset: 0 } })
        };
        let events = || stream::iter((0..1000).map(event)).boxed();
        store.keep(&identity, events(), 1_000_000).await.unwrap_err();
        let read = store.read(&identity, LogOptions::default()).await;
        assert!(matches!(read, Err(EngineError::Gone)), "it wrote something");
        disk.fill_but(2);
        store.keep(&identity, events(), 1_000_000).await.unwrap_err();
        let log = store.read(&identity, LogOptions::default()).await.unwrap();
        let told: Vec<LogEvent> = log.map(Result::unwrap).collect().await;
        assert!(matches!(told.last(), Some(LogEvent::Gap)), "{}", told.len());
        assert!(told.len() > 2, "what there was room for");
    }

    #[tokio::test]
    async fn of_what_an_engine_tells_the_newest_lines_are_kept_where_there_is_little_room() {
        for blocks in [20, 30, 50] {
            let disk = SmallDisk::new();
            let store = LogStore::open(&disk.0.path().join("disk/logs")).unwrap();
            let identity = Identity::new("default", "t", "0af3", 1).unwrap();
            disk.fill_but(blocks);
            let event = |number: usize| {
                let Some(Stored::Line(line)) = Stored::parse(record(number).as_bytes()) else {
                    panic!("it is a line")
                };
                Ok(LogEvent::Line { line, next: Position { file: 0, offset: 0 } })
            };
            let events = stream::iter((0..5000).map(event)).boxed();
            store.keep(&identity, events, 1_000_000).await.unwrap();
            let numbers = async |since: Option<Timestamp>| {
                let options = LogOptions { since, ..LogOptions::default() };
                let log = store.read(&identity, options).await.unwrap();
                let told = log.filter_map(|event| async {
                    match event.unwrap() {
                        LogEvent::From(_) => None,
                        LogEvent::Gap => Some(None),
                        LogEvent::Line { line, .. } => {
                            let text = String::from_utf8_lossy(&line.bytes).trim().to_owned();
                            Some(Some(text.trim_start_matches('x').parse::<usize>().unwrap()))
                        }
                    }
                });
                told.collect::<Vec<_>>().await
            };
            let all = numbers(None).await;
            let first = all[1].unwrap();
            assert!(all[0].is_none() && first < 4900, "with {blocks} blocks: {first}");
            assert_eq!(all[1..], (first..5000).map(Some).collect::<Vec<_>>());
            // Who heard up to some line goes on behind it; where others were lost meanwhile, that is told.
            let time = |number| Stored::parse(record(number).as_bytes()).map(|it| it.time());
            assert_eq!(numbers(time(4990)).await, (4990..5000).map(Some).collect::<Vec<_>>());
            assert_eq!(numbers(time(100)).await, all);
        }
    }

    #[tokio::test]
    async fn what_the_engine_did_not_tell_is_a_gap_in_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let identity = Identity::new("default", "t", "0af3", 1).unwrap();
        let line = |text: &'static str| LogEvent::Line {
            line: LogLine {
                output: Output::Stdout,
                time: "2026-11-21T10:00:00Z".parse().unwrap(),
                bytes: text.into(),
            },
            next: Position { file: 0, offset: 0 },
        };
        let lost = EngineError::unavailable("the connection broke");
        let events = [Ok(line("a\n")), Ok(LogEvent::Gap), Ok(line("b\n")), Err(lost)];
        store.keep(&identity, stream::iter(events).boxed(), 1_000_000).await.unwrap_err();
        let log = store.read(&identity, LogOptions::default()).await.unwrap();
        let told: Vec<LogEvent> = log.map(Result::unwrap).collect().await;
        let gaps = told.iter().map(|event| matches!(event, LogEvent::Gap));
        // Where reading begins is told first.
        assert_eq!(gaps.collect::<Vec<_>>(), [false, false, true, false, true]);
    }

    #[test]
    fn the_oldest_logs_go_where_all_are_too_large_together() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let now = std::time::SystemTime::from(base::Clock::system().now());
        for (name, age) in [("old.log", 30), ("used.log", 40), ("mid.log", 20), ("mid.log.1", 25)] {
            let path = dir.path().join(name);
            std::fs::write(&path, [b'x'; 1000]).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        let names = || {
            let names = std::fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<String> =
                names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        store.prune_to(Timestamp::UNIX_EPOCH, 3000, |stem| stem == "used").unwrap();
        assert_eq!(names(), ["mid.log", "mid.log.1", "old.log", "used.log"]);
        store.prune_to(Timestamp::UNIX_EPOCH, 2999, |stem| stem == "used").unwrap();
        assert_eq!(names(), ["mid.log", "mid.log.1", "used.log"], "a log goes with all its files");
        let since = Timestamp::try_from(now - Duration::from_secs(22)).unwrap();
        store.prune_to(since, u64::MAX, |stem| stem == "used").unwrap();
        assert_eq!(names(), ["mid.log", "mid.log.1", "used.log"], "its newest file is not old");
        store.prune_to(Timestamp::MAX, u64::MAX, |stem| stem == "used").unwrap();
        assert_eq!(names(), ["used.log"]);
    }
}
