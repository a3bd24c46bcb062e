//! Which cluster this is, which life of its store, and whether that was confirmed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A cluster in one life of its store. Agents work for one, and take no other for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its id: another one is another cluster, or a store that was made anew.
    pub id: String,
    /// Counts the lives of its store from 1: a restore begins a new one.
    pub epoch: u64,
    /// Which restore began this life, since one backup can be restored twice; empty for the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restore: String,
}

/// As the header [`CLUSTER_HEADER`](crate::node::CLUSTER_HEADER) names it.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.epoch)?;
        if self.restore.is_empty() { Ok(()) } else { write!(f, "/{}", self.restore) }
    }
}

/// What there is to know of a cluster: `GET /apis/heliox.dev/v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Which.
    pub cluster: Cluster,
    /// Since when its store lives this life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The time of the backup that it was restored from; nothing of a first life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_taken_at: Option<Timestamp>,
    /// Whether agents work for it. A first life needs no confirmation.
    pub confirmed: bool,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them wait for the confirmation.
    pub waiting: usize,
    /// How many of them are heard.
    pub heard: usize,
}

/// Confirms a restored cluster: `POST /apis/heliox.dev/v1/cluster/confirm`. Another cluster, or
/// another life of it, refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Confirmation {
    /// What is confirmed.
    pub cluster: Cluster,
}

/// The problem of a node whose agent waits: as its Node shows it.
pub const AWAITS_CONFIRMATION: &str = "the cluster was restored from a backup: its agent starts \
                                       and stops nothing until you run `hctl cluster confirm`";
