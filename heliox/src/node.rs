//! Puts a node's agent together with its engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use api::amounts::Amounts;
use api::taint::Taint;
use base::{Clock, ErrorChain, Tasks};
use client::{Client, Dial};
use node_agent::engine::docker::{DockerConfig, DockerEngine};
use node_agent::engine::process::{ProcessConfig, ProcessEngine, ShimProgram};
use node_agent::engine::sim::SimMachine;
use node_agent::engine::{Engine, EngineError, Scope};
use node_agent::{Config, Host, Journal, OpenEngine, Outside, VIEW_SOCKET};
use prometheus::Registry;
use tokio::sync::OnceCell;
use tracing::{error, info};

use crate::args::Runtime;
use crate::control_plane::Common;
use crate::dir_lock::DirLock;
use crate::engine_flags::{self, DOCKER_SOCKET, EngineOptions};

/// Number of processors of a simulated node.
const SIM_CPUS: u32 = 64;
const SIM_MEMORY_BYTES: u64 = 256 << 30;

/// The configuration of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Resources that tasks may use; those of the host if not named.
    pub capacity: Amounts,
    /// What runs its tasks.
    pub runtime: Runtime,
    /// The directory of the agent's state.
    pub state_dir: PathBuf,
    /// The range of host ports for tasks that do not choose a port.
    pub port_range: (u16, u16),
    /// The address at which its tasks are reached.
    pub address: IpAddr,
    /// Whether it works for another cluster than before.
    pub accept_cluster: bool,
    /// Which engine to use, and how.
    pub engine: EngineOptions,
}

/// The engines that a process has opened, whose containers are removed when it ends.
#[derive(Debug, Clone, Default)]
pub struct Engines(
    /// Guards the list for one insertion or removal.
    Arc<Mutex<Vec<Arc<dyn Engine>>>>,
);

impl Engines {
    /// Adds an engine.
    pub fn put(&self, engine: Arc<dyn Engine>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
    }

    /// Kills and removes all containers that these engines run for us.
    pub async fn empty(&self) {
        let engines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for engine in engines {
            let found = match engine.list().await {
                Ok(found) => found,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "containers may be left over");
                    continue;
                }
            };
            for container in found {
                if let Err(error) = engine.remove(&container.identity).await {
                    error!(error = %ErrorChain(&error), "a container is left over");
                }
            }
        }
    }
}

/// The runtime that `auto` selects on this host. An error where it cannot give containers what the
/// flags say.
pub async fn chosen(runtime: Runtime, options: &EngineOptions) -> Result<Runtime> {
    let chosen = match runtime {
        Runtime::Auto => match node_agent::engine::docker::connect(&options.socket).await {
            Ok(_) => Runtime::Docker,
            Err(why) => {
                let why = ErrorChain(&why);
                info!(%why, "no Docker Engine found; tasks run as plain processes");
                Runtime::Process
            }
        },
        Runtime::Docker | Runtime::Process | Runtime::Sim => runtime,
    };
    if chosen == Runtime::Process
        && let Some(flag) = engine_flags::problem_for_processes(&options.added)
    {
        bail!("{flag}: not available with the process runtime; start a Docker Engine");
    }
    Ok(chosen)
}

/// Checks that the selected runtime is available. In `heliox dev` a missing engine is reported at
/// once; an agent waits for its engine instead.
pub async fn require(runtime: Runtime) -> Result<()> {
    if runtime == Runtime::Docker { docker_answers(DOCKER_SOCKET).await } else { Ok(()) }
}

async fn docker_answers(socket: &str) -> Result<()> {
    let connected = node_agent::engine::docker::connect(socket).await;
    connected.map(drop).with_context(|| {
        format!(
            "--runtime docker: no Docker Engine answers at {socket} (start it, or run processes of \
             this host with --runtime process)"
        )
    })
}

/// What is known of this host. A simulated node has none.
fn host(runtime: Runtime, state_dir: &Path) -> Host {
    if runtime == Runtime::Sim {
        return Host::default();
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let disk = nix::sys::statvfs::statvfs(state_dir).ok();
    Host {
        os_image: name.unwrap_or_default().trim_matches('"').to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        disk_bytes: disk.map(|disk| disk.blocks().saturating_mul(disk.fragment_size())),
    }
}

async fn open(
    (runtime, options): (Runtime, EngineOptions),
    scope: Scope,
    state_dir: PathBuf,
    clock: Clock,
) -> Result<Arc<dyn Engine>, EngineError> {
    match runtime {
        Runtime::Docker | Runtime::Auto => {
            let config = DockerConfig {
                scope,
                socket: options.socket,
                state_dir,
                default_host_ip: Some(IpAddr::from([127, 0, 0, 1])),
                docker_config: options.docker_config,
                clock,
            };
            Ok(Arc::new(DockerEngine::connect(config).await?))
        }
        Runtime::Process => {
            let config = ProcessConfig { scope, state_dir, shim: shim().await?, clock };
            let engine = ProcessEngine::open(config).map_err(|error| {
                EngineError::unavailable(format!("cannot run tasks as processes: {error}"))
            })?;
            Ok(Arc::new(engine))
        }
        Runtime::Sim => {
            Ok(Arc::new(SimMachine::new(clock, SIM_CPUS, SIM_MEMORY_BYTES).engine(scope)))
        }
    }
}

/// The shim program for process tasks. Chosen once for all nodes of this process.
async fn shim() -> Result<ShimProgram, EngineError> {
    static CHOSEN: OnceCell<ShimProgram> = OnceCell::const_new();
    let choose = || async {
        let this = std::env::current_exe().map_err(|error| {
            EngineError::unavailable(format!("cannot find the path of this program: {error}"))
        })?;
        Ok(ShimProgram::beside(this).await)
    };
    CHOSEN.get_or_try_init(choose).await.cloned()
}

/// Starts a node's agent in `tasks`.
pub fn start(
    config: NodeConfig,
    (client, dial): (Client, Option<Dial>),
    (common, registry): (&Common, Registry),
    engines: &Engines,
    tasks: &Tasks,
) -> Result<()> {
    let NodeConfig {
        name, labels, taints, capacity, runtime, state_dir, port_range, address, ..
    } = config;
    let (accept_cluster, options) = (config.accept_cluster, config.engine);
    let added = options.added.clone();
    let agent_dir = state_dir.clone();
    let lock = DirLock::take(&state_dir, ("the state directory", "--state-dir"))?;
    let journal = Journal::in_dir(&state_dir).context("cannot open the agent's journal")?;
    let (opened, clock) = (engines.clone(), common.clock.clone());
    let open_engine: OpenEngine = Arc::new(move |scope| {
        let (opened, state_dir, clock) = (opened.clone(), state_dir.clone(), clock.clone());
        let options = options.clone();
        Box::pin(async move {
            let engine = open((runtime, options), scope, state_dir, clock).await?;
            opened.put(Arc::clone(&engine));
            Ok(engine)
        })
    });
    let agent = Config {
        name: name.clone(),
        labels,
        taints,
        host: host(runtime, &agent_dir),
        view_socket: Some(agent_dir.join(VIEW_SOCKET)),
        capacity,
        port_range,
        address: address.to_string(),
        journal,
        dial,
        accept_cluster,
        added,
    };
    let outside = Outside {
        client,
        open_engine,
        clock: common.clock.clone(),
        rng: common.rng.fork(&name),
        health: common.health.scoped(&name),
    };
    let stop = tasks.stop_signal();
    tasks.spawn_part("the agent", async move {
        let _lock = lock;
        let ended = node_agent::run(agent, outside, &registry, stop).await;
        ended.with_context(|| format!("cannot run as node {name}"))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_is_missing_is_said() {
        let refused = docker_answers("/nowhere/docker.sock").await.unwrap_err().to_string();
        for part in ["/nowhere/docker.sock", "--runtime process"] {
            assert!(refused.contains(part), "{refused}");
        }
        require(Runtime::Process).await.unwrap();
    }
}
