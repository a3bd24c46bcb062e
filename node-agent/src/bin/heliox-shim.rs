//! The shim as a program of its own: `heliox-shim <task directory> [command beside the task]`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(dir) = args.next().map(PathBuf::from) else { return ExitCode::from(2) };
    let command: Vec<OsString> = args.collect();
    if command.is_empty() {
        node_agent::shim::main(&dir)
    } else {
        node_agent::shim::beside(&dir, &command)
    }
}
