//! Whether a workflow can be run with the given parameters. The apiserver checks it when a run is
//! created, so that the error comes at once and not as a failed run. The controller checks the same
//! when it creates the jobs, because the workflow may have changed until then.

use serde_json::Value;

use super::{WorkflowRun, WorkflowRunStatus};
use crate::object::Kind as _;
use crate::schema::VIOLATIONS_MAX;
use crate::size::{self, ADDED_BYTES, OBJECT_BYTES_MAX};
use crate::substitute::{self, RunNames, job_document_in_run, params_of_run};
use crate::task::report::shortened;
use crate::violation::Violation;
use crate::workflow::{WorkflowJob, WorkflowSpec, revision};
use crate::{job, merge, path};

/// Most bytes of jobs that are checked for one new run, and at least one job.
const CHECKED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest message about one field, in characters.
const MESSAGE_CHARS_MAX: usize = 256;

/// The violations of a new run of this workflow: parameters that the workflow does not have, and
/// parameters that make one of its jobs invalid. Names that have a value only later (a task's
/// index, a node) are left as they are. Paths are those of the run.
///
/// The work is bounded: jobs are checked with their parameters up to [`CHECKED_BYTES_MAX`]. The
/// jobs after that are not checked here; the controller checks each one when it creates it.
pub fn misfits(run: &WorkflowRun, workflow: &WorkflowSpec) -> Vec<Violation> {
    let started = run.created().unwrap_or_default();
    let params = match params_of_run(workflow, &run.spec.params, run.name(), started) {
        Ok(params) => params,
        Err(found) => return found,
    };
    let status = WorkflowRunStatus {
        params,
        revision: revision(workflow),
        workflow: Some(Box::new(workflow.clone())),
        ..WorkflowRunStatus::default()
    };
    if let Some(why) = too_large(run, &status, workflow) {
        return vec![Violation::new("spec.params", why)];
    }
    let names = RunNames { run: run.name(), started, params: &status.params };
    let (mut room, mut found) = (CHECKED_BYTES_MAX, Vec::new());
    for job in &workflow.jobs {
        if room == 0 || found.len() >= VIOLATIONS_MAX {
            break;
        }
        let raw = merge::job_document(workflow.defaults.as_ref(), job);
        room = room.saturating_sub(size::json_bytes(&raw));
        // A job without names was checked when the workflow was applied.
        if !has_names(&raw) {
            continue;
        }
        let mut own_room = OBJECT_BYTES_MAX;
        match job_document_in_run(raw.clone(), &names, &mut own_room) {
            Ok(spec) => room = room.saturating_sub(job::parts_bytes(&spec)),
            Err(problems) => {
                found.extend(problems.into_iter().map(|it| of_the_run(it, job, &raw)));
            }
        }
        room = room.saturating_sub(OBJECT_BYTES_MAX - own_room);
    }
    found
}

/// Whether a text of the document may contain a name.
fn has_names(document: &Value) -> bool {
    match document {
        Value::String(text) => text.contains("$("),
        Value::Array(list) => list.iter().any(has_names),
        Value::Object(map) => map.values().any(has_names),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The violation of a job of the run, attributed to what causes it: the first parameter in the
/// invalid text, or else the run's name.
fn of_the_run(violation: Violation, job: &WorkflowJob, raw: &Value) -> Violation {
    let way = path::steps(&violation.path).split_off(1);
    let text = path::find(raw, &way).and_then(Value::as_str).unwrap_or_default();
    let at = match substitute::params_in(text).first() {
        Some(param) => format!("spec.params{}", path::field_step(param, false)),
        None if text.contains("$(run.name)") => "metadata.name".to_owned(),
        None => "spec.params".to_owned(),
    };
    let (field, name) = (path::text(&way), &job.name);
    // The message may quote a value, and one value can be in any number of fields. Cut, so that the
    // answer stays small.
    let message = shortened(&violation.message, MESSAGE_CHARS_MAX);
    let why = if field.is_empty() {
        format!("makes job {name} invalid: {message}")
    } else {
        format!("makes {field} of job {name} invalid: {message}")
    };
    let hint = violation.hint.map(|hint| shortened(&hint, MESSAGE_CHARS_MAX));
    Violation { path: at, message: why, hint }
}

/// The violation of a run that, with its copy of the workflow, its parameters and the state of all
/// its jobs, cannot be stored. The workflow alone was checked when it was applied, without this
/// run's parameters.
pub fn too_large(
    run: &WorkflowRun,
    status: &WorkflowRunStatus,
    workflow: &WorkflowSpec,
) -> Option<String> {
    let jobs: usize = workflow.jobs.iter().map(size::run_job_bytes).sum();
    let bytes = size::json_bytes(run) + size::json_bytes(status) + jobs + ADDED_BYTES;
    (bytes > OBJECT_BYTES_MAX).then(|| {
        format!(
            "with its parameters and a copy of the workflow the run takes up to {bytes} bytes, {} \
             more than can be stored; make the parameters shorter or the workflow smaller",
            bytes - OBJECT_BYTES_MAX
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn misfits_of(params: Value, jobs: Value, given: Value) -> Vec<String> {
        let workflow = serde_json::from_value(json!({ "params": params, "jobs": jobs })).unwrap();
        let spec = serde_json::from_value(json!({ "workflow": "w", "params": given })).unwrap();
        let run = WorkflowRun::new("default", &"r".repeat(63), spec);
        misfits(&run, &workflow).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_value_that_makes_a_field_invalid_is_told_with_the_field_and_the_reason() {
        let jobs = json!([
            { "name": "a", "template": {
                "image": "$(params.image)", "labels": { "team": "$(params.team)" },
                "env": [{ "name": "$(params.name)", "value": "$(task.index) $(params.name)" }],
            } },
            { "name": "b", "template": { "image": "b", "resources": { "requests": { "cpu": "$(params.cpu)" } } } },
            { "name": "c", "template": { "image": "c", "labels": { "run": "x-$(run.name)" } } },
        ]);
        let params = json!([
            { "name": "image", "default": "busybox" }, { "name": "team", "default": "t" },
            { "name": "name", "default": "N" }, { "name": "cpu", "default": "1" },
        ]);
        let told = |given| misfits_of(params.clone(), jobs.clone(), given).join("\n");
        let long = "metadata.name: makes template.labels.run of job c invalid: ";
        assert!(told(json!({})).starts_with(long), "{}", told(json!({})));
        expect_test::expect![[r#"
            spec.params.image: makes template.image of job a invalid: an image name must not contain spaces
            spec.params.name: makes template.env[0].name of job a invalid: ' ' is not allowed; use letters, digits, '_', '-' and '.'
            spec.params.team: makes template.labels.team of job a invalid: ' ' is not allowed; use letters, digits, '-', '_' and '.'
            spec.params.cpu: makes template.resources.requests.cpu of job b invalid: "many" is not a quantity (write for example 2, 500m, 64Mi or 1.5Gi)
            metadata.name: makes template.labels.run of job c invalid: 65 characters; at most 63 are allowed"#]].assert_eq(&told(json!({
            "image": "bad image", "team": "not a label", "name": "1 2", "cpu": "many",
        })));
    }

    #[test]
    fn what_is_only_known_later_and_what_has_no_parameter_is_no_misfit() {
        let params = json!([{ "name": "p" }]);
        let args = json!(["$(task.index)", "$(ports.http)", "$(params.p)", "$HOME"]);
        let template = json!({ "image": "b", "args": args, "ports": [{ "name": "http" }] });
        let jobs = json!([
            { "name": "a", "template": template },
            { "name": "b", "template": { "image": "stored under older rules" } },
        ]);
        assert_eq!(misfits_of(params, jobs, json!({ "p": "$(any) thing" })), [""; 0]);
    }

    /// A value stands in as many fields as people like, and each message would quote it.
    #[test]
    fn a_long_value_is_not_told_whole() {
        let job = |number: usize| json!({ "name": format!("j-{number}"), "template": { "image": "b", "resources": { "requests": { "cpu": "$(params.p)" } } } });
        let jobs: Vec<Value> = (0..200).map(job).collect();
        let given = json!({ "p": "\\".repeat(60_000) });
        let told = misfits_of(json!([{ "name": "p" }]), jobs.into(), given);
        assert!(told.len() >= VIOLATIONS_MAX, "{}", told.len());
        let longest = told.iter().map(String::len).max();
        assert!(longest < Some(3 * MESSAGE_CHARS_MAX), "{longest:?}");
    }

    /// Each of the jobs takes nearly a mebibyte with these parameters: not all of them are looked at.
    #[test]
    fn the_work_is_bounded() {
        let args: Vec<&str> = std::iter::repeat_n("$(params.p)", 15).collect();
        let job = |number: usize| json!({ "name": format!("j-{number}"), "template": { "image": "b", "args": args } });
        let mut jobs: Vec<Value> = (0..20).map(job).collect();
        jobs.push(json!({ "name": "bad", "template": { "image": "$(params.i)" } }));
        let params = json!([{ "name": "p" }, { "name": "i" }]);
        let given = |p: String| json!({ "p": p, "i": "bad image" });
        assert_eq!(misfits_of(params.clone(), jobs.clone().into(), given("p".into())).len(), 1);
        let long = given("p".repeat(60 * 1024));
        assert_eq!(misfits_of(params, jobs.into(), long), [""; 0]);
    }
}
