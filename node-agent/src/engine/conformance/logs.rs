//! Laws of logs.

use api::log::Position;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{Bench, PATIENCE, Program, all_logs, ended, remove, spec, start, text};
use crate::engine::logs::Output;
use crate::engine::{Engine, EngineError, Identity, LogEvent, LogLine, LogOptions};

/// Everything a container wrote, with the position after each line. Nothing of it is missing.
pub(super) async fn positioned_logs(
    engine: &dyn Engine,
    identity: &Identity,
    options: LogOptions,
) -> Vec<(LogLine, Position)> {
    let events = engine.logs(identity, options).await.expect("there are logs");
    let events = timeout(PATIENCE, events.collect::<Vec<_>>()).await.expect("the logs end");
    let lines = events.into_iter().filter_map(|event| match event.expect("the log can be read") {
        LogEvent::From(_) => None,
        LogEvent::Line { line, next } => Some((line, next)),
        LogEvent::Gap => panic!("lines of {identity} are missing"),
    });
    lines.collect()
}

/// Both outputs are logged apart, in order, and the tail is the last of them.
pub async fn both_outputs_are_logged(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "says", Program::Says(&["one", "two", "three"], &["alas"]));
    start(&*engine, &spec).await;
    ended(&*engine, &spec.identity).await;
    let lines = all_logs(&*engine, &spec.identity, LogOptions::default()).await;
    assert_eq!(text(&lines, Output::Stdout), "one\ntwo\nthree\n");
    assert_eq!(text(&lines, Output::Stderr), "alas\n");
    let tail = LogOptions { tail: Some(2), ..LogOptions::default() };
    let last = all_logs(&*engine, &spec.identity, tail).await;
    assert_eq!(last, lines[2..], "the tail is the last lines, whatever output they are of");
    let end = lines.last().map(|line| line.time).expect("there are lines");
    let later = end + jiff::SignedDuration::from_micros(1);
    let since = LogOptions { since: Some(later), ..LogOptions::default() };
    assert_eq!(all_logs(&*engine, &spec.identity, since).await, []);
    let since = LogOptions { since: Some(end), ..LogOptions::default() };
    assert_eq!(all_logs(&*engine, &spec.identity, since).await.last(), lines.last());
    remove(&*engine, &spec.identity).await;
}

/// Who follows a log sees all of it, and its end.
pub async fn a_followed_log_ends_with_its_container(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "followed", Program::SaysAndLingers("hello"));
    start(&*engine, &spec).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let lines = all_logs(&*engine, &spec.identity, follow).await;
    assert_eq!(text(&lines, Output::Stdout), "hello\n");
    assert_eq!(ended(&*engine, &spec.identity).await, (0, None));
    remove(&*engine, &spec.identity).await;
}

/// Logs are there after removal, for a later engine value too, until they are pruned.
pub async fn logs_outlive_their_container(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "remembered", Program::Says(&["one", "two"], &["alas"]));
    start(&*engine, &spec).await;
    ended(&*engine, &spec.identity).await;
    let before = all_logs(&*engine, &spec.identity, LogOptions::default()).await;
    remove(&*engine, &spec.identity).await;
    drop(engine);
    let engine = bench.engine("a").await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    assert_eq!(all_logs(&*engine, &spec.identity, follow).await, before);
    engine.prune_logs(jiff::Timestamp::UNIX_EPOCH).await.expect("it prunes");
    assert_eq!(all_logs(&*engine, &spec.identity, LogOptions::default()).await, before);
    engine.prune_logs(jiff::Timestamp::MAX).await.expect("it prunes");
    let gone = engine.logs(&spec.identity, LogOptions::default()).await.err();
    assert_eq!(gone, Some(EngineError::Gone));
}

/// A reader that was cut off continues after the last line it has seen, without loss or repetition:
/// with another engine value, too, and if the container was removed in between.
pub async fn a_log_is_read_on_after_any_line(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "resumed", Program::Says(&["one", "two", "three"], &["four", "five"]));
    start(&*engine, &spec).await;
    ended(&*engine, &spec.identity).await;
    let all = positioned_logs(&*engine, &spec.identity, LogOptions::default()).await;
    assert_eq!(all.len(), 5);
    for is_removed in [false, true] {
        if is_removed {
            remove(&*engine, &spec.identity).await;
        }
        let later = bench.engine("a").await;
        for (number, (_, position)) in all.iter().enumerate() {
            let after = LogOptions { after: Some(*position), ..LogOptions::default() };
            for options in [after, LogOptions { follow: true, tail: Some(0), ..after }] {
                let rest = positioned_logs(&*later, &spec.identity, options).await;
                assert_eq!(rest, all[number + 1..], "after line {number}");
            }
        }
    }
}

/// A line without an end, a very long line, and bytes that are not text are all logged. (Docker
/// stores logs as JSON, so bytes that are not UTF-8 are lost there.)
pub async fn odd_output_is_logged_whole(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let mut spec = spec(bench, "odd", Program::Exit(0));
    let script = r"printf 'a\000\001b\r\n'; head -c 50000 /dev/zero | tr '\0' x; printf '\nend'";
    spec.command = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    start(&*engine, &spec).await;
    ended(&*engine, &spec.identity).await;
    for _ in 0..2 {
        let lines = all_logs(&*engine, &spec.identity, LogOptions::default()).await;
        let bytes: Vec<u8> = lines.iter().flat_map(|line| line.bytes.to_vec()).collect();
        let long = "x".repeat(50_000);
        let expected = format!("a\0\x01b\r\n{long}\nend");
        assert!(bytes == expected.as_bytes(), "{} bytes of {}", bytes.len(), expected.len());
        // The second time the log is read from the kept copy.
        let _ = engine.remove(&spec.identity).await;
    }
}

/// A log of more than one file, written as fast as possible, reaches its follower completely and in
/// order, and can be read again afterwards.
pub async fn a_log_that_is_rotated_under_its_follower_is_whole(bench: &dyn Bench) {
    const LINES: usize = 150_000;
    let engine = bench.engine("a").await;
    let mut spec = spec(bench, "fast", Program::Exit(0));
    let filler = "x".repeat(100);
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do echo \"$i {filler}\"; i=$((i+1)); done; echo the end >&2"
    );
    spec.command = vec!["sh".to_owned(), "-c".to_owned(), script];
    start(&*engine, &spec).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let followed = all_logs(&*engine, &spec.identity, follow).await;
    let read = all_logs(&*engine, &spec.identity, LogOptions::default()).await;
    let stored: usize = followed.iter().map(|line| line.bytes.len()).sum();
    assert!(stored > 15_000_000, "it fills more than one file: {stored} bytes");
    for (how, lines) in [("followed", &followed), ("read", &read)] {
        let out = text(lines, Output::Stdout);
        let numbers = out.lines().map(|line| line.split(' ').next().expect("a number"));
        let mut expected = 0;
        for number in numbers {
            assert_eq!(number, expected.to_string(), "{how}");
            expected += 1;
        }
        assert_eq!((expected, text(lines, Output::Stderr).as_str()), (LINES, "the end\n"), "{how}");
    }
    remove(&*engine, &spec.identity).await;
    assert_eq!(all_logs(&*engine, &spec.identity, LogOptions::default()).await.len(), LINES + 1);
}

/// The last line is the program's last line, however long it is.
pub async fn the_tail_counts_lines_of_the_program(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let mut spec = spec(bench, "tail", Program::Exit(0));
    let script = r"echo first; head -c 100000 /dev/zero | tr '\0' y; echo";
    spec.command = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    start(&*engine, &spec).await;
    ended(&*engine, &spec.identity).await;
    let tail = |lines| LogOptions { tail: Some(lines), ..LogOptions::default() };
    let last = text(&all_logs(&*engine, &spec.identity, tail(1)).await, Output::Stdout);
    assert!(last == format!("{}\n", "y".repeat(100_000)), "{} bytes", last.len());
    let both = text(&all_logs(&*engine, &spec.identity, tail(2)).await, Output::Stdout);
    assert!(both == format!("first\n{last}"), "{} bytes", both.len());
    remove(&*engine, &spec.identity).await;
}
