//! Conditions: Ready, Reconciling and Stalled, as Flux and `kubectl wait` understand them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Type of the condition, for example Ready.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason for the status, one CamelCase word.
    pub reason: String,
    /// Details for people.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// The `metadata.generation` that the condition describes.
    #[serde(default)]
    pub observed_generation: i64,
}

/// The reason of an object that wants to run and finds no node.
pub const UNSCHEDULABLE: &str = "Unschedulable";

/// Whether an object with these conditions wants to run and finds no node.
pub fn is_unschedulable(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| condition.reason == UNSCHEDULABLE)
}

/// Where an object stands: exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is as wanted.
    Ready,
    /// It is on its way.
    Reconciling,
    /// It will not get there without a person.
    Stalled,
}

/// The three conditions for a standing. Transition times are kept from `before` where the status
/// stays the same, so that nothing is written when nothing changed.
pub fn conditions(
    before: &[Condition],
    standing: Standing,
    reason: &str,
    message: &str,
    (generation, now): (i64, Timestamp),
) -> Vec<Condition> {
    let states = [
        ("Ready", standing == Standing::Ready),
        ("Reconciling", standing == Standing::Reconciling),
        ("Stalled", standing == Standing::Stalled),
    ];
    let condition = |(kind, holds): (&str, bool)| {
        let status = if holds { "True" } else { "False" };
        let same = before.iter().find(|old| old.kind == kind && old.status == status);
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: same.map_or(now, |old| old.last_transition_time),
            observed_generation: generation,
        }
    };
    states.into_iter().map(condition).collect()
}
