//! What a user probably meant who named an object that does not exist. Pure.

use api::KindId;

use crate::hints;
use crate::target::name::{Target, word};

/// Most objects that a hint names.
const NAMED_MAX: usize = 3;

/// What does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// An object.
    Object(Target),
    /// A kind with this name.
    Kind(String),
}

/// An object of another kind that has the name.
#[derive(Debug, Clone)]
pub struct Namesake {
    /// The object.
    pub target: Target,
    /// Its latest run, if it is a workflow that had one.
    pub last_run: Option<String>,
}

/// What exists with the name or nearly the name.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Whether it exists by now: for example, a job creates a deleted task again.
    pub is_there: bool,
    /// Objects of other kinds that have the name.
    pub others: Vec<Namesake>,
    /// Other namespaces that have an object of the kind and the name.
    pub namespaces: Vec<String>,
    /// An object of the kind with nearly this name.
    pub near: Option<String>,
}

/// The hint for `missing`. The command accepts the kinds in `taken`.
pub fn hint(missing: &Missing, taken: &[KindId], found: &Found) -> Option<String> {
    if let Missing::Object(Target { kind, name }) = missing
        && let Some(other) = KindId::from_word(name)
    {
        let (first, second) = (kind.info().plural, other.info().plural);
        return Some(format!("for objects of several kinds: hctl get {first},{second}"));
    }
    if found.is_there {
        return Some("one of this name was made a moment later: try again".to_owned());
    }
    let is_taken = |other: &&Namesake| taken.contains(&other.target.kind);
    let meant: Vec<String> = found
        .others
        .iter()
        .filter(is_taken)
        .map(|other| other.target.to_string())
        .take(NAMED_MAX)
        .collect();
    if !meant.is_empty() {
        return Some(format!("did you mean {}?", meant.join(" or ")));
    }
    if !found.namespaces.is_empty() {
        let flags: Vec<String> =
            found.namespaces.iter().take(NAMED_MAX).map(|it| format!("-n {it}")).collect();
        return Some(format!("it is in another namespace: add {}", flags.join(" or ")));
    }
    // An owner of that name is more likely meant than an object of a similar name.
    let has_parts = |other: &&Namesake| {
        matches!(other.target.kind, KindId::Job | KindId::WorkflowRun | KindId::Workflow)
    };
    if let Some(other) = found.others.iter().find(has_parts) {
        return of_another_kind(other, taken);
    }
    if let (Some(near), Missing::Object(Target { kind, .. })) = (&found.near, missing) {
        return Some(format!("did you mean {}/{near}?", word(*kind)));
    }
    found.others.iter().find_map(|other| of_another_kind(other, taken))
}

/// The hint for an object of a kind that the command does not accept.
fn of_another_kind(other: &Namesake, taken: &[KindId]) -> Option<String> {
    let (target, name) = (&other.target, &other.target.name);
    let is_for_tasks = taken.contains(&KindId::Task);
    match (target.kind, &other.last_run) {
        (KindId::Job | KindId::WorkflowRun, _) if taken == [KindId::Workflow] => {
            Some(format!("to run {target} again: hctl rerun {target}"))
        }
        (KindId::Workflow, Some(run)) if taken.contains(&KindId::WorkflowRun) => {
            Some(format!("{target} is a workflow: did you mean run/{run}, its latest run?"))
        }
        (KindId::Job, _) if is_for_tasks => {
            Some(format!("{target} is a job; its tasks: hctl get tasks --job {name}"))
        }
        (KindId::Workflow, _) => {
            Some(format!("{target} is a workflow; its runs: {}", hints::runs_of(name)))
        }
        (KindId::WorkflowRun, _) => {
            Some(format!("{target} is a run; its jobs: hctl describe {target}"))
        }
        _ => Some(format!("there is {target}: hctl describe {target}")),
    }
}

/// Whether two names differ only in numbers: then neither is a typing error for the other.
pub fn differ_in_numbers_alone(a: &str, b: &str) -> bool {
    let words = |name: &str| name.replace(|c: char| c.is_ascii_digit(), "");
    a != b && words(a) == words(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: [KindId; 4] = [KindId::Job, KindId::Task, KindId::Workflow, KindId::WorkflowRun];

    fn of(kind: KindId, last_run: Option<&str>) -> Found {
        let last_run = last_run.map(str::to_owned);
        Found {
            others: vec![Namesake { target: Target::new(kind, "load"), last_run }],
            ..Found::default()
        }
    }

    fn told(taken: &[KindId], found: &Found) -> String {
        let missing = Missing::Object(Target::new(KindId::Task, "load"));
        hint(&missing, taken, found).unwrap_or_default()
    }

    #[test]
    fn what_has_the_name_and_suits_the_command_is_meant() {
        assert_eq!(told(&ANY, &of(KindId::Job, None)), "did you mean job/load?");
        let mut both = of(KindId::Job, None);
        both.others.extend(of(KindId::Workflow, None).others);
        both.namespaces.push("team".to_owned());
        assert_eq!(told(&ANY, &both), "did you mean job/load or workflow/load?");
        assert_eq!(told(&ANY, &Found::default()), "");
    }

    #[test]
    fn what_does_not_suit_the_command_is_told_with_what_does() {
        let (tasks, logs) = ([KindId::Task], [KindId::Task, KindId::Job, KindId::WorkflowRun]);
        assert_eq!(
            told(&tasks, &of(KindId::Job, None)),
            "job/load is a job; its tasks: hctl get tasks --job load"
        );
        assert_eq!(
            told(&logs, &of(KindId::Workflow, Some("load-3"))),
            "workflow/load is a workflow: did you mean run/load-3, its latest run?"
        );
        assert!(told(&logs, &of(KindId::Workflow, None)).contains("spec.workflow=load"));
        assert!(told(&logs, &of(KindId::Node, None)).starts_with("there is node/load"));
        let near = Some("load-0".to_owned());
        let job = Found { near: near.clone(), ..of(KindId::Job, None) };
        assert!(told(&tasks, &job).starts_with("job/load is a job; its tasks"));
        let node = Found { near, ..of(KindId::Node, None) };
        assert_eq!(told(&tasks, &node), "did you mean task/load-0?");
    }

    #[test]
    fn a_name_without_a_kind_and_a_kind_for_a_name_are_understood() {
        let bare = Missing::Kind("load".to_owned());
        let told = hint(&bare, &ANY, &of(KindId::Job, None));
        assert_eq!(told.as_deref(), Some("did you mean job/load?"));
        assert_eq!(hint(&bare, &ANY, &Found::default()), None);
        let told = hint(&bare, &[KindId::Workflow], &of(KindId::Job, None));
        assert_eq!(told.as_deref(), Some("to run job/load again: hctl rerun job/load"));
        let tasks = Missing::Object(Target::new(KindId::Job, "tasks"));
        let told = hint(&tasks, &ANY, &Found::default());
        assert_eq!(told.as_deref(), Some("for objects of several kinds: hctl get jobs,tasks"));
    }

    #[test]
    fn another_number_is_no_slip() {
        assert!(differ_in_numbers_alone("load-9", "load-10"));
        assert!(!differ_in_numbers_alone("laod-9", "load-9"));
        assert!(!differ_in_numbers_alone("load", "load"));
    }

    #[test]
    fn what_came_meanwhile_is_not_said_to_be_elsewhere() {
        let others = of(KindId::Job, None).others;
        let found = Found { is_there: true, others, ..Found::default() };
        assert_eq!(told(&ANY, &found), "one of this name was made a moment later: try again");
    }

    #[test]
    fn another_namespace_and_a_slip_are_seen() {
        let namespaces = vec!["team".to_owned(), "data".to_owned()];
        let found = Found { namespaces, near: Some("loads".to_owned()), ..Found::default() };
        assert_eq!(told(&ANY, &found), "it is in another namespace: add -n team or -n data");
        let found = Found { near: Some("loads".to_owned()), ..Found::default() };
        assert_eq!(told(&ANY, &found), "did you mean task/loads?");
    }
}
