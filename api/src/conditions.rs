//! Conditions: Ready, Reconciling and Stalled, as Flux and `kubectl wait` understand them.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::IgnoredAny;
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A condition, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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

/// The condition reason of an object whose tasks wait because no node fits them.
pub const UNSCHEDULABLE: &str = "Unschedulable";

/// Whether these conditions say that tasks wait because no node fits them.
pub fn is_unschedulable(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| condition.reason == UNSCHEDULABLE)
}

/// The condition Stalled if it is true: then a person has to act.
pub fn stalled(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.kind == "Stalled" && condition.status == "True")
}

/// Conditions that are not stored but computed from the rest of an object. On the wire they are a
/// list of [`Condition`]. In memory the type is empty: a hundred thousand cached tasks need no
/// space for their conditions, and a client that sends old conditions back changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Computed;

impl Computed {
    /// Always true: nothing of this type is written to the store.
    pub fn is_nothing(&self) -> bool {
        true
    }
}

impl Serialize for Computed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_seq(Some(0))?.end()
    }
}

impl<'de> Deserialize<'de> for Computed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|IgnoredAny| Self)
    }
}

impl JsonSchema for Computed {
    fn schema_name() -> Cow<'static, str> {
        Vec::<Condition>::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Condition>::json_schema(generator)
    }
    fn inline_schema() -> bool {
        Vec::<Condition>::inline_schema()
    }
}

/// Which of the three conditions is true. Exactly one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The object is as its spec wants it.
    Ready,
    /// Work is going on that leads there without help.
    Reconciling,
    /// It will not get there unless a person acts.
    Stalled,
}

/// Each condition with the standing in which it is true.
pub(crate) const CONDITIONS: [(&str, Standing); 3] = [
    ("Ready", Standing::Ready),
    ("Reconciling", Standing::Reconciling),
    ("Stalled", Standing::Stalled),
];

/// The three conditions for a standing. A transition time is kept from `before` where the status
/// stays the same, so that an object is not written when nothing has changed.
pub fn conditions(
    before: &[Condition],
    standing: Standing,
    reason: &str,
    message: &str,
    (generation, now): (i64, Timestamp),
) -> Vec<Condition> {
    let condition = |(kind, wanted): (&str, Standing)| {
        let status = if standing == wanted { "True" } else { "False" };
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
    CONDITIONS.into_iter().map(condition).collect()
}
