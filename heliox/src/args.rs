//! The whole command line of `heliox`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine_flags::EngineArgs;
use crate::storage::{ETCD_FLAGS, EtcdArgs};

/// One control plane for everything a team runs on plain Docker hosts.
#[derive(Debug, Parser)]
#[command(name = "heliox", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// Component to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What a process is to be.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, including nodes. For trying things out, not for production.
    Dev(DevArgs),
    /// Run apiserver, scheduler and controllers in one process.
    Server(WholeServerArgs),
    /// Run an apiserver.
    Apiserver(ServerArgs),
    /// Run a scheduler. If there are several, one leads and the others wait.
    Scheduler(ComponentArgs),
    /// Run the controllers. If there are several, one leads and the others wait.
    Controllers(ControllersArgs),
    /// Run the agent of this host.
    Agent(AgentArgs),
    /// Back up everything that a cluster stores to a file, or check such a file.
    Backup(BackupArgs),
    /// Restore a backup into an empty store.
    Restore(RestoreArgs),
    /// Supervise one task of the process runtime. Started by the agent.
    #[command(hide = true)]
    Shim {
        /// The task's directory.
        dir: PathBuf,
        /// Run this command beside the task instead.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// What runs tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Runtime {
    /// Docker if an engine answers, otherwise processes.
    #[default]
    Auto,
    /// Containers of a Docker Engine.
    Docker,
    /// Plain processes without isolation, for development.
    Process,
    /// Simulated: nothing is run. A task ends after duration=TIME with exit=CODE, as its arguments
    /// say.
    Sim,
}

/// Arguments of `heliox dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Address to serve the API on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", value_parser = crate::listen::address)]
    pub listen: SocketAddr,
    /// Directory of the embedded store, which keeps the state across restarts.
    #[arg(long, value_name = "DIR", conflicts_with = "in_memory")]
    pub data_dir: Option<PathBuf>,
    /// Keep the state in memory (the default).
    #[arg(long, conflicts_with_all = ETCD_FLAGS)]
    pub in_memory: bool,
    /// Where else.
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Number of nodes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = nodes)]
    pub nodes: u16,
    /// Runtime for tasks.
    #[arg(long, value_enum, default_value_t)]
    pub runtime: Runtime,
    /// How long events stay.
    #[command(flatten)]
    pub events: EventArgs,
    /// Manifest to apply once ready. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub apply: Vec<PathBuf>,
    /// Allow an address that other hosts can reach, although there is no authentication.
    #[arg(long)]
    pub insecure: bool,
}

/// What becomes of events, for whoever runs the controllers.
#[derive(Debug, Clone, Args)]
pub struct EventArgs {
    /// How long to keep events after they were last seen. At most the newest 10,000 (16 MiB) are kept.
    #[arg(long, value_name = "DURATION", default_value_t = api::core::EVENT_TTL, value_parser = event_ttl)]
    pub event_ttl: api::duration::Duration,
}

/// Arguments of `heliox server`.
#[derive(Debug, Args)]
pub struct WholeServerArgs {
    /// Those of an apiserver.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How long events stay.
    #[command(flatten)]
    pub events: EventArgs,
}

/// Arguments of `heliox controllers`.
#[derive(Debug, Args)]
pub struct ControllersArgs {
    /// Those of any component.
    #[command(flatten)]
    pub component: ComponentArgs,
    /// How long events stay.
    #[command(flatten)]
    pub events: EventArgs,
}

/// Arguments of `heliox server` and `heliox apiserver`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("store").args(["data_dir", "etcd"]).required(true))]
pub struct ServerArgs {
    /// Address to serve the API on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", value_parser = crate::listen::address)]
    pub listen: SocketAddr,
    /// Directory of the embedded store, for a single apiserver.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where else.
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// URL at which other apiservers reach this one, for logs, exec and stats of the nodes connected to
    /// it. Only with --etcd [default: the address of --listen].
    #[arg(
        long,
        value_name = "URL",
        value_parser = crate::listen::server_url,
        conflicts_with = "data_dir"
    )]
    pub advertise: Option<String>,
    /// Allow an address that other hosts can reach, although there is no authentication.
    #[arg(long)]
    pub insecure: bool,
}

/// Arguments of `heliox scheduler` and `heliox controllers`.
#[derive(Debug, Args)]
pub struct ComponentArgs {
    /// URL of the apiserver; several, separated by commas, are tried in turn.
    #[arg(long, env = "HELIOX_SERVER", value_name = "URL[,URL...]")]
    pub server: String,
    /// Address to serve health and metrics on; port 0 picks a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = crate::listen::address)]
    pub status_listen: SocketAddr,
    /// Allow an address for health and metrics that other hosts can reach.
    #[arg(long)]
    pub insecure: bool,
}

/// Arguments of `heliox agent`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentArgs {
    /// What else to do than to run an agent.
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
    /// URL of the apiserver; several, separated by commas, are tried in turn. Required.
    #[arg(long, env = "HELIOX_SERVER", value_name = "URL[,URL...]")]
    pub server: Option<String>,
    /// Name of the node [default: the host name].
    #[arg(long)]
    pub name: Option<String>,
    /// Label of the node. May be repeated. A label that users change stays as they leave it.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Taint of the node, which keeps tasks away that do not tolerate it. May be repeated.
    #[arg(long = "taint", value_name = "KEY=VALUE:EFFECT")]
    pub taints: Vec<String>,
    /// Resources that tasks may use, for example cpu=4,memory=8Gi [default: those of the host].
    #[arg(long, value_name = "RESOURCE=AMOUNT[,...]", value_delimiter = ',')]
    pub capacity: Vec<String>,
    /// Runtime for tasks.
    #[arg(long, value_enum, default_value_t)]
    pub runtime: Runtime,
    /// The container engine.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Directory for the agent's state [default: /var/lib/heliox/agent/NAME as root, otherwise
    /// ~/.local/state/heliox/agent/NAME].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Range of host ports for task ports without a hostPort.
    #[arg(long, value_name = "FIRST-LAST", default_value = "20000-32768", value_parser = port_range)]
    pub port_range: (u16, u16),
    /// Address at which this host's tasks can be reached.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", value_parser = ip_address)]
    pub address: std::net::IpAddr,
    /// Join the cluster that answers, even if it is a different or a restored one. Tasks that still
    /// run for the old cluster are stopped.
    #[arg(long)]
    pub accept_cluster: bool,
    /// Address to serve health and metrics on; port 0 picks a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = crate::listen::address)]
    pub status_listen: SocketAddr,
    /// Allow an address for health and metrics that other hosts can reach.
    #[arg(long)]
    pub insecure: bool,
}

/// What else `heliox agent` does.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Show what the agent on this host knows: its tasks, containers and last contact. Needs no
    /// apiserver.
    Status(AgentStatusArgs),
}

/// Arguments of `heliox agent status`.
#[derive(Debug, Args)]
pub struct AgentStatusArgs {
    /// Name of the node [default: the host name].
    #[arg(long)]
    pub name: Option<String>,
    /// Directory of the agent's state [default: as for heliox agent].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `heliox backup`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").args(["server", "data_dir", "etcd", "check"]).required(true))]
pub struct BackupArgs {
    /// File to write. It contains everything, Secrets included. An existing file is replaced once the new
    /// one is complete.
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    pub out: Option<PathBuf>,
    /// Check that this backup is complete, and show what it contains.
    #[arg(long, value_name = "FILE", conflicts_with = "out", conflicts_with_all = ETCD_FLAGS)]
    pub check: Option<PathBuf>,
    /// URL of an apiserver of the cluster to back up.
    #[arg(long, value_name = "URL[,URL...]", conflicts_with_all = ETCD_FLAGS)]
    pub server: Option<String>,
    /// Directory of the embedded store of a server that is not running.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where else.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// Arguments of `heliox restore`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("store").args(["data_dir", "etcd"]).required(true))]
pub struct RestoreArgs {
    /// Backup to restore.
    pub file: PathBuf,
    /// Directory to create the embedded store in; must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where else.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// Events that are kept for less time would never be seen.
const EVENT_TTL_MIN: api::duration::Duration = api::duration::Duration::from_secs(60);

fn event_ttl(text: &str) -> Result<api::duration::Duration, String> {
    let ttl: api::duration::Duration =
        text.parse().map_err(|error: api::duration::NotADuration| error.to_string())?;
    if ttl < EVENT_TTL_MIN {
        return Err(format!("must be at least {EVENT_TTL_MIN}"));
    }
    Ok(ttl)
}

fn ip_address(text: &str) -> Result<std::net::IpAddr, String> {
    text.parse().map_err(|_| "write an IP address, such as 10.0.0.5".to_owned())
}

/// Parses the number of nodes of `heliox dev`.
fn nodes(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=100).contains(number));
    number.ok_or_else(|| "write a number from 1 to 100".to_owned())
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parsed = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?)));
    match parsed {
        Some((first, last)) if first > 0 && first <= last => Ok((first, last)),
        _ => Err(format!("{text:?}: must be FIRST-LAST with 1 <= FIRST <= LAST <= 65535")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_heading_of_etcd_has_the_flags_of_etcd_alone() {
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments() {
                let is_headed = flag.get_help_heading() == Some("etcd");
                let is_of_etcd = ETCD_FLAGS.contains(&flag.get_id().as_str());
                assert_eq!(is_headed, is_of_etcd, "{} {flag}", command.get_name());
            }
        }
    }

    #[test]
    fn a_store_is_named_and_both_kinds_are_offered() {
        for line in ["heliox server", "heliox apiserver", "heliox restore f"] {
            let refused = Cli::try_parse_from(line.split_whitespace()).unwrap_err().to_string();
            assert!(refused.contains("<--data-dir <DIR>|--etcd <URL[,URL...]>>"), "{refused}");
        }
    }

    /// With the embedded store there is no other apiserver that would need the URL.
    #[test]
    fn only_one_of_several_apiservers_says_where_it_is_reached() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace()).map(drop);
        parse("heliox server --etcd http://a:1 --advertise http://b:2").unwrap();
        let refused = parse("heliox server --data-dir d --advertise http://b:2").unwrap_err();
        assert!(
            refused.to_string().contains("cannot be used with '--advertise <URL>'"),
            "{refused}"
        );
    }

    #[test]
    fn a_backup_has_one_source_and_one_end() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace()).map(drop);
        for line in [
            "heliox backup --server http://a:1 --out f",
            "heliox backup --data-dir d --out f",
            "heliox backup --etcd http://a:1,http://b:1 --out f",
            "heliox backup --check f",
            "heliox restore f --data-dir d",
            "heliox restore f --etcd http://a:1",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "heliox backup --out f",
            "heliox backup --server http://a:1",
            "heliox backup --server http://a:1 --data-dir d --out f",
            "heliox backup --check f --out f",
            "heliox restore f",
            "heliox restore --data-dir d",
            "heliox restore f --data-dir d --etcd http://a:1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    /// Each with part of its message, so that the test fails if it is refused for another reason.
    #[test]
    fn flags_out_of_bounds_or_at_odds_are_refused() {
        const SERVER: &str = "--server http://a:1";
        let lines = [
            ("dev --nodes x", "a number from 1 to 100"),
            ("dev --nodes 0", "a number from 1 to 100"),
            ("dev --nodes 101", "a number from 1 to 100"),
            ("dev --in-memory --data-dir d", "cannot be used with"),
            ("dev --in-memory --etcd http://a:1", "cannot be used with"),
            ("dev --data-dir d --etcd http://a:1", "cannot be used with"),
            ("dev --listen localhost:1", "such as 127.0.0.1:7070"),
            ("dev --runtime podman", "possible values"),
            ("dev --event-ttl 59s", "at least 1m"),
            ("server", "--data-dir"),
            ("apiserver", "--data-dir"),
            ("server --data-dir d --etcd http://a:1", "cannot be used with"),
            ("server --data-dir d --event-ttl 59s", "at least 1m"),
            ("server --data-dir d --listen 7070", "such as 127.0.0.1:7070"),
            ("server --etcd http://a:1 --advertise https://b", "https is not supported yet"),
            ("server --data-dir d --etcd-ca f", "cannot be used with"),
            ("server --data-dir d --etcd-ca f --etcd-cert f --etcd-key f", "cannot be used with"),
            ("server --data-dir d --etcd-user u --etcd-password-file f", "cannot be used with"),
            ("dev --in-memory --etcd-ca f", "cannot be used with"),
            ("dev --etcd-ca f", "--etcd"),
            ("backup --server http://a:1 --out f --etcd-ca f", "cannot be used with"),
            ("backup --check f --etcd-user u --etcd-password-file f", "cannot be used with"),
            ("backup --data-dir d --out f --etcd-ca f", "cannot be used with"),
            ("restore f --data-dir d --etcd-ca f", "cannot be used with"),
            ("server --etcd https://a:1 --etcd-ca f --etcd-cert f", "--etcd-key"),
            ("server --etcd https://a:1 --etcd-ca f --etcd-key f", "--etcd-cert"),
            ("server --etcd https://a:1 --etcd-cert f --etcd-key f", "--etcd-ca"),
            ("server --etcd http://a:1 --etcd-user u", "--etcd-password-file"),
            ("server --etcd http://a:1 --etcd-password-file f", "--etcd-user"),
            ("controllers SERVER --event-ttl 59s", "at least 1m"),
            ("controllers SERVER --status-listen x", "such as 127.0.0.1:7070"),
            ("scheduler SERVER --status-listen x", "such as 127.0.0.1:7070"),
            ("scheduler SERVER --event-ttl 1h", "unexpected argument"),
            ("agent SERVER --status-listen x", "such as 127.0.0.1:7070"),
            ("agent SERVER --port-range 5-1", "FIRST <= LAST"),
            ("agent SERVER --address host", "write an IP address, such as 10.0.0.5"),
            ("agent SERVER --runtime podman", "possible values"),
        ];
        for (line, part) in lines {
            let words = format!("heliox {}", line.replace("SERVER", SERVER));
            let refused = Cli::try_parse_from(words.split_whitespace()).map(drop);
            let said = refused.expect_err(line).to_string();
            assert!(said.contains(part), "{line}: {said}");
        }
    }

    #[test]
    fn events_stay_for_a_day_unless_told_otherwise() {
        let parse = |line: &str| {
            let Command::Controllers(args) =
                Cli::try_parse_from(line.split_whitespace()).unwrap().command
            else {
                panic!("{line}");
            };
            args.events.event_ttl.to_string()
        };
        assert_eq!(parse("heliox controllers --server http://a:1"), "24h");
        assert_eq!(parse("heliox controllers --server http://a:1 --event-ttl 90m"), "1h30m");
        for bad in ["", "5", "59s", "-1h", "P1D"] {
            assert!(event_ttl(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn port_ranges_are_checked() {
        assert_eq!(port_range("1-2"), Ok((1, 2)));
        for bad in ["", "5", "2-1", "0-5", "1-70000", "a-b"] {
            assert!(port_range(bad).is_err(), "{bad:?}");
        }
    }
}
