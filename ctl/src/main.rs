//! The `hctl` binary: reads the command line, runs the command, and ends with its exit code.

use std::process::ExitCode;

use ctl::args::Args;
use ctl::terminal;

fn main() -> ExitCode {
    ctl::completion::answer();
    let args = match Args::of_line(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let words = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
            return terminal::usage(error, &words.collect::<Vec<_>>());
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
    // A read of stdin that nobody waits for any more must not hold back the end.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => terminal::report(failure, format),
    }
}
