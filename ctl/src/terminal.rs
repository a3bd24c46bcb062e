//! Printing: data to stdout, everything else to stderr. Colours only if the output is a terminal.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use rustix::termios::tcgetwinsize;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::failure::{Code, Failure};
use crate::format::Format;
use crate::hints;
use crate::output::{Paper, folded, printable};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Moves the cursor to the start of its line and clears the line.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Whether the terminal's last line shows progress. A static, because the terminal belongs to the
/// process: whatever is printed next must replace that line.
static SHOWS_PROGRESS: AtomicBool = AtomicBool::new(false);

/// Whether a person may be watching. If not, progress need not be computed.
pub fn is_looked_at() -> bool {
    !is_dumb() && width(&std::io::stderr()).is_some()
}

/// Whether the terminal supports no control sequences.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|kind| kind == "dumb")
}

/// Shows progress at a terminal, in place of what was shown before.
pub fn progress(text: &str) {
    let stderr = std::io::stderr();
    let Some(width) = width(&stderr).filter(|_| !is_dumb()) else { return };
    let line: String = printable(text).chars().take(width.saturating_sub(1)).collect();
    SHOWS_PROGRESS.store(true, Ordering::Relaxed);
    // If stderr is closed, nobody can be told.
    let _nobody_looks_on = write!(stderr.lock(), "{CLEAR_LINE}{line}");
}

fn clear_progress() {
    if SHOWS_PROGRESS.swap(false, Ordering::Relaxed) {
        let _nobody_looks_on = write!(std::io::stderr().lock(), "{CLEAR_LINE}");
    }
}

/// The width of a line; nothing if it is not a terminal.
fn width(output: &(impl std::os::fd::AsFd + std::io::IsTerminal)) -> Option<usize> {
    let size = tcgetwinsize(output).ok().filter(|_| output.is_terminal());
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Prints data unchanged.
///
/// # Errors
/// Stdout cannot be written: [`Code::Unread`] if its reader is gone.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints data and a newline.
///
/// # Errors
/// As for [`print()`].
pub fn print_line(line: &str) -> Result<(), Failure> {
    print_bytes(format!("{line}\n").as_bytes())
}

/// Prints bytes unchanged.
///
/// # Errors
/// As for [`print()`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    clear_progress();
    // Directly, so that colours in the output of tasks are kept.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// The properties of stdout for tables.
pub fn paper() -> Paper {
    let stdout = std::io::stdout();
    let width = width(&stdout);
    let colours = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
    Paper { width, colours, folds: false }
}

/// Resolves when nobody will read the output any more, because the reader of a pipe is gone. A
/// command that prints nothing would not notice that. Never resolves for a file or a terminal.
pub async fn unread() -> Failure {
    // Only watched, never written, so it need not be made non-blocking.
    let watched = std::io::stdout().as_fd().try_clone_to_owned();
    let is_gone = match watched.and_then(pipe::Sender::from_owned_fd_unchecked) {
        Ok(stdout) => stdout.ready(Interest::ERROR).await.is_ok(),
        Err(_) => false,
    };
    if !is_gone {
        std::future::pending::<()>().await;
    }
    std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()
}

/// Prints a message after a label. Continuation lines are indented to the end of the label.
fn labelled(style: Style, label: &str, text: &str) {
    let text = folded_after(label, &typable(text), width(&std::io::stderr()));
    say(&format!("{style}{label}{style:#}{}", text.strip_prefix(label).unwrap_or(&text)));
}

/// The lines of a text after its label, folded to the width of a terminal.
fn folded_after(label: &str, text: &str, width: Option<usize>) -> String {
    let hang = label.chars().count() + 1;
    folded_text(&format!("{label} {text}"), hang, width)
}

/// The lines of a text, folded to the width of a terminal. The first is folded from `hang` on;
/// continuation lines of the others are indented to their beginning.
fn folded_text(text: &str, hang: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let lines = text.lines().enumerate().map(|(number, line)| {
        let own = line.chars().take_while(|c| *c == ' ').count();
        folded(line, if number == 0 { hang } else { own }, width)
    });
    let text: String = lines.collect();
    text.trim_end().to_owned()
}

/// The namespace that suggested commands have to name; unset if they need not.
static NAMESPACE: OnceLock<String> = OnceLock::new();

/// Sets the namespace for commands in notes and hints. To be called once.
pub fn name_namespace(namespace: Option<String>) {
    if let Some(namespace) = namespace {
        // A second call would be a harmless bug.
        let _first_stays = NAMESPACE.set(namespace);
    }
}

/// A text whose commands can be typed as they are.
fn typable(text: &str) -> String {
    hints::within(text, NAMESPACE.get().map(String::as_str))
}

/// Prints a message that is not data: a note, a warning, or progress. The namespace is added to
/// commands in it if necessary. At a terminal it is folded.
pub fn note(text: &str) {
    say(&folded_text(&typable(text), 0, width(&std::io::stderr())));
}

/// Prints to stderr unchanged.
fn say(text: &str) {
    clear_progress();
    // If stderr is closed, nobody can be told.
    let _nobody_listens = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints a hint.
pub fn hint(text: &str) {
    labelled(HINT, "hint:", text);
}

/// Prints an error of clap, which clap itself does not fold, in lines that begin as they do there.
pub fn clap_error(text: &str) {
    const LABEL: &str = "error:";
    let text = clap_text(text, width(&std::io::stderr()));
    match text.strip_prefix(LABEL) {
        Some(rest) => say(&format!("{ERROR}{LABEL}{ERROR:#}{rest}")),
        None => say(&text),
    }
}

/// A text of clap's, folded to the width of a terminal. Continuation lines are indented to the
/// label of their line, such as `Usage:`.
fn clap_text(text: &str, width: Option<usize>) -> String {
    let hang = |line: &str| {
        let label = ["error: ", "Usage: hctl "].into_iter().find(|label| line.starts_with(label));
        label.map_or_else(|| line.chars().take_while(|c| *c == ' ').count(), str::len)
    };
    let lines = text.trim_end().lines().map(|line| folded_text(line, hang(line), width));
    lines.collect::<Vec<_>>().join("\n")
}

/// Prints a warning of the server.
pub fn warning(text: &str) {
    note(&format!("warning: {text}"));
}

/// Prints a failure with its hint. Returns the exit code.
pub fn report(mut failure: Failure, format: Format) -> ExitCode {
    failure.hint = failure.hint.map(|hint| typable(&hint));
    if failure.code == Code::Unread {
        return ExitCode::SUCCESS;
    }
    if let Code::Command(code) = failure.code {
        // In the same form for any format, as in kubectl, because the output of the command is what
        // was wanted.
        note(&failure.message);
        return ExitCode::from(code);
    }
    if format == Format::Json {
        say(&failure.to_json().to_string());
        return ExitCode::from(failure.code.number());
    }
    for problem in &failure.problems {
        let text = problem.to_string();
        // The position is the label and is not broken, so that it can be clicked on.
        match text.split_once(' ') {
            Some((place, text)) => say(&folded_after(place, text, width(&std::io::stderr()))),
            None => note(&text),
        }
    }
    labelled(ERROR, "error:", &failure.message);
    if let Some(hint) = &failure.hint {
        self::hint(hint);
    }
    ExitCode::from(failure.code.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_folded_at_a_terminal_and_left_alone_in_a_pipe() {
        let text = "list what exists with hctl get jobs (-A: in all namespaces)";
        assert_eq!(folded_after("hint:", text, None), format!("hint: {text}"));
        assert_eq!(
            folded_after("hint:", text, Some(32)),
            "hint: list what exists with hctl\n      get jobs (-A: in all\n      namespaces)"
        );
        let two = "spec.x: unknown field of this\n  hint: did you mean count?";
        assert_eq!(
            folded_after("a.yaml:3:1:", two, Some(24)),
            "a.yaml:3:1: spec.x:\n            unknown\n            field of\n            this\n  hint: did you mean\n  count?"
        );
    }

    #[test]
    fn a_note_is_folded_at_a_terminal_and_left_alone_in_a_pipe() {
        let text = "task/a-0 may still run on node-b\n  which is silent since then";
        assert_eq!(folded_text(text, 0, None), text);
        assert_eq!(
            folded_text(text, 0, Some(20)),
            "task/a-0 may still\nrun on node-b\n  which is silent\n  since then"
        );
    }

    #[test]
    fn a_usage_line_is_folded_between_words() {
        let line = "get job/a --watch --run 3 --job x --field-selector a=b -A";
        use crate::args::Args;
        use clap::Parser as _;
        let error = Args::try_parse_from(["hctl"].into_iter().chain(line.split(' ')));
        let text = error.unwrap_err().to_string();
        let folded = clap_text(&text, Some(80));
        assert!(folded.lines().all(|line| line.chars().count() <= 80), "{folded}");
        assert!(
            folded.contains(
                "\nUsage: hctl get --watch --job <JOB> --field-selector <FIELD_SELECTOR>\n            \
                 --all-namespaces <KIND>...\n\n"
            ),
            "{folded}"
        );
        assert_eq!(clap_text(&text, None), text.trim_end());
    }
}
