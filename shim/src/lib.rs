//! The shim, a small process beside each task of the process runtime, and what it shares with the
//! agent that starts it.
//!
//! One shim is started for each task, so its start is most of what a short task costs. Therefore
//! this crate has few dependencies: no async runtime, no HTTP, none of the API's types.
//!
//! * [`main`] supervises a task, and [`beside`] runs a command beside it.
//! * [`records`] are the files by which shim and agent know of a task.
//! * [`log`] writes the output of a task, [`table`] reads the list of processes, [`inherited`]
//!   frees a process from what it inherited, and [`private`] creates files that nobody else can
//!   read.

mod beside;
pub mod inherited;
pub mod log;
mod outputs;
pub mod private;
pub mod records;
mod supervise;
pub mod table;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;

/// A hash of the sources that the shim was built from. The agent starts no shim of another build
/// (`build.rs`).
pub const BUILD: &str = env!("HELIOX_SHIM_BUILD");

/// With this argument in place of a task's directory, which is an absolute path, the program only
/// prints its [`BUILD`].
pub const ASKS_FOR_BUILD: &str = "--build";

/// Runs the task in `dir` to its end, or, if there is a command, that command beside it.
pub fn main(dir: &Path, command: &[OsString]) -> ExitCode {
    if command.is_empty() { supervise::main(dir) } else { beside::main(dir, command) }
}

/// The program `heliox-shim`: `heliox-shim <task directory> [command beside the task]`.
#[expect(clippy::print_stdout, reason = "the answer to whoever asks which build this is")]
pub fn program(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(dir) = args.next() else { return ExitCode::from(2) };
    if dir == ASKS_FOR_BUILD {
        println!("{BUILD}");
        return ExitCode::SUCCESS;
    }
    main(&PathBuf::from(dir), &args.collect::<Vec<_>>())
}

/// The current time, rounded to the microseconds of the wire format.
#[expect(
    clippy::disallowed_methods,
    reason = "the shim is never simulated, so it has no clock to hold still"
)]
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
