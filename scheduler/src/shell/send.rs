//! Sends bindings until it is known what became of each.

use std::time::Duration;

use api::Kind as _;
use api::batch::{Batch, Group, GroupResult, Op};
use api::object::ObjectKey;
use api::task::transition::TaskChange;
use base::{Backoff, ErrorChain, Health, Retry, Rng, Spawner};
use client::{Client, Error};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::plan::Bind;

/// Waits between tries of the same bindings grow up to this.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What became of some bindings of a batch.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) bindings: Vec<Answered>,
    /// Whether all of the batch is answered.
    pub(crate) is_last: bool,
}

/// What became of a binding.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) task: ObjectKey,
    pub(crate) attempt: u32,
    pub(crate) result: GroupResult,
}

/// A binding that is on its way.
#[derive(Debug)]
struct Sent {
    task: ObjectKey,
    attempt: u32,
    group: Group,
}

/// Sends batches, each in a task of its own.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Client,
    outside: (Rng, Health),
    spawner: Spawner,
    answers: mpsc::Sender<Answer>,
}

impl Sender {
    pub(crate) fn new(
        client: Client,
        outside: (Rng, Health),
        spawner: Spawner,
        answers: mpsc::Sender<Answer>,
    ) -> Self {
        Self { client, outside, spawner, answers }
    }

    /// Sends bindings, each a group of its own, until all are answered.
    pub(crate) fn bind(&self, bindings: &[Bind]) {
        let sent = bindings.iter().map(|Bind { task, node }| {
            let bind = TaskChange::Bind { node: node.to_string() };
            let group = Op::task(task, bind).into();
            Sent { task: task.key(), attempt: task.spec.attempt, group }
        });
        let (rng, health) = &self.outside;
        let backoff = Backoff::new(Duration::from_millis(20), RETRY_MAX, rng.clone());
        let retry = Retry::new("sending bindings", backoff, health);
        let sending = send(self.client.clone(), sent.collect(), retry, self.answers.clone());
        self.spawner.spawn_awaited("scheduler-bind", sending);
    }

    /// Tells tasks why they wait. What is lost of it is told with the next reason.
    pub(crate) fn tell(&self, ops: Vec<Op>) {
        let (client, answers) = (self.client.clone(), self.answers.clone());
        self.spawner.spawn_awaited("scheduler-tell", async move {
            let batch = Batch { groups: ops.into_iter().map(Group::from).collect() };
            match client.batch(&batch).await {
                Ok(answer) if answer.results.contains(&GroupResult::Deposed {}) => {
                    let deposed = Answered {
                        task: ObjectKey::default(),
                        attempt: 0,
                        result: GroupResult::Deposed {},
                    };
                    // If nobody listens, the term is over.
                    let _over =
                        answers.send(Answer { bindings: vec![deposed], is_last: false }).await;
                }
                Ok(_) => (),
                Err(error) => debug!(error = %ErrorChain(&error), "could not write why tasks wait"),
            }
        });
    }
}

/// The same binding asked for twice is one: it is sent again until its answer is heard.
async fn send(
    client: Client,
    mut open: Vec<Sent>,
    mut retry: Retry,
    answers: mpsc::Sender<Answer>,
) {
    while !open.is_empty() {
        let (results, why) = attempt(&client, &open).await;
        let mut bindings = Vec::new();
        let mut unheard = Vec::new();
        for (sent, result) in open.into_iter().zip(results) {
            match result {
                GroupResult::Unknown {} => unheard.push(sent),
                GroupResult::Done {}
                | GroupResult::Refused { .. }
                | GroupResult::Invalid { .. }
                | GroupResult::Deposed {} => {
                    bindings.push(Answered { task: sent.task, attempt: sent.attempt, result })
                }
            }
        }
        open = unheard;
        let answer = Answer { bindings, is_last: open.is_empty() };
        if answers.send(answer).await.is_err() {
            return;
        }
        if !open.is_empty() {
            tokio::time::sleep(retry.failed_because(&why)).await;
        }
    }
}

/// What became of each, and why of those that are unknown: all are if no answer was heard.
async fn attempt(client: &Client, open: &[Sent]) -> (Vec<GroupResult>, String) {
    let batch = Batch { groups: open.iter().map(|sent| sent.group.clone()).collect() };
    let all = |result: GroupResult| vec![result; open.len()];
    match client.batch(&batch).await {
        Ok(answer) if answer.results.len() == open.len() => (
            answer.results,
            "the apiserver does not know whether the bindings were written".to_owned(),
        ),
        Ok(answer) => {
            let (asked, answered) = (open.len(), answer.results.len());
            let why = format!("{asked} were asked for, and {answered} answered");
            (all(GroupResult::Unknown {}), why)
        }
        Err(error @ (Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_))) => {
            (all(GroupResult::Unknown {}), ErrorChain(&error).to_string())
        }
        Err(error @ Error::Refused(_)) => {
            let message = ErrorChain(&error).to_string();
            warn!(error = message, "bindings were refused as a whole");
            (all(GroupResult::Invalid { message }), String::new())
        }
    }
}
