//! `heliox dev`: everything in one process, for trying things out.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use api::amounts::Amounts;
use base::{Rng, Tasks};
use clap::Parser as _;
use nix::unistd::geteuid;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use store::{Embedded, Store};
use tokio::net::TcpListener;

use crate::args::{DevArgs, Runtime};
use crate::control_plane::{self, Common};
use crate::engine_flags::EngineOptions;
use crate::node::{self, Engines, NodeConfig};
use crate::process::EndSignals;
use crate::{dev_ready, in_process, listen, process, serve};

/// Range of host ports that is divided among the nodes.
const PORTS: (u16, u16) = (20_000, 32_767);

/// Runs until asked to end. In whatever way it ends, it removes everything temporary.
pub async fn run(args: DevArgs) -> Result<()> {
    // First of all, so that from here on Ctrl-C cleans up as well.
    let mut signals = EndSignals::listen()?;
    let started = tokio::time::Instant::now();
    // Before anything is started: a manifest that cannot be read is most likely a wrong file name.
    for file in &args.apply {
        readable(file)?;
    }
    let listener = listen::listen(listen::Served::Api, args.listen, args.insecure).await?;
    node::require(args.runtime).await?;
    let data = DataDir::of(&args)?;
    let parts = Parts::default();
    let groups = parts.groups();
    let begun = tokio::select! {
        biased;
        // Stop waiting as soon as a part has failed.
        early = process::asked_by(&mut signals, &groups) => Err(match early {
            Ok(()) => anyhow::anyhow!("stopped before everything was ready"),
            Err(failure) => failure,
        }),
        begun = begin(&args, listener, &data, &parts, started) => begun,
    };
    let ended = match begun {
        Ok(()) => process::asked_by(&mut signals, &parts.groups()).await,
        Err(error) => Err(error),
    };
    // The first error is the one that matters.
    let tidied = parts.end(&data).await;
    ended.and(tidied)
}

/// Everything that runs in this process.
#[derive(Debug)]
struct Parts {
    storage: Tasks,
    servers: Tasks,
    agents: Tasks,
    engines: Engines,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            storage: Tasks::new("store"),
            servers: Tasks::new("servers"),
            agents: Tasks::new("agents"),
            engines: Engines::default(),
        }
    }
}

impl Parts {
    fn groups(&self) -> [&Tasks; 3] {
        [&self.storage, &self.servers, &self.agents]
    }

    /// Ends all parts in the order of their dependencies, and removes what is temporary.
    async fn end(self, data: &DataDir) -> Result<()> {
        self.agents.stop_within(process::AGENT_GRACE).await;
        let mut removed = Ok(());
        if let DataDir::Passing(dir) = data {
            self.engines.empty().await;
            removed = std::fs::remove_dir_all(dir);
            if removed.as_ref().is_err_and(|it| it.kind() == std::io::ErrorKind::NotFound) {
                removed = Ok(());
            }
        }
        self.servers.stop_within(process::GRACE).await;
        self.storage.stop_within(process::STORE_GRACE).await;
        removed.with_context(|| format!("remove {}", data.dir().display()))
    }
}

/// Starts all parts and applies the given manifests.
async fn begin(
    args: &DevArgs,
    listener: TcpListener,
    data: &DataDir,
    parts: &Parts,
    started: tokio::time::Instant,
) -> Result<()> {
    let Parts { storage, servers, agents, engines } = parts;
    let address = listener.local_addr().context("cannot read the address")?;
    let common = Common::of_machine()?.keeping_events(args.events.event_ttl);
    let store: Arc<dyn Store> = match data {
        DataDir::Passing(_) if args.etcd.etcd.is_empty() => {
            Arc::new(Embedded::in_memory(&storage.spawner()).context("cannot open the store")?)
        }
        DataDir::Passing(dir) | DataDir::Kept(dir) => {
            args.etcd.open_or(Some(dir), &common.rng, storage).await?
        }
    };
    let shares_store = !args.etcd.etcd.is_empty() && !address.ip().is_unspecified();
    let peers = listen::peers(None, address, shares_store)?;
    let plane = control_plane::start((store, peers), &common, servers).await?;
    servers.spawn_part("http", serve::serve(listener, plane.router.clone(), servers.spawner()));
    let runtime = node::chosen(args.runtime, &EngineOptions::default()).await?;
    let (mut metrics, mut names) = (NodesMetrics::default(), Vec::new());
    for number in 1..=args.nodes {
        let dial = in_process::dial(&plane.router, "node-agent", agents.spawner());
        let config = node_config(data, (number, args.nodes), runtime);
        let outside = (plane.client.clone(), Some(dial));
        let registry = metrics.of_node(&config.name)?;
        names.push(config.name.clone());
        node::start(config, outside, (&common, registry), engines, agents)?;
    }
    common.registry.register(Box::new(metrics)).context("cannot register the nodes' metrics")?;
    dev_ready::nodes_are_ready(&plane.client, &names, |why| still_waits(address, why)).await;
    welcome(args, address, runtime, started.elapsed());
    for file in &args.apply {
        apply(address, file).await?;
    }
    Ok(())
}

/// The metrics of all nodes' agents, labelled with the node, as one collector, because the process
/// has only the apiserver's `/metrics`.
#[derive(Debug, Default)]
struct NodesMetrics(Vec<Registry>);

impl NodesMetrics {
    fn of_node(&mut self, name: &str) -> Result<Registry> {
        let label = std::iter::once(("node".to_owned(), name.to_owned()));
        let registry = Registry::new_custom(None, Some(label.collect()))
            .with_context(|| format!("cannot create a metrics registry for {name}"))?;
        self.0.push(registry.clone());
        Ok(registry)
    }
}

impl Collector for NodesMetrics {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.iter().flat_map(Registry::gather).collect()
    }
}

/// Where data is kept.
#[derive(Debug)]
enum DataDir {
    /// In this directory, across restarts.
    Kept(PathBuf),
    /// In memory, until the process ends. The directory is for the agents' files, and is removed at
    /// the end.
    Passing(PathBuf),
}

impl DataDir {
    fn of(args: &DevArgs) -> Result<Self> {
        match &args.data_dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
                refuse_others(dir)?;
                Ok(DataDir::Kept(dir.clone()))
            }
            None => Ok(DataDir::Passing(passing_dir(&std::env::temp_dir())?)),
        }
    }

    fn dir(&self) -> &PathBuf {
        match self {
            DataDir::Kept(dir) | DataDir::Passing(dir) => dir,
        }
    }
}

/// Creates a folder that nobody else can read or have created before: its name cannot be guessed,
/// and an existing folder or link is never used.
fn passing_dir(parent: &Path) -> Result<PathBuf> {
    let dir = parent.join(format!("heliox-dev-{}", Rng::from_machine().uuid()));
    DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("make {}", dir.display()))?;
    Ok(dir)
}

/// Refuses a folder that belongs to another user, who could change what is in it.
fn refuse_others(dir: &Path) -> Result<()> {
    let own = geteuid().as_raw();
    for found in [std::fs::symlink_metadata(dir), std::fs::metadata(dir)] {
        let owner = found.with_context(|| format!("cannot read {}", dir.display()))?.uid();
        if owner != own && owner != 0 {
            anyhow::bail!(
                "{} belongs to another user (uid {owner}); choose another --data-dir, or run \
                 this as that user",
                dir.display()
            );
        }
    }
    Ok(())
}

/// The configuration of node `number` of `nodes`. Each node gets its share of the host ports.
fn node_config(data: &DataDir, (number, nodes): (u16, u16), runtime: Runtime) -> NodeConfig {
    let share = (PORTS.1 - PORTS.0 + 1) / nodes;
    let first = PORTS.0 + share * (number - 1);
    let name = format!("node-{number}");
    NodeConfig {
        state_dir: data.dir().join("agents").join(&name),
        name,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        capacity: Amounts::new(),
        runtime,
        port_range: (first, first + share - 1),
        address: IpAddr::from([127, 0, 0, 1]),
        accept_cluster: false,
        engine: EngineOptions::default(),
    }
}

#[expect(clippy::print_stderr, reason = "whoever waits wants to know what for")]
fn still_waits(address: SocketAddr, why: &str) {
    eprintln!("heliox dev: serving http://{address}; waiting for nodes: {why}");
}

#[expect(clippy::print_stderr, reason = "what a person who tries it out wants to know first")]
fn welcome(args: &DevArgs, address: SocketAddr, runtime: Runtime, took: std::time::Duration) {
    let data = match &args.data_dir {
        Some(dir) => format!("data in {}", dir.display()),
        None if !args.etcd.etcd.is_empty() => "data in etcd".to_owned(),
        None => "data in memory".to_owned(),
    };
    let nodes = if args.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", args.nodes) };
    let runtime = format!("{runtime:?}").to_ascii_lowercase();
    eprintln!("heliox dev: http://{address}, {nodes} ({runtime}), {data}; ready in {took:.0?}");
    eprintln!("  export HELIOX_SERVER=http://{address}");
    eprintln!("  hctl apply -f manifests/hello.yaml && hctl get tasks --watch");
    eprintln!("Not for production: one process, no authentication. Ctrl-C ends it.");
}

/// Applies a manifest, as `hctl apply -f` does.
async fn apply(address: SocketAddr, file: &Path) -> Result<()> {
    let server = format!("http://{address}");
    let words: [&std::ffi::OsStr; 6] = [
        "hctl".as_ref(),
        "--server".as_ref(),
        server.as_ref(),
        "apply".as_ref(),
        "-f".as_ref(),
        file.as_os_str(),
    ];
    let args = ctl::args::Args::try_parse_from(words).context("cannot apply the manifest")?;
    ctl::cmd::run(args).await.map_err(|failure| not_applied(file, &failure))
}

/// Checks that a manifest can be read and has no error that can be found without a server.
fn readable(file: &Path) -> Result<()> {
    if file == Path::new("-") {
        anyhow::bail!("--apply -: stdin is not supported; name a file or a directory");
    }
    let namespace = ctl::sources::DefaultNamespace {
        namespace: api::object::DEFAULT_NAMESPACE,
        is_typed: false,
    };
    let read = ctl::sources::read(&[file.to_owned()], namespace);
    read.map(drop).map_err(|failure| not_applied(file, &failure))
}

/// The errors of a manifest, as `hctl apply` prints them.
fn not_applied(file: &Path, failure: &ctl::failure::Failure) -> anyhow::Error {
    let mut text = format!("--apply {}: {failure}", file.display());
    for problem in &failure.problems {
        text.push_str(&format!("\n{problem}"));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    anyhow::Error::msg(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn a_passing_folder_is_new_and_private() {
        let parent = tempfile::tempdir().unwrap();
        let (one, two) = (passing_dir(parent.path()).unwrap(), passing_dir(parent.path()).unwrap());
        assert_ne!(one, two, "its name cannot be guessed");
        assert_eq!(std::fs::metadata(&one).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_or_a_link_of_somebody_else_is_refused() {
        if !geteuid().is_root() {
            // Only root can change a folder's owner.
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let (ours, theirs, link) =
            (parent.path().join("ours"), parent.path().join("theirs"), parent.path().join("link"));
        std::fs::create_dir(&ours).unwrap();
        std::fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(4711), None).unwrap();
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        refuse_others(&ours).unwrap();
        refuse_others(&link).unwrap();
        std::os::unix::fs::lchown(&link, Some(4711), None).unwrap();
        for dir in [theirs, link] {
            let error = refuse_others(&dir).unwrap_err().to_string();
            assert!(error.contains("belongs to another user (uid 4711)"), "{error}");
            let line = ["heliox", "dev", "--data-dir", dir.to_str().unwrap()];
            let Command::Dev(args) = Cli::try_parse_from(line).unwrap().command else {
                panic!("it is dev")
            };
            assert!(DataDir::of(&args).is_err(), "nothing is kept there");
        }
    }
}
