//! A command beside a task, such as `hctl exec` asks for: this process becomes it.

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

/// Exit code of a shell for a command that cannot be run.
const CANNOT_RUN: u8 = 127;

/// Becomes a command beside the task in `dir`, with its environment and folder, and as free of what
/// the agent inherited.
pub(crate) fn main(dir: &Path, command: &[OsString]) -> ExitCode {
    let _ = inherited::close_descriptors();
    inherited::reset();
    // An agent that is killed can end nothing any more, so the kernel ends the command with it: with
    // the thread that started it, which an agent's runtime keeps as long as it runs. What the command
    // has itself started is not ended by that.
    let agent = getppid();
    let _ = set_pdeathsig(Signal::SIGKILL);
    if getppid() != agent {
        // It was killed a moment before.
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

/// Returns only where that is not possible, and says why.
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
