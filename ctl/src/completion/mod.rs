//! Shell completion: kinds, and the names that the server knows.
//!
//! The script printed by `hctl completion` calls hctl for each TAB, so that it always offers what
//! this version accepts. The server must answer at once; otherwise nothing is offered.

mod line;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use api::workflow::Param;
use api::{Job, KindId, Workflow, WorkflowRun};
use clap::{Arg, Command};
use clap_complete::env::Shells;
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate, Shell};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::format::Format;
use crate::target::{self, Target};
use crate::usual::{NAMESPACE, SERVER, Usual};
use line::Line;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// If this variable is set, to the name of the shell, hctl completes a command line instead of
/// running it.
const VARIABLE: &str = "HCTL_COMPLETE";
/// Scripts of our own, because those of clap_complete have faults: the one for bash treats
/// `KEY=VALUE` as three words, as bash does, and the one for zsh adds a space after `KEY=`.
const BASH: &str = include_str!("bash.sh");
const ZSH: &str = include_str!("zsh.sh");
/// Most runs of a job that are offered, the newest first.
const RUNS_MAX: u32 = 10;

/// The flags and commands of hctl, by which a line is read. They name their completers, so that these
/// cannot name them; set by [`answer`].
static HCTL: OnceLock<fn() -> Command> = OnceLock::new();

/// Completes a line of the command `hctl` and exits, if a shell asks for that; otherwise does
/// nothing. Must be called before anything else.
pub fn answer(hctl: fn() -> Command) {
    HCTL.get_or_init(|| hctl);
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

fn hctl() -> Command {
    HCTL.get().map_or_else(|| Command::new("hctl"), |hctl| hctl())
}

/// The command line for completion. Flags are only offered after a dash, because otherwise they
/// would hide the names that people look for.
fn command() -> Command {
    let word = std::env::args_os().next_back().unwrap_or_default();
    let command = hctl();
    if word.to_string_lossy().starts_with('-') { command } else { without_flags(command) }
}

fn without_flags(command: Command) -> Command {
    let hidden = |arg: Arg| if arg.is_positional() { arg } else { arg.hide(true) };
    command.mut_args(hidden).mut_subcommands(without_flags).disable_help_flag(true)
}

/// The script that sets up completion in a shell.
///
/// # Errors
/// hctl does not know how it was called.
pub fn script(shell: Shell) -> Result<Vec<u8>, Failure> {
    let path = quoted(&own_path());
    let filled = |own: &str| own.replace("COMPLETER", &path).replace("VARIABLE", VARIABLE);
    if shell == Shell::Bash {
        return Ok(filled(BASH).into_bytes());
    } else if shell == Shell::Zsh {
        return Ok(filled(ZSH).into_bytes());
    }
    script_of_clap(shell)
}

fn script_of_clap(shell: Shell) -> Result<Vec<u8>, Failure> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let shells = Shells::builtins();
    let known = shells.completer(&name);
    let known = known.ok_or_else(|| io::Error::other(format!("{name} is not supported")))?;
    known.write_registration(VARIABLE, "hctl", "hctl", &own_path(), &mut script)?;
    Ok(script)
}

/// A word quoted for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// How the shell has to call hctl: as the user did. A path is made absolute, because the folder
/// changes.
fn own_path() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_path = called.components().count() > 1;
    let path = if is_path { std::path::absolute(&called).unwrap_or(called) } else { called };
    path.to_string_lossy().into_owned()
}

/// Which objects are worth offering for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Tasks in which a command can run.
    Running,
    /// Objects that have not ended.
    Open,
    /// The same for `logs`, if they are followed.
    OpenIfFollowed,
    /// Objects that have ended.
    Ended,
    /// Objects that are suspended (`true`) or not.
    Suspended,
    NotSuspended,
    /// Nodes that are cordoned (`true`) or not.
    Cordoned,
    NotCordoned,
}

impl Which {
    /// The field selector for them, for kinds that have such a field.
    fn fields(self, kind: KindId, line: &Line) -> String {
        let has_phases = matches!(kind, KindId::Task | KindId::Job | KindId::WorkflowRun);
        let other_than = |phases: &[&str]| {
            let known = kind.phases().iter().filter(|phase| phases.contains(phase));
            known.map(|phase| format!("status.phase!={phase}")).collect::<Vec<_>>().join(",")
        };
        let ends = ["Succeeded", "Failed", "TimedOut", "Cancelled", "Skipped"];
        match (self, kind) {
            (Which::Running, KindId::Task) => "status.phase=Running".to_owned(),
            (Which::Open, _) if has_phases => other_than(&ends),
            (Which::OpenIfFollowed, _) if has_phases && line.has("--follow", 'f') => {
                other_than(&ends)
            }
            (Which::Ended, _) if has_phases => other_than(&["Pending", "Running", "Suspended"]),
            (
                Which::Suspended,
                KindId::Job | KindId::Service | KindId::WorkflowRun | KindId::Workflow,
            ) => "spec.suspend=true".to_owned(),
            (Which::NotSuspended, KindId::Job | KindId::WorkflowRun) => {
                format!("spec.suspend!=true,{}", other_than(&ends))
            }
            (Which::NotSuspended, KindId::Service | KindId::Workflow) => {
                "spec.suspend!=true".to_owned()
            }
            (Which::Cordoned, KindId::Node) => "spec.unschedulable=true".to_owned(),
            (Which::NotCordoned, KindId::Node) => "spec.unschedulable!=true".to_owned(),
            _ => String::new(),
        }
    }
}

/// Objects of these kinds (all if there are none), as `KIND NAME` or `KIND/NAME`.
pub fn objects(kinds: &'static [KindId], which: Which) -> ArgValueCompleter {
    completer(move |line, word| object_words(line, word, (None, kinds, which)))
}

/// The same for a command with a usual kind: names of that kind, or objects of the `other` kinds.
pub fn named(usual: KindId, other: &'static [KindId], which: Which) -> ArgValueCompleter {
    completer(move |line, word| object_words(line, word, (Some(usual), other, which)))
}

/// What `get` accepts: kinds or objects.
pub fn kinds_or_objects() -> ArgValueCompleter {
    completer(|line, word| match (line.kind(), word.rsplit_once(',')) {
        (None, Some((before, last))) => {
            let kinds = kind_words(last).into_iter();
            Wanted::Words(kinds.map(|kind| format!("{before},{kind}")).collect())
        }
        (None, None) if !word.contains('/') => {
            let all = "all".starts_with(word).then(|| "all".to_owned());
            Wanted::Words(kind_words(word).into_iter().chain(all).collect())
        }
        _ => object_words(line, word, (None, &[], Which::All)),
    })
}

/// Names of one kind.
pub fn names(kind: KindId) -> ArgValueCompleter {
    completer(move |_, word| Wanted::names(kind, ("", word), String::new()))
}

/// Fields that the kind on the command line can be selected by.
pub fn fields() -> ArgValueCompleter {
    completer(|line, word| {
        let Some(kind) = line.kind() else { return Wanted::nothing() };
        let (before, last) = word
            .rsplit_once(',')
            .map_or(("", word), |(before, last)| (&word[..before.len() + 1], last));
        if let Some((field, value)) = last
            .split_once("status.phase=")
            .map(|(_, value)| (format!("{before}status.phase="), value))
        {
            let phases = phases_that_begin(kind, value).into_iter();
            return Wanted::Words(phases.map(|phase| format!("{field}{phase}")).collect());
        }
        let fields = kind.selectable_fields().into_iter().filter(|field| field.starts_with(last));
        Wanted::Words(fields.map(|field| format!("{before}{field}=")).collect())
    })
}

/// Phases of the kind on the command line.
pub fn phases() -> ArgValueCompleter {
    completer(|line, word| {
        let phases = line.kind().map(|kind| phases_that_begin(kind, word));
        Wanted::Words(phases.unwrap_or_default().into_iter().map(str::to_owned).collect())
    })
}

fn phases_that_begin(kind: KindId, word: &str) -> Vec<&'static str> {
    let word = word.to_ascii_lowercase();
    let phases = kind.phases().iter().copied();
    phases.filter(|phase| phase.to_ascii_lowercase().starts_with(&word)).collect()
}

/// Parameters of the workflow on the command line, or of the workflow of the run there: `KEY=`,
/// then `KEY=VALUE`.
pub fn params() -> ArgValueCompleter {
    completer(|line, word| {
        let usual = (line.positionals().first() == Some(&"run")).then_some(KindId::Workflow);
        let given = line.values(&["-p", "--param"]);
        let given = given.iter().filter_map(|it| Some(it.split_once('=')?.0.to_owned()));
        match line.object(usual) {
            Some(of) => Wanted::Params { of, given: given.collect(), word: word.to_owned() },
            None => Wanted::nothing(),
        }
    })
}

/// Numbers of the runs of the job on the command line, the newest first.
pub fn runs() -> ArgValueCompleter {
    completer(|line, word| {
        let job = line.flag(&["--job"]).map(|job| Target::new(KindId::Job, job));
        let job = job.or_else(|| line.object(None)).filter(|of| of.kind == KindId::Job);
        match job {
            Some(job) => Wanted::Runs { job, word: word.to_owned() },
            None => Wanted::nothing(),
        }
    })
}

/// What to offer.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Words(Vec<String>),
    /// Names of objects of a kind that begin with `of` and match these fields, each after `before`;
    /// and these words.
    Names {
        kind: KindId,
        before: String,
        of: String,
        fields: String,
        words: Vec<String>,
    },
    /// Parameters of a workflow, or of the workflow of a run, without those that are given already.
    Params {
        of: Target,
        given: Vec<String>,
        word: String,
    },
    /// Numbers of runs.
    Runs {
        job: Target,
        word: String,
    },
}

impl Wanted {
    fn nothing() -> Self {
        Wanted::Words(Vec::new())
    }

    fn names(kind: KindId, (before, of): (&str, &str), fields: String) -> Self {
        let (before, of) = (before.to_owned(), of.to_owned());
        Wanted::Names { kind, before, of, fields, words: Vec::new() }
    }
}

fn object_words(
    line: &Line,
    word: &str,
    (usual, kinds, which): (Option<KindId>, &[KindId], Which),
) -> Wanted {
    if let Some((kind_word, name)) = word.split_once('/') {
        return match KindId::from_word(kind_word) {
            Some(kind) => {
                let before = format!("{kind_word}/");
                Wanted::names(kind, (&before, name), which.fields(kind, line))
            }
            None => Wanted::nothing(),
        };
    }
    let is_offered = |kind: &KindId| kinds.is_empty() || kinds.contains(kind);
    let served = KindId::ALL.iter().filter(|kind| !kind.info().internal && is_offered(kind));
    let words = served.map(|kind| format!("{}/", target::word(*kind)));
    let words: Vec<String> = words.filter(|kind| kind.starts_with(word)).collect();
    match (line.kind(), usual) {
        (Some(kind), _) => Wanted::names(kind, ("", word), which.fields(kind, line)),
        (None, Some(kind)) => {
            let words = if kinds.is_empty() { Vec::new() } else { words };
            let (of, fields) = (word.to_owned(), which.fields(kind, line));
            Wanted::Names { kind, before: String::new(), of, fields, words }
        }
        (None, None) => Wanted::Words(words),
    }
}

/// The plurals of kinds with this beginning.
fn kind_words(start: &str) -> Vec<String> {
    let served = KindId::ALL.iter().filter(|kind| !kind.info().internal);
    let of_runs = |kind: &KindId| (*kind == KindId::WorkflowRun).then_some("runs");
    let words = served.flat_map(|kind| std::iter::once(kind.info().plural).chain(of_runs(kind)));
    words.filter(|word| word.starts_with(start)).map(str::to_owned).collect()
}

/// Completes a word by what is wanted at its position.
fn completer(wanted: impl Fn(&Line, &str) -> Wanted + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |word: &OsStr| {
        let line = typed(std::env::args_os());
        let Some(word) = word.to_str() else { return Vec::new() };
        let wanted = wanted(&line, word);
        if let Wanted::Words(words) = wanted {
            return words.into_iter().map(CompletionCandidate::new).collect();
        }
        answer_of_server(&line, wanted)
    })
}

/// The command line before the word that is being completed. The shell passes it after `--`.
fn typed(arguments: impl Iterator<Item = OsString>) -> Line {
    let line = arguments.skip_while(|word| word != "--").skip(1);
    let mut line: Vec<String> = line.map(|word| word.to_string_lossy().into_owned()).collect();
    line.pop();
    Line(line)
}

/// Asks the server, in the namespace of the command line. Nothing if it does not answer at once.
fn answer_of_server(line: &Line, wanted: Wanted) -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), Ok(connection)) = (runtime, connection(line)) else { return Vec::new() };
    let asked = async { tokio::time::timeout(PATIENCE, ask(&connection, wanted)).await };
    let found = match runtime.block_on(asked) {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    // A connection that is still being opened must not delay the shell.
    runtime.shutdown_background();
    found
}

async fn ask(connection: &Connection, wanted: Wanted) -> Result<Vec<CompletionCandidate>, Failure> {
    Ok(match wanted {
        Wanted::Words(words) => words.into_iter().map(CompletionCandidate::new).collect(),
        Wanted::Names { kind, before, of, fields, words } => {
            let mut query = connection.query(kind, String::new(), fields);
            let rows = connection.table_page(&mut query).await?.rows;
            let names = rows.iter().map(|row| row.key().1).filter(|name| name.starts_with(&of));
            let names = names.map(|name| format!("{before}{name}")).chain(words);
            names.map(CompletionCandidate::new).collect()
        }
        Wanted::Params { of, given, word } => {
            let workflow = if of.kind == KindId::WorkflowRun {
                let run: WorkflowRun = connection.get(&of).await?;
                Target::new(KindId::Workflow, run.spec.workflow)
            } else {
                of
            };
            if workflow.kind != KindId::Workflow {
                return Ok(Vec::new());
            }
            let workflow: Workflow = connection.get(&workflow).await?;
            param_words(&workflow.spec.params, &given, &word)
        }
        Wanted::Runs { job, word } => {
            let job: Job = connection.get(&job).await?;
            let numbers = (1..=job.status.run).rev().take(RUNS_MAX as usize);
            let fit = numbers.map(|run| run.to_string()).filter(|run| run.starts_with(&word));
            fit.map(CompletionCandidate::new).collect()
        }
    })
}

/// `KEY=` for each parameter that is not given yet; after `KEY=`, its allowed values or its
/// default.
fn param_words(params: &[Param], given: &[String], word: &str) -> Vec<CompletionCandidate> {
    let Some((key, _)) = word.split_once('=') else {
        let open = params.iter().filter(|param| !given.contains(&param.name));
        let fit = open.filter(|param| param.name.starts_with(word));
        let candidate = |param: &Param| {
            let help = param.description.as_deref().map(|it| it.to_owned().into());
            CompletionCandidate::new(format!("{}=", param.name)).help(help)
        };
        return fit.map(candidate).collect();
    };
    let Some(param) = params.iter().find(|param| param.name == key) else { return Vec::new() };
    let values =
        param.allowed.iter().chain(param.default.iter().filter(|_| param.allowed.is_empty()));
    // Other values would have to be quoted, which differs between shells.
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | ',' | '@' | '+');
    let plain = values.filter(|value| value.chars().all(is_plain));
    let fit = plain.map(|value| format!("{key}={value}")).filter(|it| it.starts_with(word));
    fit.map(CompletionCandidate::new).collect()
}

fn connection(line: &Line) -> Result<Connection, Failure> {
    let given = |flags: &[&str], usual: Usual| line.flag(flags).unwrap_or_else(|| usual.value());
    let server = given(&["--server"], SERVER);
    let namespace = given(&["--namespace", "-n"], NAMESPACE);
    Connection::new(&server, &namespace, Format::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        HCTL.get_or_init(|| <crate::args::Args as clap::CommandFactory>::command);
        Line(text.split(' ').map(str::to_owned).collect())
    }

    fn words(wanted: Wanted) -> String {
        let Wanted::Words(words) = wanted else { panic!("{wanted:?}") };
        words.join(" ")
    }

    fn names(kind: KindId, before: &str, of: &str) -> Wanted {
        Wanted::names(kind, (before, of), String::new())
    }

    #[test]
    fn a_line_is_what_stands_before_the_word() {
        let given = ["hctl", "--", "hctl", "get", "jobs", "lo"].map(OsString::from);
        assert_eq!(typed(given.into_iter()), line("hctl get jobs"));
        assert_eq!(typed([OsString::from("hctl")].into_iter()), Line(Vec::new()));
    }

    #[test]
    fn objects_are_offered_in_both_forms() {
        let wanted = |text, word, usual| object_words(&line(text), word, (usual, &[], Which::All));
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
        let kinds = &[KindId::Job, KindId::WorkflowRun];
        let offered = object_words(&line("hctl cancel"), "", (None, kinds, Which::Open));
        assert_eq!(words(offered), "run/ job/", "a verb offers what it is for");
    }

    #[test]
    fn what_a_verb_can_do_nothing_to_is_not_offered() {
        let fields = |text: &str, which: Which, kind| which.fields(kind, &line(text));
        let (task, job, run) = (KindId::Task, KindId::Job, KindId::WorkflowRun);
        assert_eq!(fields("hctl exec", Which::Running, task), "status.phase=Running");
        let open = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=TimedOut,\
                    status.phase!=Cancelled";
        assert_eq!(fields("hctl logs -tf", Which::OpenIfFollowed, task), open);
        assert_eq!(fields("hctl logs", Which::OpenIfFollowed, task), "");
        assert_eq!(
            fields("hctl cancel", Which::Open, run),
            format!("{open},status.phase!=Skipped")
        );
        let ended = "status.phase!=Pending,status.phase!=Running,status.phase!=Suspended";
        assert_eq!(fields("hctl rerun", Which::Ended, job), ended);
        assert_eq!(fields("hctl cancel", Which::Open, KindId::Node), "");
        for kind in KindId::ALL {
            for which in [
                Which::Running,
                Which::Open,
                Which::Ended,
                Which::Suspended,
                Which::NotSuspended,
                Which::Cordoned,
                Which::NotCordoned,
            ] {
                let fields = fields("hctl x", which, kind);
                let selector: api::selector::FieldSelector = fields.parse().unwrap();
                assert_eq!(selector.problem(kind), None, "{which:?} {kind}");
            }
        }
    }

    #[test]
    fn parameters_are_offered_once_and_then_their_values() {
        let params: Vec<Param> = serde_json::from_value(serde_json::json!([
            {"name": "date"}, {"name": "mode", "enum": ["fast", "full", "by hand"]},
            {"name": "data", "default": "all"},
        ]))
        .unwrap();
        let offered = |word: &str, given: &[&str]| {
            let given: Vec<String> = given.iter().map(|it| (*it).to_owned()).collect();
            let words = param_words(&params, &given, word);
            let words = words.iter().map(|it| it.get_value().to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(offered("", &[]), "date= mode= data=");
        assert_eq!(offered("da", &["date"]), "data=");
        assert_eq!(offered("mode=", &[]), "mode=fast mode=full");
        assert_eq!(offered("mode=fa", &[]), "mode=fast");
        assert_eq!(offered("data=", &[]), "data=all", "what it is by default");
        assert_eq!(offered("date=", &[]), "");
        assert_eq!(offered("no-such=", &[]), "");
    }

    #[test]
    fn a_path_with_spaces_and_quotes_is_one_word_of_a_shell() {
        assert_eq!(quoted("/usr/bin/hctl"), "/usr/bin/hctl");
        assert_eq!(quoted("/my programs/it's"), r"'/my programs/it'\''s'");
    }
}
