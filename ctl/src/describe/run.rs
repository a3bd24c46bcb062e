//! The description of a workflow run.

use std::collections::BTreeMap;

use api::job::JobPhase;
use api::table::{NOTHING, took};
use api::workflow_run::{RunJob, WorkflowRun};
use api::{Kind as _, Timestamp};

use super::{Sheet, labels, lasting, owner, pairs, place};

/// The description of a workflow run.
pub fn text(run: &WorkflowRun, now: Timestamp) -> Sheet {
    let status = &run.status;
    let mut sheet = Sheet::default();
    let lasting = lasting(status.started_at, status.finished_at, now);
    let deleting = if run.is_deleting() { ", being deleted" } else { "" };
    let revision = match status.revision.as_str() {
        "" => String::new(),
        revision => format!(" revision {revision}"),
    };
    sheet.line(&format!(
        "Run {}: {}{lasting}, workflow {}{revision}{deleting}",
        place(run),
        status.phase,
        run.spec.workflow
    ));
    sheet.field("Params", &pairs(&status.params));
    sheet.field(
        "Tasks",
        &format!(
            "{} = {} succeeded + {} failed + {} active + {} pending + {} cancelled",
            status.total,
            status.succeeded,
            status.failed,
            status.active,
            status.pending,
            status.cancelled
        ),
    );
    sheet.field("Why", status.message.as_deref().unwrap_or_default());
    sheet.field("Owner", &owner(run));
    sheet.field("Labels", &labels(run));
    sheet.conditions(&status.conditions);
    let after = dependencies(run);
    let rows = status.jobs.iter().map(|job| row(job, &after, now)).collect();
    sheet.table(
        "Jobs",
        &["NAME", "STATUS", "TASKS", "ACTIVE", "FAILED", "TOOK", "AFTER", "WHY"],
        rows,
    );
    // A job that could not be created has no logs.
    let mut failed = status.jobs.iter().filter(|it| it.phase == JobPhase::Failed);
    if let Some(name) = failed.find_map(|it| it.job.as_deref()) {
        sheet.field("Logs", &format!("hctl logs job/{name} --failed"));
    }
    sheet
}

/// What each job waits for.
fn dependencies(run: &WorkflowRun) -> BTreeMap<&str, String> {
    let jobs = run.status.workflow.iter().flat_map(|workflow| &workflow.jobs);
    let names = |job: &api::workflow::WorkflowJob| {
        let names: Vec<&str> = job.depends_on.iter().map(|it| it.job.as_str()).collect();
        names.join(",")
    };
    jobs.map(|job| (job.name.as_str(), names(job))).collect()
}

fn row(job: &RunJob, after: &BTreeMap<&str, String>, now: Timestamp) -> Vec<String> {
    let after = after.get(job.name.as_str()).filter(|names| !names.is_empty());
    vec![
        job.name.clone(),
        job.phase.to_string(),
        if job.total > 0 { format!("{}/{}", job.succeeded, job.total) } else { NOTHING.to_owned() },
        job.active.to_string(),
        job.failed.to_string(),
        took(job.started_at, job.finished_at, now),
        after.cloned().unwrap_or_else(|| NOTHING.to_owned()),
        job.message.clone().unwrap_or_default(),
    ]
}
