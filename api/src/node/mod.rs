//! Node: a host that runs tasks. NodeLease: the proof that its agent lives.

mod row;
pub mod stats;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amounts::{Amounts, Quantity, amounts};
use crate::cluster::Cluster;
use crate::kind::KindId;
use crate::object::{Definition, Kind as _, Object};
use crate::room::HostPort;

pub use row::Usage;

/// A host that runs tasks.
pub type Node = Object<NodeDefinition>;

/// Makes [`Node`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeDefinition;

impl Definition for NodeDefinition {
    const ID: KindId = KindId::Node;
    type Spec = NodeSpec;
    type Status = NodeStatus;
}

/// What people want of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Nothing new is bound to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
}

/// What a node is. `lost` is the node controller's; all else is the agent's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeStatus {
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// Which start of which agent speaks: changes when the agent restarts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// What it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// What tasks may use of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: BTreeMap<String, Quantity>,
    /// The host ports that it gives to tasks which name none: first and last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<(u16, u16)>,
    /// The address at which its tasks' ports are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it runs on.
    #[serde(default)]
    pub info: NodeInfo,
    /// Images that it has; the first hundred by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// What it still has to stop although no task of it is wanted here any more; counted as taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
    /// Why its agent cannot run tasks now, although it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Since when the node is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Timestamp>,
    /// Whether the agent was ever heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
}

/// What a node runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeInfo {
    /// Operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// Processor architecture: `amd64`, `arm64`.
    #[serde(default)]
    pub arch: String,
    /// Kernel release.
    #[serde(default)]
    pub kernel: String,
    /// The runtime and its version: `docker 27.3.1`, `process`, `sim`.
    #[serde(default)]
    pub runtime: String,
    /// The agent's version.
    #[serde(default)]
    pub agent_version: String,
}

/// Something that runs on a node and is no longer wanted there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Leftover {
    /// The task's uid.
    pub uid: String,
    /// Its attempt.
    pub attempt: u32,
    /// What it takes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: Amounts,
    /// The host ports that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
}

/// A node's phase.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum NodePhase {
    /// Runs tasks.
    Ready,
    /// Its agent lives but cannot run tasks, or was never heard.
    NotReady,
    /// Its agent is not heard.
    Lost,
    /// Runs what it has and takes nothing new.
    Cordoned,
}

impl fmt::Display for NodePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Node {
    /// The phase: a function of what is stored.
    pub fn phase(&self) -> NodePhase {
        if self.status.lost.is_some() {
            NodePhase::Lost
        } else if self.status.ready_since.is_none() || self.status.problem.is_some() {
            NodePhase::NotReady
        } else if self.spec.unschedulable {
            NodePhase::Cordoned
        } else {
            NodePhase::Ready
        }
    }

    /// Whether new tasks may be bound to it.
    pub fn is_schedulable(&self) -> bool {
        self.phase() == NodePhase::Ready && !self.is_deleting()
    }

    /// The value of a label, the built-in ones included.
    pub fn constraint_label(&self, label: &str) -> Option<&str> {
        match label {
            "name" => Some(self.name()),
            "arch" if self.label(label).is_none() => Some(&self.status.info.arch),
            "os" if self.label(label).is_none() => Some(&self.status.info.os),
            _ => self.label(label),
        }
    }

    /// What tasks may use.
    pub fn allocatable(&self) -> Amounts {
        amounts(&self.status.allocatable)
    }
}

/// The proof that a node's agent lives.
pub type NodeLease = Object<NodeLeaseDefinition>;

/// Makes [`NodeLease`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeLeaseDefinition;

impl Definition for NodeLeaseDefinition {
    const ID: KindId = KindId::NodeLease;
    type Spec = NodeLeaseSpec;
    type Status = NodeLeaseStatus;
}

/// Who holds a node lease.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeLeaseSpec {
    /// The lease in the store.
    pub lease: u64,
    /// Which installation of an agent: kept in its state directory, so that a second agent under
    /// the same name is told apart from the first one restarted.
    pub agent: String,
    /// Which start of it.
    pub boot_id: String,
    /// The URL of the apiserver that holds the agent's connection: where logs are asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub apiserver: String,
    /// Which connection of this start of the agent that one holds, counted from 1: an apiserver
    /// that has not noticed yet that its connection is dead does not take the place of a newer one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connection: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Nothing: a node lease is there or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeLeaseStatus {}

/// What an agent's connection is upgraded to: HTTP/2, served by the side that dialled. It is asked
/// for at `POST /apis/heliox.dev/v1/nodes/{node}/connect?bootId=&connection=`.
pub const TUNNEL_PROTOCOL: &str = "heliox-tunnel";

/// The header by which one apiserver tells another that it asks for somebody else. It holds the URL
/// of the one that asks. What comes with it is never passed on to a third one.
pub const PEER_HEADER: &str = "heliox-peer";

/// Asks for a node lease: `POST /apis/heliox.dev/v1/nodeleases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantRequest {
    /// The node.
    pub node: String,
    /// Which installation of an agent.
    pub agent: String,
    /// Which start of it.
    pub boot_id: String,
}

/// The header that names the [`Cluster`] which a request is meant for, as it shows itself: another
/// one, or another life of its store, refuses it. So an agent never takes the list of another cluster for its own.
pub const CLUSTER_HEADER: &str = "heliox-cluster";

/// A node lease, granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantResponse {
    /// Its id, for renewals.
    pub lease: u64,
    /// How long it lives without one, in milliseconds.
    pub ttl_millis: u64,
    /// The cluster: an agent stops nothing of another cluster.
    pub cluster: String,
    /// The store's epoch: a restored store has a new one.
    pub epoch: u64,
    /// Which restore made the store what it is; empty where none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restore: String,
    /// The store was restored, and nobody has said yet that agents are to work for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
}

impl GrantResponse {
    /// Who granted it.
    pub fn granted_by(&self) -> Cluster {
        let (id, restore) = (self.cluster.clone(), self.restore.clone());
        Cluster { id, epoch: self.epoch, restore }
    }
}

/// Renews node leases: `POST /apis/heliox.dev/v1/nodeleases/renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// Their ids.
    pub leases: Vec<u64>,
}

/// Which of them were still there, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewResponse {
    /// In the order of the request.
    pub alive: Vec<bool>,
    /// As in [`GrantResponse::unconfirmed`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
}
