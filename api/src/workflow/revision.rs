//! The revision of a workflow: what of its spec runs execute.

use serde::Serialize;
use serde_json::{Map, Value};

use super::WorkflowSpec;
use crate::{meaning, names};

/// The hash of what the part of the spec means that runs execute.
pub fn revision(spec: &WorkflowSpec) -> String {
    // Every field is named, so that of a new one somebody decides whether runs depend on it.
    let WorkflowSpec {
        params: _,
        defaults: _,
        jobs: _,
        max_failed_jobs: _,
        timeout: _,
        // Of the workflow alone.
        run_on_apply: _,
        suspend: _,
        history: _,
    } = spec;
    let mut document = match serde_json::to_value(spec) {
        Ok(Value::Object(document)) => document,
        Ok(_) | Err(_) => Map::new(),
    };
    meaning::workflow(&mut document);
    let mut part = |field: &str, none: Value| document.remove(field).unwrap_or(none);
    // The form that versions before had: a usual text has the hash that it always had.
    hash(&[
        part("params", Value::Array(Vec::new())),
        part("defaults", Value::Null),
        part("jobs", Value::Array(Vec::new())),
        part("maxFailedJobs", Value::Null),
        part("timeout", Value::Null),
    ])
}

/// The revision that versions before made of this spec: of what is written.
pub fn written_revision(spec: &WorkflowSpec) -> String {
    hash(&(&spec.params, &spec.defaults, &spec.jobs, &spec.max_failed_jobs, &spec.timeout))
}

fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("our kinds have text keys and finite numbers");
    names::hash(&text)
}
