//! The `hctl` binary: parses the command line, runs the command, and exits with its code.

use std::process::ExitCode;

use clap::CommandFactory as _;
use ctl::args::Args;
use ctl::{terminal, usage};

fn main() -> ExitCode {
    ctl::completion::answer(Args::command);
    let args = match Args::of_line(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let words = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
            return usage::answer(error, &words.collect::<Vec<_>>());
        }
    };
    let (format, namespace) = (args.output, args.named_namespace());
    terminal::name_namespace(namespace);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = ctl::failure::Failure::new(format!("cannot start: {error}"));
            return terminal::report(failure, format);
        }
    };
    let done = runtime.block_on(ctl::cmd::run(args));
    // A blocking read of stdin that nobody needs any more must not delay the exit.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => terminal::report(failure, format),
    }
}
