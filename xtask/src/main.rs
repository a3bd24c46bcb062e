//! Chores: whatever needs an `if`, a loop or a file, and should not be in the Makefile.

#[cfg(test)]
mod cycles;
mod demo;
mod leftovers;
#[cfg(test)]
mod metrics;
mod prepare;
#[cfg(test)]
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Runs three nodes and a workflow on real files, and checks the result.
    Demo {
        /// auto, docker or process.
        #[arg(long, default_value = "auto")]
        runtime: String,
    },
    /// Installs and starts what the tests need and the machine does not have.
    Prepare,
    /// Runs a command, such as the tests, and fails if a process of ours is left over.
    Leftovers {
        /// The command.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

#[expect(clippy::print_stderr, reason = "a chore tells the person who runs it why it failed")]
fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Demo { runtime } => demo::demo(&runtime),
        Chore::Prepare => prepare::prepare(),
        Chore::Leftovers { command } => leftovers::run(&command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
