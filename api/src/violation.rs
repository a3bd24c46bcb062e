//! Violations: what is wrong in a document, where, and what to write instead.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One violation of a schema or a rule. All violations of a document are reported at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Path of the field: `spec.jobs[1].dependsOn[0].job`.
    pub path: String,
    /// What is wrong: a fragment that reads after the path.
    pub message: String,
    /// What to write instead, or another way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Violation {
    /// A violation without a hint.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// The violation of a document that is part of a larger one, at `path`.
    #[must_use]
    pub fn under(mut self, path: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{path}{dot}{}", self.path);
        self
    }

    /// The violation at another path.
    #[must_use]
    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Longest text for which similar names are searched, in bytes: twice the length of a name.
const NEAREST_BYTES_MAX: usize = 128;

/// The entry of `known` that a person who wrote `name` probably meant; nothing if none is similar.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison takes time proportional to the product of both lengths.
    if name.len() > NEAREST_BYTES_MAX {
        return None;
    }
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= 2 * NEAREST_BYTES_MAX)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Reports values that occur twice in a list, at `path[index].field`, or at `path[index]` if
/// `field` is empty.
pub(crate) fn duplicates<'a>(
    values: impl IntoIterator<Item = &'a String>,
    path: &str,
    field: &str,
    found: &mut Vec<Violation>,
) {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, value) in values.into_iter().enumerate() {
        // An empty name has a violation of its own.
        if value.is_empty() {
            continue;
        }
        if let Some(before) = first.get(value.as_str()) {
            let dot = if field.is_empty() { "" } else { "." };
            // Only the last part of the path, because the document may be part of another one.
            let list = path.rsplit('.').next().unwrap_or(path);
            let why = format!("{value:?} is a duplicate of {list}[{before}]");
            found.push(Violation::new(format!("{path}[{index}]{dot}{field}"), why));
        } else {
            first.insert(value, index);
        }
    }
}
