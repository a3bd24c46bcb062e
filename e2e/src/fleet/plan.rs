//! Which processes a fleet consists of, and with which arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::process::Process;
use super::program;

/// First of the host ports of the first agent, and how many each has.
const TASK_PORTS: (usize, usize) = (21_000, 100);

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct Shape {
    /// What runs tasks: as `heliox agent --runtime` says it.
    pub runtime: &'static str,
    /// How many agents: nodes `node-1` and so on.
    pub agents: usize,
    /// What each node says it has, as `heliox agent --capacity` says it; the machine's where empty.
    pub capacity: &'static str,
    /// What they belong to.
    pub control_plane: ControlPlane,
}

/// How apiserver, scheduler, controllers and the store are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlPlane {
    /// One `server` on the embedded store.
    Embedded,
    /// One `server` on etcd.
    OnEtcd {
        /// Members of etcd.
        members: usize,
    },
    /// Each part for itself, so many of each, on etcd.
    Apart {
        /// Members of etcd.
        members: usize,
        /// Apiservers.
        apiservers: usize,
        /// Schedulers.
        schedulers: usize,
        /// Controllers.
        controllers: usize,
    },
}

impl Shape {
    /// One server on the embedded store, and agents.
    pub fn small(runtime: &'static str, agents: usize) -> Self {
        Self { runtime, agents, capacity: "", control_plane: ControlPlane::Embedded }
    }
}

/// Processes by name, and where the API is served.
pub(super) struct FleetPlan {
    pub(super) processes: BTreeMap<String, Process>,
    pub(super) urls: Vec<String>,
    pub(super) etcd: String,
}

pub(super) fn plan(shape: &Shape, dir: &Path) -> FleetPlan {
    let mut maker = Maker { dir, processes: BTreeMap::new(), etcd: String::new() };
    let urls = match shape.control_plane {
        ControlPlane::Embedded => {
            let data = dir.join("server").display().to_string();
            maker.serving("server", &["server"], &["--data-dir".to_owned(), data])
        }
        ControlPlane::OnEtcd { members } => {
            let etcd = maker.etcd(members);
            maker.serving("server", &["server"], &["--etcd".to_owned(), etcd])
        }
        ControlPlane::Apart { members, apiservers, schedulers, controllers } => {
            let etcd = maker.etcd(members);
            let names: Vec<String> = (1..=apiservers).map(|n| format!("apiserver-{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let urls = maker.serving("apiserver", &names, &["--etcd".to_owned(), etcd]);
            for (part, count) in [("scheduler", schedulers), ("controllers", controllers)] {
                for number in 1..=count {
                    let args = [part.to_owned(), "--server".to_owned(), urls.join(",")];
                    maker.heliox(&format!("{part}-{number}"), args.to_vec());
                }
            }
            urls
        }
    };
    for number in 0..shape.agents {
        maker.agent(shape, number, &urls.join(","));
    }
    FleetPlan { processes: maker.processes, urls, etcd: maker.etcd }
}

struct Maker<'a> {
    dir: &'a Path,
    processes: BTreeMap<String, Process>,
    /// Client URLs of etcd's members.
    etcd: String,
}

impl Maker<'_> {
    fn add(&mut self, name: &str, program: PathBuf, args: Vec<String>, port: Option<u16>) {
        let log = self.dir.join(format!("{name}.log"));
        self.processes.insert(name.to_owned(), Process::new(program, args, &log, port));
    }

    fn heliox(&mut self, name: &str, args: Vec<String>) {
        self.add(name, program("heliox"), args, None);
    }

    /// Processes that serve the API; where.
    fn serving(&mut self, verb: &str, names: &[&str], storage: &[String]) -> Vec<String> {
        let mut urls = Vec::new();
        for name in names {
            let port = base::reserved_port().unwrap();
            let mut args = vec![verb.to_owned(), "--listen".to_owned()];
            args.push(format!("127.0.0.1:{port}"));
            args.extend_from_slice(storage);
            self.add(name, program("heliox"), args, Some(port));
            urls.push(format!("http://127.0.0.1:{port}"));
        }
        urls
    }

    fn agent(&mut self, shape: &Shape, number: usize, servers: &str) {
        let name = format!("node-{}", number + 1);
        let first = TASK_PORTS.0 + TASK_PORTS.1 * number;
        let mut args: Vec<String> = vec!["agent".to_owned()];
        for (option, value) in [
            ("server", servers.to_owned()),
            ("name", name.clone()),
            ("runtime", shape.runtime.to_owned()),
            ("port-range", format!("{first}-{}", first + TASK_PORTS.1 - 1)),
            ("state-dir", self.dir.join(&name).display().to_string()),
            ("capacity", shape.capacity.to_owned()),
        ] {
            if !value.is_empty() {
                args.extend([format!("--{option}"), value]);
            }
        }
        self.heliox(&name, args);
    }

    /// Members of etcd; their client URLs.
    fn etcd(&mut self, members: usize) -> String {
        let ports: Vec<u16> = (0..2 * members).map(|_| base::reserved_port().unwrap()).collect();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (clients, peers) = ports.split_at(members);
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(n, port)| format!("m{}={}", n + 1, url(*port)))
            .collect();
        for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let name = format!("etcd-{}", number + 1);
            let args = [
                ("name", format!("m{}", number + 1)),
                ("data-dir", self.dir.join(&name).display().to_string()),
                ("listen-client-urls", url(*client)),
                ("advertise-client-urls", url(*client)),
                ("listen-peer-urls", url(*peer)),
                ("initial-advertise-peer-urls", url(*peer)),
                ("initial-cluster", cluster.join(",")),
                // As operations advise: its memory would grow with every proposal.
                ("snapshot-count", "2000".to_owned()),
                ("log-level", "error".to_owned()),
            ];
            let args = args.into_iter().flat_map(|(option, value)| [format!("--{option}"), value]);
            self.add(&name, "etcd".into(), args.collect(), Some(*client));
        }
        self.etcd = clients.iter().map(|port| url(*port)).collect::<Vec<_>>().join(",");
        self.etcd.clone()
    }
}
