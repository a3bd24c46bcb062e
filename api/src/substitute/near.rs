//! What looks like one of our names and is none: `$(item)`, `$(task_name)`, `${params.x}`. Left alone
//! it would reach the program as it stands, and nobody would be told.
//!
//! Only what cannot well be meant for a shell is found: `$(date)` and `${item}` are left alone. What is
//! found is told and not refused, since the program may have names like these of its own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use super::reference::ROOTS;
use crate::schema::VIOLATIONS_MAX;
use crate::violation::Violation;

/// Everything in the spec of a Job or Workflow that was probably meant for us and is not, with what was
/// probably meant.
pub fn near_misses(spec: &Value) -> Vec<Violation> {
    let (mut texts, mut variables) = (Vec::new(), BTreeSet::new());
    walk(spec, "spec", &mut texts, &mut variables);
    let mut found = Vec::new();
    for (path, text) in &texts {
        for miss in misses(text, |name| variables.contains(name)) {
            if found.len() >= VIOLATIONS_MAX {
                return found;
            }
            let why = format!(
                "{} is passed to the program as it is: Heliox has no such name",
                miss.whole
            );
            let hint = format!("did you mean {}?", miss.meant);
            found.push(Violation::new(path.as_str(), why).hint(hint));
        }
    }
    found
}

/// Collects the texts under a value, with their paths, and the names of variables that are declared.
fn walk<'a>(
    value: &'a Value,
    path: &str,
    texts: &mut Vec<(String, &'a str)>,
    variables: &mut BTreeSet<&'a str>,
) {
    match value {
        Value::String(text) => texts.push((path.to_owned(), text)),
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(value, &format!("{path}[{index}]"), texts, variables);
            }
        }
        Value::Object(map) => {
            let env = map.get("env").and_then(Value::as_array).into_iter().flatten();
            variables.extend(env.filter_map(|variable| variable.get("name")?.as_str()));
            for (field, value) in map {
                walk(value, &format!("{path}.{field}"), texts, variables);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

/// Something that was probably meant for us.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NearMiss<'a> {
    /// All of it: `${params.x}`.
    whole: &'a str,
    /// What was probably meant: `$(params.x)`.
    meant: String,
}

/// Names under `task` that stand for nothing else, so that people leave the root out.
const BARE: [&str; 3] = ["item", "partition", "attempt"];
/// Roots as people misremember them.
const SIMILAR: [(&str, &str); 6] = [
    ("param", "params"),
    ("parameters", "params"),
    ("port", "ports"),
    ("tasks", "task"),
    ("runs", "run"),
    ("nodes", "node"),
];

/// Everything in a text that was probably meant for us, but for variables that the template declares.
fn misses<'a>(text: &'a str, is_declared: impl Fn(&str) -> bool) -> Vec<NearMiss<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|offset| at + offset) {
        let rest = &text[dollar..];
        if rest.starts_with("$$") {
            at = dollar + 2;
            continue;
        }
        at = dollar + 1;
        let (close, is_round) = match rest.as_bytes().get(1) {
            Some(b'(') => (')', true),
            Some(b'{') => ('}', false),
            Some(_) | None => continue,
        };
        let Some(inner) = rest[2..].find(close).map(|end| &rest[2..2 + end]) else { continue };
        let meant = if is_round { in_round(inner) } else { in_curly(inner) };
        if let Some(meant) = meant.filter(|_| !is_declared(inner)) {
            let whole = &rest[..inner.len() + 3];
            found.push(NearMiss { whole, meant: format!("$({meant})") });
        }
    }
    found
}

/// What `$(inner)` was probably meant to hold.
fn in_round(inner: &str) -> Option<String> {
    let name = inner.trim();
    let (root, rest) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
    if rest.is_empty() {
        let bare = BARE.contains(&name).then(|| format!("task.{name}"));
        return bare.or_else(|| joined(name));
    }
    if root == "item" {
        return Some(format!("task.{name}"));
    }
    let ours = root_of(root)?;
    // As it should be, it is no near miss; what is wrong with it is told as of a name of ours.
    (ours != root || name.len() != inner.len()).then(|| format!("{ours}{rest}"))
}

/// What `${inner}` was probably meant to hold. No shell has variables with a dot in their names.
fn in_curly(inner: &str) -> Option<String> {
    let (root, rest) = inner.split_at(inner.find('.')?);
    let ours = if root == "item" { "task.item" } else { root_of(root)? };
    Some(format!("{ours}{rest}"))
}

/// The root that a word means.
fn root_of(word: &str) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    let similar = SIMILAR.iter().find(|(similar, _)| *similar == lower).map(|(_, root)| *root);
    ROOTS.iter().find(|root| **root == lower).copied().or(similar)
}

/// `task_name`, `taskName` and `task-name` as `task.name`, where that is a name.
fn joined(word: &str) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    let split = |root: &&str| {
        let rest = lower.strip_prefix(*root)?;
        let bare = rest.trim_start_matches(['_', '-']);
        let is_joined = bare.len() < rest.len() || word.chars().any(char::is_uppercase);
        let name = format!("{root}.{bare}");
        (is_joined && names::is_known(&name)).then_some(name)
    };
    ROOTS.iter().find_map(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let found = misses(text, |name| name == "partition");
        found.into_iter().map(|it| format!("{} -> {}", it.whole, it.meant)).collect()
    }

    #[test]
    fn what_was_meant_for_us_is_found() {
        for (text, expected) in [
            ("echo $(item)", "$(item) -> $(task.item)"),
            ("$(item.path)", "$(item.path) -> $(task.item.path)"),
            ("$(item['path'])", "$(item['path']) -> $(task.item['path'])"),
            ("$(attempt)", "$(attempt) -> $(task.attempt)"),
            ("$(task_name)", "$(task_name) -> $(task.name)"),
            ("$(taskIndex)", "$(taskIndex) -> $(task.index)"),
            ("$(node-name)", "$(node-name) -> $(node.name)"),
            ("$(RUN_NAME)", "$(RUN_NAME) -> $(run.name)"),
            ("${params.x}", "${params.x} -> $(params.x)"),
            ("${item.path}", "${item.path} -> $(task.item.path)"),
            ("${param.x}", "${param.x} -> $(params.x)"),
            ("$(param.x)", "$(param.x) -> $(params.x)"),
            ("$( task.name )", "$( task.name ) -> $(task.name)"),
            ("$(Task.name)", "$(Task.name) -> $(task.name)"),
            ("$(port.http)", "$(port.http) -> $(ports.http)"),
        ] {
            assert_eq!(found(text), [expected], "{text}");
        }
        assert_eq!(found("$(item) ${params.x} $$(item)").len(), 2);
    }

    #[test]
    fn a_spec_is_searched_as_a_whole_but_for_its_own_variables() {
        let spec = serde_json::json!({ "jobs": [{ "template": {
            "args": ["$(item)", "$(attempt)"], "env": [{ "name": "attempt", "value": "${params.x}" }],
        } }] });
        let found: Vec<String> = near_misses(&spec).iter().map(ToString::to_string).collect();
        let expected = [
            "spec.jobs[0].template.args[0]: $(item) is passed to the program as it is: Heliox has no \
             such name (did you mean $(task.item)?)",
            "spec.jobs[0].template.env[0].value: ${params.x} is passed to the program as it is: \
             Heliox has no such name (did you mean $(params.x)?)",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_for_a_shell_or_is_right_is_left_alone() {
        for text in [
            "$(date)",
            "$(date +%s)",
            "${item}",
            "${HOME}",
            "$HOME",
            "$(task.name)",
            "$$(item)",
            "$(ls item)",
            "$(node --version)",
            "$(name)",
            "$(count)",
            "$(",
            "${",
            "$",
            "$$",
            "$(items)",
            "${a.b}",
            "$(other.name)",
            "$(task)",
            "$(params.x)",
            "$(task.item.path)",
            "$(partition)",
            "$(runner)",
            "$(taskset -c 1 x)",
            "${x:-$(date)}",
            "$((1+2))",
            "ü$(ü)",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
