//! Turns a job of a workflow into a Job object of a run.

use std::collections::BTreeMap;

use api::job::JobSpec;
use api::object::Kind as _;
use api::substitute::{self, RunNames};
use api::workflow::{WorkflowJob, WorkflowSpec};
use api::{Job, Timestamp, Violation, WorkflowRun, labels, names};

/// The value of every parameter in a run.
pub(super) fn params(
    workflow: &WorkflowSpec,
    run: &WorkflowRun,
    started: Timestamp,
) -> Result<BTreeMap<String, String>, String> {
    substitute::params_of_run(workflow, &run.spec.params, run.name(), started)
        .map_err(|found| sentence(&found))
}

/// The spec of the Job, with defaults applied, and with the parameters and the names of the run
/// substituted.
fn spec(run: &WorkflowRun, workflow: &WorkflowSpec, job: &WorkflowJob) -> Result<JobSpec, String> {
    let names = RunNames {
        run: run.name(),
        started: run.status.started_at.unwrap_or_default(),
        params: &run.status.params,
    };
    substitute::job_in_run(workflow.defaults.as_ref(), job, &names)
        .map_err(|found| sentence(&found))
}

fn sentence(found: &[Violation]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The Job object of a workflow's job.
pub(super) fn job(
    run: &WorkflowRun,
    workflow: &WorkflowSpec,
    job: &WorkflowJob,
) -> Result<Job, String> {
    let spec = spec(run, workflow, job)?;
    let labels = [
        (labels::WORKFLOW, run.spec.workflow.as_str()),
        (labels::RUN, run.name()),
        (labels::JOB, job.name.as_str()),
    ];
    Ok(Job::new(run.namespace(), &names::job_in_run(run.name(), &job.name), spec)
        .with_labels(labels)
        .with_controller(run.as_controller()))
}
