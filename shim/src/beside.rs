//! Runs a command beside a task, for example for `hctl exec`: this process becomes the command.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use serde::de::IgnoredAny;

use crate::inherited;
use crate::records::{TaskDir, TaskSpec};

/// The exit code that shells use for a command that cannot be run.
const CANNOT_RUN: u8 = 127;

/// Becomes a command beside the task in `dir`, with the task's environment and folder, and without
/// anything inherited from the agent.
pub(crate) fn main(dir: &Path, command: &[OsString]) -> ExitCode {
    let _ = inherited::close_descriptors();
    inherited::reset();
    // An agent that is killed cannot end anything, so the kernel ends the command together with the
    // thread that started it (PDEATHSIG); the agent's runtime keeps that thread while the agent
    // runs. Processes that the command has started are not ended by this.
    let agent = getppid();
    let _ = set_pdeathsig(Signal::SIGKILL);
    if getppid() != agent {
        // The agent was killed just before.
        return ExitCode::from(CANNOT_RUN);
    }
    let message = match TaskDir(dir.to_owned()).spec() {
        Ok(Some(spec)) => become_command(&spec, command),
        Ok(None) => "the task is gone".to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(CANNOT_RUN)
}

/// Returns only if the command cannot be run, with the reason.
fn become_command(spec: &TaskSpec<IgnoredAny>, command: &[OsString]) -> String {
    let Some((program, args)) = command.split_first() else {
        return "the command is empty".to_owned();
    };
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&spec.working_dir)
        .exec();
    format!("cannot run {}: {error}", program.display())
}
