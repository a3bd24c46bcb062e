//! What a shell offers for the word that is being typed: kinds, and the names that the server has.
//!
//! The script that `hctl completion` prints calls hctl itself for each TAB, so that it never offers what
//! this hctl does not take. What is asked of the server has to come at once: where it does not, nothing
//! is offered.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use api::KindId;
use clap::{Arg, Command, CommandFactory as _};
use clap_complete::env::Shells;
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate};

use crate::args::{Args, Format};
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::{door, target};

/// How long a person waits for what is offered.
const PATIENCE: Duration = Duration::from_secs(1);
/// The variable that makes hctl complete a line instead of running it. Its value is the shell.
const VARIABLE: &str = "HCTL_COMPLETE";

/// Answers a shell that completes a line, and ends; does nothing where hctl was called by a person.
/// To be called before anything else.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// The command line as it is offered: flags only where one is begun, since people look for names among
/// what else is offered.
fn command() -> Command {
    let word = std::env::args_os().next_back().unwrap_or_default();
    let command = Args::command();
    if word.to_string_lossy().starts_with('-') { command } else { without_flags(command) }
}

fn without_flags(command: Command) -> Command {
    let hidden = |arg: Arg| if arg.is_positional() { arg } else { arg.hide(true) };
    command.mut_args(hidden).mut_subcommands(without_flags).disable_help_flag(true)
}

/// The script that makes a shell ask.
///
/// # Errors
/// hctl does not know how it was called.
pub fn script(shell: clap_complete::Shell) -> Result<Vec<u8>, Failure> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let shells = Shells::builtins();
    let known = shells.completer(&name);
    let known = known.ok_or_else(|| io::Error::other(format!("{name} is not supported")))?;
    known.write_registration(VARIABLE, "hctl", "hctl", &own_path(), &mut script)?;
    Ok(script)
}

/// How the shell calls hctl: as the person did. A path is made absolute, since the folder changes.
fn own_path() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_path = called.components().count() > 1;
    let path = if is_path { std::path::absolute(&called).unwrap_or(called) } else { called };
    path.to_string_lossy().into_owned()
}

/// Objects, as `KIND NAME` or `KIND/NAME`, or by name alone where the verb has a usual kind.
pub fn objects(usual: Option<KindId>) -> ArgValueCompleter {
    completer(move |line, word| object_words(line, word, usual, "/"))
}

/// What `get` takes: kinds, or objects.
pub fn kinds_or_objects() -> ArgValueCompleter {
    completer(|line, word| match (kind_before(line), word.rsplit_once(',')) {
        (None, Some((before, last))) => {
            let kinds = kind_words(last, true, "").into_iter();
            Wanted::Words(kinds.map(|kind| format!("{before},{kind}")).collect())
        }
        (None, None) if !word.contains('/') => {
            let all = "all".starts_with(word).then(|| "all".to_owned());
            Wanted::Words(kind_words(word, true, "").into_iter().chain(all).collect())
        }
        _ => object_words(line, word, None, "/"),
    })
}

/// Names of one kind.
pub fn names(kind: KindId) -> ArgValueCompleter {
    completer(move |_, word| Wanted::Names { kind, before: String::new(), of: word.to_owned() })
}

/// Fields that the kind on the line is selected by.
pub fn fields() -> ArgValueCompleter {
    completer(|line, word| {
        let Some(kind) = kind_before(line) else { return Wanted::Words(Vec::new()) };
        let (before, last) = word
            .rsplit_once(',')
            .map_or(("", word), |(before, last)| (&word[..before.len() + 1], last));
        let fields = kind.selectable_fields().into_iter().filter(|field| field.starts_with(last));
        Wanted::Words(fields.map(|field| format!("{before}{field}=")).collect())
    })
}

/// Phases of the kind on the line.
pub fn phases() -> ArgValueCompleter {
    completer(|line, word| {
        let phases = kind_before(line).map(door::phases).unwrap_or_default();
        let fit = phases
            .iter()
            .filter(|phase| phase.to_ascii_lowercase().starts_with(&word.to_ascii_lowercase()));
        Wanted::Words(fit.map(|phase| (*phase).to_owned()).collect())
    })
}

/// What can be offered.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Words(Vec<String>),
    /// Names of a kind that begin with `of`, each with `before` before it.
    Names {
        kind: KindId,
        before: String,
        of: String,
    },
}

fn object_words(line: &[String], word: &str, usual: Option<KindId>, after: &str) -> Wanted {
    if let Some((kind_word, name)) = word.split_once('/') {
        return match KindId::from_word(kind_word) {
            Some(kind) => {
                Wanted::Names { kind, before: format!("{kind_word}/"), of: name.to_owned() }
            }
            None => Wanted::Words(Vec::new()),
        };
    }
    match (kind_before(line), usual) {
        (Some(kind), _) | (None, Some(kind)) => {
            Wanted::Names { kind, before: String::new(), of: word.to_owned() }
        }
        (None, None) => Wanted::Words(kind_words(word, false, after)),
    }
}

/// Flags that come before the verb, too, and whose value is the next word.
const VALUED: [&str; 5] = ["-n", "--namespace", "--server", "-o", "--output"];

/// The kind that was named as a word of its own, after the verb.
fn kind_before(line: &[String]) -> Option<KindId> {
    let is_value = |index: usize| {
        line.get(index.wrapping_sub(1)).is_some_and(|flag| VALUED.contains(&flag.as_str()))
    };
    let words = line.iter().enumerate().skip(1);
    let words = words.filter(|(index, word)| !word.starts_with('-') && !is_value(*index));
    words.skip(1).find_map(|(_, word)| KindId::from_word(word))
}

/// The words for kinds that begin so.
fn kind_words(start: &str, are_many: bool, after: &str) -> Vec<String> {
    let served = KindId::ALL.iter().filter(|kind| !kind.info().internal);
    let words = served.flat_map(|kind| match (are_many, *kind) {
        (true, KindId::WorkflowRun) => vec![kind.info().plural, "runs"],
        (true, _) => vec![kind.info().plural],
        (false, kind) => vec![target::word(kind)],
    });
    words.filter(|word| word.starts_with(start)).map(|word| format!("{word}{after}")).collect()
}

/// Completes a word by what is wanted at its place of the line.
fn completer(
    wanted: impl Fn(&[String], &str) -> Wanted + Send + Sync + 'static,
) -> ArgValueCompleter {
    ArgValueCompleter::new(move |word: &OsStr| {
        let line = typed(std::env::args_os());
        let Some(word) = word.to_str() else { return Vec::new() };
        let words = match wanted(&line, word) {
            Wanted::Words(words) => words,
            Wanted::Names { kind, before, of } => {
                let names = names_of(&line, kind).into_iter().filter(|name| name.starts_with(&of));
                names.map(|name| format!("{before}{name}")).collect()
            }
        };
        words.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// The line as it was typed before the word that is completed. The shell passes all of it after `--`.
fn typed(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let line = arguments.skip_while(|word| word != "--").skip(1);
    let mut line: Vec<String> = line.map(|word| word.to_string_lossy().into_owned()).collect();
    line.pop();
    line
}

/// The names of a kind, in the namespace and of the server that the line says. Nothing where the server
/// does not answer at once.
fn names_of(line: &[String], kind: KindId) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), Ok(connection)) = (runtime, connection(line)) else { return Vec::new() };
    let mut query: Query = connection.query(kind, String::new(), String::new());
    let page = async { tokio::time::timeout(PATIENCE, connection.table_page(&mut query)).await };
    let rows = match runtime.block_on(page) {
        Ok(Ok(table)) => table.rows,
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    // A connection that is still being opened must not hold up the shell.
    runtime.shutdown_background();
    rows.iter().map(|row| row.key().1).collect()
}

fn connection(line: &[String]) -> Result<Connection, Failure> {
    let given = |flags: &[&str], variable: &str, otherwise: &str| {
        flag(line, flags)
            .or_else(|| std::env::var(variable).ok())
            .unwrap_or_else(|| otherwise.to_owned())
    };
    let server = given(&["--server"], "HELIOX_SERVER", "http://127.0.0.1:7070");
    let namespace = given(&["--namespace", "-n"], "HELIOX_NAMESPACE", "default");
    Connection::new(&server, &namespace, Format::Name)
}

/// The value of a flag: `--flag VALUE`, `--flag=VALUE`, `-fVALUE`.
fn flag(line: &[String], flags: &[&str]) -> Option<String> {
    for (index, word) in line.iter().enumerate() {
        for flag in flags {
            if word == flag {
                return line.get(index + 1).cloned();
            }
            let rest = word.strip_prefix(flag);
            let is_short = flag.len() == 2;
            let value = rest.and_then(|rest| match rest.strip_prefix('=') {
                Some(value) => Some(value),
                None => is_short.then_some(rest),
            });
            if let Some(value) = value {
                return Some(value.to_owned());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn names(kind: KindId, before: &str, of: &str) -> Wanted {
        Wanted::Names { kind, before: before.to_owned(), of: of.to_owned() }
    }

    #[test]
    fn a_line_is_what_stands_before_the_word() {
        let given = ["hctl", "--", "hctl", "get", "jobs", "lo"].map(OsString::from);
        assert_eq!(typed(given.into_iter()), ["hctl", "get", "jobs"]);
        assert!(typed([OsString::from("hctl")].into_iter()).is_empty());
    }

    #[test]
    fn objects_are_offered_in_both_forms() {
        let wanted = |text, word, usual| object_words(&line(text), word, usual, "/");
        let words = |wanted| match wanted {
            Wanted::Words(words) => words.join(" "),
            Wanted::Names { .. } => panic!("{wanted:?}"),
        };
        assert_eq!(words(wanted("hctl describe", "j", None)), "job/");
        assert_eq!(words(wanted("hctl describe", "frob/", None)), "");
        let (job, task) = (KindId::Job, KindId::Task);
        assert_eq!(wanted("hctl describe", "job/lo", None), names(job, "job/", "lo"));
        assert_eq!(wanted("hctl describe job a", "b", None), names(job, "", "b"));
        assert_eq!(wanted("hctl logs -f", "lo", Some(task)), names(task, "", "lo"));
        assert_eq!(wanted("hctl logs job", "", Some(task)), names(job, "", ""));
        assert_eq!(words(wanted("hctl -n jobs describe", "sec", None)), "secret/");
        assert_eq!(
            wanted("hctl logs", "runs/", Some(task)),
            names(KindId::WorkflowRun, "runs/", "")
        );
    }

    #[test]
    fn the_server_and_the_namespace_are_those_of_the_line() {
        for (text, namespace) in [
            ("hctl -n data get", Some("data")),
            ("hctl get -ndata", Some("data")),
            ("hctl get --namespace=data", Some("data")),
            ("hctl get --namespace data", Some("data")),
            ("hctl get --name data", None),
            ("hctl get -n", None),
        ] {
            let found = flag(&line(text), &["--namespace", "-n"]);
            assert_eq!(found.as_deref(), namespace, "{text}");
        }
    }
}
