//! Chores: anything with an `if`, a loop or a file in it that make should not hold.

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
    /// Three nodes, a workflow on real files, and the proof.
    Demo {
        /// auto, docker or process.
        #[arg(long, default_value = "auto")]
        runtime: String,
    },
    /// Installs and starts what tests need and the machine lacks.
    Prepare,
    /// Runs a command, the tests for instance, and fails where a process of ours outlives it.
    Leftovers {
        /// What to run.
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
