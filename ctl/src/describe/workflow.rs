//! The description of a workflow.

use std::collections::BTreeSet;

use api::resource::Resource as _;
use api::table::{self, NOTHING};
use api::workflow::{Param, Workflow, WorkflowJob};
use api::{Kind as _, Timestamp, WorkflowRun, merge};
use serde_json::Value;

use super::{Sheet, labels, place};
use crate::hints;

/// Most runs that are shown, the newest first.
const RUNS_MAX: usize = 10;
/// Most different images of a job that are shown.
const IMAGES_MAX: usize = 3;

/// The description of a workflow with its runs.
pub fn text(workflow: &Workflow, runs: &[WorkflowRun], now: Timestamp) -> Sheet {
    let status = &workflow.status;
    let mut sheet = Sheet::default();
    let phase = status.phase.map_or_else(|| "no run".to_owned(), |phase| phase.to_string());
    let last = match &status.last_run {
        Some(run) => format!(" (run/{run})"),
        None => String::new(),
    };
    let held = if workflow.spec.suspend == Some(true) {
        ", suspended: starts no run by itself"
    } else {
        ""
    };
    let deleting = if workflow.is_deleting() { ", being deleted" } else { "" };
    sheet.line(&format!("Workflow {}: {phase}{last}{held}{deleting}", place(workflow)));
    sheet.field("Revision", &status.revision);
    let params: Vec<String> = workflow.spec.params.iter().map(param).collect();
    sheet.field("Params", &params.join(", "));
    let by_hand = workflow.spec.run_on_apply == Some(false);
    sheet.field(
        "Starts",
        if by_hand { "by hctl run" } else { "once for each revision, and by hctl run" },
    );
    sheet.field("Labels", &labels(workflow));
    sheet.conditions(&status.conditions);
    let images: Vec<String> = workflow.spec.jobs.iter().map(|job| images(workflow, job)).collect();
    // Workflows for the process runtime have no images.
    let has_images = images.iter().any(|image| image != NOTHING);
    let jobs = workflow.spec.jobs.iter().zip(images).map(|(job, image)| job_row(job, image));
    let mut rows: Vec<Vec<String>> = jobs.collect();
    let mut headings = vec!["NAME", "TASKS", "AFTER", "IMAGE"];
    if !has_images {
        headings.pop();
        rows.iter_mut().for_each(|row| drop(row.pop()));
    }
    sheet.table("Jobs", &headings, rows);
    let all = hints::runs_of(workflow.name());
    let headings = ["NAME", "STATUS", "JOBS", "TASKS", "TOOK", "AGE", "WHY"];
    sheet.list("Runs", &headings, run_rows(runs, now), (RUNS_MAX, &all));
    sheet
}

fn param(param: &Param) -> String {
    match &param.default {
        Some(default) => format!("{}={default}", param.name),
        None => format!("{} (required)", param.name),
    }
}

fn job_row(job: &WorkflowJob, images: String) -> Vec<String> {
    let after: Vec<&str> = job.depends_on.iter().map(|it| it.job.as_str()).collect();
    let after = if after.is_empty() { NOTHING.to_owned() } else { after.join(",") };
    vec![job.name.clone(), tasks(job), after, images]
}

/// The images of a job's tasks, including the workflow's defaults and listed tasks.
fn images(workflow: &Workflow, job: &WorkflowJob) -> String {
    let image = |template: &Value| template["image"].as_str().map(str::to_owned);
    let document = merge::job_document(workflow.spec.defaults.as_ref(), job);
    let own = image(&document["template"]);
    let listed = document["tasks"].as_array().into_iter().flatten();
    let of_tasks = listed.map(|task| image(&task["template"]).or_else(|| own.clone()));
    let mut all: Vec<String> = of_tasks.flatten().collect();
    if document["tasks"].as_array().is_none_or(Vec::is_empty) {
        all.extend(own);
    }
    let mut seen = BTreeSet::new();
    all.retain(|image| seen.insert(image.clone()));
    table::text_or_dash(&table::some_of(all.iter(), IMAGES_MAX))
}

/// The number of tasks of a job, as far as it is known before it runs.
fn tasks(job: &WorkflowJob) -> String {
    if let Some(target) = &job.target {
        return match target.partitions.len() {
            0 => format!("per partition of {}", target.partition_set),
            count => count.to_string(),
        };
    }
    let listed = job.items.as_ref().map_or(job.tasks.len(), Vec::len);
    match (job.count, listed) {
        (Some(count), _) => count.to_string(),
        (None, 0) => "1".to_owned(),
        (None, listed) => listed.to_string(),
    }
}

fn run_rows(runs: &[WorkflowRun], now: Timestamp) -> Vec<Vec<String>> {
    let mut newest: Vec<&WorkflowRun> = runs.iter().collect();
    newest.sort_by_key(|run| (std::cmp::Reverse(run.created()), run.name().to_owned()));
    let columns: Vec<usize> = WorkflowRun::columns()
        .iter()
        .enumerate()
        .filter(|(_, it)| {
            ["NAME", "STATUS", "JOBS", "TASKS", "TOOK", "AGE", "WHY"].contains(&it.name)
        })
        .map(|(index, _)| index)
        .collect();
    let row = |run: &&WorkflowRun| {
        let cells = run.row(now);
        columns.iter().filter_map(|index| cells.get(*index).cloned()).collect()
    };
    newest.iter().map(row).collect()
}
