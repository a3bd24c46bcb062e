//! Node: a host that runs tasks. NodeLease: the proof that its agent lives.

mod conditions;
mod drain;
mod row;
pub mod stats;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amounts::{Amounts, Quantity, amounts};
use crate::cluster::Cluster;
use crate::conditions::Condition;
use crate::duration::Duration;
use crate::kind::KindId;
use crate::object::{Definition, Kind as _, Object};
use crate::room::HostPort;
use crate::taint::{self, Taint, Toleration};

pub use conditions::Trouble;
pub use drain::{Drain, DrainState, DrainStatus};
pub use row::Usage;

/// How long after an agent was last heard its node's name is free for another one: the time of a
/// node lease, and ten seconds, after which most tasks are replaced.
pub const TAKE_OVER_AFTER: Duration = Duration::from_secs(16);

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

/// Settings of a node that users change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// Do not place new tasks on the node; tasks that run there continue. Set by `hctl cordon`.
    /// Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
    /// All tasks are to leave the node, except those of services with `perNode`. It sets
    /// `unschedulable`, and ends when that is taken back. Set by `hctl drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Taints, which keep tasks away that do not tolerate them. Those of the agent's `--taint` flags
    /// are among them. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

/// The observed state of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Current phase of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// Identifier of the current start of the agent. It changes when the agent restarts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// Identity of the agent's installation, which is kept in its state directory. Another one may
    /// take over the node's name once this one has been silent for 16 seconds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// Labels that the agent's `--label` flags asked for last. When a flag is taken away its label
    /// goes, unless a user has changed it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agent_labels: BTreeMap<String, String>,
    /// Taints that the agent's `--taint` flags asked for last, in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_taints: Vec<Taint>,
    /// Resources of the node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// Resources that tasks may use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: BTreeMap<String, Quantity>,
    /// First and last port of the range from which tasks get node ports that they do not specify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<(u16, u16)>,
    /// Address at which the ports of the node's tasks are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Versions and platform of the node.
    #[serde(default)]
    pub info: NodeInfo,
    /// Images on the node, by name; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Attempts that no longer belong on the node and that the agent still has to stop. Their
    /// resources stay reserved until they have stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
    /// Why the agent cannot run tasks at present; absent if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What keeps the node from taking new tasks, if `problem` is about one of these; otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// When the node was declared lost; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Timestamp>,
    /// When the agent was last heard from; absent unless it is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
    /// Why a node whose agent is silent is not declared lost, for example `3 of 4 nodes are silent`;
    /// absent otherwise. No new tasks are bound to such a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How the drain stands that was asked for. Written by the controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// When the agent first reported; absent if it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// Ready (cordoned or not), Reconciling, Stalled; DiskPressure, MemoryPressure, EngineDown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Versions and platform of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// Operating system, for example `linux`.
    #[serde(default)]
    pub os: String,
    /// Processor architecture: `amd64` or `arm64`.
    #[serde(default)]
    pub arch: String,
    /// Version of the kernel.
    #[serde(default)]
    pub kernel: String,
    /// Container runtime with its version: `docker 27.3.1`, `process` or `sim`.
    #[serde(default)]
    pub runtime: String,
    /// Version of the agent.
    #[serde(default)]
    pub agent_version: String,
    /// Name of the operating system's distribution, for example `Debian GNU/Linux 12 (bookworm)`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os_image: String,
    /// Number of processors of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Size of the disk with the agent's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Identifier of the current boot of the host. It changes when the host restarts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host_boot_id: String,
}

/// An attempt that still runs on a node and no longer belongs there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// UID of the task.
    pub uid: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Resources that the attempt holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: Amounts,
    /// Node ports that the attempt holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
}

/// Phase of a node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum NodePhase {
    /// Accepts and runs tasks.
    Ready,
    /// The agent has a problem that keeps it from running tasks, has never reported, or is silent and
    /// not declared lost.
    NotReady,
    /// The agent has not been heard from for 6 seconds.
    Lost,
    /// Runs its tasks and accepts no new ones.
    Cordoned,
    /// Accepts no new tasks, and those that it has are moved to other nodes.
    Draining,
}

impl fmt::Display for NodePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Node {
    /// The phase, computed from what is stored.
    pub fn phase(&self) -> NodePhase {
        if self.status.lost.is_some() {
            NodePhase::Lost
        } else if self.status.ready_since.is_none()
            || self.status.problem.is_some()
            || self.is_silent()
        {
            NodePhase::NotReady
        } else if self.is_draining() {
            NodePhase::Draining
        } else if self.spec.unschedulable {
            NodePhase::Cordoned
        } else {
            NodePhase::Ready
        }
    }

    /// Whether the agent has not been heard from for a while, whether or not the node was declared
    /// lost.
    pub fn is_silent(&self) -> bool {
        self.status.silent_since.is_some() || self.status.lost.is_some()
    }

    /// Whether another installation than `agent` may take over the node's name, now that nobody holds
    /// its lease. Not while the tasks of the one that had it may not have been replaced yet.
    pub fn may_be_taken_over_by(&self, agent: &str, now: Timestamp) -> bool {
        let heard = self.status.silent_since.or(self.status.lost);
        let is_over = heard
            .and_then(|heard| heard.checked_add(TAKE_OVER_AFTER.signed()).ok())
            .is_some_and(|free| free <= now);
        let is_its_own = self.status.agent.is_empty() || self.status.agent == agent;
        is_its_own || is_over
    }

    /// Whether new tasks may be bound to the node.
    pub fn is_schedulable(&self) -> bool {
        self.phase() == NodePhase::Ready && !self.is_deleting()
    }

    /// The first of its taints that keeps new tasks with these tolerations away.
    pub fn repelling(&self, tolerations: &[Toleration]) -> Option<&Taint> {
        taint::repelling(&self.spec.taints, tolerations)
    }

    /// The value of a label that constraints look at, including the built-in labels.
    pub fn constraint_label(&self, label: &str) -> Option<&str> {
        match label {
            "name" => Some(self.name()),
            "arch" if self.label(label).is_none() => Some(&self.status.info.arch),
            "os" if self.label(label).is_none() => Some(&self.status.info.os),
            _ => self.label(label),
        }
    }

    /// The resources that tasks may use.
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
#[serde(rename_all = "camelCase")]
pub struct NodeLeaseSpec {
    /// The id of the lease in the store.
    pub lease: u64,
    /// The identity of the agent's installation. It is kept in the agent's state directory, so that
    /// a second agent under the same node name can be told apart from the first one restarted.
    pub agent: String,
    /// Identifier of the current start of the agent.
    pub boot_id: String,
    /// URL of the apiserver that holds the agent's connection. Requests for logs and commands go
    /// there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub apiserver: String,
    /// Number of the connection that this apiserver holds, counted from 1 for each start of the
    /// agent. By it an apiserver that has not noticed yet that its connection is dead does not
    /// replace a newer connection.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connection: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Empty: a node lease exists or does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NodeLeaseStatus {}

/// The protocol that an agent's connection is upgraded to: HTTP/2, with the agent, which opened the
/// connection, as the server. It is opened with `POST
/// /apis/heliox.dev/v1/nodes/{node}/connect?bootId=&connection=`.
pub const TUNNEL_PROTOCOL: &str = "heliox-tunnel";

/// The header that marks a request which one apiserver passes on to another. Its value is the URL
/// of the one that passes it on. Such a request is never passed on again, so that two apiservers
/// cannot send it back and forth.
pub const PEER_HEADER: &str = "heliox-peer";

/// The header by which an apiserver that passes a request on says for whom, and for what, it asks:
/// JSON. Only apiservers may send it.
pub const REQUESTER_HEADER: &str = "heliox-requester";

/// Asks for a node lease: `POST /apis/heliox.dev/v1/nodeleases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantRequest {
    /// Name of the node.
    pub node: String,
    /// Identity of the agent's installation.
    pub agent: String,
    /// Identifier of the current start of the agent.
    pub boot_id: String,
}

/// The header that names the [`Cluster`] a request is meant for, in its text form. Any other
/// cluster, or another epoch of the store, refuses the request. So an agent never takes an empty
/// list of another cluster as the order to stop everything.
pub const CLUSTER_HEADER: &str = "heliox-cluster";

/// A granted node lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantResponse {
    /// Id of the lease, for renewals.
    pub lease: u64,
    /// Time after which it expires unless it is renewed, in milliseconds.
    pub ttl_millis: u64,
    /// Id of the cluster. An agent stops nothing that it started for another cluster.
    pub cluster: String,
    /// Epoch of the store, which a restore increases.
    pub epoch: u64,
    /// Which restore began the epoch; empty in the first one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restore: String,
    /// Whether the store was restored and nobody has confirmed it yet. The agent waits until then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
}

impl GrantResponse {
    /// The cluster that granted the lease.
    pub fn granted_by(&self) -> Cluster {
        let (id, restore) = (self.cluster.clone(), self.restore.clone());
        Cluster { id, epoch: self.epoch, restore }
    }
}

/// Renews the lease of a node: `POST /apis/heliox.dev/v1/nodeleases/renew`. The request names the
/// node and the lease, so that a wrong lease id cannot keep another node's lease alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewRequest {
    /// Name of the node.
    pub node: String,
    /// Id of its lease, as granted.
    pub lease: u64,
}

/// The result of a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewResponse {
    /// Whether the node still had this lease, which is then renewed. Otherwise the agent must ask
    /// for a new one.
    pub alive: bool,
    /// As in [`GrantResponse::unconfirmed`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// Whether no Node object exists for the node, as far as this apiserver knows. The agent then
    /// creates it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unregistered: bool,
}
