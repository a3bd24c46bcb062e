//! How each job of a run stands: what its Job object says, and what follows for those without one.

use std::collections::BTreeMap;

use api::job::JobPhase;
use api::object::Kind as _;
use api::workflow::{WorkflowJob, WorkflowSpec};
use api::workflow_run::RunJob;
use api::{Job, WorkflowRun, names};

/// How a job of the run stands.
#[derive(Debug, Clone)]
pub(super) struct Standing<'a> {
    pub(super) wanted: &'a WorkflowJob,
    /// Its Job object.
    pub(super) object: Option<&'a Job>,
    pub(super) report: RunJob,
    /// Whether its Job is to be made now.
    pub(super) due: bool,
}

impl Standing<'_> {
    /// Whether it ended other than well.
    pub(super) fn has_failed(&self) -> bool {
        match self.report.phase {
            JobPhase::Failed | JobPhase::TimedOut | JobPhase::Cancelled => true,
            JobPhase::Pending
            | JobPhase::Running
            | JobPhase::Suspended
            | JobPhase::Succeeded
            | JobPhase::Skipped => false,
        }
    }
}

/// How each job stands, in the workflow's order.
pub(super) fn standings<'a>(
    run: &'a WorkflowRun,
    workflow: &'a WorkflowSpec,
    jobs: &[&'a Job],
) -> Vec<Standing<'a>> {
    let objects: BTreeMap<&str, &Job> = jobs.iter().map(|job| (job.name(), *job)).collect();
    let known: BTreeMap<&str, &RunJob> =
        run.status.jobs.iter().map(|job| (job.name.as_str(), job)).collect();
    let mut standings: Vec<Standing<'a>> = Vec::new();
    for wanted in &workflow.jobs {
        let object = objects.get(names::job_in_run(run.name(), &wanted.name).as_str()).copied();
        let report = match (object, known.get(wanted.name.as_str())) {
            (Some(object), _) => of_object(wanted, object),
            // What has ended stays ended, also when its object was removed.
            (None, Some(before)) if before.phase.is_final() => (*before).clone(),
            (None, _) => RunJob { name: wanted.name.clone(), ..RunJob::default() },
        };
        standings.push(Standing { wanted, object, report, due: false });
    }
    follow(&mut standings);
    standings
}

fn of_object(wanted: &WorkflowJob, object: &Job) -> RunJob {
    let status = &object.status;
    RunJob {
        name: wanted.name.clone(),
        job: Some(object.name().to_owned()),
        phase: status.phase,
        total: status.total,
        pending: status.pending,
        active: status.active,
        succeeded: status.succeeded,
        failed: status.failed,
        cancelled: status.cancelled,
        started_at: status.started_at,
        finished_at: status.finished_at,
        message: status.message.clone(),
    }
}

/// What follows from how dependencies ended: a job is due, is skipped, or waits.
fn follow(standings: &mut [Standing<'_>]) {
    let mut phases: BTreeMap<String, JobPhase> = standings
        .iter()
        .map(|standing| (standing.wanted.name.clone(), standing.report.phase))
        .collect();
    // A skipped job may be what others wait for: until nothing follows any more.
    loop {
        let mut changed = false;
        for standing in standings.iter_mut() {
            if standing.object.is_some() || standing.report.phase.is_final() {
                continue;
            }
            match gate(standing.wanted, &phases) {
                Gate::Open => {
                    standing.due = true;
                    standing.report.message = None;
                }
                Gate::Waits { message } => standing.report.message = Some(message),
                Gate::Closed { message } => {
                    standing.report.phase = JobPhase::Skipped;
                    standing.report.message = Some(message);
                    phases.insert(standing.wanted.name.clone(), JobPhase::Skipped);
                    changed = true;
                }
            }
        }
        if !changed {
            return;
        }
    }
}

/// Whether a job may start.
enum Gate {
    Open,
    Waits {
        message: String,
    },
    /// Never in this run.
    Closed {
        message: String,
    },
}

fn gate(wanted: &WorkflowJob, phases: &BTreeMap<String, JobPhase>) -> Gate {
    let mut waits = Vec::new();
    for dependency in &wanted.depends_on {
        let phase = phases.get(&dependency.job).copied().unwrap_or_default();
        // Jobs are skipped here since something before them failed. That is no success, so it opens
        // the way only for those that say they do not mind.
        let unnamed_skip = phase == JobPhase::Skipped && dependency.phases.is_empty();
        if !phase.is_final() {
            waits.push(dependency.job.as_str());
        } else if unnamed_skip || !dependency.is_met_by(phase) {
            return Gate::Closed { message: format!("job {} is {phase}", dependency.job) };
        }
    }
    if waits.is_empty() {
        return Gate::Open;
    }
    let jobs = if waits.len() == 1 { "job" } else { "jobs" };
    Gate::Waits { message: format!("waits for {jobs} {}", waits.join(", ")) }
}
