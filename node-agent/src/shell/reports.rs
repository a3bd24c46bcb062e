//! Sends messages about attempts to the apiserver, many in one batch, until they are acknowledged.

use std::time::Duration;

use api::ObjectKey;
use api::batch::{Batch, BatchResponse, Group, GroupResult, Op};
use api::status::Why;
use api::task::report::Report;
use api::task::report::{MESSAGE_CHARS_MAX, shortened};
use api::task::transition::TaskChange;
use base::{Backoff, ErrorChain, Health, Retry, Rng, Spawner};
use client::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Event;
use crate::attempt::{Attempt, Content, Message};
use crate::engine::Identity;
use crate::ledger::Ledger;

/// Most messages in one batch: less than the apiserver's bound, so that one batch does not delay
/// the next for long.
const MESSAGES_MAX: usize = 500;

/// The messages of a batch, and the result of each.
#[derive(Debug)]
pub(super) struct Sent {
    messages: Vec<(Identity, u64)>,
    /// The reason if there was no answer.
    results: Result<Vec<GroupResult>, String>,
}

/// Sends one batch at a time.
#[derive(Debug)]
pub(super) struct ReportSender {
    spawner: Spawner,
    events: mpsc::Sender<Event>,
    retry: Retry,
    is_sending: bool,
    rest_until: Option<Instant>,
}

impl ReportSender {
    pub(super) fn new(
        spawner: Spawner,
        events: mpsc::Sender<Event>,
        (rng, health): (Rng, &Health),
    ) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), rng);
        let retry = Retry::new("reporting the status of tasks", backoff, health);
        Self { spawner, events, retry, is_sending: false, rest_until: None }
    }

    /// When to try again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.rest_until.filter(|_| !self.is_sending)
    }

    /// Sends the messages of the ledger, unless a batch is in progress or the last one has just
    /// failed.
    pub(super) fn send(&mut self, client: Client, ledger: &Ledger, now: Instant) {
        if self.is_sending || self.rest_until.is_some_and(|until| until > now) {
            return;
        }
        self.rest_until = None;
        let mut messages = Vec::new();
        let mut batch = Batch::default();
        for (attempt, message) in ledger.to_say().take(MESSAGES_MAX) {
            messages.push((attempt.identity.clone(), message.number));
            batch.groups.push(Group::from(op(attempt, message)));
        }
        if messages.is_empty() {
            return;
        }
        self.is_sending = true;
        let events = self.events.clone();
        self.spawner.spawn_awaited("reports", async move {
            let results = match client.batch(&batch).await {
                Ok(BatchResponse { results, .. }) => Ok(results),
                Err(error) => Err(ErrorChain(&error).to_string()),
            };
            // The receiver is closed when the agent ends.
            let _stopping = events.send(Event::Sent(Sent { messages, results })).await;
        });
    }

    /// Takes the results of a batch over into the ledger. Returns the attempts that have nothing
    /// more to send.
    pub(super) fn heard(&mut self, sent: Sent, ledger: &mut Ledger, now: Instant) -> Vec<Identity> {
        self.is_sending = false;
        let (results, mut unheard) = match sent.results {
            Ok(results) if results.len() == sent.messages.len() => (results, None),
            Ok(_) => (Vec::new(), Some("the answer is incomplete".to_owned())),
            Err(why) => (Vec::new(), Some(why)),
        };
        let mut heard = Vec::new();
        for ((identity, number), result) in sent.messages.into_iter().zip(results) {
            match result {
                GroupResult::Done => (),
                GroupResult::Refused { why, message } => match Next::after(why) {
                    Next::Drop => info!(%identity, message, "report refused"),
                    Next::SayLess => {
                        warn!(%identity, message, "report rejected");
                        if say_less(ledger, (&identity, number), &message) {
                            heard.push(identity);
                            continue;
                        }
                    }
                    Next::SayAgain => {
                        unheard.get_or_insert(message);
                        continue;
                    }
                },
            }
            if ledger.heard(&identity, number) {
                heard.push(identity);
            }
        }
        match unheard {
            None => self.retry.worked(),
            Some(why) => self.rest_until = Some(now + self.retry.failed_because(&why)),
        }
        heard
    }
}

/// What an agent does after a report was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Drops it: the attempt is over or its end is stored, so this report does not count.
    Drop,
    /// Sends a smaller one: this one can never be stored.
    SayLess,
    /// Sends it again: a task whose end is not stored would run for ever.
    SayAgain,
}

impl Next {
    fn after(why: Why) -> Self {
        match why {
            Why::Forbidden | Why::NotFound | Why::Exists | Why::Conflict | Why::Expired => {
                Next::Drop
            }
            Why::Mistaken(_) | Why::Invalid | Why::TooLarge => Next::SayLess,
            Why::Contended
            | Why::Deposed
            | Why::Busy
            | Why::Unavailable
            | Why::Full
            | Why::Late
            | Why::Unknown
            | Why::Internal => Next::SayAgain,
        }
    }
}

/// A report can never be stored, because of `why`. Replaces it by the smallest one of the same
/// state, because a task whose end is not stored waits for ever. Returns whether there is a smaller
/// one.
fn say_less(ledger: &mut Ledger, (identity, number): (&Identity, u64), why: &str) -> bool {
    let Some(attempt) = ledger.get(identity) else { return false };
    let Some(Message { number: now, says: Content::Report(report) }) = &attempt.unsent else {
        return false;
    };
    let Some(less) = report.minimal(why).filter(|_| *now == number) else { return false };
    let mut attempt = attempt.clone();
    attempt.say(ledger.last_message() + 1, Content::Report(Box::new(less)));
    ledger.put(attempt);
    true
}

/// An attempt's message as an operation of a batch.
fn op(attempt: &Attempt, message: &Message) -> Op {
    let change = match &message.says {
        Content::Report(report) => TaskChange::Report(Box::new(Report::clone(report).bounded())),
        Content::Refuse(message) => {
            let message = shortened(message, MESSAGE_CHARS_MAX);
            TaskChange::Refuse { binding: attempt.binding, message }
        }
    };
    let identity = &attempt.identity;
    Op::Task {
        key: ObjectKey::new(identity.namespace(), identity.task()),
        uid: identity.uid().to_owned(),
        attempt: identity.attempt(),
        change,
    }
}

#[cfg(test)]
mod tests {
    use api::task::ReportState;
    use base::Tasks;

    use super::*;
    use crate::attempt::Progress;

    fn ended() -> Attempt {
        let identity = Identity::new("default", "t-0", "0af3", 1).unwrap();
        let mut attempt = Attempt::found(identity, Progress::Ended);
        let report = serde_json::from_value(serde_json::json!({
            "binding": 1, "bootId": "b", "state": "Failed", "exitCode": 3, "message": "why",
        }));
        attempt.say(7, Content::Report(Box::new(report.unwrap())));
        attempt
    }

    /// An engine's messages can have any length.
    #[test]
    fn what_is_sent_is_within_its_bounds() {
        let mut attempt = ended();
        let Some(Message { says: Content::Report(report), .. }) = &attempt.unsent else {
            panic!("it is a report")
        };
        let message = Some("x".repeat(10 * MESSAGE_CHARS_MAX));
        let long = Report { message, ..Report::clone(report) };
        for says in
            [Content::Report(Box::new(long)), Content::Refuse("x".repeat(10 * MESSAGE_CHARS_MAX))]
        {
            attempt.say(7, says);
            let Op::Task { change, .. } = op(&attempt, attempt.unsent.as_ref().unwrap()) else {
                panic!("it is about a task")
            };
            let sent = serde_json::to_string(&change).unwrap();
            assert!(sent.len() < 2 * MESSAGE_CHARS_MAX, "{} bytes", sent.len());
            assert!(sent.contains("more characters)"), "that it was cut is said");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_rejected_is_said_in_fewer_words_and_then_not_again() {
        let tasks = Tasks::new("test");
        let (events, _news) = mpsc::channel(1);
        let mut reports =
            ReportSender::new(tasks.spawner(), events, (Rng::seeded(1), &Health::default()));
        let mut ledger = Ledger::of([ended()]);
        let identity = ended().identity;
        let mut answer = |number, ledger: &mut Ledger| {
            let message = "it is too large".to_owned();
            let results = Ok(vec![GroupResult::refused(Why::TooLarge, message)]);
            let sent = Sent { messages: vec![(identity.clone(), number)], results };
            reports.heard(sent, ledger, Instant::now());
        };
        answer(7, &mut ledger);
        let (_, message) = ledger.to_say().next().expect("the end is still to be said");
        let Content::Report(report) = &message.says else { panic!("it is a report") };
        assert_eq!((report.state, report.exit_code), (ReportState::Failed, Some(3)));
        let said = report.message.as_deref();
        assert_eq!(said, Some("the agent's report was refused: it is too large"));
        let number = message.number;
        answer(number, &mut ledger);
        assert_eq!(ledger.unsent(), 0, "there is nothing less to say");
    }

    /// A task whose end is not stored would run for ever.
    #[tokio::test(start_paused = true)]
    async fn a_report_that_was_refused_only_for_now_is_said_again() {
        let tasks = Tasks::new("test");
        let (events, _news) = mpsc::channel(1);
        let unsent = |why: Why| {
            let outside = (Rng::seeded(1), &Health::default());
            let mut reports = ReportSender::new(tasks.spawner(), events.clone(), outside);
            let mut ledger = Ledger::of([ended()]);
            let results = Ok(vec![GroupResult::refused(why, "no")]);
            let sent = Sent { messages: vec![(ended().identity, 7)], results };
            reports.heard(sent, &mut ledger, Instant::now());
            (ledger.unsent(), reports.wake_at().is_some())
        };
        for why in [Why::Conflict, Why::NotFound, Why::Forbidden] {
            assert_eq!(unsent(why), (0, false), "{why:?}: what we know is over");
        }
        for why in [
            Why::Contended,
            Why::Deposed,
            Why::Busy,
            Why::Unavailable,
            Why::Full,
            Why::Late,
            Why::Unknown,
            Why::Internal,
        ] {
            assert_eq!(unsent(why), (1, true), "{why:?}: it is said again");
        }
    }
}
