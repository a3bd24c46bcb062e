//! Rules of `metadata`, the same for every kind.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kind::{KindId, Names};
use crate::labels::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, LAST_APPLIED};
use crate::names;
use crate::violation::Violation;

/// Most bytes of an object's annotations, keys included; its labels have the same bound.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Longest value of a label.
pub const LABEL_VALUE_CHARS_MAX: usize = 63;

/// What is wrong with an object's metadata.
pub(crate) fn validate(kind: KindId, meta: &ObjectMeta) -> Vec<Violation> {
    let mut found = Vec::new();
    let name = meta.name.as_deref().unwrap_or_default();
    let problem = match (name, meta.generate_name.as_deref()) {
        // The apiserver appends five characters to the prefix, so the prefix must leave room for
        // them.
        ("", Some(prefix)) => {
            names::problem(prefix.trim_end_matches(['-', '.'])).map(|it| ("generateName", it))
        }
        _ => name_problem(kind, name).map(|problem| ("name", problem)),
    };
    if let Some((field, problem)) = problem {
        found.push(Violation::new(format!("metadata.{field}"), problem));
    }
    match meta.namespace.as_deref() {
        Some(namespace) if kind.is_namespaced() => {
            if let Some(problem) = namespace_problem(kind, namespace) {
                found.push(Violation::new("metadata.namespace", problem));
            }
        }
        Some("") | None => (),
        Some(_) => {
            let why = format!("a {kind} is not namespaced");
            found.push(Violation::new("metadata.namespace", why).hint("leave it out"));
        }
    }
    if let Some(labels) = &meta.labels {
        labels_of(labels, "metadata.labels", &mut found);
    }
    if let Some(annotations) = &meta.annotations {
        for key in annotations.keys() {
            if let Some(problem) = label_key_problem(key) {
                found.push(Violation::new(at("metadata.annotations", key), problem));
            }
        }
        // The annotation that `hctl apply` writes does not count: users neither write it nor can
        // shorten it.
        let written = annotations.iter().filter(|(key, _)| *key != LAST_APPLIED);
        bounded(written, "metadata.annotations", &mut found);
    }
    for (index, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        if finalizer != FINALIZER_FOREGROUND && finalizer != FINALIZER_ORPHAN {
            let why = format!("finalizer {finalizer:?} is not supported yet");
            found.push(Violation::new(format!("metadata.finalizers[{index}]"), why));
        }
    }
    found
}

/// What is wrong with labels.
pub(crate) fn labels_of(labels: &BTreeMap<String, String>, path: &str, found: &mut Vec<Violation>) {
    for (key, value) in labels {
        if let Some(problem) = label_key_problem(key) {
            found.push(Violation::new(at(path, key), problem));
        }
        if let Some(problem) = label_value_problem(value) {
            found.push(Violation::new(at(path, key), problem));
        }
    }
    bounded(labels, path, found);
}

fn bounded<'a>(
    map: impl IntoIterator<Item = (&'a String, &'a String)>,
    path: &str,
    found: &mut Vec<Violation>,
) {
    let bytes: usize = map.into_iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        let why = format!("{bytes} bytes; at most {ANNOTATIONS_BYTES_MAX} are allowed");
        found.push(Violation::new(path, why));
    }
}

/// The path of a map entry whose key may contain dots.
fn at(path: &str, key: &str) -> String {
    format!("{path}[{key:?}]")
}

/// Why `name` cannot be the name of an object of `kind`; nothing if it can.
pub fn name_problem(kind: KindId, name: &str) -> Option<String> {
    match kind.info().names {
        Names::Foreign => names::long_problem(name),
        Names::Label => names::label_problem(name),
        Names::Dns => names::problem(name),
    }
}

fn namespace_problem(kind: KindId, namespace: &str) -> Option<String> {
    // In the place of a namespace, a chunk's key has its job's uid, which need not be a DNS name.
    if kind == KindId::CompletionChunk {
        names::problem(namespace)
    } else {
        names::label_problem(namespace)
    }
}

/// Why `key` cannot be the key of a label; nothing if it can: an optional DNS prefix and a slash,
/// then a name of at most 63 characters.
pub fn label_key_problem(key: &str) -> Option<String> {
    let (prefix, name) =
        key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix
        && let Some(problem) = names::long_problem(prefix)
    {
        return Some(format!("the prefix {prefix:?} is not a DNS name: {problem}"));
    }
    if name.is_empty() {
        return Some("a key is required".to_owned());
    }
    label_value_problem(name).map(|problem| format!("the key is not allowed: {problem}"))
}

/// Why `value` cannot be the value of a label; nothing if it can.
pub fn label_value_problem(value: &str) -> Option<String> {
    if value.len() > LABEL_VALUE_CHARS_MAX {
        let (is, max) = (value.len(), LABEL_VALUE_CHARS_MAX);
        return Some(format!("{is} characters; at most {max} are allowed"));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(bad) = value.chars().find(|c| !legal(*c)) {
        return Some(format!("{bad:?} is not allowed; use letters, digits, '-', '_' and '.'"));
    }
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    (!edge(value.chars().next()) || !edge(value.chars().next_back()))
        .then(|| "it must start and end with a letter or digit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_as_in_kubernetes() {
        for good in ["app", "heliox.dev/job", "App_1.x", "a/b"] {
            assert_eq!(label_key_problem(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "a b", "-a", "a/b/c", "A_b/c", &"a".repeat(64)] {
            assert!(label_key_problem(bad).is_some(), "{bad:?}");
        }
        for good in ["", "a", "1.2.3", "A-b_c"] {
            assert_eq!(label_value_problem(good), None, "{good}");
        }
        for bad in ["a b", "-a", "a/b", "é", "$(x)", &"a".repeat(64)] {
            assert!(label_value_problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_people_wrote_counts_as_their_annotations() {
        let told = |key: &str, bytes: usize| {
            let mut meta = ObjectMeta { name: Some("a".to_owned()), ..ObjectMeta::default() };
            let annotation = (key.to_owned(), "x".repeat(bytes));
            meta.annotations = Some(std::iter::once(annotation).collect());
            validate(KindId::Job, &meta)
        };
        assert_eq!(told(LAST_APPLIED, ANNOTATIONS_BYTES_MAX + 1), []);
        assert_eq!(told("mine", ANNOTATIONS_BYTES_MAX + 1).len(), 1);
    }
}
