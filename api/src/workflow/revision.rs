//! The revision of a workflow: a hash of the part of its spec that runs execute.

use serde::Serialize;
use serde_json::{Map, Value};

use super::WorkflowSpec;
use crate::{meaning, names};

/// The hash of the canonical form of the part that runs execute.
pub fn revision(spec: &WorkflowSpec) -> String {
    // The pattern names every field, so that the author of a new one must decide whether runs
    // depend on it.
    let WorkflowSpec {
        params: _,
        defaults: _,
        jobs: _,
        max_failed_jobs: _,
        timeout: _,
        // These concern the workflow and not its runs.
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
    // The order of earlier versions, so that a spec in canonical form keeps its hash.
    hash(&[
        part("params", Value::Array(Vec::new())),
        part("defaults", Value::Null),
        part("jobs", Value::Array(Vec::new())),
        part("maxFailedJobs", Value::Null),
        part("timeout", Value::Null),
    ])
}

/// The revision that earlier versions computed: of the text as it was written.
pub fn written_revision(spec: &WorkflowSpec) -> String {
    hash(&(&spec.params, &spec.defaults, &spec.jobs, &spec.max_failed_jobs, &spec.timeout))
}

fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("our kinds have text keys and finite numbers");
    names::hash(&text)
}
