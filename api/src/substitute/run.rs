//! The first stage: a run makes its jobs.

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

/// What names mean in a run.
#[derive(Debug, Clone, Copy)]
pub struct RunNames<'a> {
    /// The run's name.
    pub run: &'a str,
    /// When it began: `$(run.date)` is the date then, in UTC.
    pub started: Timestamp,
    /// Every parameter's value.
    pub params: &'a BTreeMap<String, String>,
}

impl RunNames<'_> {
    /// What a name means; nothing for what this stage does not know.
    pub(super) fn value(&self, reference: &Reference<'_>) -> Option<Cow<'_, str>> {
        match (reference.root, reference.names.as_slice()) {
            ("params", [name]) => self.params.get(*name).map(Cow::from),
            ("run", ["name"]) => Some(self.run.into()),
            ("run", ["date"]) => Some(self.started.strftime("%Y-%m-%d").to_string().into()),
            _ => None,
        }
    }
}

/// Every parameter's value for a run: what it is given, and the defaults, in which `$(run...)` is
/// substituted.
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
    // A default may have become a value that is not allowed.
    check_params(workflow, &full)
}

/// The Job's spec that a run makes of a workflow's job: the defaults laid under it, `params` and
/// `run` substituted, typed and valid.
///
/// # Errors
/// Everything that is wrong with it; paths start with `spec`.
pub fn job_in_run(
    defaults: Option<&JobDefaults>,
    job: &WorkflowJob,
    names: &RunNames<'_>,
) -> Result<JobSpec, Vec<Violation>> {
    let mut room = OBJECT_BYTES_MAX;
    job_document_in_run(merge::job_document(defaults, job), names, &mut room)
}

/// The same of a document with the defaults laid under it. `room` is how many bytes the texts may take,
/// and tells how many of them are left.
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

/// The default of a parameter with what is known of the run put in.
pub(crate) fn default_in_run(default: &str, names: &RunNames<'_>) -> String {
    finished(default, |reference| names.value(reference))
}

/// The parameters that a text names.
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

/// Whether the text that stands at these steps has a parameter in it that has no value yet.
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

/// Substitutes what is known in a Job's spec. `room` is how many bytes its texts may take: what they
/// would take is counted before anything is put in, since a few references to a long value make
/// gigabytes out of kilobytes.
///
/// # Errors
/// That there is no room. The document is then to be thrown away.
pub(crate) fn substitute_job(
    document: &mut Value,
    names: &RunNames<'_>,
    room: &mut usize,
) -> Result<(), Violation> {
    let (most, mut fits) = (*room, true);
    for (part, is_placement) in parts(document) {
        strings(part, &mut |field, text| {
            // What no later stage looks at is finished here.
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

/// Takes from `room` what a text will need; whether it is there.
fn take(text: &str, is_final: bool, names: &RunNames<'_>, room: &mut usize) -> bool {
    for piece in pieces(text) {
        let bytes = match piece {
            Piece::Text(text) | Piece::Variable { whole: text, .. } => text.len(),
            Piece::Escaped => 3,
            Piece::Ours(reference) => match names.value(&reference) {
                Some(value) if is_final => value.len(),
                // Each `$(` in a value is escaped, and a `$` at its end may be.
                Some(value) => value.len() + value.matches("$(").count() + 1,
                None => reference.whole.len(),
            },
        };
        let Some(left) = room.checked_sub(bytes) else { return false };
        *room = left;
    }
    true
}

/// The templates and placements of a Job's spec, and which of the two each is.
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

/// Hands every text of a part to `change`, with the top field of the part that it stands in.
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

/// The text with what is known put in, for a later stage to go on with: values are escaped, so
/// that it does not look into them.
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
        // A name may come about where a value ends or begins, too.
        if (after_value || is_value) && whole.ends_with('$') && next.starts_with('(') {
            whole.push('$');
        }
        whole.push_str(&next);
        // An empty value joins what is before it with what is after it.
        after_value = is_value || (after_value && next.is_empty());
    }
    whole
}

/// The text with what is known put in, for good.
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
