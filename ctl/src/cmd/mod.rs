//! The commands: one file each, thin.

mod apply;
mod change;
mod cluster;
mod debug;
mod delete;
mod describe;
mod each;
mod events;
mod exec;
mod get;
mod logs;
mod run;
mod show;
mod top;
mod version;
mod wait;

use clap::CommandFactory as _;

use crate::args::{Args, Command, DebugCommand};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::terminal;
use crate::verb::Verb;
use change::change;

/// Does what the command line says.
///
/// # Errors
/// What went wrong, with the exit code and what to do about it.
#[expect(clippy::cognitive_complexity, reason = "it is a table of the commands")]
pub async fn run(args: Args) -> Result<(), Failure> {
    let Args { server, namespace, output, command } = args;
    if let Command::Completion { shell } = command {
        return completion(shell);
    }
    let connection = Connection::new(&server, &namespace, output)?;
    match command {
        Command::Apply(args) => apply::apply(&connection, args).await,
        Command::Get(args) => get::get(&connection, args).await,
        Command::Describe(args) => describe::describe(&connection, &args.targets).await,
        Command::Delete(args) => delete::delete(&connection, args).await,
        Command::Logs(args) => logs::logs(&connection, args).await,
        Command::Exec(args) => exec::exec(&connection, args).await,
        Command::Top(args) => top::top(&connection, args).await,
        Command::Events(args) => events::events(&connection, args).await,
        Command::Wait(args) => wait::wait(&connection, args).await,
        Command::Run(args) => run::run(&connection, args).await,
        Command::Cancel(args) => change(&connection, Verb::Cancel, &args.targets).await,
        Command::Suspend(args) => change(&connection, Verb::Suspend, &args.targets).await,
        Command::Resume(args) => change(&connection, Verb::Resume, &args.targets).await,
        Command::Evict { tasks } => change(&connection, Verb::Evict, &tasks).await,
        Command::Cordon { nodes } => change(&connection, Verb::Cordon, &nodes).await,
        Command::Uncordon { nodes } => change(&connection, Verb::Uncordon, &nodes).await,
        Command::Cluster(args) => cluster::cluster(&connection, args).await,
        Command::Debug(DebugCommand::Bundle { file }) => debug::bundle(&connection, file).await,
        Command::Version => version::version(&connection).await,
        Command::Completion { shell } => completion(shell),
    }
}

fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "hctl", &mut script);
    terminal::print_bytes(&script)
}
