//! The life of a task: every legal change of its parts, and the facts each was decided on.
//!
//! # Invariants
//!
//! * A change names the attempt (and binding) that it was decided on; if the task is elsewhere by
//!   now, it is refused.
//! * Asking twice is harmless: a change that is already in effect answers [`Step::Already`].
//! * The first terminal report of an attempt wins, and is final for it.
//! * Nothing that the completion record has is started again in the same run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::report::{MESSAGE_CHARS_MAX, shortened};
use super::{
    ATTEMPTS_KEPT, AVOIDED_NODES_MAX, Binding, Loss, Overrides, PAST_MESSAGE_CHARS_MAX,
    PastAttempt, Refusals, ReportState, Stop, StopReason, Task, TaskState, TaskStatus,
    Unschedulable, reason,
};
use crate::placement::NODE_LEASE_TTL;

/// A change of one of a task's parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TaskChange {
    /// The scheduler: this attempt runs on this node.
    Bind {
        /// The node.
        node: String,
    },
    /// The scheduler: no node for this attempt.
    Unschedulable {
        /// Why: `0 of 3 nodes: ...`.
        message: String,
    },
    /// The agent: this binding does not fit here after all, or cannot be started here any more, and
    /// nothing of it ever ran.
    Refuse {
        /// The binding's number.
        binding: u32,
        /// Why.
        message: String,
    },
    /// The agent: this is what I see.
    Report(Box<Report>),
    /// Anyone: this attempt is to end.
    Evict {
        /// Why.
        reason: StopReason,
        /// What happened, where the reason does not say all: see [`Stop::message`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The node controller: the node is lost, a lease's life after it was last heard.
    Lose,
    /// The node controller: the node is lost, and more is to be said of that. An older apiserver does
    /// not know this, so [`TaskChange::Lose`] is sent where it says all.
    LoseNode {
        /// When the node was last heard.
        silent_since: Timestamp,
        /// Whether the task waits for the node, however long that takes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        waits: bool,
    },
    /// The node controller: the node is heard again.
    Recover,
    /// The node controller: `after` has passed.
    Replaceable,
    /// The owner: the next attempt.
    Retry(Retry),
    /// The owner: the task's part in run `run`, with what that run wants of it.
    Rerun(Box<Rerun>),
    /// The owner: what is wanted of the task in this run, before its attempt is bound.
    Amend(Box<Amend>),
    /// The owner: the completion record of this run has its end. Goes with that write in one group.
    Record,
}

impl TaskChange {
    /// The end of an attempt, for a reason that says all.
    pub fn evict(reason: StopReason) -> Self {
        Self::Evict { reason, message: None }
    }
}

/// What an agent saw of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// The binding's number.
    pub binding: u32,
    /// The start of the agent that speaks.
    pub boot_id: String,
    /// What it saw.
    pub state: ReportState,
    /// Whether it is ready to serve.
    #[serde(default)]
    pub ready: bool,
    /// Restarts in place.
    #[serde(default)]
    pub restarts: u32,
    /// How the process ended.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Why it ended, in one word.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why it ended, or what is in the way of its start or its stop, as a sentence.
    #[serde(default)]
    pub message: Option<String>,
    /// When the container started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Host ports by name.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
}

/// The next attempt of a task in the same run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Whether the attempt that ended counts as a failure.
    pub counts: bool,
    /// The next attempt is not bound before.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// A node that the scheduler would rather not use again.
    #[serde(default)]
    pub avoid: Option<String>,
}

/// A task's part in a new run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rerun {
    /// The run.
    pub run: u32,
    /// What it runs now.
    pub template: String,
    /// What of it is this task's own.
    #[serde(default)]
    pub overrides: Overrides,
    /// Its index in the new run.
    pub index: u32,
    /// How many tasks the new run has.
    pub count: u32,
    /// Its priority.
    #[serde(default)]
    pub priority: i32,
}

/// What is wanted of a task, changed in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amend {
    /// What it runs now.
    pub template: String,
    /// How many tasks the run has now.
    pub count: u32,
    /// Its priority.
    #[serde(default)]
    pub priority: i32,
    /// What of the template is this task's own.
    #[serde(default)]
    pub overrides: Overrides,
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The task as it is to be stored.
    Changed(Box<Task>),
    /// It is in effect already: nothing is to be written.
    Already,
}

/// Why a change is not made: the task is elsewhere by now. A fragment that reads after
/// "refused: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// Applies `change`, decided on `attempt`, to `task`. Guards on anything but the task itself (the
/// leader, the completion record, the node's lease) are the apiserver's.
pub fn apply(
    task: &Task,
    attempt: u32,
    change: &TaskChange,
    now: Timestamp,
) -> Result<Step, Refusal> {
    if let Some(step) = already_in_effect(task, attempt, change) {
        return Ok(step);
    }
    if attempt != task.spec.attempt {
        return refuse(format!(
            "attempt {attempt} is over; the current one is {}",
            task.spec.attempt
        ));
    }
    let mut next = task.clone();
    match change {
        TaskChange::Bind { node } => bind(task, &mut next, node, now)?,
        TaskChange::Unschedulable { message } => {
            require(matches!(task.state(), TaskState::Pending), task, "is not pending")?;
            next.spec.unschedulable = Some(Unschedulable { attempt, message: message.clone() });
        }
        TaskChange::Refuse { binding, message } => {
            refuse_binding(task, &mut next, (*binding, message), now)?
        }
        TaskChange::Report(report) => self::report(task, &mut next, report)?,
        TaskChange::Evict { reason, message } => {
            require(!task.has_ended(), task, "has ended")?;
            let message = message.as_deref().map(|text| shortened(text, PAST_MESSAGE_CHARS_MAX));
            next.spec.stop = Some(Stop { attempt, reason: *reason, message, at: now });
        }
        TaskChange::Lose => {
            let heard = now.saturating_sub(NODE_LEASE_TTL.signed()).unwrap_or(now);
            lose(task, &mut next, (heard, false))?;
        }
        TaskChange::LoseNode { silent_since, waits } => {
            lose(task, &mut next, (*silent_since.min(&now), *waits))?;
        }
        TaskChange::Recover => {
            require(!task.has_ended(), task, "has ended")?;
            not_recorded(task)?;
            next.status.loss = None;
        }
        TaskChange::Replaceable => match next.status.loss.as_mut() {
            Some(loss) if loss.attempt == attempt && !task.has_ended() => loss.replaceable = true,
            _ => return refuse("the task is not lost"),
        },
        TaskChange::Retry(retry) => self::retry(task, &mut next, retry)?,
        TaskChange::Rerun(rerun) => self::rerun(task, &mut next, rerun)?,
        TaskChange::Amend(amend) => {
            require(matches!(task.state(), TaskState::Pending), task, "is not pending")?;
            next.spec.template.clone_from(&amend.template);
            next.spec.count = amend.count;
            next.spec.priority = amend.priority;
            next.spec.overrides = amend.overrides.clone();
        }
        TaskChange::Record => {
            // A lost attempt that may be replaced has ended for its owner, who may give it up.
            let lost = matches!(task.state(), TaskState::Lost { replaceable: true, .. });
            require(task.has_ended() || lost, task, "has not ended")?;
            next.spec.recorded = Some(task.spec.run);
        }
    }
    Ok(Step::Changed(Box::new(next)))
}

fn require(holds: bool, task: &Task, otherwise: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { refuse(format!("the task {otherwise}: it is {}", task.phase())) }
}

fn not_recorded(task: &Task) -> Result<(), Refusal> {
    if task.is_recorded() { refuse("its end is already recorded") } else { Ok(()) }
}

/// Whether the change was made before: its writer did not hear the answer and asks again.
fn already_in_effect(task: &Task, attempt: u32, change: &TaskChange) -> Option<Step> {
    let current = attempt == task.spec.attempt;
    let same = match change {
        TaskChange::Bind { node } => current && task.node() == Some(node),
        TaskChange::Unschedulable { message } => {
            let now = task.spec.unschedulable.as_ref();
            current && now.is_some_and(|now| now.attempt == attempt && now.message == *message)
        }
        // The first reason stays.
        TaskChange::Evict { .. } => current && task.stop().is_some(),
        TaskChange::Lose | TaskChange::LoseNode { .. } => current && task.loss().is_some(),
        TaskChange::Replaceable => current && task.loss().is_some_and(|loss| loss.replaceable),
        TaskChange::Retry(_) => is_next(task, attempt),
        TaskChange::Rerun(rerun) => is_next(task, attempt) && task.spec.run == rerun.run,
        TaskChange::Record => current && task.is_recorded(),
        TaskChange::Amend(amend) => {
            current
                && task.spec.template == amend.template
                && task.spec.count == amend.count
                && task.spec.priority == amend.priority
                && task.spec.overrides == amend.overrides
        }
        TaskChange::Report(report) => current && is_same_report(task, report),
        TaskChange::Refuse { binding, .. } => {
            let last = task.spec.binding.as_ref().filter(|last| last.node.is_none());
            current && last.is_some_and(|it| it.attempt == attempt && it.number == *binding)
        }
        TaskChange::Recover => current && task.loss().is_none(),
    };
    same.then_some(Step::Already)
}

/// Whether the task's attempt is the one that followed `attempt`: it may have left numbers out.
fn is_next(task: &Task, attempt: u32) -> bool {
    let last = task.status.attempts.last().map(|past| past.attempt);
    task.spec.attempt > attempt && last == Some(attempt)
}

fn is_same_report(task: &Task, report: &Report) -> bool {
    let mut reported = task.clone();
    set_report(&mut reported, report);
    task.report() == Some(report.state) && reported.status == task.status
}

fn bind(task: &Task, next: &mut Task, node: &str, now: Timestamp) -> Result<(), Refusal> {
    require(matches!(task.state(), TaskState::Pending), task, "is not pending")?;
    if task.metadata.deletion_timestamp.is_some() {
        return refuse("the task is being deleted");
    }
    not_recorded(task)?;
    let before = task.spec.binding.as_ref().map_or(0, |binding| binding.number);
    let Some(number) = before.checked_add(1) else {
        return refuse("its binding number cannot grow any further");
    };
    let attempt = task.spec.attempt;
    next.spec.binding = Some(Binding { node: Some(node.to_owned()), attempt, number, at: now });
    next.spec.unschedulable = None;
    Ok(())
}

fn refuse_binding(
    task: &Task,
    next: &mut Task,
    (number, message): (u32, &str),
    now: Timestamp,
) -> Result<(), Refusal> {
    is_bound_as(task, number)?;
    match task.report() {
        None => (),
        // What was being started may turn out to have no place: only what ran has begun.
        Some(ReportState::Starting) if task.status.restarts == 0 => forget_report(next),
        Some(_) => return refuse("the task was started"),
    }
    require(!task.has_ended(), task, "has ended")?;
    not_recorded(task)?;
    if let Some(binding) = next.spec.binding.as_mut() {
        binding.node = None;
    }
    // The agent speaks again; and the next node is not the one that was lost.
    next.status.loss = None;
    let (attempt, node) = (task.spec.attempt, task.node().unwrap_or_default());
    let message = shortened(message, MESSAGE_CHARS_MAX);
    next.spec.refusals = Some(Refusals::and(task.refusals(), attempt, (node, &message), now));
    let message = next.last_refusal().unwrap_or_default();
    next.spec.unschedulable = Some(Unschedulable { attempt, message });
    Ok(())
}

fn is_bound_as(task: &Task, number: u32) -> Result<(), Refusal> {
    match task.binding() {
        Some(binding) if binding.number == number => Ok(()),
        _ => refuse(format!("binding {number} is not the current one")),
    }
}

fn report(task: &Task, next: &mut Task, report: &Report) -> Result<(), Refusal> {
    is_bound_as(task, report.binding)?;
    // Not only by a report: a lost attempt that nobody wants any more has ended, too, and a late
    // end does not change that.
    if task.has_ended() {
        return refuse(format!("the task has ended: it is {}", task.phase()));
    }
    if report.state == ReportState::Starting && task.report() == Some(ReportState::Running) {
        return refuse("the task is already running");
    }
    not_recorded(task)?;
    set_report(next, report);
    Ok(())
}

/// Nothing is said of the attempt any more. What is said of earlier ones stays.
fn forget_report(task: &mut Task) {
    let status = std::mem::take(&mut task.status);
    task.status = TaskStatus { attempts: status.attempts, ..TaskStatus::default() };
}

fn set_report(task: &mut Task, report: &Report) {
    // Cut rather than refused: an agent of an older version must get rid of its reports, too.
    let report = report.clone().bounded();
    let node = task.node().map(str::to_owned);
    let status = &mut task.status;
    status.attempt = task.spec.attempt;
    status.binding = report.binding;
    status.boot_id = report.boot_id;
    status.state = Some(report.state);
    status.node_name = node;
    status.ready = report.ready;
    status.restarts = report.restarts;
    status.exit_code = report.exit_code;
    status.reason = report.reason;
    status.message = report.message;
    status.started_at = report.started_at;
    status.finished_at = report.finished_at;
    status.ports = report.ports;
}

fn retry(task: &Task, next: &mut Task, retry: &Retry) -> Result<(), Refusal> {
    not_recorded(task)?;
    if task.stop().is_some_and(|stop| stop.reason.is_for_good()) {
        return refuse("the task was stopped for good");
    }
    let may = match task.state() {
        TaskState::Failed { .. } | TaskState::TimedOut | TaskState::Cancelled { .. } => true,
        TaskState::Lost { replaceable, .. } => replaceable,
        TaskState::Pending
        | TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. }
        | TaskState::Succeeded => false,
    };
    require(may, task, "cannot be tried again")?;
    next.spec.failures = task.spec.failures.saturating_add(retry.counts.into());
    next.spec.not_before = retry.not_before;
    if let Some(node) = &retry.avoid {
        // The last one last: where all that would do are avoided, that one is the worst of them.
        next.spec.avoid.retain(|before| before != node);
        next.spec.avoid.push(node.clone());
        let surplus = next.spec.avoid.len().saturating_sub(AVOIDED_NODES_MAX);
        next.spec.avoid.drain(..surplus);
    }
    open_attempt(task, next)
}

/// The node of an attempt is lost, and was last heard at this time; the task may wait for it.
fn lose(task: &Task, next: &mut Task, (heard, waits): (Timestamp, bool)) -> Result<(), Refusal> {
    require(task.node().is_some() && !task.has_ended(), task, "runs nowhere")?;
    // It was given to the node while nobody knew that this was silent.
    let since = task.binding().map_or(heard, |binding| heard.max(binding.at));
    next.status.loss = Some(Loss { attempt: task.spec.attempt, since, replaceable: false, waits });
    Ok(())
}

fn rerun(task: &Task, next: &mut Task, rerun: &Rerun) -> Result<(), Refusal> {
    if rerun.run <= task.spec.run {
        return refuse(format!("the task is already in run {}", task.spec.run));
    }
    let may = task.has_ended() || matches!(task.state(), TaskState::Lost { replaceable: true, .. });
    require(may, task, "has not ended")?;
    next.spec.run = rerun.run;
    next.spec.template.clone_from(&rerun.template);
    next.spec.overrides = rerun.overrides.clone();
    next.spec.index = rerun.index;
    next.spec.count = rerun.count;
    next.spec.priority = rerun.priority;
    next.spec.failures = 0;
    next.spec.not_before = None;
    next.spec.avoid.clear();
    next.spec.recorded = None;
    open_attempt(task, next)
}

/// Why an attempt ended, in one word: what its agent said, or what was done to it.
fn reason_of_end(task: &Task) -> Option<&str> {
    match task.state() {
        TaskState::Lost { .. } => Some(reason::NODE_LOST),
        TaskState::Cancelled { reason } => reason.word_of_end(),
        TaskState::TimedOut => task.status.reason.as_deref().or(Some(reason::TIMEOUT)),
        TaskState::Failed { reason, .. } => reason,
        TaskState::Pending
        | TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. }
        | TaskState::Succeeded => None,
    }
}

/// Opens the next attempt and remembers how the last one ended.
fn open_attempt(task: &Task, next: &mut Task) -> Result<(), Refusal> {
    let Some(following) = task.spec.attempt.checked_add(1) else {
        return refuse("its attempt number cannot grow any further");
    };
    // A report of an earlier attempt says nothing of this one.
    let unreported = TaskStatus::default();
    let status = if task.report().is_some() { &task.status } else { &unreported };
    // Of a stopped attempt, what stopped it says more than its agent.
    let stopped = match task.state() {
        TaskState::Cancelled { .. } => task.stop().map(Stop::words),
        TaskState::Pending
        | TaskState::Bound { .. }
        | TaskState::Starting { .. }
        | TaskState::Running { .. }
        | TaskState::Stopping { .. }
        | TaskState::Succeeded
        | TaskState::Failed { .. }
        | TaskState::TimedOut
        | TaskState::Lost { .. } => None,
    };
    let message = stopped.as_deref().or(status.message.as_deref());
    let past = PastAttempt {
        attempt: task.spec.attempt,
        run: task.spec.run,
        phase: task.phase(),
        node_name: task.node().map(str::to_owned),
        exit_code: status.exit_code,
        reason: reason_of_end(task).map(str::to_owned),
        message: message.map(|message| shortened(message, PAST_MESSAGE_CHARS_MAX)),
        started_at: status.started_at,
        finished_at: status.finished_at,
    };
    next.status.attempts.push(past);
    let surplus = next.status.attempts.len().saturating_sub(ATTEMPTS_KEPT);
    next.status.attempts.drain(..surplus);
    next.spec.refusals = None;
    let least = next.spec.next_attempt.take().unwrap_or_default();
    next.spec.attempt = least.max(following);
    Ok(())
}
