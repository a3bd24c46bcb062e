//! Every `hctl` and `heliox` line of the documents is one that these programs understand.

use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Error};

use super::shell::commands;
use super::{blocks, root};

/// What stands for something that people put in its place, and an example of it.
const PLACEHOLDERS: [(&str, &str); 7] = [
    ("URL", "http://127.0.0.1:7070"),
    ("KEY=VALUE", "key=value"),
    ("DIR", "folder"),
    ("FILE", "file"),
    ("DURATION", "5m"),
    ("NUMBER", "1"),
    ("...", ""),
];

/// A line of a document, and where it stands.
struct Line {
    at: String,
    text: String,
    /// It is a part of a sentence, which may leave out what matters not there.
    is_inline: bool,
}

/// The documents that people read.
fn documents() -> Vec<String> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let docs = docs.filter(|name| Path::new(name).extension().is_some_and(|it| it == "md"));
    let mut names: Vec<String> = docs.map(|name| format!("docs/{name}")).collect();
    names.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned));
    names.sort_unstable();
    names
}

/// The lines of a document that are to be typed.
fn lines(name: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    let mut found = Vec::new();
    for block in blocks(&text).iter().filter(|it| !matches!(&*it.language, "yaml" | "text")) {
        let numbers = block.first..;
        for (number, line) in numbers.zip(&block.lines) {
            let text = line.trim().trim_start_matches("$ ").to_owned();
            found.push(Line { at: format!("{name}:{number}"), text, is_inline: false });
        }
    }
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        let spans = line.split('`').skip(1).step_by(2);
        for span in spans.filter(|_| !in_code && !is_fence) {
            let at = format!("{name}:{number}");
            found.push(Line { at, text: span.replace("\\|", "|"), is_inline: true });
        }
    }
    found
}

/// A word as somebody would write it: placeholders have values.
fn filled_in(word: &str) -> String {
    // What a shell would put there.
    let mut word = match (word.find("$("), word.rfind(')')) {
        (Some(from), Some(to)) if from < to => format!("{}1{}", &word[..from], &word[to + 1..]),
        _ => word.to_owned(),
    };
    for (placeholder, example) in PLACEHOLDERS {
        word = word.replace(placeholder, example);
    }
    let is_placeholder = |c: char| c.is_ascii_uppercase() || matches!(c, '/' | '-' | '.');
    if word.chars().all(is_placeholder) && !word.starts_with('-') {
        word.make_ascii_lowercase();
    } else if let Some((kind, name)) = word.split_once('/')
        && name.chars().all(is_placeholder)
    {
        word = format!("{kind}/{}", name.to_lowercase());
    }
    word
}

/// What one of our programs says of a command; nothing of a command of others.
fn refused(words: &[String]) -> Option<Error> {
    let words: Vec<String> = words.iter().map(|word| filled_in(word)).collect();
    let program = Path::new(words.first()?).file_name()?.to_str()?.to_owned();
    let command = match program.as_str() {
        "hctl" => ctl::args::Args::command(),
        "heliox" => heliox::args::Cli::command(),
        _ => return None,
    };
    // A bare name is the program, not a command.
    (words.len() > 1).then(|| command.try_get_matches_from(words).err())?
}

/// Whether the mistake is that something is left out.
fn is_incomplete(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

#[test]
fn docs_tell_to_type_only_what_is_understood() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for line in documents().iter().flat_map(|name| lines(name)) {
        // Variables of a unit file have no values here.
        if line.text.contains("${") {
            continue;
        }
        for words in commands(&line.text) {
            let is_ours = matches!(words[0].as_str(), "hctl" | "heliox");
            seen += usize::from(is_ours && words.len() > 1);
            let Some(error) = refused(&words) else { continue };
            let is_help =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let is_allowed = is_help || (line.is_inline && is_incomplete(&error));
            if !is_allowed {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                wrong.push(format!("{}: {}: {why}", line.at, words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 150, "only {seen} lines were looked at");
}

/// The commands that a sentence names: each up to what ends it there.
fn named_in(sentence: &str) -> Vec<String> {
    let rest = sentence.split("hctl ").skip(1);
    let ends = [",", ";", ".", ")", " (", " or ", " before ", " keeps "];
    let command = |rest: &str| {
        let mut command = rest;
        for end in ends {
            let is_end = |at: &usize| end != "." || command[at + 1..].trim_start().is_empty();
            if let Some(at) = command.find(end).filter(is_end) {
                command = &command[..at];
            }
        }
        format!("hctl {}", command.trim())
    };
    rest.map(command).collect()
}

/// What hctl says of what to do next can be typed, in the session in which every verb is tried.
#[test]
fn hints_tell_to_type_only_what_is_understood() {
    let session = root().join("e2e/tests/it/verbs/session.txt");
    let session = std::fs::read_to_string(session).unwrap();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for hint in session.lines().filter_map(|line| line.strip_prefix("hint: ")) {
        for words in named_in(hint).iter().flat_map(|line| commands(line)) {
            seen += 1;
            let error = refused(&words).filter(|error| !is_incomplete(error));
            wrong.extend(error.map(|error| format!("{hint}: {error}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 50, "only {seen} commands were looked at");
}
