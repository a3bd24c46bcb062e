//! The whole command line on one page.

use std::ffi::OsString;
use std::path::PathBuf;

use api::KindId;
use api::duration::Duration;
use clap::parser::ValueSource;
use clap::{Args as ClapArgs, CommandFactory as _, FromArgMatches as _};
use clap::{Parser, Subcommand, ValueEnum};

use crate::completion::{
    Which, fields, kinds_or_objects, named, names, objects, params, phases, runs,
};
use crate::deploy::Deploy;
use crate::format::Format;
use crate::goal::Goal;
use crate::rollout_args::{History, Rollout};
use crate::table::Order;
use crate::usual::{NAMESPACE, SERVER};
use crate::verb::Verb;
use crate::{arguments, examples, node_args};

/// Heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// Control a Heliox cluster: apply manifests, inspect objects, follow progress.
#[derive(Debug, Clone, Parser)]
#[command(name = "hctl", version, after_help = examples::EXIT_CODES, arg_required_else_help = true)]
pub struct Args {
    /// Address of the apiserver; several, separated by commas, are tried in turn. HELIOX_SERVER sets
    /// the default.
    #[arg(long, global = true, default_value_t = SERVER.value())]
    #[arg(value_name = "URL", help_heading = GLOBAL)]
    pub server: String,
    /// Namespace to use. HELIOX_NAMESPACE sets the default. With -n, manifests that name another
    /// namespace are refused.
    #[arg(short, long, global = true, default_value_t = NAMESPACE.value())]
    #[arg(value_parser = arguments::namespace, add = names(KindId::Namespace), help_heading = GLOBAL)]
    pub namespace: String,
    /// Whether the namespace is from the command line and not from the environment or a default.
    #[arg(skip)]
    pub is_namespace_typed: bool,
    /// Output format: table, wide (more columns), yaml, json or name (KIND/NAME). With json, errors are
    /// JSON too.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    #[arg(value_name = "FORMAT", hide_possible_values = true, help_heading = GLOBAL)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Parses a command line whose first word is `hctl`.
    ///
    /// # Errors
    /// It is not valid, or asks for help.
    pub fn of_line(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let matches = Args::command().try_get_matches_from(line)?;
        let args = Args::from_arg_matches(&matches);
        let args = args.map_err(|error| error.format(&mut Args::command()))?;
        let source = matches.value_source("namespace");
        Ok(Self { is_namespace_typed: source == Some(ValueSource::CommandLine), ..args })
    }

    /// The namespace of the command line, unless it is the one that would be used anyway.
    pub fn named_namespace(&self) -> Option<String> {
        (self.namespace != NAMESPACE.value()).then(|| self.namespace.clone())
    }
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Create or update objects from manifests.
    #[command(after_help = examples::APPLY)]
    Apply(Apply),
    /// Write a Service for an image and apply it.
    #[command(after_help = examples::DEPLOY)]
    Deploy(Deploy),
    /// List objects, or show some by name.
    #[command(after_help = examples::GET)]
    Get(Get),
    /// Show an object's details, reasons and events.
    #[command(after_help = examples::DESCRIBE)]
    Describe(Targets),
    /// Delete objects. With -f, objects that do not exist are ignored.
    #[command(after_help = examples::DELETE)]
    Delete(Delete),
    /// Print the logs of tasks.
    #[command(after_help = examples::LOGS)]
    Logs(Logs),
    /// Run a command in a task's container, and exit with its exit code.
    #[command(after_help = examples::EXEC)]
    Exec(Exec),
    /// Show the CPU and memory usage of nodes and tasks.
    #[command(subcommand, after_help = examples::TOP)]
    Top(Top),
    /// List events.
    #[command(after_help = examples::EVENTS)]
    Events(Events),
    /// Wait for objects to reach a state.
    ///
    /// Ends as soon as the outcome is certain: when each object has reached the state or can no longer
    /// reach it. A failed object never succeeds, a deleted one never returns.
    ///
    /// Progress goes to stderr: a line that changes at a terminal; otherwise a line for each change of
    /// phase, and at most one every 10 seconds for everything else. If the server goes away, hctl says so
    /// and tries again until the timeout.
    #[command(after_help = format!("{}\n\n{}", examples::WAIT, examples::WAIT_CODES))]
    Wait(Wait),
    /// Start a run of a workflow.
    #[command(after_help = examples::RUN)]
    Run(Run),
    /// Run a finished job again, or start a new run with the parameters of an earlier one.
    #[command(after_help = examples::RERUN)]
    Rerun(Rerun),
    /// Change how many tasks services and jobs have.
    #[command(after_help = examples::SCALE)]
    Scale(Scale),
    /// Follow and steer how a service rolls out its revisions.
    #[command(subcommand, after_help = examples::ROLLOUT)]
    Rollout(Rollout),
    /// Show the revisions of a service: who rolled them out, when, and how that ended.
    #[command(after_help = examples::HISTORY)]
    History(History),
    /// Cancel jobs and runs: stop running tasks and start nothing more.
    #[command(after_help = examples::CANCEL)]
    Cancel {
        /// KIND NAME... or KIND/NAME...
        #[arg(required = true, value_name = "KIND/NAME")]
        #[arg(add = objects(Verb::Cancel.kinds(), Which::Open))]
        targets: Vec<String>,
    },
    /// Suspend jobs, services, runs and workflows: stop running tasks, keep progress.
    #[command(after_help = examples::SUSPEND)]
    Suspend {
        /// KIND NAME... or KIND/NAME...
        #[arg(required = true, value_name = "KIND/NAME")]
        #[arg(add = objects(Verb::Suspend.kinds(), Which::NotSuspended))]
        targets: Vec<String>,
    },
    /// Resume suspended jobs, services, runs and workflows.
    #[command(after_help = examples::RESUME)]
    Resume {
        /// KIND NAME... or KIND/NAME...
        #[arg(required = true, value_name = "KIND/NAME")]
        #[arg(add = objects(Verb::Resume.kinds(), Which::Suspended))]
        targets: Vec<String>,
    },
    /// Stop a task's current attempt and start it again on another node.
    #[command(after_help = examples::EVICT)]
    Evict {
        /// TASK..., task/T... or task T...
        #[arg(required = true, value_name = "TASK")]
        #[arg(add = named(KindId::Task, &[], Which::Open))]
        tasks: Vec<String>,
    },
    /// Mark nodes unschedulable.
    #[command(after_help = examples::CORDON)]
    Cordon {
        /// NODE..., node/N... or node N...
        #[arg(required = true, value_name = "NODE")]
        #[arg(add = named(KindId::Node, &[], Which::NotCordoned))]
        nodes: Vec<String>,
    },
    /// Move all tasks from nodes to others, and keep new tasks away.
    ///
    /// The request is kept on the node, and carried out whether or not hctl goes on. Of a service as
    /// many tasks are stopped at a time as its maxUnavailable allows. Tasks of services with perNode
    /// stay. hctl uncordon ends a drain.
    #[command(after_help = examples::DRAIN)]
    Drain(node_args::Drain),
    /// Mark nodes schedulable again, and end their drain.
    #[command(after_help = examples::UNCORDON)]
    Uncordon {
        /// NODE..., node/N... or node N...
        #[arg(required = true, value_name = "NODE")]
        #[arg(add = named(KindId::Node, &[], Which::Cordoned))]
        nodes: Vec<String>,
    },
    /// Set or remove labels of objects.
    #[command(after_help = examples::LABEL)]
    Label(node_args::Label),
    /// Set or remove taints of nodes, which keep tasks away that do not tolerate them.
    #[command(after_help = examples::TAINT)]
    Taint(node_args::Taint),
    /// Show the cluster, or confirm one that was restored from a backup.
    #[command(after_help = examples::CLUSTER)]
    Cluster(Cluster),
    /// Collect information for a bug report.
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Show the versions of hctl and of the server.
    Version,
    /// Print a shell completion script.
    #[command(after_help = examples::COMPLETION)]
    Completion {
        /// Shell to print it for.
        shell: clap_complete::Shell,
    },
}

/// Objects, as `KIND NAME...` or `KIND/NAME...`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Targets {
    /// KIND NAME... or KIND/NAME...
    #[arg(required = true, value_name = "KIND/NAME", add = objects(&[], Which::All))]
    pub targets: Vec<String>,
}

/// Arguments of `apply`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Apply {
    /// File, directory (its *.yaml, *.yml and *.json), or - for stdin.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE", num_args = 1..)]
    #[arg(alias = "filename")]
    pub files: Vec<PathBuf>,
    /// Read directories recursively.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Wait until the applied jobs and runs, and the run that each workflow starts for this change, have
    /// finished, and the applied services are rolled out; fail if one fails. Of unchanged objects the
    /// current result counts. A workflow that starts no run by itself is not waited for.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 90s or 1h30m [default: no limit].
    #[arg(long, requires = "wait", value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Let the server validate everything without changing anything.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `get`.
#[derive(Debug, Clone, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
pub struct Get {
    /// KIND, KIND,KIND, KIND/NAME..., KIND NAME..., or all: workflows, runs, jobs, partition sets
    /// and tasks.
    #[arg(required = true, value_name = "KIND", add = kinds_or_objects())]
    pub what: Vec<String>,
    /// After listing, watch for changes.
    #[arg(short, long)]
    pub watch: bool,
    /// Only objects whose labels match: app=web,tier in (a, b),!spot.
    #[arg(short = 'l', long, value_parser = arguments::labels)]
    pub selector: Option<String>,
    /// Only objects whose fields match: status.phase=Running. An unknown field lists the valid ones.
    #[arg(long, value_parser = arguments::fields, add = fields())]
    pub field_selector: Option<String>,
    /// List objects in all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only tasks of this job.
    #[arg(long, value_parser = arguments::name, add = names(KindId::Job))]
    pub job: Option<String>,
    /// Only tasks of this run of the job, as they were at its end; with --job [default: the current run].
    #[arg(long, value_name = "NUMBER", value_parser = arguments::number)]
    #[arg(conflicts_with_all = ["watch", "field_selector", "all_namespaces"], add = runs())]
    pub run: Option<u32>,
    /// Only objects in this phase.
    #[arg(long, add = phases())]
    pub phase: Option<String>,
    /// Sort by a column, such as age (newest last), status or took.
    #[arg(long, value_name = "COLUMN", conflicts_with = "watch")]
    pub sort_by: Option<Order>,
    /// Leave out the header line.
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
    #[arg(add = objects(&[], Which::All))]
    pub targets: Vec<String>,
    /// Delete the objects described by these manifests.
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1.., alias = "filename")]
    pub files: Vec<PathBuf>,
    /// Read directories recursively.
    #[arg(short = 'R', long, requires = "files")]
    pub recursive: bool,
    /// Delete all objects of the kind whose labels match: app=web,tier in (a, b),!spot.
    #[arg(short = 'l', long, value_parser = arguments::labels, conflicts_with = "files")]
    pub selector: Option<String>,
    /// Delete all objects of the kind in the namespace.
    #[arg(long, conflicts_with_all = ["files", "selector"])]
    pub all: bool,
    /// What to do with owned objects [default: foreground with --wait, otherwise background].
    #[arg(long, value_enum)]
    pub cascade: Option<Cascade>,
    /// Wait until the objects and everything they own are gone: all tasks have stopped by then.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 90s or 1h30m.
    #[arg(long, requires = "wait", value_name = "DURATION", default_value = "5m")]
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
/// Exit code 0 means that everything was printed; with `-f`, up to the end of the tasks.
#[derive(Debug, Clone, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
pub struct Logs {
    /// TASK, task/T, service/S (a ready task of it), job/J or run/R; or KIND NAME.
    #[arg(required = true, value_name = "TASK", num_args = 1..)]
    #[arg(add = named(KindId::Task, &[KindId::Service, KindId::Job, KindId::WorkflowRun], Which::OpenIfFollowed))]
    pub of: Vec<String>,
    /// Follow until the tasks have finished, including new tasks and attempts. After a lost connection,
    /// continue after the last line printed.
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last LINES lines of each task.
    #[arg(long, value_name = "LINES", value_parser = arguments::lines, allow_negative_numbers = true)]
    pub tail: Option<arguments::Lines>,
    /// Only lines newer than this, such as 90s, 10m or 1h30m.
    #[arg(long, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Print the time of each line.
    #[arg(long)]
    pub timestamps: bool,
    /// Attempt to print [default: the newest].
    #[arg(long, value_name = "NUMBER", value_parser = arguments::number)]
    pub attempt: Option<u32>,
    /// Run of the job to print [default: the current one].
    #[arg(long, value_name = "NUMBER", value_parser = arguments::number)]
    #[arg(conflicts_with = "attempt", add = runs())]
    pub run: Option<u32>,
    /// Print the attempt before the one that is printed without this.
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// Only tasks that failed.
    #[arg(long, conflicts_with = "follow")]
    pub failed: bool,
    /// Print all tasks of a service.
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `exec`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Exec {
    /// TASK, task/T or task T; or service/S: a ready task of it.
    #[arg(required = true, value_name = "TASK", num_args = 1..)]
    #[arg(add = named(KindId::Task, &[KindId::Service], Which::Running))]
    pub task: Vec<String>,
    /// Pass stdin to the command.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Allocate a terminal for the command.
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Attempt to run it in [default: the newest].
    #[arg(long, value_name = "NUMBER", value_parser = arguments::number)]
    pub attempt: Option<u32>,
    /// Command to run, after `--`. It is not run in a shell; for one, use `sh -c '...'`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// The variants of `top`.
#[derive(Debug, Clone, Subcommand)]
pub enum Top {
    /// Show the CPU and memory usage of each host, and the amounts that tasks may use.
    #[command(visible_aliases = ["node", "no"])]
    Nodes {
        /// Only these nodes.
        #[arg(add = named(KindId::Node, &[], Which::All))]
        nodes: Vec<String>,
        /// Sort by usage, highest first.
        #[arg(long, value_enum, value_name = "WHAT")]
        sort: Option<TopOrder>,
    },
    /// Show the CPU and memory that running tasks use, and what they requested.
    #[command(visible_aliases = ["task", "tk"])]
    Tasks {
        /// Only these tasks.
        #[arg(add = named(KindId::Task, &[], Which::Running))]
        tasks: Vec<String>,
        /// Sort by usage, highest first.
        #[arg(long, value_enum, value_name = "WHAT")]
        sort: Option<TopOrder>,
        /// Only tasks with these labels: app=web,tier in (a, b),!spot.
        #[arg(short = 'l', long, value_parser = arguments::labels)]
        selector: Option<String>,
        /// Show tasks in all namespaces.
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
    /// Only events about this object: KIND/NAME or KIND NAME.
    #[arg(value_name = "KIND/NAME", num_args = 0..=2, conflicts_with = "about")]
    #[arg(add = objects(&[], Which::All))]
    pub of: Vec<String>,
    /// Same as KIND/NAME, as in kubectl.
    #[arg(long = "for", value_name = "KIND/NAME", add = objects(&[], Which::All))]
    pub about: Option<String>,
    /// List events in all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// After listing, watch for new events.
    #[arg(short, long, alias = "follow", short_alias = 'f')]
    pub watch: bool,
}

/// Arguments of `wait`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Wait {
    /// KIND NAME... or KIND/NAME...
    #[arg(required = true, value_name = "KIND/NAME", add = objects(&[], Which::All))]
    pub targets: Vec<String>,
    /// State to wait for.
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value_t = Goal::Succeeded)]
    pub goal: Goal,
    /// How long to wait, such as 90s or 1h30m; 0s checks once.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: Duration,
}

/// Arguments of `scale`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Scale {
    /// KIND NAME... or KIND/NAME...
    #[arg(required = true, value_name = "KIND/NAME")]
    #[arg(add = objects(&[KindId::Service, KindId::Job], Which::All))]
    pub targets: Vec<String>,
    /// Number of tasks.
    #[arg(long, value_name = "NUMBER", alias = "count")]
    pub replicas: u32,
}

/// Arguments of `run`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Run {
    /// WORKFLOW, workflow/W or workflow W.
    #[arg(required = true, value_name = "WORKFLOW", num_args = 1..)]
    #[arg(add = named(KindId::Workflow, &[], Which::All))]
    pub workflow: Vec<String>,
    /// Value of a parameter; may be given several times.
    #[arg(short, long = "param", value_name = "KEY=VALUE", value_parser = arguments::param, add = params())]
    pub params: Vec<(String, String)>,
    /// Name of the run; a second run with this name is refused [default: the next number].
    #[arg(long, value_parser = arguments::name)]
    pub name: Option<String>,
    /// Whether to wait for the end of the run.
    #[command(flatten)]
    pub until_end: UntilEnd,
}

/// Whether to wait for the end of what was started.
#[derive(Debug, Clone, ClapArgs)]
pub struct UntilEnd {
    /// Wait until it has finished; fail if it fails. With -o json or yaml, print the object once, at the
    /// end.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 90s or 1h30m [default: no limit].
    #[arg(long, requires = "wait", value_name = "DURATION")]
    pub timeout: Option<Duration>,
}

/// Arguments of `rerun`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Rerun {
    /// job/J, run/R; or KIND NAME.
    #[arg(required = true, value_name = "KIND/NAME", num_args = 1..)]
    #[arg(add = objects(&[KindId::Job, KindId::WorkflowRun], Which::Ended))]
    pub of: Vec<String>,
    /// Another value of a parameter of the run; may be given several times.
    #[arg(short, long = "param", value_name = "KEY=VALUE", value_parser = arguments::param, add = params())]
    pub params: Vec<(String, String)>,
    /// Name of the new run; a second run with this name is refused [default: the next number].
    #[arg(long, value_parser = arguments::name)]
    pub name: Option<String>,
    /// Whether to wait for its end.
    #[command(flatten)]
    pub until_end: UntilEnd,
}

/// Arguments of `cluster`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Cluster {
    /// What to do [default: show the cluster].
    #[command(subcommand)]
    pub what: Option<ClusterCommand>,
}

/// What to do with the cluster.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterCommand {
    /// Confirm a restored cluster: agents resume work, and stop the tasks that it does not know.
    Confirm {
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
}

/// What `debug` collects.
#[derive(Debug, Clone, Subcommand)]
pub enum DebugCommand {
    /// Write versions, health, metrics and objects to an archive, without Secrets, ConfigMaps,
    /// environment values, commands and arguments. Review it before you send it.
    Bundle {
        /// Archive to write; must not exist yet [default: heliox-debug-TIME.tar.gz]
        #[arg(short, long, value_name = "FILE.tar.gz")]
        file: Option<PathBuf>,
    },
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
