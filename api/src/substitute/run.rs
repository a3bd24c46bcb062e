//! The first substitution stage: a run creates its jobs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::reference::{Piece, Reference, pieces};
use crate::job::{self, JobSpec};
use crate::merge;
use crate::path::{self, Step};
use crate::size::{self, OBJECT_BYTES_MAX};
use crate::violation::Violation;
use crate::workflow::{JobDefaults, WorkflowJob, WorkflowSpec, check_params};

/// The values of names in a run.
#[derive(Debug, Clone, Copy)]
pub struct RunNames<'a> {
    /// Name of the run.
    pub run: &'a str,
    /// When it began: `$(run.date)` is that date in UTC.
    pub started: Timestamp,
    /// The value of every parameter.
    pub params: &'a BTreeMap<String, String>,
}

impl RunNames<'_> {
    /// The value of a name; nothing for a name that this stage does not know.
    pub(super) fn value(&self, reference: &Reference<'_>) -> Option<Cow<'_, str>> {
        match (reference.root, reference.names.as_slice()) {
            ("params", [name]) => self.params.get(*name).map(Cow::from),
            ("run", ["name"]) => Some(self.run.into()),
            ("run", ["date"]) => Some(self.started.strftime("%Y-%m-%d").to_string().into()),
            _ => None,
        }
    }
}

/// The value of every parameter of a run: those it was given, and defaults with `$(run...)`
/// replaced.
///
/// # Errors
/// As [`check_params`].
pub fn params_of_run(
    workflow: &WorkflowSpec,
    given: &BTreeMap<String, String>,
    run: &str,
    started: Timestamp,
) -> Result<BTreeMap<String, String>, Vec<Violation>> {
    let mut full = check_params(workflow, given)?;
    let none = BTreeMap::new();
    let names = RunNames { run, started, params: &none };
    for (_, value) in full.iter_mut().filter(|(name, _)| !given.contains_key(*name)) {
        *value = default_in_run(value, &names);
    }
    // After substitution a default may be a value that is not allowed.
    check_params(workflow, &full)
}

/// The Job's spec that a run makes from a job of its workflow: merged over the defaults, with
/// `params` and `run` replaced, typed and validated.
///
/// # Errors
/// All violations. Paths start with `spec`.
pub fn job_in_run(
    defaults: Option<&JobDefaults>,
    job: &WorkflowJob,
    names: &RunNames<'_>,
) -> Result<JobSpec, Vec<Violation>> {
    let mut room = OBJECT_BYTES_MAX;
    job_document_in_run(merge::job_document(defaults, job), names, &mut room)
}

/// The same for a document that is merged already. `room` is the number of bytes that its texts may
/// take; what is left of it is written back.
///
/// # Errors
/// As [`job_in_run`].
pub(crate) fn job_document_in_run(
    mut document: Value,
    names: &RunNames<'_>,
    room: &mut usize,
) -> Result<JobSpec, Vec<Violation>> {
    substitute_job(&mut document, names, room).map_err(|it| vec![it])?;
    let under = |it: Violation| it.under("spec");
    let spec = merge::typed_job(document)
        .map_err(|found| found.into_iter().map(under).collect::<Vec<_>>())?;
    let mut found = Vec::new();
    job::validate_spec(&spec, "spec", &mut found);
    let bytes = size::json_bytes(&spec) + size::index_bytes(&spec) + size::ADDED_BYTES;
    found.extend(size::problem(bytes, "spec", "with defaults and parameters the job takes"));
    if found.is_empty() { Ok(spec) } else { Err(found) }
}

/// The default of a parameter with the names of the run replaced.
pub(crate) fn default_in_run(default: &str, names: &RunNames<'_>) -> String {
    finished(default, |reference| names.value(reference))
}

/// The parameters that a text refers to.
pub(crate) fn params_in(text: &str) -> Vec<&str> {
    fn param<'a>(piece: &Piece<'a>) -> Option<&'a str> {
        match piece {
            Piece::Ours(it) => match (it.root, it.names.as_slice()) {
                ("params", [name]) => Some(name),
                _ => None,
            },
            Piece::Text(_) | Piece::Escaped | Piece::Variable { .. } => None,
        }
    }
    pieces(text).iter().filter_map(param).collect()
}

/// Whether the text at this path refers to a parameter that has no value yet.
pub(crate) fn is_open(raw: &Value, way: &[Step], values: &BTreeMap<String, String>) -> bool {
    let text = path::find(raw, way).and_then(Value::as_str).unwrap_or_default();
    pieces(text).iter().any(|piece| match piece {
        Piece::Ours(it) => match (it.root, it.names.as_slice()) {
            ("params", [name]) => !values.contains_key(*name),
            _ => false,
        },
        Piece::Text(_) | Piece::Escaped | Piece::Variable { .. } => false,
    })
}

/// Substitutes what is known in a Job's spec. `room` is the number of bytes that its texts may
/// take. The length is computed before anything is inserted, because a few references to a long
/// value turn kilobytes into gigabytes.
///
/// # Errors
/// There is not enough room. The document must then be discarded.
pub(crate) fn substitute_job(
    document: &mut Value,
    names: &RunNames<'_>,
    room: &mut usize,
) -> Result<(), Violation> {
    let (most, mut fits) = (*room, true);
    for (part, is_placement) in parts(document) {
        strings(part, &mut |field, text| {
            // The second stage does not process placements and images, so escapes must be resolved
            // here.
            let is_final = is_placement || field == Some("image");
            fits = fits && take(text, is_final, names, room);
            if !fits || !text.contains("$(") {
                return;
            }
            *text = if is_final {
                finished(text, |reference| names.value(reference))
            } else {
                first_stage(text, |reference| names.value(reference))
            };
        });
    }
    let why = || format!("with its parameters substituted it takes more than {most} bytes");
    if fits { Ok(()) } else { Err(Violation::new("spec", why()).hint("make the values shorter")) }
}

/// Subtracts from `room` what the substituted text will need. Returns whether there was enough.
fn take(text: &str, is_final: bool, names: &RunNames<'_>, room: &mut usize) -> bool {
    for piece in pieces(text) {
        let bytes = match piece {
            Piece::Text(text) | Piece::Variable { whole: text, .. } => text.len(),
            Piece::Escaped => 3,
            Piece::Ours(reference) => match names.value(&reference) {
                Some(value) if is_final => value.len(),
                // Each `$(` in the value is escaped with one more character, and a `$` at its end
                // may be.
                Some(value) => value.len() + value.matches("$(").count() + 1,
                None => reference.whole.len(),
            },
        };
        let Some(left) = room.checked_sub(bytes) else { return false };
        *room = left;
    }
    true
}

/// The templates and placements in a Job's spec, each with whether it is a placement.
fn parts(document: &mut Value) -> Vec<(&mut Value, bool)> {
    let mut found = Vec::new();
    let Some(map) = document.as_object_mut() else { return found };
    for (field, value) in map.iter_mut() {
        match (field.as_str(), value) {
            ("template", value) => found.push((value, false)),
            ("placement", value) => found.push((value, true)),
            ("tasks", Value::Array(tasks)) => {
                let parts = tasks.iter_mut().filter_map(Value::as_object_mut).flatten();
                for (field, value) in parts {
                    match field.as_str() {
                        "template" => found.push((value, false)),
                        "placement" => found.push((value, true)),
                        _ => (),
                    }
                }
            }
            _ => (),
        }
    }
    found
}

/// Passes every text of a part to `change`, with the top-level field that contains it.
fn strings(part: &mut Value, change: &mut impl FnMut(Option<&str>, &mut String)) {
    fn walk(
        value: &mut Value,
        top: Option<&str>,
        change: &mut impl FnMut(Option<&str>, &mut String),
    ) {
        match value {
            Value::String(text) => change(top, text),
            Value::Array(list) => list.iter_mut().for_each(|value| walk(value, top, change)),
            Value::Object(map) => {
                for (field, value) in map.iter_mut() {
                    walk(value, Some(top.unwrap_or(field)), change);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }
    walk(part, None, change);
}

/// The text with what is known inserted, for the second stage. Values are escaped so that it does
/// not search them for names.
fn first_stage<'a>(text: &str, value: impl Fn(&Reference<'_>) -> Option<Cow<'a, str>>) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut after_value = false;
    for piece in pieces(text) {
        let (next, is_value) = match &piece {
            Piece::Text(text) | Piece::Variable { whole: text, .. } => ((*text).to_owned(), false),
            Piece::Escaped => ("$$(".to_owned(), false),
            Piece::Ours(reference) => match value(reference) {
                Some(value) => (value.replace("$(", "$$("), true),
                None => (reference.whole.to_owned(), false),
            },
        };
        // Text and value can also form a `$(` where they meet.
        if (after_value || is_value) && whole.ends_with('$') && next.starts_with('(') {
            whole.push('$');
        }
        whole.push_str(&next);
        // An empty value joins the text before it with the text after it.
        after_value = is_value || (after_value && next.is_empty());
    }
    whole
}

/// The text with what is known inserted, for good: no later stage processes it.
fn finished<'a>(text: &str, value: impl Fn(&Reference<'_>) -> Option<Cow<'a, str>>) -> String {
    let mut whole = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) | Piece::Variable { whole: text, .. } => whole.push_str(text),
            Piece::Escaped => whole.push_str("$("),
            Piece::Ours(reference) => match value(&reference) {
                Some(value) => whole.push_str(&value),
                None => whole.push_str(reference.whole),
            },
        }
    }
    whole
}
