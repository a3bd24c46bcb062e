//! The state of a task: a pure function of its five parts.

use jiff::Timestamp;

use crate::resource::Resource as _;

use super::{Binding, Loss, PastAttempt, ReportState, Stop, StopReason, Task, TaskPhase};

/// The state of the current attempt. Plans decide by this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState<'a> {
    /// Waits for a node.
    Pending,
    /// It has a node, whose resources are reserved.
    Bound {
        /// The node.
        node: &'a str,
    },
    /// Its container is being created.
    Starting {
        /// The node.
        node: &'a str,
    },
    /// It runs.
    Running {
        /// The node.
        node: &'a str,
    },
    /// It is being stopped; its resources stay reserved until it has ended.
    Stopping {
        /// The node.
        node: &'a str,
        /// Why.
        reason: StopReason,
    },
    /// It exited with 0.
    Succeeded,
    /// It exited otherwise, or could not be started.
    Failed {
        /// How the process ended.
        exit_code: Option<i32>,
        /// Why, in one word of [`super::reason`].
        reason: Option<&'a str>,
    },
    /// It was stopped because its time limit was exceeded.
    TimedOut,
    /// It was stopped for another reason, or before it was bound.
    Cancelled {
        /// Why.
        reason: StopReason,
    },
    /// Its node is lost.
    Lost {
        /// The node.
        node: &'a str,
        /// Since when.
        since: Timestamp,
        /// Whether the attempt may be replaced. Until then its resources stay reserved.
        replaceable: bool,
        /// Why it was being stopped when the node was lost.
        stop: Option<StopReason>,
    },
}

impl Task {
    /// Why no node fits its current attempt, in the scheduler's last words.
    pub fn unschedulable(&self) -> Option<&str> {
        let said = self.spec.unschedulable.as_deref()?;
        (said.attempt == self.spec.attempt).then_some(said.message.as_str())
    }

    /// The state of the current attempt.
    pub fn state(&self) -> TaskState<'_> {
        if let Some(ended) = self.ended() {
            return ended;
        }
        let stop = self.stop();
        let Some(node) = self.node() else {
            return stop
                .map_or(TaskState::Pending, |stop| TaskState::Cancelled { reason: stop.reason });
        };
        if let Some(loss) = self.loss() {
            return match stop {
                // The attempt may be replaced and is not wanted any more, so there is no need to
                // wait for the node to come back: it has ended.
                Some(stop) if loss.replaceable && stop.reason.is_for_good() => {
                    TaskState::Cancelled { reason: stop.reason }
                }
                stop => TaskState::Lost {
                    node,
                    since: loss.since,
                    replaceable: loss.replaceable,
                    stop: stop.map(|stop| stop.reason),
                },
            };
        }
        if let Some(stop) = stop {
            return TaskState::Stopping { node, reason: stop.reason };
        }
        match self.report() {
            Some(ReportState::Starting) => TaskState::Starting { node },
            Some(ReportState::Running) => TaskState::Running { node },
            _ => TaskState::Bound { node },
        }
    }

    /// The state as one word.
    pub fn phase(&self) -> TaskPhase {
        match self.state() {
            TaskState::Pending => TaskPhase::Pending,
            TaskState::Bound { .. } => TaskPhase::Bound,
            TaskState::Starting { .. } => TaskPhase::Starting,
            TaskState::Running { .. } => TaskPhase::Running,
            TaskState::Stopping { .. } => TaskPhase::Stopping,
            TaskState::Succeeded => TaskPhase::Succeeded,
            TaskState::Failed { .. } => TaskPhase::Failed,
            TaskState::TimedOut => TaskPhase::TimedOut,
            TaskState::Cancelled { .. } => TaskPhase::Cancelled,
            TaskState::Lost { .. } => TaskPhase::Lost,
        }
    }

    /// The current attempt's stop.
    pub fn stop(&self) -> Option<&Stop> {
        self.spec.stop.as_deref().filter(|stop| stop.attempt == self.spec.attempt)
    }

    /// The current attempt's binding.
    pub fn binding(&self) -> Option<&Binding> {
        let binding = self.spec.binding.as_ref()?;
        (binding.attempt == self.spec.attempt && binding.node.is_some()).then_some(binding)
    }

    /// The current attempt's node.
    pub fn node(&self) -> Option<&str> {
        self.binding()?.node.as_deref()
    }

    /// The newest attempt that was bound to a node: the one whose log is shown if none is named.
    pub fn newest_attempt_with_a_node(&self) -> u32 {
        if self.node().is_some() {
            return self.spec.attempt;
        }
        self.status.attempts.last().map_or(self.spec.attempt, |past| past.attempt)
    }

    /// The newest attempt of a run that was bound to a node, if one was.
    pub fn newest_attempt_of_run(&self, run: u32) -> Option<u32> {
        if self.node().is_some() && self.spec.run == run {
            return Some(self.spec.attempt);
        }
        self.attempts_of_run(run).map(|past| past.attempt).last()
    }

    /// The restart number of the container before the current one, if `attempt` is the current
    /// attempt and has been restarted in place.
    pub fn container_before(&self, attempt: u32) -> Option<u32> {
        let is_current = attempt == self.spec.attempt && self.report().is_some();
        self.status.restarts.checked_sub(1).filter(|_| is_current)
    }

    /// The earlier attempts of a run, the oldest first. An attempt whose run was not stored counts
    /// as one of the current run.
    pub fn attempts_of_run(&self, run: u32) -> impl Iterator<Item = &PastAttempt> {
        let is_of =
            move |past: &&PastAttempt| past.run == run || past.run == 0 && run == self.spec.run;
        self.status.attempts.iter().filter(is_of)
    }

    /// What the agent reported of the current binding.
    pub fn report(&self) -> Option<ReportState> {
        let binding = self.binding()?;
        let speaks_of_it =
            self.status.attempt == binding.attempt && self.status.binding == binding.number;
        self.status.state.filter(|_| speaks_of_it)
    }

    /// The current attempt's loss.
    pub fn loss(&self) -> Option<&Loss> {
        self.status.loss.as_deref().filter(|loss| loss.attempt == self.spec.attempt)
    }

    /// Whether its end in the current run is in the completion record of its owner.
    pub fn is_recorded(&self) -> bool {
        self.spec.recorded == Some(self.spec.run)
    }

    /// Whether the current attempt has ended: its end cannot change any more.
    pub fn has_ended(&self) -> bool {
        matches!(
            self.state(),
            TaskState::Succeeded
                | TaskState::Failed { .. }
                | TaskState::TimedOut
                | TaskState::Cancelled { .. }
        )
    }

    /// The node whose resources and ports the task holds: from its binding until it has ended, or
    /// until the node is lost and `onNodeLoss.after` has passed.
    pub fn takes_resources_on(&self) -> Option<&str> {
        match self.state() {
            TaskState::Bound { node }
            | TaskState::Starting { node }
            | TaskState::Running { node }
            | TaskState::Stopping { node, .. }
            | TaskState::Lost { node, replaceable: false, .. } => Some(node),
            TaskState::Pending
            | TaskState::Succeeded
            | TaskState::Failed { .. }
            | TaskState::TimedOut
            | TaskState::Cancelled { .. }
            | TaskState::Lost { replaceable: true, .. } => None,
        }
    }

    /// The task as clients see it, with its phase and the node of the current attempt.
    #[must_use]
    pub fn to_wire(mut self) -> Self {
        self.show();
        self
    }

    /// The task as it is stored, without what [`Task::to_wire`] adds.
    #[must_use]
    pub fn to_stored(mut self) -> Self {
        self.status.phase = None;
        self.spec.node_name = None;
        self
    }

    fn ended(&self) -> Option<TaskState<'_>> {
        match self.report()? {
            ReportState::Starting | ReportState::Running => None,
            ReportState::Succeeded => Some(TaskState::Succeeded),
            ReportState::Failed => Some(TaskState::Failed {
                exit_code: self.status.exit_code,
                reason: self.status.reason.as_deref(),
            }),
            ReportState::TimedOut => Some(TaskState::TimedOut),
            ReportState::Cancelled => Some(TaskState::Cancelled {
                reason: self.stop().map_or(StopReason::Cancel, |stop| stop.reason),
            }),
        }
    }
}
