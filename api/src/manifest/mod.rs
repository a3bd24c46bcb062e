//! Manifests: YAML (or JSON) files as users write them. All problems of a file are reported at
//! once.
//!
//! A file may hold several documents. Only `true` and `false` are booleans, and a key may occur
//! once in a map. Size, depth, aliases and the number of nodes are bounded. Each problem names
//! file, line and column.

mod positions;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Location, Spanned};

use crate::kind::KindId;
use crate::schema;
use crate::violation::{Violation, nearest};

use positions::{LineColumn, Positions};

/// Largest file, in bytes: 8 MiB.
pub const MANIFEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most documents of a file.
const DOCUMENTS_MAX: usize = 10_000;
/// Most nodes of a file: scalars, lists and maps.
const NODES_MAX: usize = 1_000_000;
/// Deepest nesting that is parsed.
const PARSED_DEPTH_MAX: usize = schema::DEPTH_MAX + 4;
/// Most nodes that aliases may stand for.
const ALIASED_NODES_MAX: usize = 100_000;

/// One document of a manifest. Its shape has not been checked.
#[derive(Debug, Clone)]
pub struct Document {
    /// The content.
    pub value: Value,
    /// Its kind.
    pub kind: KindId,
    /// The file, or another name by which people know where it came from.
    pub source: String,
    /// The path of this document within what was written: `items[3]` in a list, otherwise empty.
    within: String,
    positions: Arc<Positions>,
}

/// One problem in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub source: String,
    /// The line, from 1; 0 for a problem of the whole file.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong.
    pub violation: Violation,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, line, column, violation } = self;
        write!(f, "{source}:")?;
        if *line > 0 {
            write!(f, "{line}:{column}:")?;
        }
        if !violation.path.is_empty() {
            write!(f, " {}:", violation.path)?;
        }
        write!(f, " {}", violation.message)?;
        match &violation.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Reads a file and checks the shape and the rules of every document in it. `source` is its name in
/// problems.
///
/// # Errors
/// All problems of the file, ordered by line.
pub fn read(source: &str, bytes: &[u8]) -> Result<Vec<Document>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut documents = Vec::new();
    for parsed in parse(source, bytes)? {
        match parsed {
            Ok(document) => {
                problems.extend(document.check());
                documents.push(document);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Ok(documents);
    }
    problems.sort();
    Err(problems)
}

/// Splits a file into documents, each of which may have a problem. The outer error is for text that
/// is no YAML at all.
fn parse(source: &str, bytes: &[u8]) -> Result<Vec<Result<Document, Problem>>, Vec<Problem>> {
    let whole = |message: String| {
        let violation = Violation::new("", message);
        vec![Problem { source: source.to_owned(), line: 0, column: 0, violation }]
    };
    if bytes.len() > MANIFEST_BYTES_MAX {
        let why = format!("{} bytes; at most {MANIFEST_BYTES_MAX} are read", bytes.len());
        return Err(whole(why));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        whole(format!("not UTF-8 text: invalid byte at position {}", error.valid_up_to()))
    })?;
    let values: Vec<Spanned<Value>> = serde_saphyr::from_multiple_with_options(text, options())
        .map_err(|error| vec![syntax_problem(source, &error)])?;
    let positions = positions::of(text);
    let read = |value: Spanned<Value>| {
        let start = line_column(&value.defined);
        let positions = positions.get(&start).cloned().unwrap_or_else(|| Positions::only(start));
        documents(source, value.value, Arc::new(positions))
    };
    Ok(values.into_iter().flat_map(read).collect())
}

/// The document, or the items of a list such as `hctl get -o yaml` prints for several objects.
fn documents(
    source: &str,
    mut value: Value,
    positions: Arc<Positions>,
) -> Vec<Result<Document, Problem>> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    let items = value.get_mut("items").filter(|_| is_list).and_then(Value::as_array_mut);
    let Some(items) = items.map(std::mem::take) else {
        return vec![document(source, value, (String::new(), positions))];
    };
    let item = |(index, item): (usize, Value)| {
        document(source, item, (format!("items[{index}]"), Arc::clone(&positions)))
    };
    items.into_iter().enumerate().map(item).collect()
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIASED_NODES_MAX,
        },
        budget: serde_saphyr::budget! {
            max_documents: DOCUMENTS_MAX,
            max_nodes: NODES_MAX,
            // A little more than a document may have, so that the schema check reports the excess
            // with its path.
            max_depth: PARSED_DEPTH_MAX,
        },
    }
}

fn line_column(location: &Location) -> LineColumn {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    LineColumn { line: number(location.line()), column: number(location.column()) }
}

/// The problem of a text that is no YAML, in the parser's words without its line and column.
fn syntax_problem(source: &str, error: &Error) -> Problem {
    let place = error.location().map(|location| line_column(&location)).unwrap_or_default();
    let said = if let Error::Budget { breach, .. } = error.without_snippet() {
        bound_words(breach)
    } else {
        error.without_snippet().to_string()
    };
    // The parser reports an alias error that occurs inside a value as text within another error.
    let said = if said.starts_with("alias replay") || said.starts_with("alias expansion") {
        format!("aliases expand to too many values: at most {ALIASED_NODES_MAX} are allowed")
    } else {
        said
    };
    // The parser appends the position, which is reported separately, or advice for programmers.
    // Neither is for the user.
    let first = said.lines().next().unwrap_or_default();
    let message = first.split(" at line ").next().unwrap_or(first);
    let message = message.split(", set ").next().unwrap_or(message).trim_end_matches([':', ' ']);
    let violation = Violation::new("", message);
    let violation = match syntax_hint(message) {
        Some(hint) => violation.hint(hint),
        None => violation,
    };
    Problem { source: source.to_owned(), line: place.line, column: place.column, violation }
}

/// Which bound a text exceeds, in words.
fn bound_words(breach: &BudgetBreach) -> String {
    let too_many =
        |what: &str, max: usize| format!("too many {what}: at most {max} in a file are allowed");
    if let BudgetBreach::Depth { .. } = breach {
        format!("nested too deeply: at most {} levels are allowed", schema::DEPTH_MAX)
    } else if let BudgetBreach::Nodes { .. } = breach {
        too_many("values", NODES_MAX)
    } else if let BudgetBreach::Documents { .. } = breach {
        too_many("documents", DOCUMENTS_MAX)
    } else {
        // A bound of the parser itself, which may get new ones with each version.
        "too large or too complex to be read: split the file".to_owned()
    }
}

/// A hint for the most frequent mistakes.
fn syntax_hint(message: &str) -> Option<&'static str> {
    if message.contains("tab") {
        Some("indent with spaces")
    } else if message == "duplicate mapping key: apiVersion" {
        Some("write a line of --- between two documents")
    } else {
        None
    }
}

/// The violation with the path that it has in the file.
fn within_list(violation: Violation, within: &str) -> Violation {
    if within.is_empty() { violation } else { violation.under(within) }
}

/// Makes a document of a value whose kind is known.
fn document(
    source: &str,
    value: Value,
    (within, positions): (String, Arc<Positions>),
) -> Result<Document, Problem> {
    let problem = |violation: Violation| {
        let violation = within_list(violation, &within);
        let place = positions.place(&violation.path);
        Problem { source: source.to_owned(), line: place.line, column: place.column, violation }
    };
    let Some(map) = value.as_object() else {
        return Err(problem(
            Violation::new("", "expected a map with apiVersion, kind, metadata and spec")
                .hint("separate documents with a line of ---"),
        ));
    };
    if !map.contains_key("kind")
        && let Some(violation) = schema::another_tools_file(map.keys().map(String::as_str))
    {
        return Err(problem(violation));
    }
    let word = |field: &str| {
        let violation = |why: &str| Violation::new(field, why);
        let Some(value) = map.get(field) else {
            let other = nearest(field, map.keys().map(String::as_str));
            let hint = match (other, field) {
                (Some(other), _) => format!("write {field} for {other}"),
                (None, "kind") => "write for example kind: Job".to_owned(),
                (None, _) => format!("write for example {field}: {}", KindId::Job.api_version()),
            };
            return Err(problem(violation("is required").hint(hint)));
        };
        value.as_str().ok_or_else(|| problem(violation("expected text")))
    };
    let (kind, api_version) = (word("kind")?, word("apiVersion")?);
    let id = KindId::from_manifest(api_version, kind).filter(|id| !id.info().internal);
    match id {
        Some(kind) => Ok(Document { value, kind, source: source.to_owned(), within, positions }),
        None => Err(problem(schema::unknown_kind(api_version, kind))),
    }
}

impl Document {
    /// All problems of the document.
    pub fn check(&self) -> Vec<Problem> {
        let found = schema::check_document(self.kind, &self.value);
        let mut problems: Vec<Problem> =
            found.into_iter().map(|violation| self.problem(violation)).collect();
        problems.sort();
        problems
    }

    /// Adds file, line and column to a violation of this document. Also used for violations that
    /// the server reports.
    pub fn problem(&self, violation: Violation) -> Problem {
        let violation = within_list(violation, &self.within);
        let place = self.positions.place(&violation.path);
        let source = self.source.clone();
        Problem { source, line: place.line, column: place.column, violation }
    }
}
