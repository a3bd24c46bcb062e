//! Printing: data to stdout, all else to stderr. Colours only where they are wanted.

use std::io::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::args::Format;
use crate::failure::{Code, Failure};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Prints data, as it is.
///
/// # Errors
/// When stdout cannot be written: [`Code::Unread`] where its reader went away.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints data and ends the line.
///
/// # Errors
/// As [`print`].
pub fn print_line(line: &str) -> Result<(), Failure> {
    print_bytes(format!("{line}\n").as_bytes())
}

/// Prints bytes, as they are.
///
/// # Errors
/// As [`print`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    // The plain stdout: what tasks print is passed on with its colours.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Tells the person at the terminal something that is no data.
pub fn note(text: &str) {
    // Nobody can be told that stderr is closed.
    let _nobody_listens = writeln!(anstream::stderr().lock(), "{text}");
}

/// Says what is wrong with the command line, or shows the help that was asked for; the exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nobody listens where this cannot be printed.
    let _unread = error.print();
    if error.use_stderr() { ExitCode::from(Code::Error.number()) } else { ExitCode::SUCCESS }
}

/// Tells what went wrong, and what to do about it.
pub fn report(failure: &Failure, format: Format) -> ExitCode {
    if failure.code == Code::Unread {
        return ExitCode::SUCCESS;
    }
    if let Code::Command(code) = failure.code {
        // As kubectl says it, in any format: what the command printed is what was wanted.
        note(&failure.message);
        return ExitCode::from(code);
    }
    if format == Format::Json {
        note(&failure.to_json().to_string());
        return ExitCode::from(failure.code.number());
    }
    for problem in &failure.problems {
        note(&problem.to_string());
    }
    note(&format!("{ERROR}error:{ERROR:#} {}", failure.message));
    if let Some(hint) = &failure.hint {
        note(&format!("{HINT}hint:{HINT:#} {hint}"));
    }
    ExitCode::from(failure.code.number())
}
