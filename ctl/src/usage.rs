//! Answers a command line that is not understood, or that asks for help.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::{Code, Failure};
use crate::format::Format;
use crate::{foreign, terminal};

/// Prints what is wrong in the command line, or the requested help. Returns the exit code. `words`
/// is the command line after `hctl`.
pub fn answer(mut error: clap::Error, words: &[String]) -> ExitCode {
    if !error.use_stderr() {
        // If this cannot be printed, nobody reads it.
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
        // clap would suggest a command that only looks similar.
        let failure = Failure::usage(format!("there is no command {word:?}"));
        let hint = foreign::command(words, &word);
        let hint = hint.unwrap_or_else(|| "hctl --help lists the commands".to_owned());
        return terminal::report(failure.hint(hint), format_of(words));
    }
    let argument = context(&error, ContextKind::InvalidArg);
    let hint = match (error.kind(), &argument, context(&error, ContextKind::InvalidValue)) {
        (_, Some(argument), Some(value)) => foreign::value(words, argument, &value),
        (ErrorKind::UnknownArgument, Some(argument), None) => foreign::argument(words, argument),
        (ErrorKind::MissingRequiredArgument, ..) => foreign::missing(words),
        _ => None,
    };
    if error.kind() == ErrorKind::UnknownArgument {
        // clap would suggest to pass the flag as the name of an object.
        error.remove(ContextKind::Suggested);
    }
    if hint.is_some() {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedValue);
    }
    if format_of(words) == Format::Json {
        let failure = Failure::usage(first_paragraph(&error.to_string()));
        return terminal::report(Failure { hint, ..failure }, Format::Json);
    }
    terminal::clap_error(&error.to_string());
    if let Some(hint) = hint {
        terminal::hint(&hint);
    }
    ExitCode::from(Code::Error.number())
}

/// The output format in a command line that is invalid as a whole.
fn format_of(words: &[String]) -> Format {
    let ours = words.iter().take_while(|word| *word != "--");
    let after = ours.clone().skip(1).map(String::as_str).chain(std::iter::once(""));
    let is_json = ours.zip(after).any(|(word, next)| match word.as_str() {
        "-o" | "--output" => next == "json",
        word => matches!(word, "-ojson" | "-o=json" | "--output=json"),
    });
    if is_json { Format::Json } else { Format::Table }
}

/// The first paragraph of clap's message, on one line.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
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
