//! `heliox`: the one server binary.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use apiserver::Peers;
use base::Tasks;
use clap::Parser as _;
use client::Client;
use heliox::args::{AgentArgs, AgentCommand, Cli, Command, ComponentArgs, ServerArgs};
use heliox::control_plane::{self, Common, ControlPlane};
use heliox::node::{self, Engines, NodeConfig};
use heliox::{agent_flags, agent_status, backup, dev, listen, process, restore, serve, status};
use store::Store;
use tracing::info;

/// Requests, events and tasks are many small pieces of memory that come and go together. The C
/// library's allocator takes a third of the server's processor time for that, this one half as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Shim { dir, command } = &cli.command {
        // Before anything else, because a shim has neither threads nor a log.
        return shim::main(dir, command);
    }
    process::make_private();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last words of a process that failed")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

#[tokio::main]
async fn run(command: Command) -> Result<()> {
    match command {
        Command::Dev(args) => {
            process::log("warn")?;
            dev::run(args).await
        }
        Command::Server(args) => {
            process::log("info")?;
            server(
                args.server,
                Common::of_machine()?.keeping_events(args.events.event_ttl),
                control_plane::start,
            )
            .await
        }
        Command::Apiserver(args) => {
            process::log("info")?;
            server(args, Common::of_machine()?, control_plane::start_apiserver).await
        }
        Command::Scheduler(args) => {
            process::log("info")?;
            component(args, Common::of_machine()?, "scheduler", control_plane::scheduler).await
        }
        Command::Controllers(args) => {
            process::log("info")?;
            let common = Common::of_machine()?.keeping_events(args.events.event_ttl);
            component(args.component, common, "controllers", control_plane::controllers).await
        }
        Command::Agent(AgentArgs { command: Some(AgentCommand::Status(args)), .. }) => {
            process::log("warn")?;
            agent_status::run(args, Common::of_machine()?.clock.now()).await
        }
        Command::Agent(args) => {
            process::log("info")?;
            agent(args).await
        }
        Command::Backup(args) => {
            process::log("warn")?;
            backup::run(args, &Common::of_machine()?).await
        }
        Command::Restore(args) => {
            process::log("warn")?;
            restore::run(args, &Common::of_machine()?).await
        }
        Command::Shim { .. } => Ok(()),
    }
}

/// Serves the API over a store. `start` starts the components behind it.
async fn server(
    args: ServerArgs,
    common: Common,
    start: impl AsyncFn((Arc<dyn Store>, Option<Peers>), &Common, &Tasks) -> Result<ControlPlane>,
) -> Result<()> {
    let listener = listen::listen(listen::Served::Api, args.listen, args.insecure).await?;
    let address = listener.local_addr().context("cannot read the address")?;
    let shares_store = !args.etcd.etcd.is_empty();
    let peers = listen::peers(args.advertise.as_deref(), address, shares_store)?;
    let (storage, tasks) = (Tasks::new("store"), Tasks::new("servers"));
    let store = args.etcd.open_or(args.data_dir.as_deref(), &common.rng, &storage).await?;
    let plane = start((store, peers), &common, &tasks).await?;
    info!(%address, cluster = plane.cluster, "serving");
    tasks.spawn_part("http", serve::serve(listener, plane.router, tasks.spawner()));
    let ended = process::asked_to_end(&[&storage, &tasks]).await;
    tasks.stop_within(process::GRACE).await;
    storage.stop_within(process::STORE_GRACE).await;
    ended
}

/// Runs a component that uses the API and serves only its own health and metrics.
async fn component(
    args: ComponentArgs,
    common: Common,
    name: &'static str,
    start: impl Fn(Client, &Common, &Tasks) -> Result<()>,
) -> Result<()> {
    let (status, tasks) = (Tasks::new("status"), Tasks::new(name));
    serve_status((args.status_listen, args.insecure), &common, &status).await?;
    let servers = common.servers(&args.server)?;
    start(Client::new(client::http_transport(&servers)), &common, &tasks)?;
    let ended = process::asked_to_end(&[&status, &tasks]).await;
    // A leader resigns, so that another takes over at once.
    tasks.stop_within(process::GRACE).await;
    ended
}

async fn serve_status(
    (listen, insecure): (SocketAddr, bool),
    common: &Common,
    tasks: &Tasks,
) -> Result<()> {
    let listener = listen::listen(listen::Served::Status, listen, insecure).await?;
    info!(address = %listener.local_addr()?, "serving health and metrics");
    let shown = (common.registry.clone(), common.health.clone());
    tasks.spawn_part("status", status::serve(listener, shown, tasks.spawner()));
    Ok(())
}

async fn agent(args: AgentArgs) -> Result<()> {
    let flags = agent_flags::checked(&args, process::host_name)?;
    let common = Common::of_machine()?;
    let (status, tasks) = (Tasks::new("status"), Tasks::new("agent"));
    serve_status((args.status_listen, args.insecure), &common, &status).await?;
    let servers = common.servers(args.server.as_deref().unwrap_or_default())?;
    let client = Client::new(client::http_transport(&servers));
    let dial = client::dial_tcp(&servers);
    let runtime = node::chosen(args.runtime, &flags.engine).await?;
    let config = NodeConfig {
        engine: flags.engine,
        state_dir: args.state_dir.unwrap_or_else(|| process::default_state_dir(&flags.name)),
        name: flags.name,
        labels: flags.labels,
        taints: flags.taints,
        capacity: flags.capacity,
        runtime,
        port_range: args.port_range,
        address: args.address,
        accept_cluster: args.accept_cluster,
    };
    let registry = common.registry.clone();
    let engines = Engines::default();
    node::start(config, (client, Some(dial)), (&common, registry), &engines, &tasks)?;
    let ended = process::asked_to_end(&[&status, &tasks]).await;
    // Containers continue to run; the next agent takes them over.
    tasks.stop_within(process::AGENT_GRACE).await;
    ended
}
