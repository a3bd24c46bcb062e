//! Bindings that agents returned. They are written on the task, so that every scheduler knows of
//! them and does not offer the task to the same node again at once.
//!
//! # Invariants
//!
//! * A node that returned an attempt is not offered it again before [`Refusal::over_at`]. The wait
//!   doubles each time. Other nodes may be offered it at once.
//! * However many nodes take turns in refusing an attempt, it is not bound before
//!   [`Refusals::rests_until`], which counts the refusals of forgotten nodes as well.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;

/// Most nodes that are remembered for an attempt. The one whose refusal is the oldest is forgotten
/// first.
pub const REFUSING_NODES_MAX: usize = 8;
/// Longest reason that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 256;
/// How long a node is not offered an attempt after it returned it once. Each further refusal
/// doubles it.
const WAIT: SignedDuration = SignedDuration::from_secs(1);
/// The longest such wait.
const WAIT_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Nodes that returned an attempt without starting it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusals {
    /// Number of the attempt.
    pub attempt: u32,
    /// How many times the attempt was returned, by all nodes.
    pub count: u32,
    /// The nodes, the latest last; at most 8.
    pub by: Vec<Refusal>,
}

/// A node that returned an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Name of the node.
    pub node: String,
    /// How many times it returned the attempt.
    pub count: u32,
    /// When it last did.
    pub at: Timestamp,
    /// Why it last did.
    pub message: String,
}

/// The wait after `count` refusals.
fn wait_after(count: u32) -> SignedDuration {
    let doubled = 1_i32.checked_shl(count.saturating_sub(1)).unwrap_or(i32::MAX);
    // Larger factors would all exceed the longest wait.
    WAIT.checked_mul(doubled.clamp(1, 64)).map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX))
}

fn later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

impl Refusal {
    /// When the node may be offered the attempt again.
    pub fn over_at(&self) -> Timestamp {
        later(self.at, wait_after(self.count))
    }
}

impl Refusals {
    /// When the attempt may be bound again at all.
    pub fn rests_until(&self) -> Timestamp {
        let remembered = u32::try_from(REFUSING_NODES_MAX).unwrap_or(u32::MAX);
        let last = self.by.last().map_or(Timestamp::MIN, |last| last.at);
        match self.count.saturating_sub(remembered) {
            0 => Timestamp::MIN,
            beyond => later(last, wait_after(beyond)),
        }
    }

    /// Adds one refusal.
    pub(super) fn and(
        before: Option<&Self>,
        attempt: u32,
        (node, message): (&str, &str),
        at: Timestamp,
    ) -> Self {
        let none = Self { attempt, count: 0, by: Vec::new() };
        let mut all = before.cloned().unwrap_or(none);
        all.count = all.count.saturating_add(1);
        let known = all.by.iter().position(|refusal| refusal.node == node);
        let count = known.map_or(0, |index| all.by.remove(index).count).saturating_add(1);
        let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
        all.by.push(Refusal { node: node.to_owned(), count, at, message });
        let surplus = all.by.len().saturating_sub(REFUSING_NODES_MAX);
        all.by.drain(..surplus);
        all
    }
}

impl Task {
    /// Nodes that returned the current attempt.
    pub fn refusals(&self) -> Option<&Refusals> {
        self.spec.refusals.as_deref().filter(|refusals| refusals.attempt == self.spec.attempt)
    }

    /// Why the current attempt was returned last, as a line.
    pub(super) fn last_refusal(&self) -> Option<String> {
        let last = self.refusals()?.by.last()?;
        let times = match last.count {
            1 => String::new(),
            count => format!(", {count} times"),
        };
        Some(format!("{} returned it{times}: {}", last.node, last.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn waits_of_a_node_double_up_to_a_minute() {
        let mut all = None;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let next = Refusals::and(all.as_ref(), 1, ("n1", "no room"), at(0));
            waits.push(next.by[0].over_at().as_second());
            all = Some(next);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait_after(u32::MAX), WAIT_MAX);
    }

    #[test]
    fn nodes_that_take_turns_in_refusing_are_waited_for_together() {
        let mut all: Option<Refusals> = None;
        for n in 0..12 {
            let node = format!("n{n}");
            let next = Refusals::and(all.as_ref(), 1, (&node, "no room"), at(n));
            assert!(next.by.len() <= REFUSING_NODES_MAX, "bounded");
            let rests = next.rests_until().max(at(n)).as_second() - n;
            let expected = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8][usize::try_from(n).unwrap()];
            assert_eq!(rests, expected, "after {n}");
            all = Some(next);
        }
    }
}
