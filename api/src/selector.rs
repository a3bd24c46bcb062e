//! Label and field selectors, as Kubernetes writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::kind::KindId;
use crate::metadata::label_value_problem;
use crate::violation::nearest;

/// Longest selector, in bytes.
pub const SELECTOR_BYTES_MAX: usize = 4096;
/// Most requirements of a selector: each is checked for every object.
pub const REQUIREMENTS_MAX: usize = 64;
/// Most characters of a text that an error message repeats.
const NAMED_CHARS_MAX: usize = 100;

/// A label selector: requirements that must all hold. Unlike a placement's constraint, `!=` and
/// `notin` match an object without the label, too, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector(Vec<Requirement>);

/// One requirement on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

/// A field selector: `metadata.name=web,status.phase!=Running`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector(Vec<(String, bool, String)>);

/// The text is not a label selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotASelector {
    /// It cannot be parsed.
    #[error("{0:?} is not a selector; write for example app=web,tier in (a, b),!spot")]
    Unreadable(String),
    /// It exceeds a bound.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// The text is not a field selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAFieldSelector {
    /// It cannot be parsed.
    #[error(
        "{0:?} is not a field selector; write for example metadata.name=web,status.phase!=Running"
    )]
    Unreadable(String),
    /// It exceeds a bound.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// The selector exceeds a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the selector has {is} {what}; at most {max} are allowed")]
pub struct TooLong {
    is: usize,
    what: &'static str,
    max: usize,
}

impl LabelSelector {
    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let value = |key: &String| labels.and_then(|labels| labels.get(key));
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => value(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => {
                !value(key).is_some_and(|value| values.contains(value))
            }
            Requirement::Exists(key) => value(key).is_some(),
            Requirement::Absent(key) => value(key).is_none(),
        })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

impl FieldSelector {
    /// Whether it selects an object with the field values that `value` returns.
    pub fn matches<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|(field, equal, wanted)| (value(field).unwrap_or_default() == wanted) == *equal)
    }

    /// The message for the first field that `kind` cannot be selected by, with the fields that it
    /// can be selected by; nothing if all are known.
    pub fn unknown_field(&self, kind: KindId) -> Option<String> {
        let known = kind.selectable_fields();
        let unknown = self.fields().find(|field| !known.contains(field))?;
        let short: String = unknown.chars().take(NAMED_CHARS_MAX).collect();
        let meant = match nearest(unknown, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}? Use"),
            None => "use".to_owned(),
        };
        let plural = kind.info().plural;
        let known = known.join(", ");
        Some(format!("{plural} cannot be selected by {short:?}; {meant} one of {known}"))
    }

    /// The message for a value that the field can never have in objects of `kind`, with the values
    /// that it can have. Without this check a typing error would select nothing for ever (or, after
    /// `!=`, everything), without an error.
    pub fn impossible_value(&self, kind: KindId) -> Option<String> {
        let impossible = |(field, _, wanted): &(String, bool, String)| {
            let known = kind.values(field)?;
            // A workflow that has no run yet has an empty phase.
            let is_possible = wanted.is_empty() || known.contains(&wanted.as_str());
            (!is_possible).then_some((field.clone(), wanted.clone(), known))
        };
        let (field, wanted, known) = self.0.iter().find_map(impossible)?;
        let plural = kind.info().plural;
        let (short, all) = (shown(&wanted), known.join(", "));
        let meant = match nearest(&wanted, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}? It"),
            None => "it".to_owned(),
        };
        Some(format!("{field} of {plural} is never {short:?}; {meant} may be {all}"))
    }

    /// Why the selector makes no sense for objects of `kind`; nothing if it does.
    pub fn problem(&self, kind: KindId) -> Option<String> {
        self.unknown_field(kind).or_else(|| self.impossible_value(kind))
    }

    /// The selector for objects of `kind`, when it is applied to several kinds that have different
    /// values. A `!=` with a value that this kind never has is left out; after a `=` with one, no
    /// object of the kind can match, and nothing is returned.
    pub fn narrowed(&self, kind: KindId) -> Option<Self> {
        let impossible = |requirement: &(String, bool, String)| {
            Self(vec![requirement.clone()]).impossible_value(kind).is_some()
        };
        let (never, usual): (Vec<_>, Vec<_>) = self.0.iter().cloned().partition(impossible);
        never.iter().all(|(_, equal, _)| !equal).then_some(Self(usual))
    }

    /// The value that a field must have, if a requirement demands one.
    pub fn demanded(&self, field: &str) -> Option<&str> {
        let demands = |(name, equal, _): &&(String, bool, String)| *equal && name == field;
        self.0.iter().find(demands).map(|(_, _, wanted)| wanted.as_str())
    }

    /// The fields that it names.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(field, _, _)| field.as_str())
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => (),
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// The requirements of a selector as texts.
fn parts(text: &str) -> Result<Vec<&str>, TooLong> {
    let within = |is, what, max| if is > max { Err(TooLong { is, what, max }) } else { Ok(()) };
    within(text.len(), "bytes", SELECTOR_BYTES_MAX)?;
    let parts: Vec<&str> = split(text).collect();
    within(parts.len(), "requirements", REQUIREMENTS_MAX)?;
    Ok(parts)
}

/// The beginning of a text, for an error message.
fn shown(text: &str) -> String {
    text.chars().take(NAMED_CHARS_MAX).collect()
}

fn key(text: &str) -> Option<String> {
    let text = text.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    (!text.is_empty() && text.chars().all(legal)).then(|| text.to_owned())
}

/// Parses a label's value. A value that no label can have is a typing error and would select
/// nothing for ever.
fn value(text: &str) -> Option<String> {
    let text = text.trim();
    label_value_problem(text).is_none().then(|| text.to_owned())
}

fn requirement(text: &str) -> Option<Requirement> {
    if let Some(name) = text.strip_prefix('!') {
        return Some(Requirement::Absent(key(name)?));
    }
    for (word, positive) in [(" notin ", false), (" in ", true)] {
        let Some((name, list)) = text.split_once(word) else { continue };
        let inner = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        let values = inner.split(',').map(value).collect::<Option<BTreeSet<String>>>()?;
        let name = key(name)?;
        return Some(if positive {
            Requirement::In(name, values)
        } else {
            Requirement::NotIn(name, values)
        });
    }
    if let Some((name, wanted)) = text.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, [value(wanted)?].into()));
    }
    if let Some((name, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Requirement::In(key(name)?, [value(wanted)?].into()));
    }
    Some(Requirement::Exists(key(text)?))
}

impl FromStr for LabelSelector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let requirements: Option<Vec<Requirement>> =
            parts(text)?.into_iter().map(requirement).collect();
        requirements.map(Self).ok_or_else(|| NotASelector::Unreadable(shown(text)))
    }
}

impl FromStr for FieldSelector {
    type Err = NotAFieldSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let term = |part: &str| {
            let (name, equal, wanted) = if let Some((name, wanted)) = part.split_once("!=") {
                (name, false, wanted)
            } else {
                let (name, wanted) = part.split_once("==").or_else(|| part.split_once('='))?;
                (name, true, wanted)
            };
            Some((key(name)?, equal, wanted.trim().to_owned()))
        };
        let terms: Option<Vec<_>> = parts(text)?.into_iter().map(term).collect();
        terms.map(Self).ok_or_else(|| NotAFieldSelector::Unreadable(shown(text)))
    }
}

fn joined(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, equal, wanted)) in self.0.iter().enumerate() {
            let (comma, sign) = (if index == 0 { "" } else { "," }, if *equal { "" } else { "!" });
            write!(f, "{comma}{field}{sign}={wanted}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match requirement {
                Requirement::In(key, values) => {
                    write!(f, "{comma}{key} in ({})", joined(values))?;
                }
                Requirement::NotIn(key, values) => {
                    write!(f, "{comma}{key} notin ({})", joined(values))?;
                }
                Requirement::Exists(key) => write!(f, "{comma}{key}")?,
                Requirement::Absent(key) => write!(f, "{comma}!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_kinds_each_is_asked_what_it_can_have() {
        let asked = |text: &str, kind| {
            let selector: FieldSelector = text.parse().unwrap();
            selector.narrowed(kind).map(|narrowed| narrowed.to_string())
        };
        let (set, job) = (KindId::PartitionSet, KindId::Job);
        for text in ["status.phase=Running", "status.phase!=Running,metadata.name=a"] {
            assert_eq!(asked(text, job).as_deref(), Some(text));
        }
        assert_eq!(asked("status.phase=Running", set), None, "none of them is Running");
        let all_are = asked("status.phase!=Running,metadata.name=a", set);
        assert_eq!(all_are.as_deref(), Some("metadata.name=a"));
    }

    #[test]
    fn label_selectors_select_as_kubernetes_does() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("tier", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (text, selected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier in (a, b)", true),
            ("app!=web", false),
            ("spot!=yes", true),
            ("tier notin (b)", true),
            ("app", true),
            ("!app", false),
            ("!spot", true),
        ] {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!(selector.matches(Some(&labels)), selected, "{text}");
            assert_eq!(selector.to_string().parse::<LabelSelector>().unwrap(), selector);
        }
        for wrong in ["a b", "tier in a", "tier in (a", "app=a b", "app=x=y", "app in (a;b)", "=a"]
        {
            assert!(wrong.parse::<LabelSelector>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn field_selectors_compare_text() {
        let selector: FieldSelector = "metadata.name=a,status.phase!=Running".parse().unwrap();
        let fields = |phase: &'static str| {
            move |field: &str| Some(if field == "metadata.name" { "a" } else { phase })
        };
        assert!(selector.matches(fields("Failed")));
        assert!(!selector.matches(fields("Running")));
        assert!("metadata.name".parse::<FieldSelector>().is_err());
    }

    #[test]
    fn a_selector_is_bounded() {
        let many = "!a,".repeat(REQUIREMENTS_MAX + 1);
        let why = "the selector has 65 requirements; at most 64 are allowed";
        assert_eq!(many.parse::<LabelSelector>().unwrap_err().to_string(), why);
        assert_eq!("a=b,".repeat(65).parse::<FieldSelector>().unwrap_err().to_string(), why);
        let long = format!("a in ({})", "b,".repeat(SELECTOR_BYTES_MAX));
        let why = "the selector has 8199 bytes; at most 4096 are allowed";
        assert_eq!(long.parse::<LabelSelector>().unwrap_err().to_string(), why);
    }

    #[test]
    fn what_cannot_be_selected_by_is_told_from_what_can() {
        let problem =
            |kind: KindId, text: &str| text.parse::<FieldSelector>().unwrap().unknown_field(kind);
        assert_eq!(problem(KindId::WorkflowRun, "spec.workflow=a,metadata.name=b"), None);
        assert_eq!(
            problem(KindId::Job, "metadata.name=a,status.phas=b").unwrap(),
            "jobs cannot be selected by \"status.phas\"; did you mean status.phase? Use one of \
             metadata.name, metadata.namespace, status.phase, spec.suspend"
        );
        assert!(!problem(KindId::Job, "x=a").unwrap().contains("mean"));
    }
    #[test]
    fn a_value_that_a_field_never_has_is_told_with_those_that_it_may_have() {
        let problem =
            |kind: KindId, text: &str| text.parse::<FieldSelector>().unwrap().problem(kind);
        assert_eq!(
            problem(KindId::Job, "status.phase=Runing").unwrap(),
            "status.phase of jobs is never \"Runing\"; did you mean Running? It may be Pending, \
             Running, Suspended, Succeeded, Failed, TimedOut, Cancelled, Skipped"
        );
        assert_eq!(
            problem(KindId::Node, "metadata.name=a,spec.unschedulable!=perhaps").unwrap(),
            "spec.unschedulable of nodes is never \"perhaps\"; it may be true, false"
        );
        for (kind, text) in [
            (KindId::PartitionSet, "spec.stateModel=Bogus"),
            (KindId::Namespace, "status.phase=active"),
            (KindId::WorkflowRun, "spec.suspend=yes"),
        ] {
            assert!(problem(kind, text).is_some(), "{kind} {text}");
        }
        for (kind, text) in [
            (KindId::Workflow, "status.phase="),
            (KindId::Task, "status.phase!=Lost,spec.nodeName=anything"),
            (KindId::Secret, "type=anything"),
        ] {
            assert_eq!(problem(kind, text), None, "{kind} {text}");
        }
    }
}
