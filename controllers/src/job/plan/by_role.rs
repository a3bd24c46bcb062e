//! Sorts the tasks of a job by their role in the run.

use std::collections::BTreeMap;

use api::Task;
use api::object::Kind as _;
use api::task::{TaskPhase, TaskState};

use super::outcome::{Verdict, verdict};
use super::record::Record;
use super::wanted_tasks::WantedTasks;
use super::{Run, View};

/// The tasks of a job, by their role in the run.
#[derive(Debug, Default)]
pub(super) struct TasksByRole<'a> {
    /// The tasks of the run, by index.
    pub(super) members: BTreeMap<u32, Member<'a>>,
    /// Tasks of an earlier run whose names the run needs, by the index that they will have in it.
    pub(super) predecessors: BTreeMap<u32, Member<'a>>,
    /// Tasks that the run does not need.
    pub(super) strays: Vec<Member<'a>>,
}

/// A task, and the verdict on its attempt.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) task: &'a Task,
    pub(super) verdict: Verdict,
}

impl Member<'_> {
    /// Whether its attempt has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.verdict == Verdict::Open
    }

    /// Whether it has a node and has not ended. This includes a lost task until it may be replaced,
    /// since it may be running.
    pub(super) fn is_active(&self) -> bool {
        match self.task.state() {
            TaskState::Bound { .. }
            | TaskState::Starting { .. }
            | TaskState::Running { .. }
            | TaskState::Stopping { .. }
            | TaskState::Lost { replaceable: false, .. } => true,
            TaskState::Pending
            | TaskState::Succeeded
            | TaskState::Failed { .. }
            | TaskState::TimedOut
            | TaskState::Cancelled { .. }
            | TaskState::Lost { replaceable: true, .. } => false,
        }
    }

    /// Whether it waits for a node.
    pub(super) fn is_pending(&self) -> bool {
        self.task.phase() == TaskPhase::Pending
    }
}

impl<'a> TasksByRole<'a> {
    /// Sorts the tasks of a job.
    pub(super) fn of(
        view: &View<'a>,
        run: &Run,
        wanted_tasks: &WantedTasks,
        record: &Record<'_>,
    ) -> Self {
        let job = view.job;
        let policy = job.spec.retry();
        let mut by_role = Self::default();
        for task in view.tasks {
            let task = *task;
            let member = Member { task, verdict: verdict(task, &policy, view.now) };
            if task.spec.run == run.number {
                let index = task.spec.index;
                let wanted = wanted_tasks.has(index)
                    && wanted_tasks.object_name(job.name(), index) == task.name();
                let done_elsewhere =
                    member.verdict != Verdict::Recorded && record.get(index).is_some();
                // A task that is left over after its index was recorded must not count a second
                // time.
                if wanted && !done_elsewhere {
                    by_role.members.insert(index, member);
                } else {
                    by_role.strays.push(member);
                }
            } else if task.spec.run < run.number {
                match wanted_tasks.index_named_as(job.name(), task) {
                    // The run still has work for the index: the task can do it, or at least has to
                    // free its name.
                    Some(index) if record.get(index).is_none() => {
                        by_role.predecessors.insert(index, member);
                    }
                    _ => by_role.strays.push(member),
                }
            }
            // A task of a later run is newer than this view of the job. It is left alone.
        }
        by_role
    }

    /// Every task.
    pub(super) fn all(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.values().chain(self.predecessors.values()).chain(&self.strays)
    }

    /// The number of tasks that have not ended.
    pub(super) fn open(&self) -> u32 {
        u32::try_from(self.all().filter(|member| member.is_open()).count()).unwrap_or(u32::MAX)
    }

    /// The number of tasks that have a node and have not ended.
    pub(super) fn active(&self) -> u32 {
        u32::try_from(self.all().filter(|member| member.is_active()).count()).unwrap_or(u32::MAX)
    }
}
