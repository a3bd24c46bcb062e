//! What is to run, fully resolved: nothing in it is left to be looked up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::Identity;

/// A container to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Whose it is.
    pub identity: Identity,
    /// The image's name. The process engine ignores it.
    pub image: String,
    /// When to fetch the image.
    pub pull_policy: PullPolicy,
    /// The entrypoint; where it is empty, the image's.
    pub command: Vec<String>,
    /// Arguments; where these and the command are empty, the image's.
    pub args: Vec<String>,
    /// Where it starts; by default the image's, or a fresh folder of the process engine.
    pub working_dir: Option<String>,
    /// The environment, in order; later ones win.
    pub env: Vec<(String, String)>,
    /// The user's labels. Keys under `heliox.dev/` that Heliox sets itself are overwritten.
    pub labels: BTreeMap<String, String>,
    /// How much it may use.
    pub resources: Resources,
    /// What it listens on.
    pub ports: Vec<Port>,
    /// What it sees of the node's files.
    pub mounts: Vec<Mount>,
    /// What asks it to end; the agent sends it, and `docker stop` by hand does, too.
    pub stop_signal: Signal,
    /// How long it may take to end when asked.
    pub grace: Duration,
    /// `bridge`, `host`, `none`, `container:NAME` or a network's name; the engine's default where
    /// it is absent.
    pub network_mode: Option<String>,
}

/// When to fetch an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Where it is not present.
    IfNotPresent,
    /// Before every start: `NeedsImage` is the answer to the first try.
    Always,
    /// Not at all.
    Never,
}

/// How much a container may use. Absent is no limit. The process engine enforces none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Its share of a busy processor, in thousandths.
    pub cpu_request_millis: Option<u64>,
    /// The processor time it gets at most, in thousandths of one processor.
    pub cpu_limit_millis: Option<u64>,
    /// The memory at which it is killed.
    pub memory_limit_bytes: Option<u64>,
}

/// A port that is reachable on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port's name.
    pub name: String,
    /// Where the container listens.
    pub container_port: u16,
    /// Where the node listens; absent where nothing is published.
    pub host_port: Option<u16>,
    /// On which address of the node; the engine's default where it is absent.
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

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where the container sees it.
    pub path: PathBuf,
    /// What it is.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or folder of the node.
    HostPath {
        /// Which.
        host_path: PathBuf,
        /// The container cannot write.
        read_only: bool,
        /// Make a folder where nothing is; else that is refused.
        create: bool,
    },
    /// Memory.
    Tmpfs {
        /// Its size; the engine's default where it is absent.
        size_bytes: Option<u64>,
    },
}

/// A signal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signal(nix::sys::signal::Signal);

/// What names no signal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(pub String);

impl Signal {
    /// Asks to end.
    pub const TERM: Self = Self(nix::sys::signal::Signal::SIGTERM);
    /// Ends.
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

    /// Reads `SIGTERM`, `TERM` or `15`.
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
