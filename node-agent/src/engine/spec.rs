//! The specification of a container, fully resolved: nothing in it has to be looked up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use api::template::{HostAlias, SecurityContext, Sysctl, Ulimit};
use thiserror::Error;

use super::{Identity, LOG_BYTES_MAX};

/// A container to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its identity.
    pub identity: Identity,
    /// The image's name. The process engine ignores it.
    pub image: String,
    /// When to pull the image.
    pub pull_policy: PullPolicy,
    /// Whether the digest of the image is asked for.
    pub wants_digest: bool,
    /// The entrypoint. Default: the image's.
    pub command: Vec<String>,
    /// The arguments. Default: the image's, unless there is a command.
    pub args: Vec<String>,
    /// The working directory. Default: the image's; in the process engine a new folder.
    pub working_dir: Option<String>,
    /// The environment, in order. Of two values of one name the later counts.
    pub env: Vec<(String, String)>,
    /// The user's labels. Labels that Heliox sets itself take precedence.
    pub labels: BTreeMap<String, String>,
    /// Requests and limits.
    pub resources: Resources,
    /// Ports that it listens on.
    pub ports: Vec<Port>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// The stop signal, which the agent sends, and `docker stop` as well.
    pub stop_signal: Signal,
    /// The time between the stop signal and KILL.
    pub grace: Duration,
    /// `bridge`, `host`, `none`, `container:NAME` or the name of a network. Default: the engine's.
    pub network_mode: Option<String>,
    /// What it has of its host, and what it may do there.
    pub host: HostSettings,
    /// How much is kept of what it writes.
    pub logs: LogLimits,
}

/// What a container has of its host, and what it may do there, in the template's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostSettings {
    /// The host name that it sees. Default: the engine's.
    pub hostname: Option<String>,
    /// The name servers that it asks. Default: the host's.
    pub dns: Vec<String>,
    /// Further names in its `/etc/hosts`.
    pub host_aliases: Vec<HostAlias>,
    /// It sees the host's processes.
    pub host_pid: bool,
    /// What the engine starts it with. Default: the engine's.
    pub runtime: Option<String>,
    /// Devices of the host, as Docker writes them.
    pub devices: Vec<String>,
    /// Its kernel parameters.
    pub sysctls: Vec<Sysctl>,
    /// Limits for each of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Its rights.
    pub security: SecurityContext,
    /// The numbers of the graphics processors that it is given.
    pub gpus: Vec<u32>,
}

/// How much is kept of what a container writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Most bytes.
    pub bytes_max: u64,
    /// How long it is kept after the container is gone. Default: [`LOGS_KEPT`](super::LOGS_KEPT).
    pub keep: Option<Duration>,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { bytes_max: LOG_BYTES_MAX, keep: None }
    }
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// If it is not present.
    IfNotPresent,
    /// Before every start: the first try is answered with `NeedsImage`.
    Always,
    /// Not at all.
    Never,
}

/// How much a container may use; `None` means no limit. The process engine enforces none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Its share of a busy processor, in thousandths of a core.
    pub cpu_request_millis: Option<u64>,
    /// Most processor time, in thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    /// The memory at which it is killed, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Most memory and swap together, in bytes. Default: the memory limit.
    pub memory_swap_bytes: Option<u64>,
    /// Most processes and threads.
    pub pids: Option<u64>,
    /// The processors that it may use. Default: all.
    pub cpuset: Option<String>,
}

/// A port of the container and its port on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port's name.
    pub name: String,
    /// The port in the container.
    pub container_port: u16,
    /// The port on the node; `None` if the port is not published.
    pub host_port: Option<u16>,
    /// The address on the node. Default: the engine's.
    pub host_ip: Option<IpAddr>,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As Docker writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path in the container.
    pub path: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or folder of the node.
    HostPath {
        /// Its path on the node.
        host_path: PathBuf,
        /// The container cannot write.
        read_only: bool,
        /// Create a folder if nothing exists there. Otherwise that is refused.
        create: bool,
    },
    /// A volume of the engine, which makes it if there is none of this name.
    Volume {
        /// Its name.
        name: String,
        /// The container cannot write.
        read_only: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its size. Default: the engine's.
        size_bytes: Option<u64>,
    },
}

/// A signal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signal(nix::sys::signal::Signal);

/// The text does not name a signal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(pub String);

impl Signal {
    /// Asks a process to end.
    pub const TERM: Self = Self(nix::sys::signal::Signal::SIGTERM);
    /// Ends a process.
    pub const KILL: Self = Self(nix::sys::signal::Signal::SIGKILL);

    /// Its number on this platform.
    pub fn number(self) -> i32 {
        self.0 as i32
    }

    /// As `SIGTERM`.
    pub fn name(self) -> &'static str {
        self.0.as_str()
    }

    pub(crate) fn as_nix(self) -> nix::sys::signal::Signal {
        self.0
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Parses `SIGTERM`, `TERM` or `15`.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return nix::sys::signal::Signal::try_from(number).map(Self).map_err(|_| unknown());
        }
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        name.parse().map(Self).map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_by_name_or_number() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM));
        }
        assert_eq!("NOPE".parse::<Signal>(), Err(UnknownSignal("NOPE".to_owned())));
        assert!("0".parse::<Signal>().is_err());
    }
}
