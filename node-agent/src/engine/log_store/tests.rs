//! What is kept of logs, with room and without.

use std::os::unix::fs::PermissionsExt as _;

use api::log::Position;

use super::*;
use crate::engine::logs::{LogLine, Output, Stored};

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
    let mark = std::fs::read_to_string(&kept).unwrap();
    assert_eq!(Stored::parse(mark.as_bytes()), Some(Stored::Lost(Timestamp::UNIX_EPOCH)));
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
    Some(numbers(log.map(Result::unwrap).collect::<Vec<_>>().await))
}

#[tokio::test]
async fn of_a_log_the_newest_lines_are_kept_as_far_as_there_is_room_behind_a_gap() {
    for (blocks, expected) in [(1, 1960), (10, 1592), (24, 1018), (25, 1000), (26, 960), (40, 387)]
    {
        let told = kept_with(blocks).await.unwrap();
        assert_eq!(told[0], None, "with {blocks} blocks");
        let lines: Vec<_> = told[1..].iter().map(|line| line.unwrap()).collect();
        assert_eq!(lines, (expected..2000).collect::<Vec<_>>(), "with {blocks} blocks");
    }
}

/// The numbers of lines, and nothing for a gap.
fn numbers(events: impl IntoIterator<Item = LogEvent>) -> Vec<Option<usize>> {
    let number = |event| match event {
        LogEvent::From(_) => None,
        LogEvent::Gap => Some(None),
        LogEvent::Line { line, .. } => {
            let text = String::from_utf8_lossy(&line.bytes).trim().to_owned();
            Some(Some(text.trim_start_matches('x').parse().unwrap()))
        }
    };
    events.into_iter().filter_map(number).collect()
}

#[test]
fn who_reads_a_log_while_a_part_of_it_is_kept_goes_on_there_and_hears_nothing_twice() {
    let disk = SmallDisk::new();
    let store = LogStore::open(&disk.0.path().join("disk/logs")).unwrap();
    let identity = Identity::new("default", "t", "0af3", 1).unwrap();
    let source = disk.0.path().join("source");
    std::fs::write(&source, (0..1000).map(record).collect::<String>()).unwrap();
    let files = || LogFiles::at(vec![source.clone(), store.path(&identity)]);
    let all = LogOptions::default();
    // One has read a batch: more than is not kept. The other begins anew at each place.
    let mut reader = Reader::begin(files(), all).unwrap();
    let begun = reader.read().unwrap();
    let places: Vec<Position> = begun
        .iter()
        .filter_map(|event| match event {
            LogEvent::Line { next, .. } => Some(*next),
            LogEvent::From(_) | LogEvent::Gap => None,
        })
        .collect();
    disk.fill_but(10);
    store.keep_files(&identity, &source).unwrap_err();
    std::fs::remove_file(&source).unwrap();
    let to_the_end = |reader: &mut Reader| {
        let batches =
            std::iter::from_fn(|| Some(reader.read().unwrap()).filter(|batch| !batch.is_empty()));
        numbers(batches.flatten())
    };
    let whole = to_the_end(&mut Reader::begin(files(), all).unwrap());
    let first = whole[1].unwrap();
    assert!(whole[0].is_none() && first > 500 && first + 10 < places.len(), "{first}");
    let expected = |from: usize| (from..1000).map(Some).collect::<Vec<_>>();
    // The file that it has open is there until it closes it.
    assert_eq!(to_the_end(&mut reader), expected(places.len()));
    for heard in [first, first + 1, places.len()] {
        let after = Some(places[heard - 1]);
        let mut reader = Reader::begin(files(), LogOptions { after, ..all }).unwrap();
        assert_eq!(to_the_end(&mut reader), expected(heard), "after {heard} lines");
    }
    let after = Some(places[first - 2]);
    let mut reader = Reader::begin(files(), LogOptions { after, ..all }).unwrap();
    let told = to_the_end(&mut reader);
    let lines: Vec<_> = told.iter().copied().filter(Option::is_some).collect();
    assert!(told[0].is_none(), "one line was lost");
    assert_eq!(lines, expected(first));
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
        let told = async |since: Option<Timestamp>| {
            let options = LogOptions { since, ..LogOptions::default() };
            let log = store.read(&identity, options).await.unwrap();
            numbers(log.map(Result::unwrap).collect::<Vec<_>>().await)
        };
        let all = told(None).await;
        let first = all[1].unwrap();
        assert!(all[0].is_none() && first < 4900, "with {blocks} blocks: {first}");
        assert_eq!(all[1..], (first..5000).map(Some).collect::<Vec<_>>());
        // Who heard up to some line goes on behind it; where others were lost meanwhile, that is told.
        let time = |number| Stored::parse(record(number).as_bytes()).map(|it| it.time());
        assert_eq!(told(time(4990)).await, (4990..5000).map(Some).collect::<Vec<_>>());
        assert_eq!(told(time(100)).await, all);
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
fn an_attempt_that_is_restarted_again_and_again_keeps_a_few_logs() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first, _) = store_in(dir.path());
    let nth = |restart| first.clone().of_container("main", restart).unwrap();
    let other = Identity::new("default", "t", "0af3", 2).unwrap();
    for identity in (0..=11).map(nth).chain([other.clone()]) {
        std::fs::write(store.path(&identity), "x").unwrap();
        std::fs::write(rotated(&store.path(&identity), 1), "x").unwrap();
    }
    let runs = nth(11).file_stem();
    store.prune_to(Timestamp::UNIX_EPOCH, u64::MAX, |stem| stem == runs).unwrap();
    let kept: Vec<u32> = (0..=11).filter(|restart| store.has(&nth(*restart))).collect();
    assert_eq!(kept, [6, 7, 8, 9, 10, 11]);
    assert!(store.has(&other), "another attempt has its own");
    assert!(!rotated(&store.path(&nth(5)), 1).exists());
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
    let since = Timestamp::try_from(now - Duration::from_secs(22) + LOGS_KEPT).unwrap();
    store.prune_to(since, u64::MAX, |stem| stem == "used").unwrap();
    assert_eq!(names(), ["mid.log", "mid.log.1", "used.log"], "its newest file is not old");
    store.prune_to(Timestamp::MAX, u64::MAX, |stem| stem == "used").unwrap();
    assert_eq!(names(), ["used.log"]);
}

#[test]
fn a_log_is_kept_for_as_long_as_its_template_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    let of = |task: &str| Identity::new("default", task, &format!("0{}", task.len()), 1).unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    for (task, keep) in [("normal", None), ("short", Some(hours(1))), ("long", Some(hours(48)))] {
        std::fs::write(store.path(&of(task)), "x").unwrap();
        keep.into_iter().for_each(|keep| store.keep_for(&of(task), keep).unwrap());
    }
    let now = base::Clock::system().now();
    let mut kept = Vec::new();
    for after in [0, 2, 25, 49] {
        store.prune_to(now + hours(after), u64::MAX, |_| false).unwrap();
        let there = ["normal", "short", "long"].into_iter().filter(|task| store.has(&of(task)));
        kept.push(there.collect::<Vec<_>>().join(" "));
    }
    assert_eq!(kept, ["normal short long", "normal long", "long", ""]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "its note goes with it");
}

#[test]
fn a_log_that_cannot_be_deleted_keeps_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, identity, _) = store_in(dir.path());
    let newer = store.path(&identity);
    // A folder is not deleted as a file is: it stands for any fault.
    let stuck = newer.with_file_name("0000-1.log");
    std::fs::create_dir(&stuck).unwrap();
    std::fs::write(&newer, "lines").unwrap();
    std::fs::write(rotated(&newer, 1), "lines").unwrap();
    let error = store.prune_to(Timestamp::MAX, u64::MAX, |_| false).unwrap_err().to_string();
    assert!(error.starts_with(stuck.to_str().unwrap()), "{error}");
    assert!(!newer.exists() && !rotated(&newer, 1).exists());
}
