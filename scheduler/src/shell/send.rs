//! Sends bindings until it is known what became of each.

use std::time::Duration;

use api::Kind as _;
use api::batch::{Batch, Group, GroupResult, Op};
use api::object::ObjectKey;
use api::status::Why;
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
    pub(crate) became: Became,
}

/// What became of a binding: what the scheduler does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Became {
    /// It is stored.
    Bound,
    /// The task was elsewhere by then: decide anew, soon.
    Refused(String),
    /// It can never be stored as it was asked for: decide anew, but not soon.
    Impossible(String),
    /// Another process leads.
    Deposed,
}

impl Became {
    /// What a result means; nothing, but why, where the same binding is sent again.
    fn of(result: GroupResult) -> Result<Self, String> {
        let GroupResult::Refused { why, message } = result else { return Ok(Became::Bound) };
        match why {
            Why::Forbidden
            | Why::NotFound
            | Why::Exists
            | Why::Conflict
            | Why::Expired
            | Why::Contended
            | Why::Internal => Ok(Became::Refused(message)),
            Why::Mistaken(_) | Why::Invalid | Why::TooLarge => Ok(Became::Impossible(message)),
            Why::Deposed => Ok(Became::Deposed),
            Why::Busy | Why::Unavailable | Why::Full | Why::Late | Why::Unknown => Err(message),
        }
    }
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
                Ok(answer) if answer.results.iter().any(is_deposed) => {
                    let deposed = Answered {
                        task: ObjectKey::default(),
                        attempt: 0,
                        became: Became::Deposed,
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
        let all = attempt(&client, &open).await;
        let (mut bindings, mut unheard, mut why) = (Vec::new(), Vec::new(), String::new());
        for (sent, became) in open.into_iter().zip(all) {
            match became {
                Ok(became) => {
                    bindings.push(Answered { task: sent.task, attempt: sent.attempt, became });
                }
                Err(message) => {
                    unheard.push(sent);
                    why = message;
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

fn is_deposed(result: &GroupResult) -> bool {
    matches!(result, GroupResult::Refused { why: Why::Deposed, .. })
}

/// What became of each, or why that is not known: of none is it if no answer was heard.
async fn attempt(client: &Client, open: &[Sent]) -> Vec<Result<Became, String>> {
    let batch = Batch { groups: open.iter().map(|sent| sent.group.clone()).collect() };
    let all = |became: Result<Became, String>| vec![became; open.len()];
    match client.batch(&batch).await {
        Ok(answer) if answer.results.len() == open.len() => {
            answer.results.into_iter().map(Became::of).collect()
        }
        Ok(answer) => {
            let (asked, answered) = (open.len(), answer.results.len());
            all(Err(format!("{asked} were asked for, and {answered} answered")))
        }
        Err(error @ (Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_))) => {
            all(Err(ErrorChain(&error).to_string()))
        }
        Err(Error::Refused(refusal)) => all(of_all(refusal.why, refusal.message)),
    }
}

/// What it means for each binding that all were refused at once.
fn of_all(why: Why, message: String) -> Result<Became, String> {
    match why {
        Why::Busy | Why::Unavailable | Why::Full | Why::Late | Why::Unknown => Err(message),
        Why::Deposed => Ok(Became::Deposed),
        Why::Mistaken(_)
        | Why::Invalid
        | Why::TooLarge
        | Why::Forbidden
        | Why::NotFound
        | Why::Exists
        | Why::Conflict
        | Why::Contended
        | Why::Expired
        | Why::Internal => {
            warn!(error = message, "bindings were refused as a whole");
            Ok(Became::Impossible(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A binding that is not sent again keeps its room on the node for ever.
    #[test]
    fn each_binding_is_decided_anew_or_sent_again() {
        let table = Why::ALL.map(|why| {
            let became = match Became::of(GroupResult::refused(why, "no")) {
                Ok(Became::Bound) => "bound",
                Ok(Became::Refused(_)) => "decided anew, soon",
                Ok(Became::Impossible(_)) => "decided anew, late",
                Ok(Became::Deposed) => "left to another leader",
                Err(_) => "sent again",
            };
            format!("{why:?}: {became}\n")
        });
        expect_test::expect![[r#"
            Mistaken(Request): decided anew, late
            Mistaken(Method): decided anew, late
            Mistaken(MediaType): decided anew, late
            Invalid: decided anew, late
            TooLarge: decided anew, late
            Forbidden: decided anew, soon
            NotFound: decided anew, soon
            Exists: decided anew, soon
            Conflict: decided anew, soon
            Contended: decided anew, soon
            Deposed: left to another leader
            Expired: decided anew, soon
            Busy: sent again
            Unavailable: sent again
            Full: sent again
            Late: sent again
            Unknown: sent again
            Internal: decided anew, soon
        "#]]
        .assert_eq(&table.concat());
    }
}
