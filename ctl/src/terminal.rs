//! Printing: data to stdout, all else to stderr. Colours only where they are wanted.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use rustix::termios::tcgetwinsize;

use crate::args::{Args, Format};
use crate::failure::{Code, Failure};
use crate::output::{Paper, printable};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Takes the cursor to the start of its line and clears that.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Whether the terminal's last line shows how far something has come. It belongs to the process, as the
/// terminal does: whatever is printed next takes its place.
static SHOWS_PROGRESS: AtomicBool = AtomicBool::new(false);

/// Whether a person may look on: what is told them is not worth making otherwise.
pub fn is_looked_at() -> bool {
    !is_dumb() && width(&std::io::stderr()).is_some()
}

/// Whether the terminal obeys no commands.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|kind| kind == "dumb")
}

/// Shows how far something has come, at a terminal, in place of what was shown before.
pub fn progress(text: &str) {
    let stderr = std::io::stderr();
    let Some(width) = width(&stderr).filter(|_| !is_dumb()) else { return };
    let line: String = printable(text).chars().take(width.saturating_sub(1)).collect();
    SHOWS_PROGRESS.store(true, Ordering::Relaxed);
    // Nobody can be told that stderr is closed.
    let _nobody_looks_on = write!(stderr.lock(), "{CLEAR_LINE}{line}");
}

fn clear_progress() {
    if SHOWS_PROGRESS.swap(false, Ordering::Relaxed) {
        let _nobody_looks_on = write!(std::io::stderr().lock(), "{CLEAR_LINE}");
    }
}

/// The characters of a line; nothing where it is no terminal.
fn width(output: &(impl std::os::fd::AsFd + std::io::IsTerminal)) -> Option<usize> {
    let size = tcgetwinsize(output).ok().filter(|_| output.is_terminal());
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
}

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
    clear_progress();
    // The plain stdout: what tasks print is passed on with its colours.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// What tables are printed on.
pub fn paper() -> Paper {
    let stdout = std::io::stdout();
    let width = width(&stdout);
    let colours = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
    Paper { width, colours, folds: false }
}

/// Tells the person at the terminal something that is no data.
pub fn note(text: &str) {
    clear_progress();
    // Nobody can be told that stderr is closed.
    let _nobody_listens = writeln!(anstream::stderr().lock(), "{text}");
}

/// Says what is wrong with the command line, or shows the help that was asked for; the exit code.
pub fn usage(mut error: clap::Error) -> ExitCode {
    let meant = meant(&error);
    if meant.is_some() {
        // A verb that only looks alike would be suggested, too.
        error.remove(ContextKind::SuggestedSubcommand);
    }
    if error.kind() == ErrorKind::UnknownArgument {
        // To pass a flag as the name of an object is never what is meant.
        error.remove(ContextKind::Suggested);
    }
    // Nobody listens where this cannot be printed.
    let _unread = error.print();
    if let Some(meant) = meant {
        note(&format!("{HINT}hint:{HINT:#} did you mean hctl {meant}?"));
    }
    if error.use_stderr() { ExitCode::from(Code::Error.number()) } else { ExitCode::SUCCESS }
}

/// Verbs of other tools, and ours for the same.
const OTHER_WORDS: [(&str, &str); 32] = [
    ("annotate", "apply -f FILE"),
    ("attach", "logs -f"),
    ("create", "apply -f FILE"),
    ("destroy", "delete"),
    ("diff", "apply -f FILE --dry-run"),
    ("down", "delete -f FILE"),
    ("drain", "cordon"),
    ("edit", "apply -f FILE"),
    ("info", "cluster"),
    ("inspect", "describe"),
    ("kill", "cancel"),
    ("label", "apply -f FILE"),
    ("list", "get"),
    ("ls", "get"),
    ("patch", "apply -f FILE"),
    ("pause", "suspend"),
    ("ps", "get tasks"),
    ("replace", "apply -f FILE"),
    ("restart", "rerun"),
    ("retry", "rerun"),
    ("rm", "delete"),
    ("rollout", "wait"),
    ("scale", "apply -f FILE"),
    ("show", "describe"),
    ("start", "run"),
    ("status", "describe"),
    ("stop", "cancel"),
    ("submit", "apply -f FILE"),
    ("taint", "cordon"),
    ("tail", "logs -f"),
    ("unpause", "resume"),
    ("up", "apply -f FILE"),
];

/// What a person meant who wrote a verb that there is none of.
fn meant(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    if let Some((_, ours)) = OTHER_WORDS.iter().find(|(other, _)| *other == word.as_str()) {
        return Some((*ours).to_owned());
    }
    // clap has found one itself, and says so.
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return None;
    }
    let command = Args::command();
    let verbs = command.get_subcommands().map(clap::Command::get_name);
    api::violation::nearest(word, verbs).map(str::to_owned)
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_verb_of_another_tool_or_with_a_slip_is_understood_as_a_hint() {
        let meant = |verb: &str| {
            let error = Args::try_parse_from(["hctl", verb, "jobs"]).unwrap_err();
            let shown = error.to_string();
            meant(&error)
                .or_else(|| shown.contains("similar subcommand").then(|| "clap".to_owned()))
        };
        assert_eq!(meant("gt").as_deref(), Some("get"));
        assert_eq!(meant("aply").as_deref(), Some("clap"));
        assert_eq!(meant("rm").as_deref(), Some("delete"));
        assert_eq!(meant("stop").as_deref(), Some("cancel"), "although top looks alike");
        assert_eq!(meant("scale").as_deref(), Some("apply -f FILE"));
        assert_eq!(meant("frobnicate"), None);
    }

    #[test]
    fn what_other_words_stand_for_is_there() {
        let command = Args::command();
        for (other, ours) in OTHER_WORDS {
            assert!(command.find_subcommand(other).is_none(), "{other} is ours");
            let verb = ours.split(' ').next().unwrap();
            assert!(command.find_subcommand(verb).is_some(), "{ours}");
        }
    }
}
