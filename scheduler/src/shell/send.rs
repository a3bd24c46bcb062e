//! Sends bindings until the result of each is known.

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

/// Longest wait between two tries of the same bindings.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Results for some bindings of a batch.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) bindings: Vec<Answered>,
    /// Whether the whole batch is answered with this.
    pub(crate) is_last: bool,
}

/// The result for one binding.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) task: ObjectKey,
    pub(crate) attempt: u32,
    pub(crate) became: Became,
}

/// What became of a binding, as what the scheduler does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Became {
    /// It is stored.
    Bound,
    /// The task had changed: decide again soon.
    Refused(String),
    /// It can never be stored: decide again, but not soon.
    Impossible(String),
    /// Another process leads.
    Deposed,
}

impl Became {
    /// Translates a result. `Err` with the reason means that the same binding is sent again.
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

/// A binding whose result is not known.
#[derive(Debug)]
struct Sent {
    task: ObjectKey,
    attempt: u32,
    group: Group,
}

/// Sends batches, each in its own task.
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

    /// Sends bindings, each as a group of its own, until all are answered.
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

    /// Tells tasks why they wait. If this fails, the next reason is told anyway.
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
                    // If the receiver is closed, the term is over.
                    let _over =
                        answers.send(Answer { bindings: vec![deposed], is_last: false }).await;
                }
                Ok(_) => (),
                Err(error) => debug!(error = %ErrorChain(&error), "could not write why tasks wait"),
            }
        });
    }
}

/// Sending the same binding twice has the effect of one, so it is sent until the answer arrives.
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

/// The result of each binding, or why it is not known. Without an answer none is known.
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

/// What the refusal of the whole batch means for each binding.
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

    /// A binding that is neither decided again nor sent again would hold its room on the node for
    /// ever.
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
            Mistaken(Operation): decided anew, late
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
