//! Decides what a workflow needs next: a run of its newest revision, and which old runs go.
//!
//! # Invariants
//!
//! * A revision is run once by itself, whatever is lost on the way: the run and the note that it was
//!   made are one write.
//! * Only runs that Heliox made are removed, never the one that the workflow's phase is of, nor the one
//!   that it started by itself for its revision.
//! * On the state that its own actions lead to, `plan` returns nothing.

use std::cell::LazyCell;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

use api::conditions::{Standing, UNSCHEDULABLE, conditions, is_unschedulable, stalled};
use api::object::{Kind as _, NUMBER_MAX};
use api::workflow::{HISTORY, NO_RUN, SUSPENDED, WorkflowStatus, revision, written_revision};
use api::workflow_run::{RunPhase, WorkflowRunSpec};
use api::{Timestamp, Workflow, WorkflowRun, labels, names};

use crate::action::{Action, Group};

/// Everything that the decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The workflow.
    pub workflow: &'a Workflow,
    /// The runs in its namespace that name it.
    pub runs: &'a [&'a WorkflowRun],
    /// The names of runs in its namespace that start like those of its own runs.
    pub taken: &'a BTreeSet<String>,
    /// The time.
    pub now: Timestamp,
}

/// What to do next about a workflow.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The writes. Each group happens as a whole or not at all, independently of the others.
    pub groups: Vec<Group>,
    /// Why the newest revision has no run. The conditions report this, with the reason in their
    /// message.
    pub waiting: Option<Waiting>,
}

/// Why the newest revision of a workflow has no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The workflow is suspended: the revision runs once it is resumed.
    Suspended,
    /// The workflow does not start runs by itself.
    ByHand,
    /// It has started a run that is gone, or started none when the revision came.
    NoneLeft,
}

impl Waiting {
    /// The reason, in one CamelCase word.
    fn reason(self) -> &'static str {
        match self {
            Waiting::Suspended => SUSPENDED,
            Waiting::ByHand | Waiting::NoneLeft => NO_RUN,
        }
    }

    /// Whether the revision will run as soon as this is over.
    fn standing(self) -> Standing {
        match self {
            Waiting::Suspended => Standing::Reconciling,
            Waiting::ByHand | Waiting::NoneLeft => Standing::Ready,
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Waiting::Suspended => "suspended: no run starts until the workflow is resumed",
            Waiting::ByHand => "runOnApply is false: no run starts by itself",
            Waiting::NoneLeft => "there is no run of this revision, and none starts by itself",
        })
    }
}

/// Decides what to do next about the workflow.
pub fn plan(view: &View<'_>) -> Plan {
    let workflow = view.workflow;
    // Its runs go with it, so a new one would be deleted at once.
    if workflow.is_deleting() {
        return Plan::default();
    }
    let mut status = workflow.status.clone();
    // Users start runs, too. Their numbers are kept even when those runs are gone.
    let numbers = view.runs.iter().filter_map(|run| run.label(labels::RUN_NUMBER)?.parse().ok());
    // Anybody who may create a run can choose its number. A number that leaves no room for later
    // ones does not count.
    let numbers = numbers.filter(|number| *number < NUMBER_MAX);
    status.last_run_number = numbers.fold(status.last_run_number, u32::max);
    let (mut made, mut is_held_back, mut has_changed) = (None, false, false);
    let (held, known) = (workflow.spec.suspend.unwrap_or(false), &workflow.status);
    // This code runs for each change of a run, and hashing all jobs is expensive. While a run is in
    // progress and the generation has not changed, the revision could only be written differently,
    // which can wait. But a suspended workflow may have a revision without a run, so it is always
    // checked.
    let moved = known.observed_generation < workflow.generation();
    let goes_on = view.runs.iter().any(|run| !run.status.phase.is_final());
    let is_hashed = moved || !goes_on || held;
    if is_hashed {
        let now = revision(&workflow.spec);
        let same = is_same(view, &now);
        if same {
            // From now on, the revision is identified by its meaning, however it is written.
            status.revision = now;
        } else if !moved {
            // The generation counts changes of the meaning, so the same revision is only written
            // differently now. The exception is a new revision that was held back earlier.
            is_held_back = held;
            if !held {
                status.revision = now;
            }
        // Users start the runs of this workflow themselves.
        } else if !workflow.spec.run_on_apply.unwrap_or(true) {
            status.revision = now;
            status.last_run = None;
            has_changed = true;
        } else if held {
            is_held_back = true;
        } else {
            let run = next_run(view, &mut status, &now);
            status.revision = now;
            status.last_run = Some(run.name().to_owned());
            made = Some(run);
        }
    }
    let latest = made.as_ref().or_else(|| newest(view, &status, is_held_back));
    let deployed = made.as_ref().or_else(|| deployed(view, &status, has_changed));
    let deployed =
        deployed.or_else(|| is_hashed.then(|| deployed_in_other_words(view, &status)).flatten());
    let deployed = deployed.map(|run| run.name().to_owned());
    // A revision that is held back has no run: the existing ones belong to the revision before.
    status.deployed_run = deployed.clone().filter(|_| !is_held_back);
    let waiting = latest.is_none().then(|| waiting(workflow, is_held_back));
    summarize(view, (latest, made.is_some(), waiting), &mut status);
    let mut groups = Vec::new();
    if status != workflow.status {
        let mut next = workflow.clone();
        next.status = status.clone();
        let mut group = Group::from(Action::status(next));
        group.actions.extend(made.map(Action::create));
        groups.push(group);
    }
    groups.extend(
        past(view, &status, deployed.as_deref()).into_iter().map(|run| Action::delete(run).into()),
    );
    Plan { groups, waiting }
}

/// Why the newest revision of a workflow has no run.
fn waiting(workflow: &Workflow, is_held_back: bool) -> Waiting {
    if is_held_back {
        Waiting::Suspended
    } else if workflow.spec.run_on_apply == Some(false) {
        Waiting::ByHand
    } else {
        Waiting::NoneLeft
    }
}

/// Whether there is nothing to do until the workflow or one of its runs changes: none of its runs
/// is in progress, or it is being deleted.
pub fn is_at_rest(view: &View<'_>, plan: &Plan) -> bool {
    let goes_on = view.runs.iter().any(|run| !run.status.phase.is_final());
    plan.groups.is_empty() && (view.workflow.is_deleting() || !goes_on)
}

/// Whether what the workflow means `now` is the same as at the last look. The stored revision may
/// be a hash by an earlier version of the program, of a text that is gone. A run of that revision
/// still has the text.
fn is_same(view: &View<'_>, now: &str) -> bool {
    let (spec, known) = (&view.workflow.spec, view.workflow.status.revision.as_str());
    let mut copies = view.runs.iter().filter_map(|run| run.status.workflow.as_deref());
    known == now
        || written_revision(spec) == known
        || copies.any(|copy| written_revision(copy) == known && revision(copy) == now)
}

/// The run of the newest revision, named with the next free number.
fn next_run(view: &View<'_>, status: &mut WorkflowStatus, revision: &str) -> WorkflowRun {
    let workflow = view.workflow;
    let name = loop {
        // The first free number after the last one.
        status.last_run_number = status.last_run_number.checked_add(1).unwrap_or(1);
        let number = status.last_run_number.to_string();
        let name = names::job_in_run(workflow.name(), &number);
        if !view.taken.contains(&name) {
            break name;
        }
    };
    let spec =
        WorkflowRunSpec { workflow: workflow.name().to_owned(), ..WorkflowRunSpec::default() };
    let mut run = WorkflowRun::new(workflow.namespace(), &name, spec)
        .with_labels([
            (labels::WORKFLOW, workflow.name()),
            (labels::REVISION, revision),
            (labels::RUN_NUMBER, &status.last_run_number.to_string()),
        ])
        .with_controller(workflow.as_controller());
    // A user who has applied a change finds its run by this label, even if another change follows
    // at once.
    let generation = (labels::GENERATION.to_owned(), workflow.generation().to_string());
    run.metadata.annotations = Some([generation].into());
    run
}

/// The newest run that the workflow has started by itself for its revision. If the revision is
/// unchanged but written differently now, for example by another version of the program, its run
/// still has the earlier text.
fn deployed<'a>(
    view: &View<'a>,
    status: &WorkflowStatus,
    has_changed: bool,
) -> Option<&'a WorkflowRun> {
    let known = &view.workflow.status;
    let is_its = |run: &&WorkflowRun| {
        let of = run.label(labels::REVISION);
        let is_of_before = || {
            of == Some(known.revision.as_str()) || known.deployed_run.as_deref() == Some(run.name())
        };
        of == Some(status.revision.as_str()) || !has_changed && is_of_before()
    };
    own_runs(view).filter(is_its).max_by_key(|run| run.place())
}

/// The same, if the run's label is a hash by an earlier version of the program, and the status no
/// longer names the run because another revision was held back and taken back since. What the run
/// has copied still tells its revision.
fn deployed_in_other_words<'a>(
    view: &View<'a>,
    status: &WorkflowStatus,
) -> Option<&'a WorkflowRun> {
    let is_of_now = |run: &&WorkflowRun| {
        let copy = run.status.workflow.as_deref().filter(|_| run.label(labels::REVISION).is_some());
        copy.is_some_and(|copy| revision(copy) == status.revision)
    };
    own_runs(view).filter(is_of_now).max_by_key(|run| run.place())
}

/// The runs that belong to the workflow.
fn own_runs<'a>(view: &View<'a>) -> impl Iterator<Item = &'a WorkflowRun> {
    let uid = view.workflow.uid();
    let is_own = move |run: &&WorkflowRun| run.controller().is_some_and(|owner| owner.uid == uid);
    view.runs.iter().copied().filter(is_own)
}

/// The newest run of the newest revision, whoever started it. A run that has not copied the
/// workflow yet will copy its current state. If the newest revision is held back, the status is not
/// about it: it has a run only if a user has started one since. The workflow may have earlier runs
/// of the same revision, from before another one came, but they say nothing about what should run
/// now.
fn newest<'a>(
    view: &View<'a>,
    status: &WorkflowStatus,
    is_held_back: bool,
) -> Option<&'a WorkflowRun> {
    let spec = &view.workflow.spec;
    let hashes = LazyCell::new(|| [revision(spec), written_revision(spec)]);
    let of_now = |run: &&WorkflowRun| {
        let of = &run.status.revision;
        let has_not_begun = of.is_empty() && !run.status.phase.is_final();
        let is_known = || {
            let is_made_for = run.label(labels::REVISION) == Some(status.revision.as_str());
            is_made_for || *of == status.revision
        };
        has_not_begun || !is_held_back && is_known() || hashes.contains(of)
    };
    let mut runs = view.runs.to_vec();
    runs.sort_by_key(|run| Reverse(run.place()));
    runs.truncate(if is_held_back { 1 } else { runs.len() });
    runs.into_iter().find(of_now)
}

/// Derives the workflow's state from the newest run of its newest revision.
fn summarize(
    view: &View<'_>,
    (latest, is_made, waiting): (Option<&WorkflowRun>, bool, Option<Waiting>),
    status: &mut WorkflowStatus,
) {
    let workflow = view.workflow;
    status.last_run = latest.map(|run| run.name().to_owned());
    status.phase = latest.map(|run| run.status.phase);
    let active = view.runs.iter().filter(|run| !run.status.phase.is_final()).count();
    status.active = u32::try_from(active + usize::from(is_made)).unwrap_or(u32::MAX);
    status.observed_generation = workflow.generation();
    // A run that waits for somebody to act is what users have to look at.
    let stalled_run = latest.filter(|run| !run.status.phase.is_final());
    let stalled_run = stalled_run.and_then(|run| stalled(&run.status.conditions));
    let standing = match status.phase {
        None => waiting.map_or(Standing::Ready, Waiting::standing),
        Some(RunPhase::Succeeded | RunPhase::Skipped) => Standing::Ready,
        Some(RunPhase::Failed | RunPhase::TimedOut | RunPhase::Cancelled) => Standing::Stalled,
        Some(RunPhase::Pending | RunPhase::Running | RunPhase::Suspended) => {
            if stalled_run.is_some() { Standing::Stalled } else { Standing::Reconciling }
        }
    };
    let reason = match (latest, status.phase) {
        (Some(run), _) if is_unschedulable(&run.status.conditions) => UNSCHEDULABLE.to_owned(),
        (_, Some(phase)) => stalled_run.map_or(phase.to_string(), |it| it.reason.clone()),
        (_, None) => waiting.map_or(NO_RUN, Waiting::reason).to_owned(),
    };
    let message = match latest {
        Some(run) => match &run.status.message {
            Some(why) => format!("run {}: {why}", run.name()),
            None => format!("run {}", run.name()),
        },
        None => waiting.map(|it| it.to_string()).unwrap_or_default(),
    };
    let at = (workflow.generation(), view.now);
    status.conditions = conditions(&status.conditions, standing, &reason, &message, at);
}

/// The workflow after its status or its next run turned out to be impossible to write: unchanged
/// except for the reason. `None` if it already says so.
pub(crate) fn unwritable(workflow: &Workflow, why: &str, now: Timestamp) -> Option<Workflow> {
    let mut next = workflow.clone();
    let message = format!("the workflow's status or its next run cannot be stored: {why}");
    let at = (workflow.generation(), now);
    let before = std::mem::take(&mut next.status.conditions);
    next.status.conditions = conditions(&before, Standing::Stalled, "NotWritable", &message, at);
    (next.status != workflow.status).then_some(next)
}

/// The finished runs beyond those that are kept, oldest first. Two are always kept: the one that
/// the workflow's phase comes from, and the one that it started by itself for its revision, with
/// which the next apply of the same revision is compared.
fn past<'a>(
    view: &View<'a>,
    status: &WorkflowStatus,
    deployed: Option<&str>,
) -> Vec<&'a WorkflowRun> {
    let history = view.workflow.spec.history.unwrap_or_default();
    let stays =
        |run: &WorkflowRun| [status.last_run.as_deref(), deployed].contains(&Some(run.name()));
    let mut past = Vec::new();
    for (succeeded, keep) in [(true, history.succeeded), (false, history.failed)] {
        let of_this = |run: &&'a WorkflowRun| {
            let phase = run.status.phase;
            phase.is_final() && !run.is_deleting() && (phase == RunPhase::Succeeded) == succeeded
        };
        let mut runs: Vec<&WorkflowRun> = own_runs(view).filter(of_this).collect();
        runs.sort_by_key(|run| (run.status.finished_at, run.created(), run.name()));
        let keep = usize::try_from(keep.unwrap_or(HISTORY)).unwrap_or(usize::MAX);
        runs.truncate(runs.len().saturating_sub(keep));
        past.extend(runs.into_iter().filter(|run| !stays(run)));
    }
    past
}
