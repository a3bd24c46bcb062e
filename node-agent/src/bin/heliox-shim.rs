//! The shim as a program of its own: `heliox-shim <task directory>`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(dir) => node_agent::shim::main(&PathBuf::from(dir)),
        None => ExitCode::from(2),
    }
}
