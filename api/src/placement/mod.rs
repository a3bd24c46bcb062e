//! Placement: where tasks may run, where they run preferably, and what happens if their node is
//! lost.

mod possible;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::taint::Toleration;

pub(crate) use validate::{states, validate};

/// Which nodes a task may run on, and which of them it prefers. A node must satisfy all of `nodes`,
/// `nodeSelector`, `constraints` and every required entry of `near`, and have no taint that is not
/// tolerated.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Names of the only nodes that the task may run on. Default: any node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Labels that a node must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Conditions on the labels of a node, all of which must hold: `zone in (a, b)`, `zone notin
    /// (a)`, `disk = ssd`, `disk != ssd`, `gen >= 3`, `gpu` (the label exists), `!spot` (it does
    /// not). A label that is missing satisfies only `!NAME`. Every node has `name`, `arch` and
    /// `os`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// Conditions that are preferred, not required. Nodes with the highest total weight are chosen
    /// first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<Preference>,
    /// Run close to data: on nodes that hold replicas of a partition set, or where tasks of another
    /// job succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Near>,
    /// Taints of nodes that do not keep the task away. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// What happens to a task whose node is lost. Default: it is replaced 10 seconds after the node
    /// was last heard from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node_loss: Option<OnNodeLoss>,
}

impl Placement {
    /// Whether the node with this name and these labels is one of those that tasks may run on,
    /// whatever is free there. Data nearby is not looked at.
    pub fn allows<'a>(&self, name: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let is_named = self.nodes.is_empty() || self.nodes.iter().any(|node| node == name);
        let is_selected = self.node_selector.iter().all(|(key, value)| label(key) == Some(value));
        let holds =
            |text: &String| text.parse::<Constraint>().is_ok_and(|it| it.holds(label(&it.label)));
        is_named && is_selected && self.constraints.iter().all(holds)
    }
}

/// A preferred condition on the labels of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preference {
    /// Importance of the preference, from 1 to 100. A node that satisfies it may hold one more task
    /// of the job for every 10 of weight before another node is chosen.
    #[schemars(range(min = 1, max = 100))]
    pub weight: u8,
    /// Condition on the labels of the node, written as in `constraints`.
    pub constraint: String,
}

/// Data to run close to. Exactly one of `partitionSet` and `job` is required.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Near {
    /// Name of a partition set: nodes that hold one of its replicas match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_set: Option<String>,
    /// Only replicas in these states count, for example `LEADER`. Default: every state but OFFLINE
    /// and DROPPED.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// Name of a job, or of another job of the same workflow: nodes where its tasks succeeded
    /// match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Whether the task may run only on nodes that match. Default false: they are preferred.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// What happens to a task whose node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnNodeLoss {
    /// Whether the task is started on another node. Default Replace.
    #[serde(default)]
    pub action: LossAction,
    /// Time between the last sign of life of the node and the replacement. Only with Replace;
    /// default 10s, at least 8s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
}

/// Whether the task of a lost node is started elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum LossAction {
    /// Start the next attempt on another node once `after` has passed. The old attempt may still
    /// run for a while; its results no longer count.
    #[default]
    Replace,
    /// Wait until the node is back or deleted.
    Wait,
}

/// How long after a node was last heard from its tasks are replaced, if `onNodeLoss` does not say.
pub const REPLACE_AFTER: Duration = Duration::from_secs(10);
/// How long a node lease lasts without renewal.
pub const NODE_LEASE_TTL: Duration = Duration::from_secs(6);
/// Smallest value of `after`: the time of a node lease and two seconds. Earlier the node may still
/// be alive.
pub const REPLACE_AFTER_MIN: Duration = Duration::from_secs(8);

impl OnNodeLoss {
    /// How long after the node was last heard from its tasks may be replaced; never for Wait.
    pub fn replace_after(self) -> Option<Duration> {
        match self.action {
            LossAction::Replace => Some(self.after.unwrap_or(REPLACE_AFTER)),
            LossAction::Wait => None,
        }
    }
}

/// Labels that every node has by itself.
pub const BUILT_IN_LABELS: [&str; 4] = ["name", "arch", "os", "zone"];

/// A condition on one label of a node. A missing label satisfies only `!exists`. Forms: `zone in
/// (a, b)`, `zone notin (a)`, `disk = ssd`, `disk != ssd`, `gen >= 3`, `exists gpu` or `gpu`,
/// `!exists spot` or `!spot`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    /// The label.
    pub label: String,
    /// The test of its value.
    pub test: Test,
}

/// The test of a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// The label has one of these values.
    In(Vec<String>),
    /// The label exists and has none of these values.
    NotIn(Vec<String>),
    /// The label exists.
    Exists,
    /// The label does not exist.
    Absent,
    /// The label exists and its value is in this relation to the given one.
    Compare(Comparison, String),
}

/// A comparison of numbers, or of dotted versions part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// The text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a constraint; write for example \"zone in (a, b)\", \"disk = ssd\", \"gen >= 3\" or \"!spot\""
)]
pub struct NotAConstraint(String);

impl Constraint {
    /// Whether the value of a label satisfies it; `None` is a missing label.
    pub fn holds(&self, value: Option<&str>) -> bool {
        match (&self.test, value) {
            (Test::Absent, value) => value.is_none(),
            (_, None) => false,
            (Test::Exists, Some(_)) => true,
            (Test::In(values), Some(value)) => values.iter().any(|wanted| wanted == value),
            (Test::NotIn(values), Some(value)) => values.iter().all(|wanted| wanted != value),
            (Test::Compare(comparison, wanted), Some(value)) => compare_versions(value, wanted)
                .is_some_and(|order| match comparison {
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                }),
        }
    }
}

/// Compares dotted numbers part by part; a missing part is 0. Nothing if a part is not a number.
fn compare_versions(left: &str, right: &str) -> Option<std::cmp::Ordering> {
    let parts = |text: &str| -> Option<Vec<u64>> {
        text.trim_start_matches('v').split('.').map(|part| part.parse().ok()).collect()
    };
    let (mut left, mut right) = (parts(left)?, parts(right)?);
    let longest = left.len().max(right.len());
    left.resize(longest, 0);
    right.resize(longest, 0);
    Some(left.cmp(&right))
}

impl FromStr for Constraint {
    type Err = NotAConstraint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_constraint(text.trim()).ok_or_else(|| NotAConstraint(text.to_owned()))
    }
}

fn parse_constraint(text: &str) -> Option<Constraint> {
    let label_of = |text: &str| {
        let text = text.trim();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        (!text.is_empty() && text.chars().all(legal)).then(|| text.to_owned())
    };
    let value_of = |text: &str| {
        let text = text.trim();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
        (!text.is_empty() && text.chars().all(legal)).then(|| text.to_owned())
    };
    let constraint = |label: &str, test: Test| Some(Constraint { label: label_of(label)?, test });
    if let Some(label) = text.strip_prefix("!exists ").or_else(|| text.strip_prefix('!')) {
        return constraint(label, Test::Absent);
    }
    if let Some(label) = text.strip_prefix("exists ") {
        return constraint(label, Test::Exists);
    }
    for (word, positive) in [(" notin ", false), (" in ", true)] {
        let Some((label, list)) = text.split_once(word) else { continue };
        let inner = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        let values: Vec<String> = inner.split(',').map(value_of).collect::<Option<_>>()?;
        return constraint(label, if positive { Test::In(values) } else { Test::NotIn(values) });
    }
    // Longer operators first, so that `>=` is not read as `>`.
    for operator in ["!=", "<=", ">=", "==", "=", "<", ">"] {
        let Some((label, value)) = text.split_once(operator) else { continue };
        let value = value_of(value)?;
        let compare = |comparison| Test::Compare(comparison, value.clone());
        let test = match operator {
            "!=" => Test::NotIn(vec![value]),
            "<=" => compare(Comparison::LessOrEqual),
            ">=" => compare(Comparison::GreaterOrEqual),
            "<" => compare(Comparison::Less),
            ">" => compare(Comparison::Greater),
            _ => Test::In(vec![value]),
        };
        return constraint(label, test);
    }
    constraint(text, Test::Exists)
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, test } = self;
        match test {
            Test::In(values) if values.len() == 1 => write!(f, "{label} = {}", values[0]),
            Test::In(values) => write!(f, "{label} in ({})", values.join(", ")),
            Test::NotIn(values) if values.len() == 1 => write!(f, "{label} != {}", values[0]),
            Test::NotIn(values) => write!(f, "{label} notin ({})", values.join(", ")),
            Test::Exists => write!(f, "exists {label}"),
            Test::Absent => write!(f, "!{label}"),
            Test::Compare(Comparison::Less, value) => write!(f, "{label} < {value}"),
            Test::Compare(Comparison::LessOrEqual, value) => write!(f, "{label} <= {value}"),
            Test::Compare(Comparison::Greater, value) => write!(f, "{label} > {value}"),
            Test::Compare(Comparison::GreaterOrEqual, value) => write!(f, "{label} >= {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_as_their_text_says() {
        for (text, value, holds) in [
            ("zone in (a, b)", Some("b"), true),
            ("zone in (a, b)", Some("c"), false),
            ("zone in (a, b)", None, false),
            ("zone notin (a)", Some("b"), true),
            ("zone notin (a)", None, false),
            ("disk = ssd", Some("ssd"), true),
            ("disk==ssd", Some("hdd"), false),
            ("disk != ssd", Some("hdd"), true),
            ("gen >= 3", Some("10"), true),
            ("gen < 3", Some("10"), false),
            ("kernel >= 5.10", Some("5.9.100"), false),
            ("kernel > 5", Some("5.0.1"), true),
            ("gen >= 3", Some("three"), false),
            ("gpu", Some(""), true),
            ("exists gpu", None, false),
            ("!spot", None, true),
            ("!exists spot", Some("yes"), false),
        ] {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint.holds(value), holds, "{text} of {value:?}");
            assert_eq!(constraint.to_string().parse::<Constraint>().unwrap(), constraint);
        }
        for bad in ["", "a b", "zone in a", "zone in ()", "= x", "a =", "a = b c", "rm -rf; x"] {
            assert!(bad.parse::<Constraint>().is_err(), "{bad:?}");
        }
    }
}
