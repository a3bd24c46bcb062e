//! The template: what one container is made from.

mod host;
pub mod probe;
mod validate;
mod validate_probe;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amounts::{Amounts, GPU, LIMITS_ONLY, Quantity, amounts};
use crate::duration::Duration;

pub use host::{Capabilities, Device, HostAlias, SecurityContext, Sysctl, Ulimit};
pub use probe::{Probe, ProbeKind};
pub use validate::GRACE_SECONDS_MAX;
pub(crate) use validate::validate;

/// The container that a task runs. Fields that Kubernetes also has keep its names and meanings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Image to run, for example `registry:5000/team/app:1.4`. Required; the process runtime
    /// ignores it.
    pub image: String,
    /// When the node pulls the image. Default IfNotPresent. All tasks of a service's revision run the
    /// image that the tag meant when the first one ran it, unless the policy is Never: its digest is in
    /// `status.revisions` of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Entrypoint of the container, executed without a shell. Default: the entrypoint of the image.
    /// The process runtime has no image and needs `command` or `args`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments of the entrypoint. Default: the image's own, unless `command` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Working directory of the process, an absolute path. Default: that of the image; with the
    /// process runtime, a new empty directory for each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Environment variables, in order. A value may refer to a variable declared before it as
    /// `$(NAME)`. Names that begin with `HELIOX_` are reserved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// CPU, memory and other resources that the container requests and is limited to.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Ports that the container listens on. Each gets a port of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Files, directories and memory file systems that are mounted into the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Check that decides when the container has started. Until it succeeds, the other probes are
    /// not made and the task is not ready. If it fails `failureThreshold` times in a row, the
    /// container is stopped as after a failed liveness probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Box<Probe>>,
    /// Check that decides whether the task is ready to serve. Without it, the task is ready while
    /// its container runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Box<Probe>>,
    /// Check that decides whether the container still works. If it fails `failureThreshold` times in
    /// a row, the container is stopped with its grace period. In a service it is then started again,
    /// in a job the attempt has failed with reason Unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Box<Probe>>,
    /// Time between the decision to stop the container and the stop signal. The task is not ready in
    /// it, so that it gets no new work and can finish what it has. Default 0s, at most 1h. It is left
    /// out if the task was not ready before, and a deletion with a shorter grace period shortens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_delay: Option<Duration>,
    /// Seconds between the stop signal and KILL. Default 30, at most 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
    /// Signal that asks the process to stop, for example SIGINT. Default SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker network of the container: `bridge`, `host`, `none`, `container:NAME` or the name of a
    /// network. Default bridge. The process runtime ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<String>,
    /// Host name that the container sees. Default: one that the engine makes up; with `networkMode:
    /// host`, the node's. The process runtime ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// IP addresses of the name servers that the container asks, at most 3. Default: the node's. Not
    /// available with the process runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Further names in the container's `/etc/hosts`. Not available with the process runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// Whether the container sees the processes of the node. Default false. With the process runtime
    /// it always does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "hostPID")]
    pub host_pid: bool,
    /// Name of the Docker runtime that starts the container, for example `nvidia`; the node's engine
    /// must have it. Default: the engine's; for a template that requests `gpu`, `nvidia` where the
    /// engine has it. Not available with the process runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Devices of the node that the container may use: `/dev/fuse`, `/dev/sda:/dev/xvda`, or with
    /// permissions `/dev/sda:/dev/xvda:r` (default `rwm`: read, write, make). The process runtime
    /// has no other path for them, and restricts nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Kernel parameters of the container. Not available with the process runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<Sysctl>,
    /// Limits of the kernel for each process of the container. Not available with the process
    /// runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    /// Rights of the container's processes.
    #[serde(default, skip_serializing_if = "SecurityContext::is_empty")]
    pub security_context: SecurityContext,
    /// How much is kept of what the container writes, and for how long.
    #[serde(default, skip_serializing_if = "Logs::is_empty")]
    pub logs: Logs,
    /// Labels that are set on the Task object and on the container. Keys under `heliox.dev/` are
    /// reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Seconds between the stop signal and KILL where the template says nothing.
pub const GRACE_SECONDS: u32 = 30;
/// Longest delay, period and time-out of a probe, in seconds: a day.
pub const PROBE_SECONDS_MAX: u32 = 24 * 3600;
/// Most probes in a row that a probe may ask for.
pub const PROBE_THRESHOLD_MAX: u32 = 100_000;
/// Longest drain delay.
pub const DRAIN_DELAY_MAX: Duration = Duration::from_secs(3600);

impl Template {
    /// Seconds between the stop signal and KILL.
    pub fn grace_seconds(&self) -> u32 {
        self.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS)
    }

    /// The time between the decision to stop and the stop signal.
    pub fn drain_delay(&self) -> Duration {
        self.drain_delay.unwrap_or_default()
    }

    /// What a node must have free: the requests, and the limit of a resource for which no request
    /// is made.
    pub fn requests(&self) -> Amounts {
        let mut wanted = amounts(&self.resources.limits);
        wanted.retain(|name, _| !LIMITS_ONLY.contains(&name.as_str()));
        wanted.extend(amounts(&self.resources.requests));
        wanted
    }

    /// How many GPUs it is given.
    pub fn gpus(&self) -> u64 {
        self.requests().get(GPU).copied().unwrap_or(0)
    }
}

/// When a node pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Pull the image if the node does not have it.
    #[default]
    IfNotPresent,
    /// Pull the image before each attempt; in a service, for each new revision.
    Always,
    /// Do not pull; the attempt fails if the node does not have the image.
    Never,
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable.
    pub name: String,
    /// Value of the variable. `$(NAME)` is replaced with the value of a variable declared before
    /// it.
    #[serde(default)]
    pub value: String,
}

/// Resources of a container by name: `cpu`, `memory`, `gpu`, or any other that a node offers. With
/// Docker a container that requests `gpu` is given so many GPUs of the node, which no other task has
/// at the same time. The process runtime enforces no limits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Amounts that a node must have free to run the task, and that are reserved while it runs.
    /// Default: the limit of the same resource, if there is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// Amounts that the container may use at most. A container that exceeds its memory limit is
    /// killed (OOMKilled). `pids` limits its processes and threads, `memory-swap` its memory and swap
    /// together (default: the memory limit, so that it may use no swap); nodes do not count these two.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// Processors that the container may use, for example `0-3` or `0,2`. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
}

impl Resources {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty() && self.cpuset.is_none()
    }
}

/// A port that the container listens on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name of the port. It gives `$(ports.NAME)`, `HELIOX_PORT_NAME` and `HELIOX_ADDR_NAME` their
    /// names.
    pub name: String,
    /// Port that the program listens on inside the container. Default: the same number as the port
    /// of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub container_port: Option<u16>,
    /// Port of the node. Default: a free one from the range that the node's agent was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub host_port: Option<u16>,
    /// IP address of the node to bind the port to. Default: 127.0.0.1 with the Docker runtime.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "hostIP")]
    pub host_ip: Option<String>,
    /// Transport protocol. Default TCP.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

impl Protocol {
    /// Whether this is the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_tcp(&self) -> bool {
        *self == Protocol::Tcp
    }
}

/// A path in the container that comes from outside it. Exactly one of `hostPath`, `volume` and
/// `tmpfs` is required.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Absolute path in the container.
    pub path: String,
    /// Absolute path of a file or directory of the node. With the process runtime it must be the
    /// same as `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Name of a Docker volume of the node. It is made if it does not exist, and stays when the task
    /// is gone. Not available with the process runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Mount an empty file system in memory. Not available with the process runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Tmpfs>,
    /// Mount the path read-only. Default false. The process runtime does not enforce it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Create `hostPath` as a directory if it does not exist. Default false: an attempt whose
    /// `hostPath` is missing fails with MountFailed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tmpfs {
    /// Maximum size, for example `16Mi`. Default: the engine's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
}

/// How much is kept of what a container writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// Most bytes that are kept of one container, from 256Ki to 1Gi; the oldest lines are deleted.
    /// Default 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Quantity>,
    /// How long its log is kept after the container is gone, at most 720h (30 days). Default 24h. The
    /// oldest logs of a node are deleted earlier where all of them together take more than 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Duration>,
}

impl Logs {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
