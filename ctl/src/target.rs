//! Parses the objects that a command line names: `job/load`, `jobs`, `task load-0`.

pub mod name;

use api::KindId;
use api::metadata::name_problem;
use api::violation::nearest;

pub use name::{Target, plural, word};

use crate::failure::Failure;
use crate::namesakes::Missing;

/// Most characters of a name that a message repeats.
pub const NAMED_CHARS_MAX: usize = 100;

/// What may follow a kind's word after a dot.
const GROUPS: [&str; 2] = ["heliox.dev", "v1.heliox.dev"];

/// The kind that a word means.
///
/// # Errors
/// The word is unknown; the error suggests the nearest known one.
pub fn kind(text: &str) -> Result<KindId, Failure> {
    // kubectl appends the group to a kind: jobs.heliox.dev, jobs.v1.heliox.dev.
    let word = text.split_once('.').filter(|(_, group)| GROUPS.contains(group));
    if let Some(kind) = KindId::from_word(word.map_or(text, |(word, _)| word)) {
        return Ok(kind);
    }
    let served: Vec<&api::kind::Info> =
        KindId::ALL.iter().map(|kind| kind.info()).filter(|info| !info.internal).collect();
    let lower = text.to_ascii_lowercase();
    let names = served.iter().flat_map(|info| [info.plural, info.singular]);
    let failure = Failure::usage(format!("there is no kind {text:?}"));
    if lower == "all" {
        return Err(failure.hint("name one kind, such as hctl delete jobs --all"));
    }
    if let Some(ours) = api::schema::neighbours_word(text) {
        return Err(failure.hint(format!("the closest kind is {}", ours.info().plural)));
    }
    // It may be the name of an object whose kind is missing.
    let missing =
        name_problem(KindId::Job, text).is_none().then(|| Missing::Kind(text.to_owned()).into());
    let failure = Failure { missing, ..failure };
    Err(match nearest(&lower, names) {
        Some(meant) => failure.hint(format!("did you mean {meant}?")),
        None => failure.hint(format!("the kinds are {}", kinds())),
    })
}

/// All kinds as a list, beginning with those that run something.
pub fn kinds() -> String {
    let first = [KindId::Workflow, KindId::WorkflowRun, KindId::Job, KindId::Task, KindId::Node];
    let others = KindId::ALL.into_iter().filter(|kind| !first.contains(kind));
    let all = first.into_iter().chain(others).filter(|kind| !kind.info().internal);
    all.map(plural).collect::<Vec<_>>().join(", ")
}

/// Parses `KIND/NAME`. A name without a kind is of kind `otherwise`, if that is given.
///
/// # Errors
/// The kind is unknown, or a part is missing.
pub fn one(text: &str, otherwise: Option<KindId>) -> Result<Target, Failure> {
    if is_file(text, otherwise) {
        let failure = Failure::usage(format!("{text:?} is a file, and this takes KIND/NAME"));
        return Err(
            failure.hint("files are named with -f: hctl apply -f FILE, hctl delete -f FILE")
        );
    }
    match (text.split_once('/'), otherwise) {
        (Some((_, "")) | Some(("", _)), _) => {
            Err(Failure::usage(format!("{text:?} is not KIND/NAME")))
        }
        (Some((kind_word, name)), _) => legal(kind(kind_word)?, name),
        (None, Some(kind)) => legal(kind, text),
        (None, None) => {
            Err(Failure::usage(format!("{text:?} names no object")).hint("write KIND/NAME"))
        }
    }
}

/// Whether a word is the name of a manifest file and not of an object: objects may have names like
/// files.
fn is_file(text: &str, otherwise: Option<KindId>) -> bool {
    let is_object = text.split_once('/').is_some_and(|(word, _)| KindId::from_word(word).is_some());
    let is_path = text.starts_with(['/', '.']) || text.contains('/');
    let is_named = |ending: &&str| text.ends_with(*ending);
    let is_manifest = [".yaml", ".yml", ".json"].iter().any(is_named);
    !is_object && is_manifest && (is_path || otherwise.is_none())
        || text.starts_with(['/', '.']) && text.len() > 1
}

fn file_named(text: &str) -> Failure {
    let short: String = text.chars().take(NAMED_CHARS_MAX).collect();
    let failure = Failure::usage(format!("{short:?} is a file, and this takes KIND/NAME"));
    failure.hint("files are named with -f: hctl apply -f FILE, hctl delete -f FILE")
}

/// Exactly one object: `KIND/NAME`, `KIND NAME`, or `NAME` of kind `usual`.
///
/// # Errors
/// As for [`one`], or several objects are named.
pub fn only_one(words: &[String], usual: Option<KindId>) -> Result<Target, Failure> {
    let mut targets = several_of(words, usual)?;
    match (targets.pop(), targets.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(Failure::usage(format!("{} are more than one object", words.join(" ")))
            .hint("name one object: KIND/NAME or KIND NAME")),
    }
}

/// A target with a valid name. Others are refused before a request.
fn legal(kind: KindId, name: &str) -> Result<Target, Failure> {
    match name_problem(kind, name) {
        None => Ok(Target::new(kind, name)),
        Some(problem) => {
            let short: String = name.chars().take(NAMED_CHARS_MAX).collect();
            let singular = kind.info().singular;
            let failure = Failure::usage(format!("no {singular} can be called {short:?}"));
            Err(failure.hint(problem))
        }
    }
}

/// `KIND NAME...` or `KIND/NAME...`.
///
/// # Errors
/// As [`one`].
pub fn several(words: &[String]) -> Result<Vec<Target>, Failure> {
    several_of(words, None)
}

/// The same; for commands with a usual kind, names alone are accepted as well.
///
/// # Errors
/// As for [`one`].
pub fn several_of(words: &[String], usual: Option<KindId>) -> Result<Vec<Target>, Failure> {
    let first = words.first().map(String::as_str).unwrap_or_default();
    // A single word is a name: a task may be called `job`.
    let is_kind = words.len() > 1 && KindId::from_word(first).is_some();
    if first.contains('/') || (usual.is_some() && !is_kind) {
        return words.iter().map(|text| one(text, usual)).collect();
    }
    if is_file(first, None) {
        return Err(file_named(first));
    }
    let kind = kind(first)?;
    if words.len() < 2 {
        let hint = format!("write {}/NAME, or {} NAME", word(kind), word(kind));
        return Err(Failure::usage(format!("which {}?", kind.info().singular)).hint(hint));
    }
    words[1..].iter().map(|text| one(text, Some(kind))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match several(&words) {
            Ok(targets) => targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(failure) => {
                format!(
                    "{}: {}; {}",
                    failure.code.number(),
                    failure.message,
                    failure.hint.as_deref().unwrap()
                )
            }
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_name_is_seen() {
        for file in ["a.yaml", "/tmp/a", "./a.json", "team/a.yml"] {
            let failure = several(&[file.to_owned()]).unwrap_err();
            assert!(failure.message.ends_with("is a file, and this takes KIND/NAME"), "{file}");
            assert!(failure.hint.unwrap().contains("hctl delete -f FILE"));
        }
        assert!(one("configmap/app.yaml", None).is_ok());
        assert!(one("app.yaml", Some(KindId::ConfigMap)).is_ok());
    }

    #[test]
    fn a_kind_may_have_its_group_behind_it() {
        for word in ["jobs.heliox.dev", "job.v1.heliox.dev", "jobs"] {
            assert_eq!(kind(word).unwrap(), KindId::Job, "{word}");
        }
        assert!(kind("jobs.batch").is_err());
    }

    #[test]
    fn objects_are_named_in_two_ways() {
        assert_eq!(names("job a b"), "job/a job/b");
        assert_eq!(names("Jobs/a runs/b wf/c"), "job/a run/b workflow/c");
        assert_eq!(names("WorkflowRun x"), "run/x");
        assert_eq!(names("jobs"), "1: which job?; write job/NAME, or job NAME");
        assert_eq!(names("jobz a"), "1: there is no kind \"jobz\"; did you mean job?");
        assert_eq!(names("pod a"), "1: there is no kind \"pod\"; the closest kind is tasks");
        assert!(names("flurb a").contains("the kinds are workflows, runs, jobs, "));
        assert_eq!(names("job/a b"), "1: \"b\" names no object; write KIND/NAME");
        let cannot_be =
            "1: no job can be called \"A_b\"; 'A' is not allowed; use a-z, 0-9, '-' and '.'";
        assert_eq!(names("job/A_b"), cannot_be);
        assert_eq!(names("job A_b"), cannot_be);
        assert!(names("job/a/b").starts_with("1: no job can be called \"a/b\""));
    }
}
