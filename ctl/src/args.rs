//! The whole command line on one page.

use std::path::PathBuf;

use api::duration::Duration;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::door;
use crate::goal::Goal;
use crate::table::Order;

/// Exit codes, as `hctl --help` tells them.
const EXIT_CODES: &str = "Exit codes: 0 ok, 1 error, 2 accepted, but no node takes it, 3 what was \
                          waited for failed, 4 timeout, 5 conflict, 6 not found, 7 forbidden; of exec, \
                          the command's";

/// Exit codes, as `hctl wait --help` tells them.
const WAIT_CODES: &str = "Exit codes: 0 all are as they should be; 3 one can no longer be; 6 one is not \
                          there; 2 the time is up, and no node takes the tasks of one; 4 the time is up. Of \
                          several objects, the first of these that holds of one";

/// Control Heliox: apply manifests, look at objects, follow what happens.
#[derive(Debug, Clone, Parser)]
#[command(name = "hctl", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Args {
    /// Where the apiserver is.
    #[arg(long, global = true, env = "HELIOX_SERVER", default_value = "http://127.0.0.1:7070")]
    pub server: String,
    /// The namespace of objects that name none.
    #[arg(short, long, global = true, env = "HELIOX_NAMESPACE", default_value = "default")]
    #[arg(value_parser = door::namespace)]
    pub namespace: String,
    /// How objects are shown; errors are JSON, too, with `json`.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns.
    Table,
    /// More columns.
    Wide,
    /// YAML, to be applied again.
    Yaml,
    /// JSON.
    Json,
    /// `kind/name` alone.
    Name,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Create or update objects from manifests.
    Apply(Apply),
    /// List objects, or show some by name.
    Get(Get),
    /// Show an object's details, reasons and events.
    Describe(Targets),
    /// Delete objects. With -f, an object that is not there is no error.
    Delete(Delete),
    /// Print the logs of tasks.
    Logs(Logs),
    /// Run a command in a task's container. Ends with the command's exit code.
    Exec(Exec),
    /// Show the CPU and memory that nodes and tasks use.
    #[command(subcommand)]
    Top(Top),
    /// List events.
    Events(Events),
    /// Wait for objects to reach a state.
    ///
    /// Ends when all answers are certain: when an object is as it should be, or can no longer be. A
    /// failed object never succeeds, a deleted one never returns.
    #[command(after_help = WAIT_CODES)]
    Wait(Wait),
    /// Start a run of a workflow.
    Run(Run),
    /// Run a job that has ended once more, or start a run again with the same parameters.
    Rerun(Rerun),
    /// Cancel jobs and runs: running tasks are stopped, nothing more starts.
    Cancel(Targets),
    /// Suspend jobs, runs and workflows: running tasks are stopped, progress is kept.
    Suspend(Targets),
    /// Resume suspended jobs, runs and workflows.
    Resume(Targets),
    /// Stop a task's attempt, so that it starts anew elsewhere.
    Evict {
        /// TASK..., task/T... or task T...
        #[arg(required = true, value_name = "TASK")]
        tasks: Vec<String>,
    },
    /// Mark nodes unschedulable.
    Cordon {
        /// NODE..., node/N... or node N...
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Mark nodes schedulable again.
    Uncordon {
        /// NODE..., node/N... or node N...
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Show the cluster, or confirm one that was restored from a backup.
    Cluster(Cluster),
    /// Gather what a bug report needs.
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Show the versions of hctl and of the server.
    Version,
    /// Print a shell completion script.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Objects, as `KIND NAME...` or `KIND/NAME...`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Targets {
    /// KIND NAME... or KIND/NAME...
    #[arg(required = true, value_name = "KIND/NAME")]
    pub targets: Vec<String>,
}

/// Arguments of `apply`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Apply {
    /// A file, a folder (its *.yaml, *.yml and *.json), or - for stdin.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE", num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// Waits until the jobs, workflows and runs have ended, all at once; fails if one fails.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait. No limit by default.
    #[arg(long, requires = "wait")]
    pub timeout: Option<Duration>,
    /// Has the server check everything and changes nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `get`.
#[derive(Debug, Clone, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
pub struct Get {
    /// KIND, KIND,KIND, KIND/NAME..., KIND NAME..., or all: workflows, runs, jobs, partition sets
    /// and tasks.
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    /// Goes on with what changes.
    #[arg(short, long)]
    pub watch: bool,
    /// Only objects with these labels: app=web,tier in (a, b),!spot.
    #[arg(short = 'l', long, value_parser = door::labels)]
    pub selector: Option<String>,
    /// Only objects with these fields: status.phase=Running. Which there are is said where one is
    /// not known.
    #[arg(long, value_parser = door::fields)]
    pub field_selector: Option<String>,
    /// In every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only tasks of this job.
    #[arg(long, value_parser = door::name)]
    pub job: Option<String>,
    /// Only objects in this phase.
    #[arg(long)]
    pub phase: Option<String>,
    /// Sort by a column, such as age (the newest last), status or took.
    #[arg(long, value_name = "COLUMN", conflicts_with = "watch")]
    pub sort_by: Option<Order>,
    /// Print rows alone, for scripts.
    #[arg(long)]
    pub no_headers: bool,
    /// Add a column with the labels.
    #[arg(long)]
    pub show_labels: bool,
}

/// Arguments of `delete`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Delete {
    /// KIND NAME... or KIND/NAME...
    #[arg(value_name = "KIND/NAME", required_unless_present = "files", conflicts_with = "files")]
    pub targets: Vec<String>,
    /// What these manifests describe.
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// All objects of the kind that have these labels: app=web,tier in (a, b),!spot.
    #[arg(short = 'l', long, value_parser = door::labels, conflicts_with = "files")]
    pub selector: Option<String>,
    /// All objects of the kind in the namespace.
    #[arg(long, conflicts_with_all = ["files", "selector"])]
    pub all: bool,
    /// What to do with the objects that they own. Default: foreground with --wait, else background.
    #[arg(long, value_enum)]
    pub cascade: Option<Cascade>,
    /// Wait until they are gone, and what they own: the tasks of a job have stopped then.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait.
    #[arg(long, requires = "wait", default_value = "5m")]
    pub timeout: Duration,
}

/// What becomes of objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cascade {
    /// Delete them afterwards.
    Background,
    /// Delete them first.
    Foreground,
    /// Keep them.
    Orphan,
}

/// Arguments of `logs`.
///
/// Exit code 0 means that everything was printed: with `-f` up to the end of the tasks.
#[derive(Debug, Clone, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
pub struct Logs {
    /// TASK, task/T, job/J or run/R; or KIND NAME.
    #[arg(required = true, value_name = "TASK", num_args = 1..)]
    pub of: Vec<String>,
    /// Goes on until the tasks have ended, new tasks and attempts included. A broken connection is
    /// made again, and goes on after the last line.
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last so many lines of each task.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u64>,
    /// Only lines that are not older than this, such as 90s, 10m or 1h30m.
    #[arg(long, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// With the time of each line.
    #[arg(long)]
    pub timestamps: bool,
    /// This attempt; the newest that started by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// The attempt before.
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// Only tasks that failed.
    #[arg(long, conflicts_with = "follow")]
    pub failed: bool,
}

/// Arguments of `exec`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Exec {
    /// TASK, task/T or task T.
    #[arg(required = true, value_name = "TASK", num_args = 1..)]
    pub task: Vec<String>,
    /// Gives it what this command reads.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Gives it a terminal: this one.
    #[arg(short = 't', long)]
    pub tty: bool,
    /// This attempt, which must run; the newest by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// The command, after `--`. No shell sees it: for one, run `sh -c '...'`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What `top` shows.
#[derive(Debug, Clone, Subcommand)]
pub enum Top {
    /// What nodes use of what tasks may use there; all that runs on them counts.
    #[command(visible_aliases = ["node", "no"])]
    Nodes {
        /// Only these nodes.
        nodes: Vec<String>,
        /// The greatest users first.
        #[arg(long, value_enum, value_name = "WHAT")]
        sort: Option<TopOrder>,
    },
    /// What running tasks use of what they asked for.
    #[command(visible_aliases = ["task", "tk"])]
    Tasks {
        /// Only these tasks.
        tasks: Vec<String>,
        /// The greatest users first.
        #[arg(long, value_enum, value_name = "WHAT")]
        sort: Option<TopOrder>,
        /// Only tasks with these labels: app=web,tier in (a, b),!spot.
        #[arg(short = 'l', long, value_parser = door::labels)]
        selector: Option<String>,
        /// In every namespace.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
}

/// What `top` sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopOrder {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
}

/// Arguments of `events`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Events {
    /// Only of this object: KIND/NAME or KIND NAME.
    #[arg(value_name = "KIND/NAME", num_args = 0..=2, conflicts_with = "about")]
    pub of: Vec<String>,
    /// The same, as kubectl writes it.
    #[arg(long = "for", value_name = "KIND/NAME")]
    pub about: Option<String>,
    /// In every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Goes on with what happens.
    #[arg(short, long)]
    pub watch: bool,
}

/// Arguments of `wait`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Wait {
    /// KIND NAME... or KIND/NAME...
    #[arg(required = true, value_name = "KIND/NAME")]
    pub targets: Vec<String>,
    /// What to wait for.
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value_t = Goal::Succeeded)]
    pub goal: Goal,
    /// How long to wait; 0s looks once.
    #[arg(long, default_value = "5m")]
    pub timeout: Duration,
}

/// Arguments of `run`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Run {
    /// WORKFLOW, workflow/W or workflow W.
    #[arg(required = true, value_name = "WORKFLOW", num_args = 1..)]
    pub workflow: Vec<String>,
    /// The value of a parameter.
    #[arg(short, long = "param", value_name = "KEY=VALUE", value_parser = door::param)]
    pub params: Vec<(String, String)>,
    /// The run's name: a second run of this name is refused.
    #[arg(long, value_parser = door::name)]
    pub name: Option<String>,
    /// Waits until it has ended; fails if it fails.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait. No limit by default.
    #[arg(long, requires = "wait")]
    pub timeout: Option<Duration>,
}

/// Arguments of `rerun`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Rerun {
    /// job/J, run/R; or KIND NAME.
    #[arg(required = true, value_name = "KIND/NAME", num_args = 1..)]
    pub of: Vec<String>,
    /// Another value of a run's parameter.
    #[arg(short, long = "param", value_name = "KEY=VALUE", value_parser = door::param)]
    pub params: Vec<(String, String)>,
    /// Waits until it has ended; fails if it fails.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait. No limit by default.
    #[arg(long, requires = "wait")]
    pub timeout: Option<Duration>,
}

/// Arguments of `cluster`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Cluster {
    /// What to do; shows it where nothing is said.
    #[command(subcommand)]
    pub what: Option<ClusterCommand>,
}

/// What to do with the cluster.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterCommand {
    /// Lets the agents work for a restored cluster: they stop what it does not know.
    Confirm {
        /// Asks nothing.
        #[arg(long)]
        yes: bool,
    },
}

/// What to gather for a report of a bug.
#[derive(Debug, Clone, Subcommand)]
pub enum DebugCommand {
    /// Writes versions, health, metrics and objects to an archive, without Secrets, ConfigMaps,
    /// values of the environment, commands and arguments. Look at it before you send it.
    Bundle {
        /// The archive, which must not be there yet. Default: heliox-debug-TIME.tar.gz
        #[arg(short, long, value_name = "FILE.tar.gz")]
        file: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn documented_lines_are_understood() {
        for line in [
            "hctl apply -f a.yaml -f dir b.yaml --wait --timeout 5m",
            "hctl apply -f - --dry-run",
            "hctl get tasks -A --job load --phase Failed -w",
            "hctl get jobs,runs -o wide -l app=web --field-selector status.phase=Running",
            "hctl -n data get run/x -o json",
            "hctl describe job load",
            "hctl delete job a b --cascade foreground --wait",
            "hctl delete -f a.yaml",
            "hctl logs -f job/load --tail 10 --timestamps",
            "hctl logs load-0 --attempt 2",
            "hctl logs run/x --failed",
            "hctl exec load-0 -- ls -l /",
            "hctl exec -it task/load-0 --attempt 2 -- sh",
            "hctl top nodes --sort memory",
            "hctl top tasks -A --sort cpu -l app=web",
            "hctl events --for job/load --watch",
            "hctl events job/load -A",
            "hctl events job load",
            "hctl logs job load -f",
            "hctl exec task load-0 -- ls",
            "hctl run workflow w -p a=b",
            "hctl evict task/a task/b",
            "hctl wait workflow/data-load --for=succeeded --timeout 1m30s",
            "hctl wait job a b --for deleted",
            "hctl run workflow/data-load -p date=2026-01-02 -p q=a=b --name x --wait",
            "hctl cancel run/x job/y",
            "hctl suspend workflow/w",
            "hctl evict load-0",
            "hctl cordon n1 n2",
            "hctl version --server http://h:1",
            "hctl cluster",
            "hctl debug bundle",
            "hctl debug bundle -f x.tar.gz --server http://h:1",
            "hctl cluster confirm --yes -o json",
            "hctl completion bash",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_lines_are_usage_errors() {
        for line in [
            "hctl frobnicate",
            "hctl events job/a --for job/b",
            "hctl logs",
            "hctl apply",
            "hctl get",
            "hctl get jobs -o toml",
            "hctl delete",
            "hctl delete job/a -f a.yaml",
            "hctl wait job/a --for=happy",
            "hctl wait job/a --timeout soon",
            "hctl exec load-0",
            "hctl exec load-0 ls",
            "hctl run w -p novalue",
            "hctl run w -p =x",
            "hctl run w -p a b=x",
            "hctl run w --name A_b",
            "hctl get jobs -n A_b",
            "hctl get jobs -n=",
            "hctl get jobs -l app=(",
            "hctl get jobs -l =a",
            "hctl get jobs --field-selector status.phase",
            "hctl get tasks --job A/b",
            "hctl top tasks -l =a",
            "hctl logs a --attempt 0",
            "hctl logs a --tail -1",
            "hctl exec a --attempt 0 -- ls",
            "hctl wait job/a --timeout -1s",
            "hctl wait job/a --timeout 5",
            "hctl delete job/a --wait --timeout never",
            "hctl apply -f a --timeout 5m",
            "hctl run w --timeout 5m",
            "hctl delete job/a --timeout 5m",
            "hctl logs a --since -1s",
            "hctl logs -f a --previous",
            "hctl logs -f a --failed",
            "hctl top nodes --sort disk",
            "hctl delete job/a --cascade never",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
