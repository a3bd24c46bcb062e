//! `heliox-shim`: see the crate's library.

use std::process::ExitCode;

fn main() -> ExitCode {
    shim::program(std::env::args_os().skip(1))
}
