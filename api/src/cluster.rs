//! The identity of a cluster: its id, the epoch of its store, and whether a restored store was
//! confirmed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A cluster during one epoch of its store. An agent works for exactly one, and refuses any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The cluster's id. Another id means another cluster, or a store that was created anew.
    pub id: String,
    /// The epoch of the store, from 1. Each restore of a backup begins the next one.
    pub epoch: u64,
    /// Which restore began this epoch: one backup can be restored twice, with the same epoch both
    /// times. Empty for the first epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restore: String,
}

/// The form in the header [`CLUSTER_HEADER`](crate::node::CLUSTER_HEADER).
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.epoch)?;
        if self.restore.is_empty() { Ok(()) } else { write!(f, "/{}", self.restore) }
    }
}

/// The state of the cluster: `GET /apis/heliox.dev/v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// The identity of the cluster.
    pub cluster: Cluster,
    /// When the current epoch began; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When the backup was taken that the store was restored from; absent in the first epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_taken_at: Option<Timestamp>,
    /// Whether agents work for this epoch. The first epoch needs no confirmation.
    pub confirmed: bool,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of nodes whose agents wait for the confirmation.
    pub waiting: usize,
    /// Number of nodes whose agents are connected and renew their leases.
    pub heard: usize,
}

/// Confirms a restored cluster: `POST /apis/heliox.dev/v1/cluster/confirm`. A server of another
/// cluster, or of another epoch, refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Confirmation {
    /// The cluster and epoch that are confirmed.
    pub cluster: Cluster,
}

/// The `status.problem` of a node whose agent waits for the confirmation.
pub const AWAITS_CONFIRMATION: &str = "the cluster was restored from a backup: its agent starts \
                                       and stops nothing until you run `hctl cluster confirm`";
