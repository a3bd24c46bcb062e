//! The log of one attempt, which is continued after every break of the connection.
//!
//! The server reports positions (`api::log`). After a break, the log is requested from the last
//! position, and the text that was already received beyond it is skipped, because the same text
//! follows the same position.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::log::{Position, Record, Records};
use api::status::Why;
use base::Timestamp;
use client::{Body, Client, Error};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::outage::next_wait;

/// Longest wait between two attempts to connect.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// A connection that has been open for this long counts as working, even if the log is silent.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How long a broken log is requested again if nothing else is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest line that is printed as a whole. A longer one is printed in pieces, between which lines
/// of other tasks may appear.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Until when broken logs are requested again; set once the followed object has ended.
#[derive(Debug, Clone, Default)]
pub struct GiveUp(Arc<OnceLock<Instant>>);

impl GiveUp {
    /// The followed object has ended: a log that is not available soon never will be.
    pub fn soon(&self) {
        let _known = self.0.set(Instant::now() + PATIENCE);
    }

    fn is_due(&self) -> bool {
        self.0.get().is_some_and(|at| *at <= Instant::now())
    }
}

/// The next update of a log.
#[derive(Debug)]
pub enum LogUpdate {
    /// A line.
    Line(Line),
    /// Lines are missing: before the first one, or since this time.
    Gap(Option<Timestamp>),
    /// The connection broke and is being tried again; the reason. Reported once for each break.
    Broken(String),
    /// The connection is back.
    Back,
    /// The log has ended.
    End,
    /// The rest cannot be read; the reason.
    Failed(Error),
}

/// A line, or a piece of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written.
    pub time: Timestamp,
    /// Whether it is the beginning of a line.
    pub starts: bool,
    /// The text. It ends with a newline, unless more of the line follows or the program has not
    /// ended it.
    pub bytes: Vec<u8>,
}

/// The request for a log.
#[derive(Debug, Clone)]
pub struct Question {
    /// The path of the log with the constant part of the query. Ends with `?` or a pair.
    pub path: String,
    /// Pairs that select lines while no position is known. Begins with `&`.
    pub selection: String,
    /// Whether to continue until the attempt has ended.
    pub follow: bool,
}

/// The log of an attempt.
#[derive(Debug)]
pub struct AttemptLog {
    client: Client,
    question: Question,
    give_up: GiveUp,
    body: Option<(Body, Records)>,
    /// When a connection that has delivered nothing yet counts as working; `None` once it does.
    settles_at: Option<Instant>,
    /// How long to wait before the next attempt to connect; `None` while the connection works.
    wait: Option<Duration>,
    told: bool,
    was_open: bool,
    read: ReadPosition,
}

/// How far a log was read. No I/O.
#[derive(Debug, Default)]
struct ReadPosition {
    position: Option<Position>,
    /// Bytes of text that were received after the position.
    beyond: u64,
    /// How many of them will be received again.
    skip: u64,
    latest: Option<Timestamp>,
    /// The line that is not complete yet.
    line: Option<Line>,
}

impl ReadPosition {
    /// The log is requested again.
    fn again(&mut self) {
        self.skip = self.beyond;
    }

    /// Takes in a record. Returns the lines that it completes.
    fn hear(&mut self, record: Record) -> [Option<LogUpdate>; 2] {
        match record {
            Record::Position(position) => {
                // The text that is still to be skipped comes after this position.
                (self.position, self.beyond) = (Some(position), self.skip);
                [None, None]
            }
            Record::Gap => {
                (self.beyond, self.skip) = (0, 0);
                [self.rest(), Some(LogUpdate::Gap(self.latest))]
            }
            Record::End { .. } => [self.rest(), Some(LogUpdate::End)],
            Record::Text { nanos, starts, bytes, .. } => {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= skipped as u64;
                let bytes = &bytes[skipped..];
                if bytes.is_empty() {
                    return [None, None];
                }
                self.beyond += bytes.len() as u64;
                self.text(nanos, starts && skipped == 0, bytes)
            }
        }
    }

    fn text(&mut self, nanos: i64, starts: bool, bytes: &[u8]) -> [Option<LogUpdate>; 2] {
        let broken = if starts { self.rest() } else { None };
        let time = Timestamp::from_nanosecond(nanos.into()).unwrap_or_default();
        let new = || Line { time, starts, bytes: Vec::new() };
        let mut line = self.line.take().unwrap_or_else(new);
        line.bytes.extend_from_slice(bytes);
        self.latest = Some(line.time);
        if line.bytes.ends_with(b"\n") || line.bytes.len() >= LINE_BYTES_MAX {
            return [broken, Some(LogUpdate::Line(line))];
        }
        self.line = Some(line);
        [broken, None]
    }

    /// The rest of a line that will not be completed.
    fn rest(&mut self) -> Option<LogUpdate> {
        self.line.take().map(LogUpdate::Line)
    }
}

impl AttemptLog {
    /// A log that was not requested yet. It is requested again after breaks until `give_up`.
    pub fn new(client: &Client, question: Question, give_up: GiveUp) -> Self {
        Self {
            client: client.clone(),
            question,
            give_up,
            body: None,
            settles_at: None,
            wait: None,
            told: false,
            was_open: false,
            read: ReadPosition::default(),
        }
    }

    /// The same of the container before the newest one of its attempt, which was restarted in
    /// place.
    #[must_use]
    pub fn of_container_before(mut self) -> Self {
        self.question.path.push_str("previous=true&");
        self
    }

    /// The next updates, up to three. After an end or a failure there are no more.
    pub async fn next(&mut self) -> [Option<LogUpdate>; 3] {
        loop {
            let Some((body, records)) = &mut self.body else {
                if let Some(heard) = self.connect().await {
                    return [Some(heard), None, None];
                }
                continue;
            };
            let why = match records.take() {
                Ok(Some(record)) => {
                    let back = self.settle();
                    let [first, second] = self.read.hear(record);
                    if back.is_none() && first.is_none() && second.is_none() {
                        continue;
                    }
                    return [back, first, second];
                }
                Ok(None) => tokio::select! {
                    biased;
                    frame = body.frame() => match frame {
                        Some(Ok(frame)) => {
                            if let Ok(data) = frame.into_data() {
                                records.add(&data);
                            }
                            continue;
                        }
                        Some(Err(error)) => Error::Unavailable(error),
                        None => Error::Unavailable("the log stream broke".into()),
                    },
                    () = until(self.settles_at) => {
                        if let Some(back) = self.settle() {
                            return [Some(back), None, None];
                        }
                        continue;
                    }
                },
                Err(malformed) => Error::Malformed(Box::new(malformed)),
            };
            self.body = None;
            if let Some(heard) = self.broken(why) {
                return [self.read.rest_if_failed(&heard), Some(heard), None];
            }
        }
    }

    /// The connection works. Not before it has been open for a while: one that breaks at once must
    /// be retried less and less often, and be reported once.
    fn settle(&mut self) -> Option<LogUpdate> {
        (self.settles_at, self.wait) = (None, None);
        std::mem::take(&mut self.told).then_some(LogUpdate::Back)
    }

    async fn connect(&mut self) -> Option<LogUpdate> {
        if let Some(wait) = self.wait {
            tokio::time::sleep(wait).await;
        }
        let Question { path, selection, follow } = &self.question;
        let from = match self.read.position {
            Some(position) => format!("&after={position}"),
            // The log was empty before, so everything in it is new.
            None if self.was_open && self.read.beyond == 0 => String::new(),
            None => selection.clone(),
        };
        let path = format!("{path}records=true&follow={follow}{from}");
        match self.client.stream(&path).await {
            Ok(response) => {
                self.body = Some((response.into_body(), Records::default()));
                self.settles_at = Some(Instant::now() + SETTLED_AFTER);
                self.was_open = true;
                self.read.again();
                None
            }
            Err(error) => self.broken(error),
        }
    }

    /// Decides whether an error is temporary. Reported once.
    fn broken(&mut self, error: Error) -> Option<LogUpdate> {
        if !is_passing(&error) || (!self.question.follow && !self.was_open) {
            return Some(LogUpdate::Failed(error));
        }
        if !self.question.follow {
            // Nothing else is waited for.
            self.give_up.soon();
        }
        if self.give_up.is_due() {
            return Some(LogUpdate::Failed(error));
        }
        self.wait = Some(next_wait(self.wait, WAIT_MAX));
        let told = std::mem::replace(&mut self.told, true);
        (!told).then(|| LogUpdate::Broken(why(&error)))
    }
}

/// Waits until then; for ever without a time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl ReadPosition {
    fn rest_if_failed(&mut self, heard: &LogUpdate) -> Option<LogUpdate> {
        if matches!(heard, LogUpdate::Failed(_)) { self.rest() } else { None }
    }
}

/// Whether the same request may be answered later.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unavailable(_) | Error::Unknown(_) => true,
        Error::Malformed(_) => false,
        Error::Refused(refusal) => match refusal.why {
            Why::Busy | Why::Unavailable | Why::Full | Why::Late | Why::Unknown | Why::Internal => {
                true
            }
            Why::Mistaken(_)
            | Why::Invalid
            | Why::TooLarge
            | Why::Forbidden
            | Why::NotFound
            | Why::Exists
            | Why::Conflict
            | Why::Contended
            | Why::Deposed
            | Why::Expired => false,
        },
    }
}

fn why(error: &Error) -> String {
    match error {
        Error::Unavailable(source) | Error::Unknown(source) | Error::Malformed(source) => {
            client::cause(source.as_ref())
        }
        Error::Refused(refusal) => refusal.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::Mutex;

    use api::log::Output;
    use bytes::Bytes;
    use client::transport;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::{Either, Full, StreamBody};
    use tower::service_fn;

    use super::*;

    fn text(text: &str, starts: bool) -> Record {
        Record::Text { output: Output::Stdout, nanos: 1, starts, bytes: text.into() }
    }

    fn position(offset: u64) -> Record {
        Record::Position(Position { file: 1, offset })
    }

    fn heard(read: &mut ReadPosition, records: impl IntoIterator<Item = Record>) -> String {
        let mut told = String::new();
        for record in records {
            for heard in read.hear(record).into_iter().flatten() {
                match heard {
                    LogUpdate::Line(line) => {
                        told.push_str(if line.starts { ">" } else { "" });
                        told.push_str(&String::from_utf8(line.bytes).unwrap().replace('\n', "|"));
                    }
                    LogUpdate::Gap(latest) => told.push_str(&format!("GAP {} ", latest.is_some())),
                    LogUpdate::End => told.push_str("END"),
                    LogUpdate::Broken(_) | LogUpdate::Back | LogUpdate::Failed(_) => {
                        panic!("{heard:?}")
                    }
                }
            }
        }
        told
    }

    /// The log `a|`, `bcd|` in three pieces, `e|`, from a position on; positions as one server may
    /// tell them, which depends on what is there together.
    fn from(offset: u64, all_positions: bool) -> Vec<Record> {
        let records = [
            (1, text("a\n", true)),
            (2, text("b", true)),
            (3, text("c", false)),
            (4, text("d\n", false)),
            (5, text("e\n", true)),
        ];
        let mut told = Vec::new();
        for (end, record) in records.into_iter().filter(|(end, _)| *end > offset) {
            told.push(record);
            let is_safe = !matches!(end, 2 | 3);
            if is_safe && (all_positions || end == 5) {
                told.push(position(end));
            }
        }
        told
    }

    #[test]
    fn wherever_it_breaks_each_line_is_heard_once() {
        for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
            let whole = from(0, first);
            for cut in 0..=whole.len() {
                let mut read = ReadPosition::default();
                let mut told = heard(&mut read, whole[..cut].iter().cloned());
                read.again();
                let offset = read.position.map_or(0, |position| position.offset);
                // It breaks a second time before anything comes, and once more after one record.
                let again = from(offset, second);
                told.push_str(&heard(&mut read, again.iter().take(1).cloned()));
                read.again();
                let offset = read.position.map_or(0, |position| position.offset);
                told.push_str(&heard(&mut read, from(offset, second)));
                assert_eq!(told, ">a|>bcd|>e|", "cut after {cut} records");
            }
        }
    }

    #[test]
    fn gaps_and_the_end_show_what_was_there_of_a_line() {
        let mut read = ReadPosition::default();
        let told = heard(&mut read, [Record::Gap, text("ab", true), Record::Gap]);
        assert_eq!(told, "GAP false >abGAP true ");
        let end = Record::End { complete: true };
        assert_eq!(heard(&mut read, [text("c", true), text("d", true), end]), ">c>dEND");
    }

    #[test]
    fn a_line_that_is_very_long_is_heard_in_pieces() {
        let mut read = ReadPosition::default();
        let piece = "x".repeat(64 * 1024);
        let mut lines = Vec::new();
        for number in 0..40 {
            let record = text(&piece, number == 0);
            for heard in read.hear(record).into_iter().flatten() {
                let LogUpdate::Line(line) = heard else { panic!("{heard:?}") };
                lines.push((line.starts, line.bytes.len()));
            }
        }
        assert_eq!(lines, [(true, LINE_BYTES_MAX), (false, LINE_BYTES_MAX)]);
    }

    /// A server that answers with the next of `bodies`, each of which ends at once; the last one is open
    /// for ever.
    fn server(bodies: &[&[Record]]) -> Client {
        let written = |records: &&[Record]| {
            let mut bytes = Vec::new();
            records.iter().for_each(|record| record.write_to(&mut bytes));
            Bytes::from(bytes)
        };
        let bodies: VecDeque<Bytes> = bodies.iter().map(written).collect();
        let bodies = Arc::new(Mutex::new(bodies));
        let service = service_fn(move |_: Request<Bytes>| {
            let mut bodies = bodies.lock().unwrap();
            let body = bodies.pop_front().expect("nothing more is asked");
            let body = if bodies.is_empty() {
                let first = futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(body))]);
                let open = futures_util::StreamExt::chain(first, futures_util::stream::pending());
                Either::Left(StreamBody::new(open))
            } else {
                Either::Right(Full::new(body))
            };
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        Client::new(transport(service))
    }

    fn followed(client: &Client) -> AttemptLog {
        let path = "/log?".to_owned();
        let question = Question { path, selection: String::new(), follow: true };
        AttemptLog::new(client, question, GiveUp::default())
    }

    async fn told(log: &mut AttemptLog) -> Vec<&'static str> {
        let word = |heard| match heard {
            LogUpdate::Line(_) => "line",
            LogUpdate::Gap(_) => "gap",
            LogUpdate::Broken(_) => "broken",
            LogUpdate::Back => "back",
            LogUpdate::End => "end",
            LogUpdate::Failed(_) => "failed",
        };
        log.next().await.into_iter().flatten().map(word).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_opens_and_breaks_at_once_is_told_of_once_and_asked_for_ever_less_often() {
        let (line, end) = (text("a\n", true), Record::End { complete: true });
        let client = server(&[&[], &[], &[], &[], &[], &[line, end]]);
        let mut log = followed(&client);
        let began = Instant::now();
        assert_eq!(told(&mut log).await, ["broken"]);
        assert_eq!(told(&mut log).await, ["back", "line"]);
        assert_eq!(told(&mut log).await, ["end"]);
        assert_eq!(began.elapsed().as_millis() / 100, 1 + 2 + 4 + 8 + 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_silent_is_back_once_its_connection_has_lasted() {
        let client = server(&[&[], &[]]);
        let mut log = followed(&client);
        assert_eq!(told(&mut log).await, ["broken"]);
        assert_eq!(told(&mut log).await, ["back"]);
    }
}
