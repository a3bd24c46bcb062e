//! Sends what is to be said, many words in one batch, until it was heard.

use std::time::Duration;

use api::ObjectKey;
use api::batch::{Batch, BatchResponse, Group, GroupResult, Op};
use api::task::transition::TaskChange;
use base::{Backoff, ErrorChain, Rng, Spawner};
use client::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Event;
use crate::attempt::{Attempt, Says, Word};
use crate::engine::Identity;
use crate::ledger::Ledger;

/// Words in one batch: under the apiserver's bound, so that one batch does not hold up the next.
const WORDS_MAX: usize = 500;

/// Words that were sent, and what became of each.
#[derive(Debug)]
pub(super) struct Sent {
    words: Vec<(Identity, u64)>,
    /// Nothing where no answer came.
    results: Option<Vec<GroupResult>>,
}

/// Sends one batch at a time.
#[derive(Debug)]
pub(super) struct Desk {
    spawner: Spawner,
    events: mpsc::Sender<Event>,
    backoff: Backoff,
    is_sending: bool,
    rest_until: Option<Instant>,
}

impl Desk {
    pub(super) fn new(spawner: Spawner, events: mpsc::Sender<Event>, rng: Rng) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), rng);
        Self { spawner, events, backoff, is_sending: false, rest_until: None }
    }

    /// When to try again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.rest_until.filter(|_| !self.is_sending)
    }

    /// Sends what is to be said, unless something is on its way or the last try just failed.
    pub(super) fn send(&mut self, client: Client, ledger: &Ledger, now: Instant) {
        if self.is_sending || self.rest_until.is_some_and(|until| until > now) {
            return;
        }
        self.rest_until = None;
        let mut words = Vec::new();
        let mut batch = Batch::default();
        for (attempt, word) in ledger.to_say().take(WORDS_MAX) {
            words.push((attempt.identity.clone(), word.number));
            batch.groups.push(Group::from(op(attempt, word)));
        }
        if words.is_empty() {
            return;
        }
        self.is_sending = true;
        let events = self.events.clone();
        self.spawner.spawn_awaited("reports", async move {
            let results = match client.batch(&batch).await {
                Ok(BatchResponse { results, .. }) => Some(results),
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "reports were not acknowledged");
                    None
                }
            };
            // Nobody listens when the agent ends.
            let _stopping = events.send(Event::Sent(Sent { words, results })).await;
        });
    }

    /// Takes what became of a batch over into the ledger; who has nothing to say any more.
    pub(super) fn heard(&mut self, sent: Sent, ledger: &mut Ledger, now: Instant) -> Vec<Identity> {
        self.is_sending = false;
        let results = sent.results.unwrap_or_default();
        let mut heard = Vec::new();
        let mut all_heard = results.len() == sent.words.len();
        for ((identity, number), result) in sent.words.into_iter().zip(results) {
            match result {
                GroupResult::Done {} => (),
                // The attempt is over, or has its end: what we have to say does not count.
                GroupResult::Refused { message } => info!(%identity, message, "report refused"),
                GroupResult::Invalid { message } => warn!(%identity, message, "report rejected"),
                GroupResult::Unknown {} | GroupResult::Deposed {} => {
                    all_heard = false;
                    continue;
                }
            }
            if ledger.heard(&identity, number) {
                heard.push(identity);
            }
        }
        if all_heard {
            self.backoff.reset();
        } else {
            self.rest_until = Some(now + self.backoff.next_wait());
        }
        heard
    }
}

/// What an attempt has to say, as an operation.
fn op(attempt: &Attempt, word: &Word) -> Op {
    let change = match &word.says {
        Says::Report(report) => TaskChange::Report(report.clone()),
        Says::Refuse(message) => {
            TaskChange::Refuse { binding: attempt.binding, message: message.clone() }
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
