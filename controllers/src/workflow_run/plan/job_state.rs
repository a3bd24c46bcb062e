//! The state of each job of a run: taken from its Job object, or derived for jobs without one.

use std::collections::{BTreeMap, BTreeSet};

use api::job::JobPhase;
use api::object::Kind as _;
use api::table::some_of;
use api::workflow::{Dependency, WorkflowJob, WorkflowSpec};
use api::workflow_run::RunJob;
use api::{Job, WorkflowRun, names};

/// The state of a job of the run.
#[derive(Debug, Clone)]
pub(super) struct JobState<'a> {
    pub(super) wanted: &'a WorkflowJob,
    /// Its Job object.
    pub(super) object: Option<&'a Job>,
    pub(super) report: RunJob,
    /// Whether its Job has to be created now.
    pub(super) due: bool,
    /// Whether it, or a job that it depends on, is meant to run after a failure. Such a job runs
    /// even though the run will fail.
    pub(super) after_failure: bool,
}

impl JobState<'_> {
    /// Whether it ended without success.
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

/// The state of each job, in the order of the workflow. [`follow`] derives what comes next.
pub(super) fn job_states<'a>(
    run: &'a WorkflowRun,
    workflow: &'a WorkflowSpec,
    jobs: &[&'a Job],
) -> Vec<JobState<'a>> {
    let objects: BTreeMap<&str, &Job> = jobs.iter().map(|job| (job.name(), *job)).collect();
    let known: BTreeMap<&str, &RunJob> =
        run.status.jobs.iter().map(|job| (job.name.as_str(), job)).collect();
    let mut states: Vec<JobState<'a>> = Vec::new();
    for wanted in &workflow.jobs {
        let object = objects.get(names::job_in_run(run.name(), &wanted.name).as_str()).copied();
        let report = match (object, known.get(wanted.name.as_str())) {
            (Some(object), _) => of_object(wanted, object),
            // A job that has ended stays so, even if its object was removed.
            (None, Some(before)) if before.phase.is_final() => (*before).clone(),
            (None, _) => RunJob { name: wanted.name.clone(), ..RunJob::default() },
        };
        states.push(JobState { wanted, object, report, due: false, after_failure: false });
    }
    mark_after_failure(&mut states);
    states
}

/// Marks the jobs that are meant to run after a failure, and those that depend on them.
fn mark_after_failure(states: &mut [JobState<'_>]) {
    let mut marked: BTreeSet<String> = BTreeSet::new();
    for index in order(states) {
        let wanted = states[index].wanted;
        let is_after = |dependency: &Dependency| {
            dependency.names_failure() || marked.contains(&dependency.job)
        };
        if wanted.depends_on.iter().any(is_after) {
            states[index].after_failure = true;
            marked.insert(wanted.name.clone());
        }
    }
}

/// The positions of the jobs, each after those that it depends on.
fn order(states: &[JobState<'_>]) -> Vec<usize> {
    let names = states.iter().map(|state| state.wanted.name.as_str());
    let place: BTreeMap<&str, usize> = names.zip(0..).collect();
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); states.len()];
    let mut waits: Vec<usize> = vec![0; states.len()];
    for (index, state) in states.iter().enumerate() {
        for dependency in &state.wanted.depends_on {
            if let Some(before) = place.get(dependency.job.as_str()) {
                followers[*before].push(index);
                waits[index] += 1;
            }
        }
    }
    let mut order: Vec<usize> = (0..states.len()).filter(|index| waits[*index] == 0).collect();
    let mut next = 0;
    while let Some(index) = order.get(next).copied() {
        for follower in std::mem::take(&mut followers[index]) {
            waits[follower] -= 1;
            if waits[follower] == 0 {
                order.push(follower);
            }
        }
        next += 1;
    }
    order
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
        message: status.why().map(|it| super::bounded(&it, super::JOB_MESSAGE_CHARS_MAX)),
    }
}

/// Derives from the ends of dependencies whether a job is due, skipped or waiting. Jobs are visited
/// in the order of dependencies, since others may depend on a job that is skipped.
pub(super) fn follow(states: &mut [JobState<'_>]) {
    let phase = |state: &JobState<'_>| (state.wanted.name.clone(), state.report.phase);
    let mut phases: BTreeMap<String, JobPhase> = states.iter().map(phase).collect();
    for index in order(states) {
        let state = &mut states[index];
        if state.object.is_some() || state.report.phase.is_final() {
            continue;
        }
        match gate(state.wanted, &phases) {
            Gate::Open => {
                state.due = true;
                state.report.message = None;
            }
            Gate::Waits { message } => state.report.message = Some(message),
            Gate::Closed { message } => {
                state.report.phase = JobPhase::Skipped;
                state.report.message = Some(message);
                phases.insert(state.wanted.name.clone(), JobPhase::Skipped);
            }
        }
    }
}

/// The end of a job in words, such as `failed`.
pub(super) fn ended(phase: JobPhase) -> String {
    match phase {
        JobPhase::Succeeded => "succeeded".to_owned(),
        JobPhase::Failed => "failed".to_owned(),
        JobPhase::TimedOut => "timed out".to_owned(),
        JobPhase::Cancelled => "was cancelled".to_owned(),
        JobPhase::Skipped => "was skipped".to_owned(),
        JobPhase::Pending | JobPhase::Running | JobPhase::Suspended => format!("is {phase}"),
    }
}

/// The maximum number of jobs named in the message of a job that waits for them.
const NAMED_MAX: usize = 3;

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
        // A job is skipped because an earlier one failed. That is no success, so only dependents
        // that accept it explicitly may start.
        let unnamed_skip = phase == JobPhase::Skipped && dependency.phases.is_empty();
        if !phase.is_final() {
            waits.push(dependency.job.as_str());
        } else if unnamed_skip || !dependency.is_met_by(phase) {
            return Gate::Closed { message: format!("job {} {}", dependency.job, ended(phase)) };
        }
    }
    if waits.is_empty() {
        return Gate::Open;
    }
    let jobs = if waits.len() == 1 { "job" } else { "jobs" };
    Gate::Waits { message: format!("waits for {jobs} {}", some_of(waits.iter(), NAMED_MAX)) }
}
