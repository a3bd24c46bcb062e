//! The parts of a task, read without the functions whose results are judged here.

use api::Task;
use api::task::ReportState;

/// The node that the current attempt is bound to.
pub(super) fn node(task: &Task) -> Option<&str> {
    let binding = task.spec.binding.as_ref()?;
    binding.node.as_deref().filter(|_| binding.attempt == task.spec.attempt)
}

/// What was reported of the current attempt, as it is bound now.
pub(super) fn report(task: &Task) -> Option<ReportState> {
    let binding = task.spec.binding.as_ref()?;
    let (attempt, number) = (task.status.attempt, task.status.binding);
    let is_current = attempt == task.spec.attempt && number == binding.number;
    task.status.state.filter(|_| is_current && node(task).is_some())
}

/// How the current attempt was reported to have ended.
pub(super) fn end(task: &Task) -> Option<ReportState> {
    match report(task)? {
        ReportState::Starting | ReportState::Running => None,
        end @ (ReportState::Succeeded
        | ReportState::Failed
        | ReportState::TimedOut
        | ReportState::Cancelled) => Some(end),
    }
}

/// Whether the current attempt is given up for lost.
pub(super) fn is_replaceable(task: &Task) -> bool {
    let loss = task.status.loss.as_ref();
    loss.is_some_and(|loss| loss.attempt == task.spec.attempt && loss.replaceable)
}

/// Whether the current attempt is to end.
pub(super) fn is_stopped(task: &Task) -> bool {
    task.spec.stop.as_ref().is_some_and(|stop| stop.attempt == task.spec.attempt)
}

/// Whether the end of the current run is in the completion record.
pub(super) fn is_recorded(task: &Task) -> bool {
    task.spec.recorded == Some(task.spec.run)
}

/// The node whose resources and ports the task takes: nothing is free before it has ended or its
/// node is lost past `after`.
pub(super) fn takes(task: &Task) -> Option<&str> {
    let over = end(task).is_some() || is_replaceable(task) || is_recorded(task);
    node(task).filter(|_| !over)
}

/// Whether this attempt is wanted on this node, as far as others than its agent say.
pub(super) fn wants(task: &Task, attempt: u32, on: &str) -> bool {
    let bound = task.spec.attempt == attempt && node(task) == Some(on);
    bound && !is_stopped(task) && !is_recorded(task)
}
