//! The life of a task: every legal change of its parts, with the facts that each change depends on.
//!
//! # Invariants
//!
//! * A change names the attempt (and the binding) that it was decided on. If the task has gone on
//!   since, it is refused.
//! * Sending a change twice is harmless: one that is in effect already answers [`Applied::Already`].
//! * The first final report of an attempt wins and is never replaced.
//! * What is in the completion record is not started again in the same run.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::report::{MESSAGE_CHARS_MAX, Report, shortened};
use super::{
    ATTEMPTS_KEPT, AVOIDED_NODES_MAX, Binding, Loss, Overrides, PAST_MESSAGE_CHARS_MAX,
    PastAttempt, Refusals, ReportState, Stop, StopReason, Task, TaskState, TaskStatus,
    Unschedulable, reason,
};
use crate::placement::NODE_LEASE_TTL;

/// A change of one of a task's parts. The sender is named first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TaskChange {
    /// The scheduler: the attempt is to run on this node.
    Bind {
        /// Name of the node.
        node: String,
    },
    /// The scheduler: no node fits the attempt.
    Unschedulable {
        /// The reasons: `0 of 3 nodes: ...`.
        message: String,
    },
    /// The agent returns the binding: it does not fit the node after all, or can no longer be
    /// started there, and nothing of it ever ran.
    Refuse {
        /// Number of the binding.
        binding: u32,
        /// The reason.
        message: String,
    },
    /// The agent: an observation.
    Report(Box<Report>),
    /// Anyone: the attempt is to be stopped.
    Evict {
        /// The reason.
        reason: StopReason,
        /// Details, where the reason is not enough: see [`Stop::message`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The node controller: the node is lost, and was last heard from one lease time ago.
    Lose,
    /// The node controller: the node is lost, with more details. An older apiserver does not know
    /// this change, so [`TaskChange::Lose`] is sent where that is enough.
    LoseNode {
        /// When the node was last heard from.
        silent_since: Timestamp,
        /// Whether the task waits for the node, however long it takes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        waits: bool,
    },
    /// The node controller: the node is heard from again.
    Recover,
    /// The node controller: `onNodeLoss.after` has passed.
    Replaceable,
    /// The owner: open the next attempt.
    Retry(Retry),
    /// The owner: the task takes part in a new run.
    Rerun(Box<Rerun>),
    /// The owner: what the task is to run has changed, and its attempt has not been bound yet.
    Amend(Box<Amend>),
    /// The owner: the completion record of this run has its end. Sent in one group with that write.
    Record,
}

impl TaskChange {
    /// A stop for a reason that needs no details.
    pub fn evict(reason: StopReason) -> Self {
        Self::Evict { reason, message: None }
    }
}

/// The next attempt of a task in the same run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Whether the attempt that ended counts as a failure.
    pub counts: bool,
    /// Earliest time at which the next attempt is bound.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// A node that the scheduler should avoid.
    #[serde(default)]
    pub avoid: Option<String>,
    /// Digest of the image that it is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Box<str>>,
}

/// The task in a new run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rerun {
    /// Number of the run.
    pub run: u32,
    /// Name of the TaskTemplate that it runs.
    pub template: String,
    /// What differs from the template for this task.
    #[serde(default)]
    pub overrides: Overrides,
    /// Its index in the new run.
    pub index: u32,
    /// Number of tasks in the new run.
    pub count: u32,
    /// Its priority.
    #[serde(default)]
    pub priority: i32,
}

/// Changes to a task that has not started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amend {
    /// Name of the TaskTemplate that it runs.
    pub template: String,
    /// Number of tasks in the run.
    pub count: u32,
    /// Its priority.
    #[serde(default)]
    pub priority: i32,
    /// What differs from the template for this task.
    #[serde(default)]
    pub overrides: Overrides,
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// The task as it has to be stored.
    Changed(Box<Task>),
    /// The change is in effect already; nothing has to be stored.
    Already,
}

/// Why a change is refused: the task has gone on since it was decided. A fragment that reads after
/// "refused: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// Applies `change`, which was decided on `attempt`, to `task`. Checks of anything but the task
/// itself (the leader, the completion record, the node's lease) are made by the apiserver.
pub fn apply(
    task: &Task,
    attempt: u32,
    change: &TaskChange,
    now: Timestamp,
) -> Result<Applied, Refusal> {
    if let Some(step) = already_in_effect(task, attempt, change, now) {
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
            let unschedulable = Unschedulable { attempt, message: message.clone() };
            next.spec.unschedulable = Some(unschedulable.into());
        }
        TaskChange::Refuse { binding, message } => {
            refuse_binding(task, &mut next, (*binding, message), now)?
        }
        TaskChange::Report(report) => self::report(task, &mut next, report, now)?,
        TaskChange::Evict { reason, message } => {
            require(!task.has_ended(), task, "has ended")?;
            let message = message.as_deref().map(|text| shortened(text, PAST_MESSAGE_CHARS_MAX));
            next.spec.stop = Some(Stop { attempt, reason: *reason, message, at: now }.into());
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
            // A lost attempt that may be replaced has ended as far as its owner is concerned, who
            // may give it up.
            let lost = matches!(task.state(), TaskState::Lost { replaceable: true, .. });
            require(task.has_ended() || lost, task, "has not ended")?;
            next.spec.recorded = Some(task.spec.run);
        }
    }
    Ok(Applied::Changed(Box::new(next)))
}

fn require(holds: bool, task: &Task, otherwise: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { refuse(format!("the task {otherwise}: it is {}", task.phase())) }
}

fn not_recorded(task: &Task) -> Result<(), Refusal> {
    if task.is_recorded() { refuse("its end is already recorded") } else { Ok(()) }
}

/// Whether the change was made before. Its sender did not get the answer and sends it again.
fn already_in_effect(
    task: &Task,
    attempt: u32,
    change: &TaskChange,
    now: Timestamp,
) -> Option<Applied> {
    let current = attempt == task.spec.attempt;
    let same = match change {
        TaskChange::Bind { node } => current && task.node() == Some(node),
        TaskChange::Unschedulable { message } => {
            let now = task.spec.unschedulable.as_ref();
            current && now.is_some_and(|now| now.attempt == attempt && now.message == *message)
        }
        // The first reason is kept.
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
        TaskChange::Report(report) => current && is_same_report(task, report, now),
        TaskChange::Refuse { binding, .. } => {
            let last = task.spec.binding.as_ref().filter(|last| last.node.is_none());
            current && last.is_some_and(|it| it.attempt == attempt && it.number == *binding)
        }
        TaskChange::Recover => current && task.loss().is_none(),
    };
    same.then_some(Applied::Already)
}

/// Whether the task's attempt is the one that followed `attempt`. After a restore, numbers may have
/// been left out.
fn is_next(task: &Task, attempt: u32) -> bool {
    let last = task.status.attempts.last().map(|past| past.attempt);
    task.spec.attempt > attempt && last == Some(attempt)
}

fn is_same_report(task: &Task, report: &Report, now: Timestamp) -> bool {
    let mut reported = task.clone();
    set_report(&mut reported, report, now);
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
        // A container that was being created may not fit after all. But once it has run, the
        // attempt has begun and cannot be returned.
        Some(ReportState::Starting) if task.status.restarts == 0 => forget_report(next),
        Some(_) => return refuse("the task was started"),
    }
    require(!task.has_ended(), task, "has ended")?;
    not_recorded(task)?;
    if let Some(binding) = next.spec.binding.as_mut() {
        binding.node = None;
    }
    // The agent is heard from again, and the next node is not the lost one.
    next.status.loss = None;
    let (attempt, node) = (task.spec.attempt, task.node().unwrap_or_default());
    let message = shortened(message, MESSAGE_CHARS_MAX);
    let refusals = Refusals::and(task.refusals(), attempt, (node, &message), now);
    next.spec.refusals = Some(refusals.into());
    let message = next.last_refusal().unwrap_or_default();
    next.spec.unschedulable = Some(Unschedulable { attempt, message }.into());
    Ok(())
}

fn is_bound_as(task: &Task, number: u32) -> Result<(), Refusal> {
    match task.binding() {
        Some(binding) if binding.number == number => Ok(()),
        _ => refuse(format!("binding {number} is not the current one")),
    }
}

fn report(task: &Task, next: &mut Task, report: &Report, now: Timestamp) -> Result<(), Refusal> {
    is_bound_as(task, report.binding)?;
    // Not only a final report ends an attempt: so does a loss that nobody wants to wait for. A
    // later report of the end does not change that.
    if task.has_ended() {
        return refuse(format!("the task has ended: it is {}", task.phase()));
    }
    if let Some(known) = task.report()
        && !report.state.is_terminal()
    {
        // A container that is started again in place has a greater number. An older report was
        // overtaken by the one that is stored.
        let (before, now) = (task.status.restarts, report.restarts);
        if now < before {
            return refuse(format!("restart {now} is over; the current one is {before}"));
        }
        let goes_back = report.state == ReportState::Starting && known == ReportState::Running;
        if goes_back && now == before {
            return refuse("the task is already running");
        }
    }
    not_recorded(task)?;
    set_report(next, report, now);
    Ok(())
}

/// Removes what was reported of the current attempt. What is stored of earlier ones stays.
fn forget_report(task: &mut Task) {
    let status = std::mem::take(&mut task.status);
    task.status = TaskStatus { attempts: status.attempts, ..TaskStatus::default() };
}

fn set_report(task: &mut Task, report: &Report, now: Timestamp) {
    // Cut rather than refused: an agent of an older version must be able to deliver its reports.
    let report = report.clone().bounded();
    let node = task.node().map(str::to_owned);
    // Another container is ready from its own report on, even if no report told that the one before
    // it had ended.
    let is_of_same = task.report().is_some() && task.status.restarts == report.restarts;
    let since = task.status.ready_since.filter(|_| is_of_same && task.status.ready);
    let status = &mut task.status;
    status.attempt = task.spec.attempt;
    status.binding = report.binding;
    status.boot_id = report.boot_id;
    status.state = Some(report.state);
    status.node_name = node;
    status.ready = report.ready;
    status.ready_since = report.ready.then(|| since.unwrap_or(now));
    status.restarts = report.restarts;
    status.last_exit = report.last_exit;
    status.restart_at = report.restart_at;
    status.image_digest = report.image_digest;
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
    if retry.image_digest.is_some() {
        next.spec.image_digest.clone_from(&retry.image_digest);
    }
    if let Some(node) = &retry.avoid {
        // The latest node goes last: if only avoided nodes fit, the scheduler takes the latest one
        // last.
        next.spec.avoid.retain(|before| before != node);
        next.spec.avoid.push(node.clone());
        let surplus = next.spec.avoid.len().saturating_sub(AVOIDED_NODES_MAX);
        next.spec.avoid.drain(..surplus);
    }
    open_attempt(task, next)
}

/// The node of the attempt is lost; it was last heard from at `heard`, and the task may wait for
/// it.
fn lose(task: &Task, next: &mut Task, (heard, waits): (Timestamp, bool)) -> Result<(), Refusal> {
    require(task.node().is_some() && !task.has_ended(), task, "runs nowhere")?;
    // A task may have been bound to the node after that, while nobody knew that it was silent.
    let since = task.binding().map_or(heard, |binding| heard.max(binding.at));
    let loss = Loss { attempt: task.spec.attempt, since, replaceable: false, waits };
    next.status.loss = Some(loss.into());
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

/// Why an attempt ended, in one word: what its agent reported, or why it was stopped.
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

/// Opens the next attempt and stores how the last one ended.
fn open_attempt(task: &Task, next: &mut Task) -> Result<(), Refusal> {
    let Some(following) = task.spec.attempt.checked_add(1) else {
        return refuse("its attempt number cannot grow any further");
    };
    // A report of an earlier attempt says nothing of this one.
    let unreported = TaskStatus::default();
    let status = if task.report().is_some() { &task.status } else { &unreported };
    // For a stopped attempt the reason of the stop says more than the agent's report.
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
