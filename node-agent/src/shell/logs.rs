//! Logs of attempts, requested by the apiserver: as text, or as records (`api::log`).
//!
//! # Invariants
//!
//! * Reading a log takes the memory of one record, of what [`Lines`] holds back, and of one batch
//!   of output, however large the log is and however slow its reader.
//! * A body of records without an end record was cut off.

use std::str::FromStr;

use api::log::{self, Position, Record};
use api::status::{Mistake, Refusal, Why};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::sync::OwnedSemaphorePermit;

use super::answers::{Refused, no_engine};
use super::served::{LOGS_MAX, Named, Served};
use crate::engine::log_lines::{Lines, Shown};
use crate::engine::{Engine, EngineError, Identity, LogOptions, LogStream, MAIN};

/// Most records that are sent together, if they are available.
const BATCH_EVENTS: usize = 512;
/// What the text form shows where lines are missing.
const GAP_TEXT: &[u8] = b"[heliox: some lines are missing here]\n";

/// A request for a log. Parameters that a newer apiserver may send beside these are ignored.
#[derive(Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Question {
    follow: bool,
    timestamps: bool,
    records: bool,
    tail_lines: Option<usize>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<u64>,
    #[serde(deserialize_with = "of_text")]
    after: Option<Position>,
    /// Restart number of the container. Default: that of the newest one that has a log.
    restart: Option<u32>,
}

fn of_text<'a, T: FromStr, D: Deserializer<'a>>(reader: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(reader)?;
    text.parse().map(Some).map_err(|_| D::Error::custom("it cannot be read"))
}

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    TextWithTimes,
    Records,
}

impl Question {
    fn options(&self) -> LogOptions {
        let &Self { follow, tail_lines: tail, since_time: since, after, .. } = self;
        LogOptions { follow, tail, since, after }
    }

    fn form(&self) -> Form {
        match (self.records, self.timestamps) {
            (true, _) => Form::Records,
            (false, true) => Form::TextWithTimes,
            (false, false) => Form::Text,
        }
    }
}

/// Answers with the log of an attempt.
pub(super) async fn answer(
    State(served): State<Served>,
    Named(identity): Named,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(question) = question
        .map_err(|rejected| Refusal::new(Why::Mistaken(Mistake::Request), rejected.body_text()))?;
    let place = served.place_for_log().ok_or_else(|| {
        let message = format!(
            "too many log requests: {LOGS_MAX} logs of this node are being read; try again later"
        );
        Refusal::new(Why::Busy, message)
    })?;
    let engine = served.engine().ok_or_else(no_engine)?;
    let events = read(engine.as_ref(), identity, &question).await.map_err(|error| match error {
        EngineError::Gone => {
            Refusal::new(Why::NotFound, "this node has no log of this attempt (any more)")
        }
        error @ (EngineError::NeedsImage
        | EngineError::Refused { .. }
        | EngineError::Failed { .. }
        | EngineError::Unavailable { .. }
        | EngineError::Unknown { .. }) => Refusal::new(Why::Unavailable, error.to_string()),
    })?;
    let frames = stream::unfold(Some(Showing::new(events, &question, place)), Showing::next);
    Ok(Body::from_stream(frames).into_response())
}

/// The log of the container that a question is about.
async fn read(
    engine: &dyn Engine,
    newest: Identity,
    question: &Question,
) -> Result<LogStream, EngineError> {
    let of_restart = |identity: &Identity, restart| {
        let of = identity.clone().of_container(MAIN, restart);
        of.map_err(|error| EngineError::unavailable(error.to_string()))
    };
    if let Some(restart) = question.restart {
        return engine.logs(&of_restart(&newest, restart)?, question.options()).await;
    }
    match (engine.logs(&newest, question.options()).await, newest.restart().checked_sub(1)) {
        // It waits to be started again in place; until then the log of its last container is what
        // there is.
        (Err(EngineError::Gone), Some(before)) => {
            engine.logs(&of_restart(&newest, before)?, question.options()).await
        }
        (read, _) => read,
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

type Shows = (Result<Bytes, client::BoxError>, Option<Showing>);

impl Showing {
    fn new(events: LogStream, question: &Question, place: OwnedSemaphorePermit) -> Self {
        Self {
            events: events.ready_chunks(BATCH_EVENTS),
            lines: Lines::default(),
            form: question.form(),
            follow: question.follow,
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
                (false, rest) => return Some((Ok(out.into()), rest.map(|()| this))),
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
    use api::log::Output;
    use http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;
    use crate::engine::{LogEvent, LogLine};

    fn read(query: &str) -> Result<Question, QueryRejection> {
        let uri = format!("/logs/0af3-77/2?{query}").parse().unwrap();
        Query::try_from_uri(&uri).map(|Query(question)| question)
    }

    #[test]
    fn a_question_is_read() {
        let query = "follow=true&timestamps=false&tailLines=7&sinceTime=2026-11-21T10:00:00Z\
                     &limitBytes=9&after=5.6&restart=4&ofANewerVersion=x";
        let question = read(query).unwrap();
        let options = LogOptions {
            follow: true,
            tail: Some(7),
            since: Some("2026-11-21T10:00:00Z".parse().unwrap()),
            after: Some(Position { file: 5, offset: 6 }),
        };
        assert_eq!((question.options(), question.form()), (options, Form::Text));
        assert_eq!((question.limit_bytes, question.restart), (Some(9), Some(4)));
        assert_eq!(read("").unwrap(), Question::default());
        for wrong in
            ["tailLines=x", "tailLines=-1", "after=x", "restart=-1", "sinceTime=x", "limitBytes=x"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn no_more_logs_are_read_at_once_than_there_are_places() {
        let tasks = base::Tasks::new("test");
        let served = Served::new(tasks.spawner());
        let routes = super::super::serving::routes(served.clone());
        let ask = async || {
            let request = Request::get("/logs/0af3-77/1").body(Body::empty()).unwrap();
            routes.clone().oneshot(request).await.unwrap().status()
        };
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
        let question = read(query).unwrap();
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
        frames.into_iter().flat_map(|frame| frame.unwrap().to_vec()).collect()
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
