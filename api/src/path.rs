//! Paths of violations: `spec.jobs[1].template.labels["app.kubernetes.io/name"]`.

use serde_json::Value;

/// One step of a path, down into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of a map's field.
    Field(String),
    /// An element of a list.
    Index(usize),
}

/// Parses a path. Whatever cannot be parsed ends it.
pub fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let Some((step, after)) = first_step(rest) else { break };
        steps.push(step);
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

fn first_step(path: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = path.strip_prefix('[').filter(|rest| rest.starts_with('"')) {
        // The key is quoted as Rust or JSON quote texts; for characters that a key may contain the
        // two agree.
        let mut texts = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
        let key = texts.next()?.ok()?;
        let after = quoted.get(texts.byte_offset()..)?.strip_prefix(']')?;
        return Some((Step::Field(key), after));
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (index, after) = rest.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), after));
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    Some((Step::Field(path[..end].to_owned()), &path[end..]))
}

/// Formats steps as a path.
pub fn text(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Field(field) => path.push_str(&field_step(field, path.is_empty())),
        }
    }
    path
}

/// `.field`, or `["app.kubernetes.io/name"]` if the field is not a plain word.
pub(crate) fn field_step(field: &str, first: bool) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    // A very long key would hide the message that follows it.
    let short: String = field.chars().take(100).collect();
    match (field.is_empty() || !field.chars().all(plain), first) {
        (true, _) => format!("[{short:?}]"),
        (false, true) => short,
        (false, false) => format!(".{short}"),
    }
}

/// The value that steps lead to.
pub fn find<'a>(document: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(document, |value, step| match step {
        Step::Field(field) => value.get(field),
        Step::Index(index) => value.get(index),
    })
}

/// The value that steps lead to, to change.
pub fn find_mut<'a>(document: &'a mut Value, steps: &[Step]) -> Option<&'a mut Value> {
    steps.iter().try_fold(document, |value, step| match step {
        Step::Field(field) => value.get_mut(field),
        Step::Index(index) => value.get_mut(index),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        for path in ["", "spec", "spec.jobs[1].dependsOn[0].job", "metadata.labels[\"a.b/c\"].x"] {
            assert_eq!(text(&steps(path)), path);
        }
        let labels = steps("labels[\"a\\\"].b\"]");
        assert_eq!(labels[1], Step::Field("a\"].b".to_owned()));
        assert_eq!(steps("a[x].b"), [Step::Field("a".to_owned())]);
    }
}
