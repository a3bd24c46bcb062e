//! Logs of attempts, requested by the apiserver: as text, or as records (`api::log`).
//!
//! # Invariants
//!
//! * Reading a log takes the memory of one record, of what [`Lines`] holds back, and of one batch
//!   of output, however large the log is and however slow its reader.
//! * A body of records without an end record was cut off.

use api::log::{self, Record};
use api::status::{Mistake, Why};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::answers::{Body, no_engine, pairs, refused};
use super::served::{LOGS_MAX, Served};
use crate::engine::log_lines::{Lines, Shown};
use crate::engine::{EngineError, LogOptions, LogStream};

/// Most records that are sent together, if they are available.
const BATCH_EVENTS: usize = 512;
/// What the text form shows where lines are missing.
const GAP_TEXT: &[u8] = b"[heliox: some lines are missing here]\n";

/// A request for a log.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    uid: String,
    attempt: u32,
    options: LogOptions,
    form: Form,
    limit_bytes: Option<u64>,
}

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    TextWithTimes,
    Records,
}

impl Question {
    /// Parses
    /// `/logs/{uid}/{attempt}?follow=&timestamps=&tailLines=&sinceTime=&limitBytes=&after=&records=`.
    fn parse(path: &str, query: &str) -> Option<Self> {
        let (uid, attempt) = path.strip_prefix("/logs/")?.split_once('/')?;
        let attempt = attempt.parse().ok()?;
        let mut options = LogOptions::default();
        let (mut timestamps, mut records, mut limit_bytes) = (false, false, None);
        for (key, value) in pairs(query) {
            match key {
                "follow" => options.follow = value == "true",
                "timestamps" => timestamps = value == "true",
                "records" => records = value == "true",
                "tailLines" => options.tail = Some(value.parse().ok()?),
                "sinceTime" => options.since = Some(value.parse().ok()?),
                "limitBytes" => limit_bytes = Some(value.parse().ok()?),
                "after" => options.after = Some(value.parse().ok()?),
                _ => (),
            }
        }
        let form = match (records, timestamps) {
            (true, _) => Form::Records,
            (false, true) => Form::TextWithTimes,
            (false, false) => Form::Text,
        };
        Some(Self { uid: uid.to_owned(), attempt, options, form, limit_bytes })
    }
}

/// Answers the request at `path`.
pub(super) async fn answer(served: &Served, path: &str, query: &str) -> Response<Body> {
    let Some(question) = Question::parse(path, query) else {
        return refused(
            Why::Mistaken(Mistake::Request),
            "invalid path; logs are at /logs/{uid}/{attempt}",
        );
    };
    let Some(identity) = served.find(&question.uid, question.attempt) else {
        return refused(Why::NotFound, "invalid attempt number");
    };
    let Some(place) = served.place_for_log() else {
        let message = format!(
            "too many log requests: {LOGS_MAX} logs of this node are being read; try again later"
        );
        return refused(Why::Busy, &message);
    };
    let Some(engine) = served.engine() else { return no_engine() };
    match engine.logs(&identity, question.options).await {
        Ok(events) => {
            let showing = Showing::new(events, &question, place);
            let frames = stream::unfold(Some(showing), Showing::next);
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        Err(EngineError::Gone) => {
            refused(Why::NotFound, "this node has no log of this attempt (any more)")
        }
        Err(error) => refused(Why::Unavailable, &error.to_string()),
    }
}

/// A log that is being sent.
struct Showing {
    events: stream::ReadyChunks<LogStream>,
    lines: Lines,
    form: Form,
    follow: bool,
    /// How many bytes may still be sent; `None` if there is no limit.
    left: Option<u64>,
    _place: OwnedSemaphorePermit,
}

type Shows = (Result<Frame<Bytes>, client::BoxError>, Option<Showing>);

impl Showing {
    fn new(events: LogStream, question: &Question, place: OwnedSemaphorePermit) -> Self {
        Self {
            events: events.ready_chunks(BATCH_EVENTS),
            lines: Lines::default(),
            form: question.form,
            follow: question.options.follow,
            left: question.limit_bytes,
            _place: place,
        }
    }

    async fn next(showing: Option<Self>) -> Option<Shows> {
        let mut this = showing?;
        loop {
            let events = this.events.next().await;
            let is_end = events.is_none();
            for event in events.into_iter().flatten() {
                match event {
                    Ok(event) => this.lines.add(event),
                    Err(error) => return Some((Err(error.into()), None)),
                }
            }
            if is_end {
                this.lines.end();
            }
            let mut out = Vec::new();
            let shown = this.lines.take();
            let is_enough = shown.iter().any(|shown| !this.show(shown, &mut out));
            if is_end && !is_enough && this.form == Form::Records {
                Record::End { complete: this.follow }.write_to(&mut out);
            }
            let rest = (!is_end && !is_enough).then_some(());
            match (out.is_empty(), rest) {
                (true, None) => return None,
                (true, Some(())) => (),
                (false, rest) => return Some((Ok(Frame::data(out.into())), rest.map(|()| this))),
            }
        }
    }

    /// Appends a piece of the log. Returns false if the limit is reached.
    fn show(&mut self, shown: &Shown, out: &mut Vec<u8>) -> bool {
        let piece = match shown {
            Shown::Text { line, starts } => {
                let bytes = limited(&mut self.left, &line.bytes);
                match self.form {
                    Form::Records => {
                        let nanos = i64::try_from(line.time.as_nanosecond()).unwrap_or(i64::MAX);
                        log::write_text(out, (line.output, nanos, *starts), bytes);
                    }
                    Form::TextWithTimes if *starts => {
                        out.extend_from_slice(prefix(line.time).as_bytes());
                        out.extend_from_slice(bytes);
                    }
                    Form::Text | Form::TextWithTimes => out.extend_from_slice(bytes),
                }
                return self.left != Some(0);
            }
            Shown::Break => return self.add(out, None, b"\n"),
            Shown::Gap => (Some(Record::Gap), GAP_TEXT),
            Shown::Position(position) => (Some(Record::Position(*position)), &b""[..]),
        };
        self.add(out, piece.0, piece.1)
    }

    fn add(&mut self, out: &mut Vec<u8>, record: Option<Record>, text: &[u8]) -> bool {
        match (self.form, record) {
            (Form::Records, Some(record)) => record.write_to(out),
            // In records, the next text record says that it begins a line.
            (Form::Records, None) => (),
            (Form::Text | Form::TextWithTimes, _) => out.extend_from_slice(text),
        }
        true
    }
}

/// The part of a text within the limit.
fn limited<'a>(left: &mut Option<u64>, bytes: &'a [u8]) -> &'a [u8] {
    let Some(left) = left else { return bytes };
    let shown = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= shown as u64;
    &bytes[..shown]
}

fn prefix(time: Timestamp) -> String {
    format!("{time:.9} ")
}

#[cfg(test)]
mod tests {
    use api::log::{Output, Position};
    use http::StatusCode;

    use super::*;
    use crate::engine::{LogEvent, LogLine};

    #[test]
    fn a_question_is_read() {
        let query = "follow=true&timestamps=false&tailLines=7&sinceTime=2026-11-21T10:00:00Z\
                     &limitBytes=9&after=5.6";
        let question = Question::parse("/logs/0af3-77/2", query).unwrap();
        let options = LogOptions {
            follow: true,
            tail: Some(7),
            since: Some("2026-11-21T10:00:00Z".parse().unwrap()),
            after: Some(Position { file: 5, offset: 6 }),
        };
        let wanted = Question {
            uid: "0af3-77".to_owned(),
            attempt: 2,
            options,
            form: Form::Text,
            limit_bytes: Some(9),
        };
        assert_eq!(question, wanted);
        for wrong in ["/logs/0af3", "/logs/0af3/x", "/other/0af3/1"] {
            assert_eq!(Question::parse(wrong, ""), None, "{wrong}");
        }
        for wrong in ["tailLines=x", "tailLines=-1", "after=x", "sinceTime=x", "limitBytes=x"] {
            assert_eq!(Question::parse("/logs/0af3/1", wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn no_more_logs_are_read_at_once_than_there_are_places() {
        let tasks = base::Tasks::new("test");
        let served = Served::new(tasks.spawner());
        let ask = async || answer(&served, "/logs/0af3-77/1", "").await.status();
        // A slot is free, so the request gets as far as the missing engine.
        assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
        let places: Vec<_> =
            std::iter::from_fn(|| served.place_for_log()).take(LOGS_MAX + 1).collect();
        assert_eq!(places.len(), LOGS_MAX);
        assert_eq!(ask().await, StatusCode::TOO_MANY_REQUESTS);
        drop(places);
        assert_eq!(
            ask().await,
            StatusCode::SERVICE_UNAVAILABLE,
            "what was read gave its place back"
        );
    }

    /// Everything that is sent for two pieces of a long line, a line of the other output between
    /// them, and a gap.
    async fn shown(query: &str) -> Vec<u8> {
        let question = Question::parse("/logs/0af3/1", query).unwrap();
        let line = |output, text: &str, offset| {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let line = LogLine { output, time: Timestamp::UNIX_EPOCH, bytes };
            Ok(LogEvent::Line { line, next: Position { file: 1, offset } })
        };
        let events = [
            line(Output::Stdout, "lo", 1),
            line(Output::Stderr, "alas\n", 2),
            line(Output::Stdout, "ng\n", 3),
            Ok(LogEvent::Gap),
            line(Output::Stdout, "end", 4),
        ];
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let place = places.try_acquire_owned().unwrap();
        let showing = Showing::new(stream::iter(events).boxed(), &question, place);
        let frames: Vec<_> = stream::unfold(Some(showing), Showing::next).collect().await;
        frames.into_iter().flat_map(|frame| frame.unwrap().into_data().unwrap().to_vec()).collect()
    }

    #[tokio::test]
    async fn text_has_whole_lines_with_one_time_each() {
        let text = String::from_utf8(shown("").await).unwrap();
        let gap = std::str::from_utf8(GAP_TEXT).unwrap();
        assert_eq!(text, format!("long\nalas\n{gap}end"));
        let text = String::from_utf8(shown("timestamps=true").await).unwrap();
        let time = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(text, format!("{time} long\n{time} alas\n{gap}{time} end"));
        assert_eq!(shown("limitBytes=7").await, b"long\nal");
    }

    #[tokio::test]
    async fn records_tell_outputs_positions_gaps_and_the_end() {
        let mut records = log::Records::default();
        records.add(&shown("records=true&follow=true").await);
        let mut told = String::new();
        while let Some(record) = records.take().unwrap() {
            match record {
                Record::Text { output, starts, bytes, .. } => {
                    let text = String::from_utf8(bytes).unwrap();
                    told.push_str(&format!("{output:?} {starts} {text:?}\n"));
                }
                Record::Position(position) => told.push_str(&format!("{position}\n")),
                Record::Gap => told.push_str("gap\n"),
                Record::End { complete } => told.push_str(&format!("end {complete}\n")),
            }
        }
        let expected = "Stdout true \"lo\"\nStdout false \"ng\\n\"\nStderr true \"alas\\n\"\n1.3\n\
                        gap\nStdout true \"end\"\nend true\n";
        assert_eq!(told, expected);
    }
}
