//! Promise 10: every task of a job is counted, once, and as what it is.

use api::completion::{End, EndCounts};
use api::job::JobStatus;
use api::task::ReportState;
use api::{Job, Kind as _, Task};
use runtime::{Any, Snapshot};

use super::raw;
use crate::history::Moment;

/// Checks every job that this revision changed.
pub(super) fn check(moment: &Moment<'_>) {
    for change in moment.changes {
        let Some(Any::Job(job)) = &change.now else { continue };
        let (name, status) = (job.name(), &job.status);
        let sum = ended(status).total() + status.active + status.pending;
        assert_eq!(sum, status.total, "promise 10: {name} says {status:?}");
        let is_current = status.run > 0 && status.observed_generation == job.generation();
        if let Some(wanted) = wanted(job).filter(|_| is_current) {
            assert_eq!(status.total, wanted, "promise 10: {name} says {status:?}");
        }
        let recorded = recorded(moment.seen, job);
        if status.phase.is_final() {
            assert_eq!(ended(status), recorded, "promise 10: {name} has ended: {status:?}");
            assert_eq!((status.active, status.pending), (0, 0), "promise 10: {name} has ended");
        }
        // What has succeeded stays so: a status may be late, but not early.
        let known = recorded.succeeded + succeeded(moment.seen, job);
        let said = status.succeeded;
        assert!(said <= known, "promise 10: {name} says {said} succeeded, {known} have");
    }
}

/// When nothing changes any more, every count is exact: the first that is not, if any.
pub(super) fn inexact(seen: &Snapshot) -> Result<(), String> {
    for job in seen.jobs.iter() {
        let (status, recorded) = (&job.status, recorded(seen, job));
        let bound = open(seen, job).filter(|task| raw::node(task).is_some());
        let active = u32::try_from(bound.count()).unwrap();
        let pending = wanted(job).unwrap_or(status.total) - recorded.total() - active;
        let exact = (recorded, active, pending);
        if exact != (ended(status), status.active, status.pending) {
            return Err(format!("promise 10: {} is {exact:?}, and says {status:?}", job.name()));
        }
    }
    Ok(())
}

fn ended(status: &JobStatus) -> EndCounts {
    let JobStatus { succeeded, failed, cancelled, .. } = *status;
    EndCounts { succeeded, failed, cancelled }
}

/// How many tasks the job is to have; nothing where that is not its own to say.
fn wanted(job: &Job) -> Option<u32> {
    let listed = |length: usize| u32::try_from(length).unwrap();
    match &job.spec {
        spec if spec.target.is_some() => None,
        spec if !spec.tasks.is_empty() => Some(listed(spec.tasks.len())),
        spec => Some(spec.count.or(spec.items.as_ref().map(|all| listed(all.len()))).unwrap_or(1)),
    }
}

/// How the indexes of the job's run have ended, by its completion record.
fn recorded(seen: &Snapshot, job: &Job) -> EndCounts {
    let mut counts = EndCounts::default();
    for chunk in seen.completion_chunks.iter().filter(|chunk| is_of_run(chunk, job)) {
        for (_, end) in chunk.ends() {
            match end {
                End::Succeeded => counts.succeeded += 1,
                End::Failed => counts.failed += 1,
                End::Cancelled => counts.cancelled += 1,
            }
        }
    }
    counts
}

fn is_of_run(chunk: &api::CompletionChunk, job: &Job) -> bool {
    chunk.spec.job == job.uid() && chunk.spec.run == job.status.run
}

/// The tasks of the job's run that its record does not have.
fn open<'a>(seen: &'a Snapshot, job: &'a Job) -> impl Iterator<Item = &'a Task> {
    let tasks = seen.tasks.iter().map(|task| &**task);
    let own = tasks.filter(|task| task.controller().is_some_and(|owner| owner.uid == job.uid()));
    own.filter(|task| task.spec.run == job.status.run && !raw::is_recorded(task))
}

fn succeeded(seen: &Snapshot, job: &Job) -> u32 {
    let done = open(seen, job).filter(|task| raw::end(task) == Some(ReportState::Succeeded));
    u32::try_from(done.count()).unwrap()
}
