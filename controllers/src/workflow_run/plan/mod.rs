//! Decides what a run of a workflow needs next.
//!
//! # Invariants
//!
//! * A run executes the workflow as it was at its first look, whatever becomes of that later.
//! * A job is made once what it depends on has ended as it wants. After the run's end was decided only
//!   jobs that are meant for a failure are, and only where the run fails.
//! * What has ended in a run stays ended.
//! * A run ends only when all its jobs have.
//! * On the state that its own actions lead to, `plan` returns nothing.

mod expand;
pub(crate) mod first_tasks;
mod hitch;
mod job_state;

use std::collections::{BTreeMap, BTreeSet};

use api::conditions::{Standing as Condition, conditions};
use api::job::{JobPhase, REASON_CHARS_MAX};
use api::object::Kind as _;
use api::size::{self, ADDED_BYTES, OBJECT_BYTES_MAX};
use api::task::report::shortened;
use api::workflow::{WorkflowSpec, revision};
use api::workflow_run::{RunJob, RunPhase, WorkflowRunStatus, too_large};
use api::{Job, Timestamp, Workflow, WorkflowRun};
use jiff::SignedDuration;

use crate::action::{Action, Group, Patch};
use crate::packing::{self, Parcel};
use hitch::Hitch;
use job_state::{JobState, follow, job_states};

/// All that a decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The run.
    pub run: &'a WorkflowRun,
    /// The workflow that it names.
    pub workflow: Option<&'a Workflow>,
    /// The Jobs that it controls (by uid).
    pub jobs: &'a [&'a Job],
    /// Of the names that its Jobs may have, those that Jobs of other owners have.
    pub taken: &'a BTreeSet<String>,
    /// Names of Jobs that the apiserver said can never be written, and why.
    pub unwritable: &'a BTreeMap<String, String>,
    /// The time.
    pub now: Timestamp,
}

/// What a run needs next.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Writes, each group all or nothing and independent of the others.
    pub groups: Vec<Group>,
    /// A status that differs in its counts only, which may wait a little.
    pub status: Option<Box<WorkflowRun>>,
    /// When to look again although nothing changed.
    pub wake_at: Option<Timestamp>,
    /// That the run has ended, for people.
    pub ended: Option<(RunPhase, String)>,
}

/// Jobs that a plan makes or changes at most in one group, with the run's status.
const GROUP_OPS: usize = 50;
/// Bytes of Jobs that a plan makes at most (and one Job more): a thousand large ones would take a
/// gigabyte at once. The look at what this writes makes the others.
const ROUND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest message that a run's status keeps of one of its jobs.
const JOB_MESSAGE_CHARS_MAX: usize = 256;
/// Longest message of the run itself.
const RUN_MESSAGE_CHARS_MAX: usize = 1024;

/// What the run needs next.
pub fn plan(view: &View<'_>) -> Plan {
    let run = view.run;
    if run.is_deleting() || run.status.phase.is_final() {
        return Plan::default();
    }
    let mut next = run.clone();
    next.status.observed_generation = run.generation();
    if next.status.workflow.is_none()
        && let Err(stuck) = begin(view, &mut next.status)
    {
        return stuck.plan(view, next);
    }
    // Taken out while it is read beside changes of the status, and put back: a copy is dear.
    let Some(workflow) = next.status.workflow.take() else {
        return Plan::default();
    };
    next.status.observed_generation = run.generation();
    let mut states = job_states(run, &workflow, view.jobs);
    count_suspension(view, &mut next.status);
    let mut ending = end(view, &next.status, &workflow, &states);
    let steps = loop {
        let steps = go_on(view, (&next, &workflow), &mut states, ending.as_ref());
        if !steps.fails {
            break steps;
        }
        // A job that can never be made has failed by that. What follows from it is decided anew,
        // maybe that the run ends before the others are made.
        ending = end(view, &next.status, &workflow, &states);
    };
    summarize(&mut next.status, &states);
    let ending = ending.map(|end| (end.phase, end.message));
    let end = ending.or_else(|| self_end(&workflow, &states));
    let hitch = steps.stalled.map(Hitch::name_taken).or_else(|| Hitch::of(&states));
    conclude(view, &mut next.status, end, hitch.as_ref());
    drop(states);
    next.status.workflow = Some(workflow);
    assemble(view, next, steps.actions)
}

/// Whether nothing is left to do for the run: it has ended, or is being deleted.
pub fn is_at_rest(run: &WorkflowRun, plan: &Plan) -> bool {
    let asks_nothing = plan.groups.is_empty() && plan.status.is_none();
    asks_nothing && (run.is_deleting() || run.status.phase.is_final())
}

/// What is done with the jobs.
struct Progress {
    actions: Vec<Parcel>,
    /// Why one that is due cannot be made yet.
    stalled: Option<String>,
    /// Whether one turned out to be impossible to make.
    fails: bool,
}

/// What is done with the jobs.
fn go_on(
    view: &View<'_>,
    (next, workflow): (&WorkflowRun, &WorkflowSpec),
    states: &mut [JobState<'_>],
    ending: Option<&End>,
) -> Progress {
    // What depends on the failure is skipped by it, as in a run that goes on: only what could still
    // have run is cancelled by the run's end.
    if ending.is_some_and(|end| !end.at_once) {
        follow(states);
    }
    let mut actions = ending.map(|end| stop(end, states)).unwrap_or_default();
    // What was stopped is what others may have waited for.
    follow(states);
    let final_ones = |states: &[JobState<'_>]| {
        states.iter().filter(|state| state.report.phase.is_final()).count()
    };
    let (mut stalled, before) = (None, final_ones(states));
    if ending.is_none_or(|end| !end.at_once) {
        actions.extend(hold(view, states));
        if !view.run.spec.suspend {
            actions.extend(start(view, next, workflow, states, &mut stalled));
        }
    }
    Progress { actions, stalled, fails: final_ones(states) > before }
}

/// Why a run cannot begin.
enum Stuck {
    /// It waits for somebody.
    Stalled { reason: &'static str, message: String },
    /// It ends without having begun.
    Over { phase: RunPhase, message: String },
}

impl Stuck {
    fn plan(self, view: &View<'_>, mut next: WorkflowRun) -> Plan {
        let status = &mut next.status;
        let at = (view.run.generation(), view.now);
        let reason = match self {
            Stuck::Stalled { reason, message } => {
                status.message = Some(message);
                reason.to_owned()
            }
            Stuck::Over { phase, message } => {
                status.phase = phase;
                status.finished_at = Some(view.now);
                status.message = Some(message);
                phase.to_string()
            }
        };
        let message = status.message.clone().unwrap_or_default();
        status.conditions =
            conditions(&status.conditions, Condition::Stalled, &reason, &message, at);
        assemble(view, next, Vec::new())
    }
}

/// Takes the workflow as it is now: later changes of it do not touch this run.
fn begin(view: &View<'_>, status: &mut WorkflowRunStatus) -> Result<(), Stuck> {
    let spec = &view.run.spec;
    let over = |phase, message: &str| {
        Err(Stuck::Over { phase, message: bounded(message, RUN_MESSAGE_CHARS_MAX) })
    };
    if spec.cancel {
        return over(RunPhase::Cancelled, "cancelled on request");
    }
    let Some(workflow) = view.workflow.filter(|workflow| !workflow.is_deleting()) else {
        let message = format!("workflow {} does not exist", spec.workflow);
        return Err(Stuck::Stalled { reason: "WorkflowMissing", message });
    };
    if spec.suspend {
        let message = "suspended before it started".to_owned();
        return Err(Stuck::Stalled { reason: "Suspended", message });
    }
    match expand::params(&workflow.spec, view.run, view.now) {
        Ok(params) => status.params = params,
        Err(why) => return over(RunPhase::Failed, &why),
    }
    status.workflow = Some(Box::new(workflow.spec.clone()));
    status.revision = revision(&workflow.spec);
    status.started_at = Some(view.now);
    (status.message, status.waiting) = (None, None);
    match too_large(view.run, status, &workflow.spec) {
        Some(why) => {
            status.workflow = None;
            status.params.clear();
            over(RunPhase::Failed, &why)
        }
        None => Ok(()),
    }
}

/// The run once its own status was found to be impossible to write: one that is as it was, but for
/// the reason. Nothing where it says so already.
pub(crate) fn unwritable(run: &WorkflowRun, why: &str, now: Timestamp) -> Option<WorkflowRun> {
    let message = format!("the run's status cannot be stored: {why}");
    if run.status.message.as_ref() == Some(&message) {
        return None;
    }
    let mut next = run.clone();
    let status = &mut next.status;
    if status.workflow.is_none() {
        status.phase = RunPhase::Failed;
        status.finished_at = Some(now);
    }
    let at = (run.generation(), now);
    let before = std::mem::take(&mut status.conditions);
    status.conditions = conditions(&before, Condition::Stalled, "NotWritable", &message, at);
    status.message = Some(message);
    Some(next)
}

/// How and why the run ends before its jobs have.
struct End {
    phase: RunPhase,
    message: Option<String>,
    /// Whether everything stops. After a failure the jobs that are meant for it still run.
    at_once: bool,
}

/// How and why the run ends before its jobs have. A job that failed counts as failed although others
/// wait for just that.
fn end(
    view: &View<'_>,
    status: &WorkflowRunStatus,
    workflow: &WorkflowSpec,
    states: &[JobState<'_>],
) -> Option<End> {
    let end = |phase, message, at_once| Some(End { phase, message: Some(message), at_once });
    if view.run.spec.cancel {
        return end(RunPhase::Cancelled, "cancelled on request".to_owned(), true);
    }
    let timed_out = deadline(status, workflow).is_some_and(|at| at <= view.now);
    let timed_out = timed_out && !view.run.spec.suspend;
    let failed: Vec<&JobState<'_>> = states.iter().filter(|job| is_failure(job)).collect();
    let allowed = workflow.max_failed_jobs.unwrap_or(0);
    if u32::try_from(failed.len()).unwrap_or(u32::MAX) > allowed {
        return end(RunPhase::Failed, named(&failed), timed_out);
    }
    let limit = workflow.timeout.filter(|_| timed_out)?;
    end(RunPhase::TimedOut, format!("longer than timeout ({limit})"), true)
}

/// A job that this run itself stopped, which gives a reason, or never made since it ended, has not
/// failed. One that a person cancelled has: what depends on it will not run.
fn is_failure(job: &JobState<'_>) -> bool {
    let stopped = |job: &Job| job.spec.cancel && job.spec.cancel_reason.is_some();
    counts_as_failed(job) && !job.object.is_some_and(stopped)
}

/// A job that was never made has not failed by itself.
fn counts_as_failed(job: &JobState<'_>) -> bool {
    let never_made = job.report.job.is_none() && job.report.phase == JobPhase::Cancelled;
    job.has_failed() && !never_made
}

/// The first of these jobs, each with why it is as it is.
fn named(jobs: &[&JobState<'_>]) -> String {
    jobs.iter().take(3).map(|job| describe(job)).collect::<Vec<_>>().join("; ")
}

fn describe(job: &JobState<'_>) -> String {
    let RunJob { name, phase, message, .. } = &job.report;
    let ended = job_state::ended(*phase);
    let why = message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("job {name} {ended}{why}")
}

fn self_end(
    workflow: &WorkflowSpec,
    states: &[JobState<'_>],
) -> Option<(RunPhase, Option<String>)> {
    if !states.iter().all(|job| job.report.phase.is_final()) {
        return None;
    }
    // The run has stopped nothing, so whatever was cancelled was so by somebody else.
    let failed: Vec<&JobState<'_>> = states.iter().filter(|job| counts_as_failed(job)).collect();
    if u32::try_from(failed.len()).is_ok_and(|n| n <= workflow.max_failed_jobs.unwrap_or(0)) {
        return Some((RunPhase::Succeeded, None));
    }
    Some((RunPhase::Failed, Some(named(&failed))))
}

fn deadline(status: &WorkflowRunStatus, workflow: &WorkflowSpec) -> Option<Timestamp> {
    if status.suspended_at.is_some() {
        return None;
    }
    let held = i64::try_from(status.suspended_seconds).unwrap_or(i64::MAX);
    let start = status.started_at?.saturating_add(SignedDuration::from_secs(held)).ok()?;
    start.saturating_add(workflow.timeout?.signed()).ok()
}

/// Why a job of a run that ends is stopped.
fn why_stopped(end: &End) -> String {
    let said = end.message.as_deref().unwrap_or_default();
    if end.phase == RunPhase::Cancelled {
        "the run was cancelled".to_owned()
    } else if end.phase == RunPhase::TimedOut {
        format!("the run took {said}")
    } else {
        said.to_owned()
    }
}

/// Stops what runs; what was not made will not be. Where the run ends by a failure, not the jobs
/// that are meant for it.
fn stop(end: &End, states: &mut [JobState<'_>]) -> Vec<Parcel> {
    let mut stops = Vec::new();
    let why = shortened(&why_stopped(end), REASON_CHARS_MAX);
    for state in states.iter_mut().filter(|job| end.at_once || !job.after_failure) {
        match state.object {
            Some(object) if !object.status.phase.is_final() && !object.spec.cancel => {
                let cancel = Action::Patch(Patch::cancel(object, &why));
                stops.push(Parcel::of_patch(cancel, object));
            }
            Some(_) => (),
            None if state.report.phase.is_final() => (),
            None => {
                state.report.phase = JobPhase::Cancelled;
                state.report.job = None;
                state.report.message = Some("the run ended before this job started".to_owned());
                state.due = false;
            }
        }
    }
    stops
}

/// Hands the run's suspension down to its jobs, and takes it back.
fn hold(view: &View<'_>, states: &[JobState<'_>]) -> Vec<Parcel> {
    let change = |state: &JobState<'_>| {
        let object = state.object.filter(|object| !object.status.phase.is_final())?;
        let held = view.run.spec.suspend || state.wanted.suspend.unwrap_or(false);
        if object.spec.is_suspended() == held {
            return None;
        }
        Some(Parcel::of_patch(Action::Patch(Patch::suspend(object, held)), object))
    };
    states.iter().filter_map(change).collect()
}

/// Makes the jobs that are due.
fn start(
    view: &View<'_>,
    run: &WorkflowRun,
    workflow: &WorkflowSpec,
    states: &mut [JobState<'_>],
    stalled: &mut Option<String>,
) -> Vec<Parcel> {
    let (mut starts, mut bytes) = (Vec::new(), 0);
    for state in states.iter_mut().filter(|state| state.due) {
        if bytes > ROUND_BYTES_MAX {
            break;
        }
        let expanded = expand::job(run, workflow, state.wanted);
        let refusal = |job: &Job| view.unwritable.get(job.name()).cloned();
        match expanded.and_then(|job| refusal(&job).map_or(Ok(job), Err)) {
            Ok(job) if view.taken.contains(job.name()) => {
                let message = format!("job {} exists and belongs to another owner", job.name());
                state.report.message = Some(message.clone());
                stalled.get_or_insert(message);
            }
            Ok(job) => {
                state.report.job = Some(job.name().to_owned());
                let create = Parcel::from(Action::create(job));
                bytes += create.bytes;
                starts.push(create);
            }
            Err(why) => {
                state.report.phase = JobPhase::Failed;
                state.report.message = Some(bounded(&why, JOB_MESSAGE_CHARS_MAX));
            }
        }
    }
    starts
}

fn summarize(status: &mut WorkflowRunStatus, states: &[JobState<'_>]) {
    status.jobs = states.iter().map(|state| state.report.clone()).collect();
    let sum =
        |count: fn(&RunJob) -> u32| status.jobs.iter().map(count).fold(0, u32::saturating_add);
    let total = sum(|job| job.total);
    let counts = [
        sum(|job| job.pending),
        sum(|job| job.active),
        sum(|job| job.succeeded),
        sum(|job| job.failed),
        sum(|job| job.cancelled),
    ];
    status.total = total;
    [status.pending, status.active, status.succeeded, status.failed, status.cancelled] = counts;
}

/// Suspended time is kept apart, since it does not count for the timeout.
fn count_suspension(view: &View<'_>, status: &mut WorkflowRunStatus) {
    match (view.run.spec.suspend, status.suspended_at) {
        (true, None) => status.suspended_at = Some(view.now),
        (false, Some(since)) => {
            let seconds = u64::try_from(view.now.duration_since(since).as_secs());
            let seconds = seconds.unwrap_or_default();
            status.suspended_seconds = status.suspended_seconds.saturating_add(seconds);
            status.suspended_at = None;
        }
        (true, Some(_)) | (false, None) => (),
    }
}

fn conclude(
    view: &View<'_>,
    status: &mut WorkflowRunStatus,
    end: Option<(RunPhase, Option<String>)>,
    hitch: Option<&Hitch>,
) {
    let all_ended = status.jobs.iter().all(|job| job.phase.is_final());
    (status.phase, status.message) = match end {
        Some((phase, message)) if all_ended => {
            status.finished_at = Some(view.now);
            (phase, message)
        }
        Some((_, message)) => (RunPhase::Running, message),
        None if view.run.spec.suspend => (RunPhase::Suspended, None),
        None => (RunPhase::Running, hitch.map(|hitch| hitch.message().to_owned())),
    };
    let state = match status.phase {
        RunPhase::Succeeded | RunPhase::Skipped => Condition::Ready,
        RunPhase::Failed | RunPhase::TimedOut | RunPhase::Cancelled => Condition::Stalled,
        RunPhase::Pending | RunPhase::Running | RunPhase::Suspended => {
            hitch.map_or(Condition::Reconciling, Hitch::condition)
        }
    };
    let reason = match hitch {
        Some(hitch) if !status.phase.is_final() => hitch.reason(),
        _ => status.phase.to_string(),
    };
    let message = status.message.clone().unwrap_or_default();
    status.waiting = if message.is_empty() { of_jobs(&status.jobs) } else { None };
    let at = (view.run.generation(), view.now);
    status.conditions = conditions(&status.conditions, state, &reason, &message, at);
}

/// Why the first of the jobs failed, or what the first one waits for.
fn of_jobs(jobs: &[RunJob]) -> Option<String> {
    let failed = |job: &&RunJob| matches!(job.phase, JobPhase::Failed | JobPhase::TimedOut);
    if let Some(RunJob { name, phase, message, .. }) = jobs.iter().find(failed) {
        let why = message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        return Some(format!("{name} {phase}{why}"));
    }
    // A job that does not exist yet waits for other jobs of the run, which says nothing new.
    let mut open = jobs.iter().filter(|job| job.job.is_some() && !job.phase.is_final());
    open.find_map(|job| Some(format!("{}: {}", job.name, job.message.as_ref()?)))
}

/// Leaves out why each job waits where that is more than can be stored: there was room for all else
/// when the run began.
fn shorten(run: &mut WorkflowRun) {
    if size::json_bytes(run) + ADDED_BYTES > OBJECT_BYTES_MAX {
        run.status.waiting = None;
        for job in &mut run.status.jobs {
            job.message = None;
        }
    }
}

/// The start of a message.
fn bounded(message: &str, chars: usize) -> String {
    match message.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}

/// The plan: the status with what it makes at first, apart from it later.
fn assemble(view: &View<'_>, mut next: WorkflowRun, actions: Vec<Parcel>) -> Plan {
    shorten(&mut next);
    let before = &view.run.status;
    let mut plan = Plan::default();
    if next.status.phase.is_final() {
        let jobs = format!("{} jobs", next.status.jobs.len());
        let why = next.status.message.clone().unwrap_or(jobs);
        plan.ended = Some((next.status.phase, why));
    } else if let Some(workflow) = &next.status.workflow {
        plan.wake_at = deadline(&next.status, workflow).filter(|at| *at > view.now);
    }
    if before.workflow.is_none() && next.status.workflow.is_some() {
        plan.groups = vec![packing::beside(Action::status(next).into(), actions, GROUP_OPS)];
        return plan;
    }
    plan.groups = actions.into_iter().map(|parcel| Group::from(parcel.action)).collect();
    if next.status == *before {
        return plan;
    }
    if is_urgent(before, &next.status) {
        plan.groups.push(Action::status(next).into());
    } else {
        plan.status = Some(Box::new(next));
    }
    plan
}

/// Whether the two differ in more than counts.
fn is_urgent(before: &WorkflowRunStatus, next: &WorkflowRunStatus) -> bool {
    without_counts(before) != without_counts(next)
}

/// A status but for its counts, and what the planner never changes without changing this. Every field
/// is named here, so that of a new one somebody decides whether it may be written later.
fn without_counts(status: &WorkflowRunStatus) -> impl PartialEq {
    let WorkflowRunStatus {
        phase,
        observed_generation,
        jobs,
        suspended_at,
        message,
        conditions,
        // It follows from the jobs, and their messages may be written later.
        waiting: _,
        // These are set together with one of those.
        workflow: _,
        revision: _,
        params: _,
        started_at: _,
        finished_at: _,
        suspended_seconds: _,
        total: _,
        pending: _,
        active: _,
        succeeded: _,
        failed: _,
        cancelled: _,
    } = status;
    // How far a job is that goes on is like a count: it changes several times in each step. Its end
    // has to be kept, since its Job may be deleted.
    let jobs: Vec<_> =
        jobs.iter().map(|job| Some(job.phase).filter(|phase| phase.is_final())).collect();
    (phase, observed_generation, jobs, suspended_at, message, conditions)
}
