//! What agents of other versions write to a journal: what is read of it, and what is refused.

use std::collections::BTreeMap;

use api::cluster::Cluster;
use api::room::HostPort;
use api::task::report::Report;
use api::task::{LastExit, ReportState};
use expect_test::expect_file;
use jiff::Timestamp;

use super::*;
use crate::attempt::{Content, Manner, Progress, Why};

/// The version that the golden files name.
const VERSION: &str = "0.1.0";
/// The golden files: what this version writes, and what a later one would, with more fields
/// everywhere.
fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal/golden");
    fs::read_to_string(folder.join(name)).unwrap()
}

fn identity(index: u32) -> Identity {
    Identity::new("default", &format!("web-{index}"), "0af3", 2).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn attempt(index: u32, progress: Progress) -> Attempt {
    let mut attempt = Attempt::found(identity(index), progress);
    attempt.binding = 1;
    attempt
}

/// Attempts with every field that the journal has, in every state.
fn attempts() -> [Attempt; 6] {
    let mut starting = attempt(0, Progress::Starting { since: at(10) });
    starting.identity = starting.identity.of_container("main", 3).unwrap();
    starting.requests =
        BTreeMap::from([("cpu".to_owned(), 500), ("memory".to_owned(), 1_073_741_824)]);
    starting.ports = BTreeMap::from([("http".to_owned(), 8080), ("admin".to_owned(), 30_001)]);
    starting.fixed_ports = BTreeMap::from([("http".to_owned(), HostPort::whole(8080))]);
    let mut running = attempt(1, Progress::Running { started: at(11), seen: at(12) });
    running.manner = Manner {
        signal: "INT".to_owned(),
        grace_millis: 1_500,
        timeout_millis: Some(60_000),
        drain_millis: 0,
    };
    let stopping = |why, delivered| Progress::Stopping {
        drain_millis: 0,
        started: Some(at(11)),
        since: at(13),
        asked: at(14),
        why,
        delivered,
    };
    let stopping = attempt(2, stopping(Why::Asked, Some(at(15))));
    let mut ended = attempt(3, Progress::Ended);
    ended.say(
        7,
        Content::Report(Box::new(Report {
            binding: 1,
            boot_id: "b".to_owned(),
            state: ReportState::Failed,
            ready: false,
            restarts: 0,
            exit_code: Some(3),
            reason: Some("Error".to_owned()),
            message: Some("exit code 3".to_owned()),
            started_at: Some(at(11)),
            finished_at: Some(at(16)),
            ports: BTreeMap::from([("http".to_owned(), 8080)]),
            last_exit: Some(Box::new(LastExit {
                exit_code: Some(1),
                reason: Some("OutOfMemory".to_owned()),
                message: Some("killed".to_owned()),
                at: at(9),
            })),
            restart_at: Some(at(17)),
            image_digest: None,
        })),
    );
    let mut refused = attempt(4, Progress::Refused);
    refused.say(8, Content::Refuse("no room".to_owned()));
    [starting, running, stopping, ended, refused, attempt(5, Progress::Ended)]
}

fn owner() -> Owner {
    Owner {
        agent: "a".to_owned(),
        node: "n1".to_owned(),
        cluster: Some(Cluster { id: "c1".to_owned(), epoch: 3, restore: "r1".to_owned() }),
    }
}

fn by_identity(attempts: impl IntoIterator<Item = Attempt>) -> BTreeMap<Identity, Attempt> {
    attempts.into_iter().map(|attempt| (attempt.identity.clone(), attempt)).collect()
}

/// Four attempts in the snapshot; one more in a later line, where one is forgotten.
fn today() -> (String, Record) {
    let all = attempts();
    let (mut bytes, mut sum) =
        form::snapshot_by(VERSION, &owner(), &by_identity(all[..4].to_vec()));
    let put = (all[4].identity.clone(), Some(all[4].clone()));
    bytes.extend(form::changes(&[put, (identity(9), None)], &mut sum));
    let kept = by_identity(all[..5].to_vec());
    (String::from_utf8(bytes).unwrap(), Record { owner: owner(), attempts: kept })
}

fn load(text: &str) -> Result<Record, JournalError> {
    let held = InMemory { bytes: text.as_bytes().to_vec(), ..InMemory::default() };
    Journal::Memory(Arc::new(Mutex::new(held))).load()
}

/// The lines with correct checksums.
fn sealed(lines: &[String]) -> String {
    let mut sum = form::SUM_OF_NOTHING;
    let seal = |line: &String| {
        sum = form::sum_with(sum, line.as_bytes());
        format!("{sum:016x} {line}\n")
    };
    lines.iter().map(seal).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn a_journal_is_written_in_the_form_of_the_golden_file_and_read_again() {
    let (text, record) = today();
    expect_file!["golden/today.log"].assert_eq(&text);
    assert_eq!(load(&text).unwrap(), record);
}

/// After a downgrade: what the newer agent added does not matter to the older one, and what both
/// know is all there.
#[test]
fn fields_that_a_newer_agent_added_are_passed_over() {
    let newer = golden("newer.log");
    assert_eq!(load(&newer).unwrap(), today().1);
    assert_eq!(newer.matches("newer").count(), 16, "in every part of a line");
}

/// An agent that guessed what they mean could start a container twice, or remove one that runs.
#[test]
fn what_must_not_be_passed_over_stops_the_agent_with_the_version_that_wrote_it() {
    for (line, known, newer, what) in [
        // Another version of the form.
        (0, r#""version":2"#, r#""version":3"#, "line 1 (at byte 0): unsupported version 3"),
        // Another state of an attempt.
        (1, r#"{"starting":"#, r#"{"frozen":"#, "unknown variant `frozen`"),
        // Another reason to stop it.
        (3, r#""Asked""#, r#""Moved""#, "unknown variant `Moved`"),
        // Another message.
        (4, r#"{"report":"#, r#"{"account":"#, "unknown variant `account`"),
        // Another part of an identity: two containers could be taken for one.
        (2, r#""attempt":2"#, r#""attempt":2,"half":1"#, "unknown field `half`"),
        // Another kind of change.
        (5, r#"{"forget":"#, r#"{"move":"#, "unknown variant `move`"),
    ] {
        let mut all = lines(&golden("today.log"));
        all[0] = all[0].replace(VERSION, "7.8.9");
        let changed = all[line].replacen(known, newer, 1);
        assert_ne!(changed, all[line], "{known}");
        all[line] = changed;
        let error = load(&sealed(&all)).unwrap_err();
        assert!(matches!(&error, JournalError::NotKnown { .. }), "{newer}: {error}");
        let said = base::ErrorChain(&error).to_string();
        for part in [what, "version 7.8.9 of the agent wrote", "keep running"] {
            assert!(said.contains(part), "{newer}: {said}");
        }
    }
}

#[test]
fn every_field_of_a_report_is_read_from_a_journal() {
    let [.., ended, _, _] = attempts();
    let Some(Content::Report(report)) = ended.unsent.map(|message| message.says) else {
        panic!("it has ended")
    };
    let report = Report { image_digest: Some("sha256:0a".into()), ..*report };
    let json = serde_json::to_value(report).unwrap();
    let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, Report::FIELDS);
}
