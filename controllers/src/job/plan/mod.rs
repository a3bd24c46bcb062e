//! Decides what a job needs next.
//!
//! # Invariants
//!
//! * At most one open attempt per index. A task's name is stable; a create is guarded on the
//!   completion record, a retry on (uid, attempt), so a decision made on a stale cache is refused.
//! * What the record says is done stays done, whatever the cache of tasks says.
//! * The counts of a status always add up to its total.
//! * A task of another owner is never adopted.
//! * On the state that its own actions lead to, `plan` returns nothing (it is a fixpoint).
//! * The cost is that of the task objects and the chunks of the record, not of all indexes.

mod by_role;
mod cause;
mod ending;
mod fold;
mod large;
mod objects;
mod outcome;
mod record;
mod retention;
mod status;
mod steps;
mod waits;
mod wanted_tasks;

use std::collections::BTreeMap;
use std::fmt;

use api::job::change::Run;
use api::job::{JobPhase, JobStatus};
use api::object::Kind as _;
use api::size::{ADDED_BYTES, OBJECT_BYTES_MAX, json_bytes};
use api::{CompletionChunk, Job, PartitionSet, Task, TaskTemplate, Timestamp};

use crate::action::{Action, Group};
use crate::notice::Notice;
use crate::packing::{self, Parcel};
use by_role::TasksByRole;
use record::Record;
use wanted_tasks::{Known, WantedTasks};

pub(crate) use objects::template;

/// Everything that the decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its completion record: chunks of any run.
    pub chunks: &'a [&'a CompletionChunk],
    /// The tasks that it controls (by uid), in any order.
    pub tasks: &'a [&'a Task],
    /// The object with the name of the job's TaskTemplate: see [`template_name`].
    pub template: Option<&'a TaskTemplate>,
    /// The names that the job's tasks may need and that tasks of other owners have.
    pub taken: &'a BTreeMap<String, Holder>,
    /// The set that it targets.
    pub partition_set: Option<&'a PartitionSet>,
    /// The time.
    pub now: Timestamp,
}

/// The owner of a task whose name the job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Somebody else, who may keep it.
    Another,
    /// A deleted job of the same name: the name is free once the task has stopped.
    Predecessor,
}

/// What to do next about a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The writes. Each group happens as a whole or not at all, independently of the others.
    pub groups: Vec<Group>,
    /// A status in which only counts have changed. It may be written a little later.
    pub status: Option<Box<Job>>,
    /// Why nothing more is done now. All of this shows in the status. Problems that somebody has to
    /// solve, and names that will become free, are in its message and conditions; limits are in
    /// what its tasks wait for; a suspension is in its phase, and tasks that have not ended are in
    /// its counts.
    pub waiting: Vec<Waiting>,
    /// Names that the job will want for its tasks, if others had some of them a moment ago: whoever
    /// plans looks for them, and plans again with those that are still taken.
    pub looked_for: Vec<String>,
    /// When to plan again even if nothing has changed.
    pub wake_at: Option<Timestamp>,
    /// What to report to users once the writes have succeeded.
    pub notices: Vec<Notice>,
}

/// Why nothing more is done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The job is being deleted, and its tasks are left to the garbage collector.
    Deletion,
    /// Its set does not exist.
    NoPartitionSet {
        /// The set.
        name: String,
    },
    /// Its set has no such partition.
    NoPartition {
        /// The set.
        set: String,
        /// The partition.
        partition: String,
    },
    /// The state model of its set has none of the states that it targets.
    NoState {
        /// The set.
        set: String,
        /// The states.
        states: Vec<String>,
    },
    /// An object of another owner has the name of one of its objects.
    NameTaken {
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A task of a deleted job of the same name has the name of one of its tasks, until it has
    /// stopped.
    Predecessor {
        /// The task.
        name: String,
    },
    /// Two of its tasks would have the same name.
    SameName {
        /// The name.
        name: String,
    },
    /// Some write that it needs can never succeed.
    Unwritable {
        /// The reason given by the apiserver.
        why: String,
    },
    /// It is suspended.
    Suspended,
    /// As many tasks are open as its parallelism allows.
    Parallelism {
        /// The number of open tasks that is allowed.
        limit: u32,
    },
    /// As many task objects are open as a job of its size keeps.
    Window {
        /// The number of open tasks that is allowed.
        limit: u32,
    },
    /// Tasks have not ended yet.
    Open {
        /// How many.
        tasks: u32,
    },
}

impl Waiting {
    /// Whether the run may have further tasks that are not known while this lasts.
    fn hides_tasks(&self) -> bool {
        match self {
            Waiting::NoPartitionSet { .. }
            | Waiting::NoPartition { .. }
            | Waiting::SameName { .. } => true,
            Waiting::Deletion
            | Waiting::NoState { .. }
            | Waiting::NameTaken { .. }
            | Waiting::Predecessor { .. }
            | Waiting::Unwritable { .. }
            | Waiting::Suspended
            | Waiting::Parallelism { .. }
            | Waiting::Window { .. }
            | Waiting::Open { .. } => false,
        }
    }

    /// How many tasks may be open at once, if this keeps others from being created.
    fn limit(&self) -> Option<u32> {
        match self {
            Waiting::Parallelism { limit } | Waiting::Window { limit } => Some(*limit),
            Waiting::Deletion
            | Waiting::NoPartitionSet { .. }
            | Waiting::NoPartition { .. }
            | Waiting::NoState { .. }
            | Waiting::NameTaken { .. }
            | Waiting::Predecessor { .. }
            | Waiting::SameName { .. }
            | Waiting::Unwritable { .. }
            | Waiting::Suspended
            | Waiting::Open { .. } => None,
        }
    }

    /// Whether somebody has to do something.
    pub fn is_stalled(&self) -> bool {
        match self {
            Waiting::NoPartitionSet { .. }
            | Waiting::NoPartition { .. }
            | Waiting::NoState { .. }
            | Waiting::NameTaken { .. }
            | Waiting::SameName { .. }
            | Waiting::Unwritable { .. } => true,
            Waiting::Deletion
            | Waiting::Predecessor { .. }
            | Waiting::Suspended
            | Waiting::Parallelism { .. }
            | Waiting::Window { .. }
            | Waiting::Open { .. } => false,
        }
    }

    /// The reason, in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Waiting::Deletion => "Deletion",
            Waiting::Predecessor { .. } => "PredecessorStopping",
            Waiting::NoPartitionSet { .. }
            | Waiting::NoPartition { .. }
            | Waiting::NoState { .. } => "TargetMissing",
            Waiting::NameTaken { .. } | Waiting::SameName { .. } => "NameTaken",
            Waiting::Unwritable { .. } => "NotWritable",
            Waiting::Suspended => "Suspended",
            Waiting::Parallelism { .. } => "Parallelism",
            Waiting::Window { .. } => "Window",
            Waiting::Open { .. } => "Running",
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Deletion => f.write_str("the job is being deleted"),
            Waiting::NoPartitionSet { name } => write!(f, "PartitionSet {name} does not exist"),
            Waiting::NoPartition { set, partition } => {
                write!(f, "PartitionSet {set} has no partition {partition}")
            }
            Waiting::NoState { set, states } => {
                write!(f, "no partition of {set} can be in state {}", states.join(" or "))
            }
            Waiting::NameTaken { kind, name } => {
                write!(f, "{kind} {name} exists and belongs to another owner")
            }
            Waiting::Predecessor { name } => {
                write!(f, "waits for task {name} of the deleted job of this name to stop")
            }
            Waiting::SameName { name } => write!(f, "two tasks would have the name {name}"),
            Waiting::Unwritable { why } => write!(f, "the job's next step cannot be stored: {why}"),
            Waiting::Suspended => f.write_str("the job is suspended"),
            Waiting::Parallelism { limit } => write!(f, "parallelism is {limit}"),
            Waiting::Window { limit } => {
                write!(f, "{limit} tasks exist at once, which is the maximum")
            }
            Waiting::Open { tasks } => write!(f, "{tasks} tasks have not ended"),
        }
    }
}

/// How many operations of one kind a plan asks for at most; the next plan asks for the rest.
const ROUND_OPS_MAX: usize = 1_000;
/// The maximum number of operations in a group. This leaves room in the transaction for the guards
/// and for one operation that goes with them, and ten groups fit a batch.
const GROUP_OPS: usize = 99;

/// How the job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It goes on as usual.
    Usual,
    /// Nothing is started, and running tasks are stopped, to be started again later.
    Suspended,
    /// Nothing is started, and running tasks are stopped for good.
    Ending,
}

/// The name of the TaskTemplate that a job's tasks use now.
pub fn template_name(job: &Job) -> String {
    template(job).name().to_owned()
}

/// Decides what to do next about the job.
pub fn plan(view: &View<'_>) -> Plan {
    let job = view.job;
    // The garbage collector stops and removes the tasks. A plan made now would start them again.
    if job.is_deleting() {
        return Plan { waiting: vec![Waiting::Deletion], ..Plan::default() };
    }
    let run = Run::of(job);
    let known = Known::of(job, &run);
    let (wanted_tasks, missing) = WantedTasks::of(job, view.partition_set, &known);
    // The status could not be written, and with it nothing else of the run.
    if let Some(why) = outgrown(job, &wanted_tasks, known.indexes) {
        return failed(view, &why);
    }
    let template = template(job);
    // A run that has ended no longer needs its set.
    let is_over = !run.opens && job.status.phase.is_final();
    let missing = missing.filter(|it| !is_over || !matches!(it, Waiting::NoPartitionSet { .. }));
    let obstacle = missing.or_else(|| obstacle(view, &wanted_tasks, &template));
    let record = Record::of(view.chunks, run.number);
    let by_role = TasksByRole::of(view, &run, &wanted_tasks, &record);
    let ending = ending::ending(view, &run, &wanted_tasks, &record, &by_role);
    let course = match (&ending, &obstacle) {
        // A run that ends does so even if it is suspended or cannot create tasks.
        (Some(_), _) => Course::Ending,
        (None, _) if job.spec.is_suspended() => Course::Suspended,
        // A job that is cancelled or suspended goes on without the missing objects. Otherwise a
        // workflow run could not end until somebody creates them.
        (None, Some(obstacle)) if run.opens => return blocked(view, obstacle.clone()),
        (None, _) => Course::Usual,
    };
    act(&PlanInput { view, run, wanted_tasks, record, by_role, course, ending, template, obstacle })
}

/// What keeps the job from creating tasks although it is known which ones.
fn obstacle(
    view: &View<'_>,
    wanted_tasks: &WantedTasks,
    template: &TaskTemplate,
) -> Option<Waiting> {
    if let Some(name) = wanted_tasks.clashes.first() {
        return Some(Waiting::SameName { name: name.clone() });
    }
    if let (Some(target), Some(set)) = (&view.job.spec.target, view.partition_set)
        && !set.may_be_in(&target.states)
    {
        let set = target.partition_set.clone();
        return Some(Waiting::NoState { set, states: target.states.clone() });
    }
    let is_taken = view.template.is_some_and(|found| !is_ours(view.job, found));
    let name = template.name().to_owned();
    is_taken.then_some(Waiting::NameTaken { kind: "TaskTemplate", name })
}

/// Whether the job has become too large to store what each index stands for, and by how much. When
/// a manifest is applied, the apiserver checks this. When a set gets more partitions, it can only
/// be noticed here.
fn outgrown(job: &Job, wanted_tasks: &WantedTasks, before: &[String]) -> Option<String> {
    if wanted_tasks.indexes.len() <= before.len() {
        return None;
    }
    let mut next = job.clone();
    (next.status.indexes, next.status.parts) =
        (wanted_tasks.indexes.clone(), wanted_tasks.parts.clone());
    let bytes = json_bytes(&next) + ADDED_BYTES;
    (bytes > OBJECT_BYTES_MAX).then(|| {
        format!(
            "the job and the names of its {} tasks take {bytes} bytes, {} more than can be stored",
            wanted_tasks.indexes.len(),
            bytes - OBJECT_BYTES_MAX
        )
    })
}

/// The plan for a job with a write that can never succeed: its run fails, with the reason.
fn failed(view: &View<'_>, why: &str) -> Plan {
    let Some(job) = unwritable(view.job, why, view.now) else { return Plan::default() };
    let message = job.status.message.clone().unwrap_or_default();
    let notices = vec![Notice { warning: true, reason: "NotWritable", message }];
    Plan { groups: vec![Action::status(job).into()], notices, ..Plan::default() }
}

/// The input of a plan, with everything that is derived from it.
#[derive(Debug)]
struct PlanInput<'a> {
    view: &'a View<'a>,
    run: Run,
    wanted_tasks: WantedTasks,
    record: Record<'a>,
    by_role: TasksByRole<'a>,
    course: Course,
    /// Whether and why the run ends before its last task has ended.
    ending: Option<ending::Ending>,
    template: TaskTemplate,
    /// What keeps it from creating tasks.
    obstacle: Option<Waiting>,
}

fn act(input: &PlanInput<'_>) -> Plan {
    let mut plan = Plan::default();
    let steps = steps::steps(input, &mut plan);
    let mut folds = fold::groups(input);
    // The last group may also contain the status, if there is room for both.
    let before_the_end = match folds.as_slice() {
        [last] if !fold::leaves_room_for_status(input, last) => 2,
        folds => folds.len(),
    };
    let next = status::next(input, before_the_end, &plan.waiting);
    let before = &input.view.job.status;
    let write = (next != *before).then(|| {
        let mut job = input.view.job.clone();
        job.status = next.clone();
        job
    });
    plan.notices.extend(status::notices(input, &next));
    match write {
        Some(job) if input.run.opens => {
            // The status of a new run is written before anything else of the run. The group also
            // contains as many of the first tasks as fit. The event of this write leads to a plan
            // that creates the others.
            let first = steps.into_iter().next().into_iter().flat_map(|group| group.actions);
            let status = Action::status(job).into();
            plan.groups = vec![packing::beside(status, first.map(Parcel::from), GROUP_OPS + 1)];
        }
        // The run ends in the same write as its last tasks are recorded, so that nobody sees one
        // without the other.
        Some(job) if next.phase.is_final() && folds.len() <= 1 => {
            let mut last = folds.pop().unwrap_or_default();
            last.actions.push(Action::status(job));
            plan.groups = vec![last];
            plan.groups.extend(steps);
        }
        // The reason for the ending may be gone once the record has it, so the ending is stored
        // first.
        Some(job) if next.ending != before.ending => {
            plan.groups = vec![Action::status(job).into()];
        }
        Some(job) if status::is_urgent(before, &next) => {
            plan.groups = vec![Action::status(job).into()];
            plan.groups.extend(folds);
            plan.groups.extend(steps);
        }
        write => {
            plan.status = write.map(Box::new);
            plan.groups = folds;
            plan.groups.extend(steps);
        }
    }
    let removals = retention::removals(input);
    // A task that this plan changes must not be removed by the same plan.
    let busy = input.run.opens || next.ending != before.ending;
    if !busy {
        plan.groups.extend(removals.groups);
        plan.notices.extend(removals.notice);
    }
    let deadline = ending::deadline(input.view.job, input.view.now);
    let deadline = deadline.filter(|at| *at > input.view.now);
    // A chunk causes no event. So the plan that marks the tasks as recorded has to be asked for
    // here.
    let untold = plan.groups.iter().any(fold::leaves_tasks_untold).then_some(input.view.now);
    plan.wake_at = [removals.wake_at, deadline, untold].into_iter().flatten().min();
    plan
}

/// Whether there is nothing to do for the job until something changes or the time in `plan` comes:
/// its run has ended or it is being deleted, and it waits for nothing. A job that reports that it
/// waits for something is also looked at periodically.
pub fn is_at_rest(job: &Job, plan: &Plan) -> bool {
    let asks_nothing = plan.groups.is_empty() && plan.status.is_none();
    let is_over = job.status.phase.is_final() && plan.waiting.is_empty();
    asks_nothing && (job.is_deleting() || is_over)
}

/// The job after a write that it needs turned out to be impossible: its run has failed, with the
/// reason. `None` if its status already says so.
pub(crate) fn unwritable(job: &Job, why: &str, now: Timestamp) -> Option<Job> {
    let run = Run::of(job);
    if job.status.ending.is_some() && !run.opens {
        return None;
    }
    let mut job = job.clone();
    if run.opens {
        let conditions = std::mem::take(&mut job.status.conditions);
        // Only what certainly fits. What is missing is added by the next plan if possible.
        job.status = JobStatus { run: run.number, revision: run.revision, ..JobStatus::default() };
        job.status.conditions = conditions;
    }
    let waiting = Waiting::Unwritable { why: why.to_owned() };
    status::say(&mut job, &waiting, now);
    job.status.ending = Some(JobPhase::Failed);
    job.status.message = Some(waiting.to_string());
    Some(job)
}

/// The plan for a job whose run cannot begin: it gives the reason.
fn blocked(view: &View<'_>, waiting: Waiting) -> Plan {
    let mut job = view.job.clone();
    status::say(&mut job, &waiting, view.now);
    let changed = job.status != view.job.status;
    let groups = changed.then(|| Action::status(job).into()).into_iter().collect();
    Plan { groups, waiting: vec![waiting], ..Plan::default() }
}

fn is_ours(job: &Job, template: &TaskTemplate) -> bool {
    template.controller().is_some_and(|owner| owner.uid == job.uid())
}
