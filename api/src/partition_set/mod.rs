//! PartitionSet: a thing cut into partitions, each with replicas in states.

pub(crate) mod models;
mod row;
mod validate;

pub use models::{BUILT_IN_MODELS, BuiltInModel};

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::kind::KindId;
use crate::object::{Definition, Kind as _, Object};
use crate::table::some_of;

pub(crate) use validate::state_problem;

/// A thing cut into partitions.
pub type PartitionSet = Object<PartitionSetDefinition>;

/// Makes [`PartitionSet`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionSetDefinition;

impl Definition for PartitionSetDefinition {
    const ID: KindId = KindId::PartitionSet;
    type Spec = PartitionSetSpec;
    type Status = PartitionSetStatus;
}

/// The partitions of a set and where their replicas are. Exactly one of `partitions` and
/// `partitionNames` is required.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionSetSpec {
    /// Number of partitions, from 1 to 10,000. They are named `NAME-0`, `NAME-1` and so on, after
    /// the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = PARTITIONS_MAX))]
    pub partitions: Option<u32>,
    /// Names of the partitions. At most 10,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_names: Vec<String>,
    /// Maximum number of replicas of each partition, from 1 to 1,000. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub replicas: Option<u32>,
    /// Model of the states that a replica can be in: LeaderStandby, MasterSlave, OnlineOffline or
    /// OnlineOfflineWithBootstrap.
    pub state_model: String,
    /// Who decides where replicas are. Only Manual is supported at present, and it must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Where replicas are, in mode Manual: for each partition, the state of its replica on each
    /// node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assignment: BTreeMap<String, BTreeMap<String, String>>,
}

/// Most partitions of a set.
pub const PARTITIONS_MAX: u32 = 10_000;
/// Most replicas of a partition.
pub const REPLICAS_MAX: u32 = 1_000;

/// Most missing nodes that the status of a set lists.
pub const MISSING_NODES_MAX: usize = 100;
/// Most nodes that a message names.
const NODES_NAMED: usize = 3;

/// Who decides where the replicas of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Heliox. Not supported at present.
    #[default]
    Auto,
    /// Heliox, following preference lists. Not supported at present.
    SemiAuto,
    /// The user, in `assignment`.
    Manual,
    /// An external system, which reports where replicas are. Not supported at present.
    External,
}

/// States in which a replica does not serve.
pub const NOT_SERVING: [&str; 2] = ["OFFLINE", "DROPPED"];

impl PartitionSet {
    /// The partitions' names, in order.
    pub fn partition_names(&self) -> Vec<String> {
        match self.spec.partitions {
            Some(count) => (0..count).map(|index| format!("{}-{index}", self.name())).collect(),
            None => self.spec.partition_names.clone(),
        }
    }

    /// Whether the set's state model has any of these states. True if no states are named, or if
    /// the model is not known to this version.
    pub fn may_be_in(&self, states: &[String]) -> bool {
        let model = BUILT_IN_MODELS.iter().find(|model| model.name == self.spec.state_model);
        let has = |model: &BuiltInModel| {
            model.states.iter().any(|(state, _)| states.iter().any(|wanted| wanted == state))
        };
        states.is_empty() || model.is_none_or(has)
    }

    /// The nodes that hold a replica of a partition, each with the replica's state.
    pub fn replicas(&self, partition: &str) -> impl Iterator<Item = (&str, &str)> {
        self.spec
            .assignment
            .get(partition)
            .into_iter()
            .flatten()
            .map(|(node, state)| (node.as_str(), state.as_str()))
    }

    /// Nodes that should hold a serving replica and do not exist, ordered by name; at most
    /// [`MISSING_NODES_MAX`].
    pub fn nodes_that_are_not(&self, exists: impl Fn(&str) -> bool) -> Vec<String> {
        let named: BTreeSet<&str> = self.nodes_serving(&[]).collect();
        let missing = named.into_iter().filter(|node| !exists(node));
        missing.take(MISSING_NODES_MAX).map(str::to_owned).collect()
    }

    /// Nodes that hold a replica of any partition in one of `states`, or in any serving state if
    /// `states` is empty.
    pub fn nodes_serving<'a>(&'a self, states: &'a [String]) -> impl Iterator<Item = &'a str> {
        self.spec
            .assignment
            .values()
            .flatten()
            .filter(|(_, state)| matches(states, state))
            .map(|(node, _)| node.as_str())
    }
}

/// The sentence that nodes do not exist: `node node-9 does not exist`; nothing if none is missing.
pub fn missing_words(nodes: &[String]) -> Option<String> {
    let (noun, are) = match nodes.len() {
        0 => return None,
        1 => ("node", "does not exist"),
        _ => ("nodes", "do not exist"),
    };
    let named = some_of(nodes.iter(), NODES_NAMED);
    // A full list may have been cut, so the sentence must not give a number.
    let named = if nodes.len() < MISSING_NODES_MAX {
        named
    } else {
        named.replace(" and ", " and at least ")
    };
    Some(format!("{noun} {named} {are}"))
}

/// Whether a replica in `state` matches `wanted`; if that is empty, whether it serves.
pub fn matches(wanted: &[String], state: &str) -> bool {
    if wanted.is_empty() {
        !NOT_SERVING.contains(&state)
    } else {
        wanted.iter().any(|wanted| wanted == state)
    }
}

/// The observed state of a partition set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionSetStatus {
    /// Current phase of the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Nodes that are to hold a replica that serves and that do not exist, in order of their names. At
    /// most 100. Tasks beside such a replica wait until the node joins or the assignment is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_nodes: Vec<String>,
    /// Conditions Ready, Reconciling and Stalled, one of which is True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
