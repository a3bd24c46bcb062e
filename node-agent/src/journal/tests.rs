//! What a journal keeps, and what it does not take for a journal.

use jiff::Timestamp;

use super::*;
use crate::attempt::{Content, Progress};

fn attempt(index: u32) -> Attempt {
    let identity = Identity::new("default", &format!("web-{index}"), "0af3", 2).unwrap();
    let mut attempt = Attempt::found(identity, Progress::Starting { since: Timestamp::UNIX_EPOCH });
    attempt.say(u64::from(index), Content::Refuse("a word\nof two lines".to_owned()));
    attempt
}

fn put(index: u32) -> (Identity, Option<Attempt>) {
    let mut attempt = attempt(index);
    attempt.progress = Progress::Ended;
    (attempt.identity.clone(), Some(attempt))
}

fn forget(index: u32) -> (Identity, Option<Attempt>) {
    (attempt(index).identity, None)
}

fn record(attempts: impl IntoIterator<Item = u32>) -> Record {
    let attempts = attempts.into_iter().map(attempt);
    Record {
        owner: Owner {
            agent: "a".to_owned(),
            node: "n1".to_owned(),
            cluster: Some(Cluster { id: "c1".to_owned(), epoch: 3, restore: "r1".to_owned() }),
        },
        attempts: attempts.map(|attempt| (attempt.identity.clone(), attempt)).collect(),
    }
}

fn with(mut record: Record, changes: &[(Identity, Option<Attempt>)]) -> Record {
    for (identity, now) in changes {
        match now {
            Some(attempt) => record.attempts.insert(identity.clone(), attempt.clone()),
            None => record.attempts.remove(identity),
        };
    }
    record
}

async fn begun(journal: &Journal, record: &Record) -> Log {
    journal.begin(&record.owner, &record.attempts).await.unwrap()
}

fn bytes(journal: &Journal) -> Vec<u8> {
    match journal {
        Journal::File(path) => fs::read(path).unwrap(),
        Journal::Memory(held) => held.lock().unwrap().bytes.clone(),
    }
}

fn path(journal: &Journal) -> &Path {
    match journal {
        Journal::File(path) => path,
        Journal::Memory(_) => panic!("a journal in memory has no file"),
    }
}

#[tokio::test]
async fn what_was_written_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    for journal in [Journal::in_dir(dir.path()).unwrap(), Journal::in_memory()] {
        assert_eq!(journal.load().unwrap(), Record::default());
        let mut log = begun(&journal, &record(0..3)).await;
        assert_eq!(journal.clone().load().unwrap(), record(0..3));
        let (first, second) = (vec![put(1), forget(2), put(7)], vec![forget(7), forget(9)]);
        log.append(&first).await.unwrap();
        log.append(&second).await.unwrap();
        let wanted = with(with(record(0..3), &first), &second);
        assert_eq!(journal.clone().load().unwrap(), wanted);
        let mut log = begun(&journal, &wanted).await;
        log.append(&[put(8)]).await.unwrap();
        assert_eq!(journal.load().unwrap(), with(wanted, &[put(8)]));
    }
}

#[tokio::test]
async fn a_snapshot_that_was_cut_at_any_byte_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::in_dir(dir.path()).unwrap();
    begun(&journal, &record(0..2)).await.append(&[put(5)]).await.unwrap();
    let old = with(record(0..2), &[put(5)]);
    let new = record(1..3);
    let (bytes, _) = form::snapshot(&new.owner, &new.attempts);
    for cut in 0..=bytes.len() {
        fs::write(beside(path(&journal)), &bytes[..cut]).unwrap();
        assert_eq!(journal.load().unwrap(), old, "cut at {cut}");
    }
    begun(&journal, &new).await;
    assert_eq!(journal.load().unwrap(), new);
}

#[tokio::test]
async fn changes_that_were_cut_at_any_byte_are_there_or_not() {
    let journal = Journal::in_memory();
    let mut log = begun(&journal, &record(0..2)).await;
    let mut states = vec![(bytes(&journal).len(), record(0..2))];
    for changes in [vec![put(5), forget(0)], vec![forget(5)], vec![put(0), put(1)]] {
        log.append(&changes).await.unwrap();
        let before = states.last().unwrap().1.clone();
        states.push((bytes(&journal).len(), with(before, &changes)));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = Journal::in_dir(dir.path()).unwrap();
    let whole = bytes(&journal);
    for cut in states[0].0..=whole.len() {
        fs::write(path(&file), &whole[..cut]).unwrap();
        let wanted = states.iter().rfind(|(length, _)| *length <= cut).unwrap();
        assert_eq!(file.load().unwrap(), wanted.1, "cut at {cut}");
    }
    // The next agent starts with the rest of a torn file and appends to it.
    fs::write(path(&file), &whole[..whole.len() - 1]).unwrap();
    let left = file.load().unwrap();
    begun(&file, &left).await.append(&[put(6)]).await.unwrap();
    assert_eq!(file.load().unwrap(), with(left, &[put(6)]));
}

#[tokio::test]
async fn a_torn_snapshot_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::in_dir(dir.path()).unwrap();
    begun(&journal, &record(0..3)).await;
    let whole = fs::read(path(&journal)).unwrap();
    for cut in 0..whole.len() {
        fs::write(path(&journal), &whole[..cut]).unwrap();
        let error = journal.load().unwrap_err().to_string();
        assert!(error.contains("remove the file"), "cut at {cut}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_byte_anywhere_and_a_missing_or_doubled_line_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::in_dir(dir.path()).unwrap();
    let mut log = begun(&journal, &record(0..2)).await;
    log.append(&[put(5)]).await.unwrap();
    log.append(&[forget(5)]).await.unwrap();
    let whole = fs::read(path(&journal)).unwrap();
    let is_damaged = |bytes: &[u8]| {
        fs::write(path(&journal), bytes).unwrap();
        matches!(journal.load(), Err(JournalError::Damaged { .. }))
    };
    // The last byte ends the last line. Without it that line is merely torn.
    for wrong in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[wrong] ^= 0x04;
        assert!(is_damaged(&bytes), "byte {wrong}");
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for line in 0..lines.len() {
        let without = [&lines[..line], &lines[line + 1..]].concat().concat();
        let is_last = line + 1 == lines.len();
        assert!(is_last || is_damaged(&without), "without line {line}");
        let doubled = [&lines[..=line], &lines[line..]].concat().concat();
        assert!(is_damaged(&doubled), "line {line} twice");
    }
}

#[tokio::test]
async fn a_journal_of_another_version_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::in_dir(dir.path()).unwrap();
    fs::write(dir.path().join("journal.json"), r#"{"version":1,"agent":"a"}"#).unwrap();
    let error = journal.load().unwrap_err();
    assert!(error.to_string().contains("journal.json"), "{error}");
}

#[tokio::test]
async fn a_log_is_long_when_it_outweighs_its_snapshot() {
    let journal = Journal::in_memory();
    let mut log = begun(&journal, &record(0..3)).await;
    for _ in 0..CHANGES_MAX {
        log.append(&[put(1)]).await.unwrap();
    }
    assert!(!log.is_long(2), "3 in the snapshot and 1,000 changes, for 2 attempts");
    log.append(&[put(1)]).await.unwrap();
    log.append(&[put(1)]).await.unwrap();
    assert!(log.is_long(2));
    assert!(!log.is_long(3));
    let log = begun(&journal, &record(0..0)).await;
    assert!(!log.is_long(0));
}

#[tokio::test]
async fn what_cannot_be_written_leaves_what_was_there_and_is_written_once_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::in_dir(dir.path()).unwrap();
    begun(&journal, &record(0..2)).await.append(&[put(5)]).await.unwrap();
    let old = with(record(0..2), &[put(5)]);
    // A folder at the new file's path makes every write fail.
    fs::create_dir(beside(path(&journal))).unwrap();
    let new = record(1..3);
    let failed = journal.begin(&new.owner, &new.attempts).await.unwrap_err();
    assert!(failed.to_string().contains("journal.log"), "{failed}");
    assert_eq!(journal.load().unwrap(), old);
    fs::remove_dir(beside(path(&journal))).unwrap();
    begun(&journal, &new).await;
    assert_eq!(journal.load().unwrap(), new);
}

#[tokio::test]
async fn damage_in_the_middle_is_told_with_its_place_and_a_torn_end_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::in_dir(dir.path()).unwrap();
    let mut log = begun(&journal, &record(0..1)).await;
    log.append(&[put(5)]).await.unwrap();
    let whole = fs::read(path(&journal)).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut wrong = whole.clone();
    wrong[second + 30] ^= 1;
    fs::write(path(&journal), wrong).unwrap();
    let error = journal.load().unwrap_err();
    let said = base::ErrorChain(&error).to_string();
    for part in [
        path(&journal).to_str().unwrap(),
        "Its containers keep running",
        &format!("line 2 (at byte {second}): checksum mismatch"),
    ] {
        assert!(said.contains(part), "{said}");
    }
    fs::write(path(&journal), &whole[..whole.len() - 3]).unwrap();
    assert_eq!(journal.load().unwrap(), record(0..1));
}

#[tokio::test]
async fn where_a_file_ends_too_early_is_told_with_the_line_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::in_dir(dir.path()).unwrap();
    begun(&journal, &record(0..2)).await;
    let whole = fs::read(path(&journal)).unwrap();
    let ends: Vec<usize> =
        (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
    for (length, expected) in [
        (0, "line 1 (at byte 0): the file ends in the middle".to_owned()),
        (5, "line 1 (at byte 0): the file ends in the middle".to_owned()),
        (ends[0], format!("line 2 (at byte {}): the file ends in the middle", ends[0])),
        (ends[1] + 3, format!("line 3 (at byte {}): the file ends in the middle", ends[1])),
    ] {
        fs::write(path(&journal), &whole[..length]).unwrap();
        let said = base::ErrorChain(&journal.load().unwrap_err()).to_string();
        assert!(said.contains(&expected) && said.contains("Restore a copy"), "{length}: {said}");
    }
    // Not a journal at all.
    fs::write(path(&journal), "x\n").unwrap();
    let said = base::ErrorChain(&journal.load().unwrap_err()).to_string();
    assert!(said.contains("line 1 (at byte 0): checksum mismatch"), "{said}");
}

#[test]
fn a_record_is_of_one_node() {
    let Record { owner, .. } = record([]);
    assert!(owner.is_of_another("n2"));
    assert!(!owner.is_of_another("n1"));
    assert!(!Owner::default().is_of_another("n2"), "nobody used it, or an older version did");
}

/// As versions wrote it that knew no other containers than main ones that were not restarted.
#[test]
fn an_attempt_without_container_and_restart_is_of_its_first_main_container() {
    let lines = [
        r#"d797d0744ed477d3 {"version":2,"owner":{"agent":"a","node":"n1","cluster":null},"attempts":1}"#,
        r#"e8d0255070e9c33f {"identity":{"namespace":"default","task":"web-0","uid":"0af3","attempt":2},"binding":1,"progress":"ended"}"#,
        r#"d97bdf059c243988 [{"forget":{"namespace":"default","task":"web-1","uid":"0af3","attempt":2}}]"#,
    ];
    let held = InMemory { bytes: format!("{}\n", lines.join("\n")).into(), ..InMemory::default() };
    let journal = Journal::Memory(Arc::new(Mutex::new(held)));
    let attempts = journal.load().unwrap().attempts;
    let first = Identity::new("default", "web-0", "0af3", 2).unwrap();
    assert_eq!(attempts.keys().collect::<Vec<_>>(), [&first]);
    assert_eq!((first.container(), first.restart()), (crate::engine::MAIN, 0));
}

#[tokio::test]
async fn containers_of_one_attempt_are_apart_in_a_journal() {
    let journal = Journal::in_memory();
    let mut record = record([]);
    for restart in 0..2 {
        let mut attempt = attempt(1);
        attempt.identity = attempt.identity.of_container("main", restart).unwrap();
        record.attempts.insert(attempt.identity.clone(), attempt);
    }
    begun(&journal, &record).await;
    assert_eq!(journal.load().unwrap(), record);
}

/// The form in which journals hold restarts in place. A later version must read it.
#[test]
fn restarts_in_place_are_written_in_this_form() {
    let identity = Identity::new("default", "web-0", "0af3", 2).unwrap();
    let identity = identity.of_container("main", 3).unwrap();
    let progress = Progress::BackOff {
        since: Timestamp::UNIX_EPOCH,
        wait_millis: 4_000,
        until: Timestamp::UNIX_EPOCH,
        reason: "BackOff".to_owned(),
        message: None,
    };
    let mut attempt = Attempt::found(identity, progress);
    attempt.in_place = serde_json::from_value(serde_json::json!({
        "rule": { "rescheduleAfter": "5m" }, "isPinned": true, "inARow": 3, "runsMillis": [5, 7],
        "downSince": "1970-01-01T00:00:00Z", "lastStarted": "1970-01-01T00:00:01Z",
        "lastExit": { "exitCode": 1, "at": "1970-01-01T00:00:02Z" },
    }))
    .unwrap();
    let written = serde_json::to_string(&attempt).unwrap();
    let expected = concat!(
        r#"{"identity":{"namespace":"default","task":"web-0","uid":"0af3","attempt":2,"restart":3},"#,
        r#""binding":0,"requests":{},"ports":{},"#,
        r#""manner":{"signal":"SIGTERM","graceMillis":10000},"#,
        r#""inPlace":{"rule":{"rescheduleAfter":"5m"},"isPinned":true,"inARow":3,"#,
        r#""runsMillis":[5,7],"downSince":"1970-01-01T00:00:00Z","#,
        r#""lastStarted":"1970-01-01T00:00:01Z","#,
        r#""lastExit":{"exitCode":1,"at":"1970-01-01T00:00:02Z"}},"#,
        r#""progress":{"backOff":{"since":"1970-01-01T00:00:00Z","waitMillis":4000,"#,
        r#""until":"1970-01-01T00:00:00Z","reason":"BackOff"}}}"#,
    );
    assert_eq!(written, expected);
    assert_eq!(serde_json::from_str::<Attempt>(&written).unwrap(), attempt);
    let job = Attempt::found(attempt.identity.into_attempt(), Progress::Ended);
    let written = serde_json::to_string(&job).unwrap();
    assert!(!written.contains("inPlace"), "an earlier agent reads the records of jobs: {written}");
}
