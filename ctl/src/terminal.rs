//! Printing: data to stdout, all else to stderr. Colours only where they are wanted.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use rustix::termios::tcgetwinsize;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::args::Format;
use crate::failure::{Code, Failure};
use crate::output::{Paper, folded, printable};
use crate::{foreign, hints};

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

/// Comes to an end once nobody will read what is printed: the reader of a pipe is gone, which a command
/// that has nothing to print would not notice. A file and a terminal have no such end.
pub async fn unread() -> Failure {
    // Nothing is written by this, so stdout may block as it does.
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

/// Tells something after a word that says what it is, below whose end it goes on where it is folded.
fn labelled(style: Style, label: &str, text: &str) {
    let text = folded_after(label, &typable(text), width(&std::io::stderr()));
    say(&format!("{style}{label}{style:#}{}", text.strip_prefix(label).unwrap_or(&text)));
}

/// The lines of a text after its label, no longer than a terminal is wide.
fn folded_after(label: &str, text: &str, width: Option<usize>) -> String {
    let hang = label.chars().count() + 1;
    folded_text(&format!("{label} {text}"), hang, width)
}

/// The lines of a text, no longer than a terminal is wide. Of the first what begins at `hang` is folded;
/// what follows a fold of the others stands below their beginning.
fn folded_text(text: &str, hang: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let lines = text.lines().enumerate().map(|(number, line)| {
        let own = line.chars().take_while(|c| *c == ' ').count();
        folded(line, if number == 0 { hang } else { own }, width)
    });
    let text: String = lines.collect();
    text.trim_end().to_owned()
}

/// The namespace that commands have to name which people are told to type; nothing where they find it
/// without.
static NAMESPACE: OnceLock<String> = OnceLock::new();

/// From now on commands in notes and hints name this namespace. To be said once.
pub fn name_namespace(namespace: Option<String>) {
    if let Some(namespace) = namespace {
        // A second one would be a bug that harms nobody.
        let _first_stays = NAMESPACE.set(namespace);
    }
}

/// A text whose commands can be typed as they stand.
fn typable(text: &str) -> String {
    hints::within(text, NAMESPACE.get().map(String::as_str))
}

/// Tells the person at the terminal something that is no data: a note, a warning, how far something has
/// come. Commands in it name the namespace where they have to. At a terminal it is folded between words.
pub fn note(text: &str) {
    say(&folded_text(&typable(text), 0, width(&std::io::stderr())));
}

/// Prints to stderr, as it is.
fn say(text: &str) {
    clear_progress();
    // Nobody can be told that stderr is closed.
    let _nobody_listens = writeln!(anstream::stderr().lock(), "{text}");
}

/// Says what the server warns of.
pub fn warning(text: &str) {
    note(&format!("warning: {text}"));
}

/// Says what is wrong with the command line, or shows the help that was asked for; the exit code. `words`
/// is the command line after `hctl`.
pub fn usage(mut error: clap::Error, words: &[String]) -> ExitCode {
    if !error.use_stderr() {
        // Nobody listens where this cannot be printed.
        let _unread = error.print();
        return ExitCode::SUCCESS;
    }
    let context = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        _ => None,
    };
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(word) = context(&error, ContextKind::InvalidSubcommand)
    {
        // A verb that only looks alike is not what is meant.
        let failure = Failure::usage(format!("there is no command {word:?}"));
        let hint = foreign::command(words, &word);
        let hint = hint.unwrap_or_else(|| "hctl --help lists the commands".to_owned());
        return report(failure.hint(hint), format_of(words));
    }
    let argument = context(&error, ContextKind::InvalidArg);
    let hint = match (error.kind(), &argument, context(&error, ContextKind::InvalidValue)) {
        (_, Some(argument), Some(value)) => foreign::value(words, argument, &value),
        (ErrorKind::UnknownArgument, Some(argument), None) => foreign::argument(words, argument),
        (ErrorKind::MissingRequiredArgument, ..) => foreign::missing(words),
        _ => None,
    };
    if error.kind() == ErrorKind::UnknownArgument {
        // To pass a flag as the name of an object is never what is meant.
        error.remove(ContextKind::Suggested);
    }
    if hint.is_some() {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedValue);
    }
    if format_of(words) == Format::Json {
        let failure = Failure::usage(first_paragraph(&error.to_string()));
        return report(Failure { hint, ..failure }, Format::Json);
    }
    not_understood(&error.to_string(), width(&std::io::stderr()));
    if let Some(hint) = hint {
        labelled(HINT, "hint:", &hint);
    }
    ExitCode::from(Code::Error.number())
}

/// Tells what clap says is wrong with a command line, whose lines it does not fold.
fn not_understood(text: &str, width: Option<usize>) {
    const LABEL: &str = "error:";
    let text = clap_text(text, width);
    match text.strip_prefix(LABEL) {
        Some(rest) => say(&format!("{ERROR}{LABEL}{ERROR:#}{rest}")),
        None => say(&text),
    }
}

/// A text of clap's, no wider than a terminal. What follows a fold stands behind the label of its line, such
/// as `Usage:`.
fn clap_text(text: &str, width: Option<usize>) -> String {
    let hang = |line: &str| {
        let label = ["error: ", "Usage: hctl "].into_iter().find(|label| line.starts_with(label));
        label.map_or_else(|| line.chars().take_while(|c| *c == ' ').count(), str::len)
    };
    let lines = text.trim_end().lines().map(|line| folded_text(line, hang(line), width));
    lines.collect::<Vec<_>>().join("\n")
}

/// The format that a command line asks for which is not understood as a whole.
fn format_of(words: &[String]) -> Format {
    let ours = words.iter().take_while(|word| *word != "--");
    let after = ours.clone().skip(1).map(String::as_str).chain(std::iter::once(""));
    let is_json = ours.zip(after).any(|(word, next)| match word.as_str() {
        "-o" | "--output" => next == "json",
        word => matches!(word, "-ojson" | "-o=json" | "--output=json"),
    });
    if is_json { Format::Json } else { Format::Table }
}

/// What clap says is wrong, on one line, without what it is followed by.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// Tells what went wrong, and what to do about it.
pub fn report(mut failure: Failure, format: Format) -> ExitCode {
    failure.hint = failure.hint.map(|hint| typable(&hint));
    if failure.code == Code::Unread {
        return ExitCode::SUCCESS;
    }
    if let Code::Command(code) = failure.code {
        // As kubectl says it, in any format: what the command printed is what was wanted.
        note(&failure.message);
        return ExitCode::from(code);
    }
    if format == Format::Json {
        say(&failure.to_json().to_string());
        return ExitCode::from(failure.code.number());
    }
    for problem in &failure.problems {
        let text = problem.to_string();
        // The place is the label: it stays in one piece, to be clicked on.
        match text.split_once(' ') {
            Some((place, text)) => say(&folded_after(place, text, width(&std::io::stderr()))),
            None => note(&text),
        }
    }
    labelled(ERROR, "error:", &failure.message);
    if let Some(hint) = &failure.hint {
        labelled(HINT, "hint:", hint);
    }
    ExitCode::from(failure.code.number())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::args::Args;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_format_of_errors_is_known_before_the_line_is_understood() {
        for line in
            ["frob -o json", "get -ojson", "exec a -o=json x", "--output json", "--output=json"]
        {
            assert_eq!(format_of(&words(line)), Format::Json, "{line}");
        }
        for line in ["get jobs", "get -o yaml", "exec a -- x -o json", "get -o"] {
            assert_eq!(format_of(&words(line)), Format::Table, "{line}");
        }
    }

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

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        fn walk(command: &clap::Command) {
            let mut command = command.clone().term_width(80);
            let help = command.render_long_help().to_string();
            let long = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None, "{}", command.get_name());
            command.get_subcommands().for_each(walk);
        }
        let mut command = Args::command();
        command.build();
        walk(&command);
    }

    #[test]
    fn what_clap_says_fits_into_one_line() {
        let error = Args::try_parse_from(["hctl", "exec", "a-0"]).unwrap_err();
        assert_eq!(
            first_paragraph(&error.to_string()),
            "the following required arguments were not provided: <COMMAND>..."
        );
        let error = Args::try_parse_from(["hctl", "get", "jobs", "-o", "toml"]).unwrap_err();
        assert_eq!(
            first_paragraph(&error.to_string()),
            "invalid value 'toml' for '--output <FORMAT>' [possible values: table, wide, yaml, json, \
             name]"
        );
    }
}
