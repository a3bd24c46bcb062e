//! Job: a set of tasks that complete.

mod cancel;
pub mod change;
pub mod indexes;
mod revision;
mod row;
mod scale;
mod validate;
mod waiting;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

use jiff::Timestamp;

use crate::backoff::Growth;
use crate::conditions::Condition;
use crate::duration::Duration;
use crate::kind::KindId;
use crate::object::{Definition, Object, is_default};
use crate::placement::Placement;
use crate::template::Template;

pub use cancel::{REASON_CHARS_MAX, is_of_earlier_run};
pub use revision::{is_revision, revision};
pub use row::failures;
pub use scale::{is_left_out, scaled_down, tasks_wanted};
pub(crate) use validate::{parts_bytes, retry, spec as validate_spec, timeout, too_late_to_retry};
pub use waiting::{OTHER, RETRYING, WaitingCount, retrying};

/// A set of tasks that complete.
pub type Job = Object<JobDefinition>;

/// Makes [`Job`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDefinition;

impl Definition for JobDefinition {
    const ID: KindId = KindId::Job;
    type Spec = JobSpec;
    type Status = JobStatus;
}

/// Declares a struct that has its own fields and all fields of a Job's spec. A workflow's job is
/// one. `#[serde(flatten)]` would do the same, but then unknown fields would not be refused.
macro_rules! with_job_fields {
    ($(#[$attributes:meta])* $vis:vis struct $name:ident { $(#[$template_attributes:meta])* template: $template:ty, $(#[$placement_attributes:meta])* placement: $placement:ty, $($(#[$field_attributes:meta])* $field_vis:vis $field:ident: $type:ty,)* }) => {
        $(#[$attributes])*
        $vis struct $name {
            $($(#[$field_attributes])* $field_vis $field: $type,)*
            /// Number of identical tasks, from 0 to 10,000,000. Each task knows its index as
            /// `$(task.index)`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(max = $crate::job::TASKS_MAX))]
            pub count: Option<u32>,
            /// Named tasks, each with its own changes to the template and placement. At most
            /// 10,000.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[schemars(length(min = 1))]
            pub tasks: Vec<$crate::job::ListedTask>,
            /// One task for each item. An item is a text, a number, a boolean, or a map of these;
            /// tasks refer to it as `$(task.item)` or `$(task.item.FIELD)`. Whole numbers of more than
            /// 64 bits are refused, because they would be rounded: write them as text, in quotes. At
            /// most 10,000.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub items: Option<Vec<serde_json::Value>>,
            /// One task for each partition of a partition set, on a node that holds a replica of
            /// it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub target: Option<$crate::job::Target>,
            /// The container that each task runs.
            $(#[$template_attributes])*
            pub template: $template,
            /// Which nodes tasks may run on, and which they prefer.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            $(#[$placement_attributes])*
            pub placement: Option<$placement>,
            /// Maximum number of tasks that run at the same time. Default: no limit. With 0 no new
            /// task starts.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub parallelism: Option<u32>,
            /// Maximum number of tasks of this job that run on one node at the same time. Default:
            /// no limit.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 1))]
            pub max_per_node: Option<u32>,
            /// How often and when a failed attempt is retried. Default: 3 attempts, 10s before the
            /// second.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub retry: Option<$crate::job::Retry>,
            /// Number of failed tasks that the job tolerates, or their share, such as `10%`. The
            /// job fails when more tasks have failed. Default 0.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub max_failed_tasks: Option<$crate::number_or_percent::NumberOrPercent>,
            /// Time limit for the whole job, counted from when its first task gets a node. Time
            /// spent suspended does not count. Default: no limit.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub timeout: Option<$crate::duration::Duration>,
            /// Time limit for each attempt of a task, counted from its start. An attempt that
            /// exceeds it is stopped and fails with Timeout. Default: no limit.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub attempt_timeout: Option<$crate::duration::Duration>,
            /// Priority of the job's tasks: tasks with a higher number are scheduled first. Default
            /// 0.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub priority: Option<i32>,
            /// Stop all running tasks and start no new ones, keeping the progress made. Set it back
            /// to false to resume. Default false.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub suspend: Option<bool>,
            /// What happens to the tasks of an existing job when what they run changes: the
            /// `template`, the `target`, the `template` of a named task, or one of `count`,
            /// `tasks`, `items` and `target` that takes the place of another. Default Rerun.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub on_change: Option<$crate::job::OnChange>,
            /// How long Task objects are kept after their tasks have ended. Default 24h. For a job
            /// with more than 10,000 tasks, only the last 1,000 succeeded and the last 1,000 failed
            /// ones are kept.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub keep_tasks: Option<$crate::duration::Duration>,
        }
    };
}
pub(crate) use with_job_fields;

with_job_fields! {
    /// The tasks of a job and how they run. At most one of `count`, `tasks`, `items` and `target`
    /// may be set; with none of them the job has one task.
    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    pub struct JobSpec {
        template: Template,
        placement: Placement,
        /// Cancel the current run: running tasks are stopped and no new ones start. This is final
        /// for the run, and is reset by a change that begins a new run. Use `hctl cancel`; leave it
        /// out of manifests.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub cancel: bool,
        /// Why the job was cancelled. Shown wherever the job's end is shown. At most 256
        /// characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub cancel_reason: Option<String>,
        /// How many times the job was asked to run again unchanged. Set by `hctl rerun`; leave it
        /// out of manifests.
        #[serde(default, skip_serializing_if = "crate::object::is_default")]
        pub reruns: u32,
    }
}

/// How long objects of finished tasks are kept if the job does not say.
pub const KEEP_TASKS: Duration = Duration::from_secs(24 * 3600);
/// A job with more tasks than this keeps only the latest task objects.
pub const SMALL_JOB_TASKS_MAX: u32 = 10_000;
/// Most tasks of a job.
pub const TASKS_MAX: u32 = 10_000_000;
/// Most listed tasks or items of a job: they are stored within the job.
pub const LISTED_TASKS_MAX: usize = 10_000;

impl JobSpec {
    /// The retry policy with its defaults.
    pub fn retry(&self) -> Retry {
        self.retry.clone().unwrap_or_default()
    }

    /// Whether the job is suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspend.unwrap_or(false)
    }

    /// Number of identical tasks.
    pub fn count(&self) -> u32 {
        self.count.unwrap_or(1)
    }

    /// What a changed template or target does.
    pub fn on_change(&self) -> OnChange {
        self.on_change.unwrap_or_default()
    }

    /// How long objects of finished tasks are kept.
    pub fn keep_tasks(&self) -> Duration {
        self.keep_tasks.unwrap_or(KEEP_TASKS)
    }

    /// The placement of its tasks.
    pub fn placement(&self) -> Placement {
        self.placement.clone().unwrap_or_default()
    }
}

/// A named task of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedTask {
    /// Name of the task, unique in the job.
    pub name: String,
    /// Changes to the template for this task: only the fields that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::generate::partial_template")]
    pub template: Option<Partial>,
    /// Changes to the placement for this task: only the fields that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::generate::partial_placement")]
    pub placement: Option<Partial>,
}

/// A partial template or placement. It is merged as a document before it is typed.
pub type Partial = serde_json::Map<String, serde_json::Value>;

/// A partition set to run beside: one task for each of its partitions.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Name of the partition set, in the same namespace. The job waits while it does not exist.
    pub partition_set: String,
    /// Names of the only partitions to run for. Default: all partitions of the set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<String>,
    /// Run only beside replicas in these states, for example `LEADER`. Default: every state but
    /// OFFLINE and DROPPED.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
}

/// How failed attempts of a task are retried. Containers are not restarted in place: each start is
/// a new attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Number of failed attempts, the first one included, after which the task fails. Default 3.
    /// Attempts that were interrupted by a lost or drained node do not count, unless
    /// `countDisruptions` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_attempts: Option<u32>,
    /// Delay before the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<RetryBackoff>,
    /// What to do after a failure, by exit code or reason. The first rule that matches applies; if
    /// none does, the attempt is retried. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RetryRule>,
    /// Prefer nodes on which no attempt of the task has failed. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avoid_failed_nodes: Option<bool>,
    /// Whether attempts that ended because their node was lost or drained, or because they were
    /// preempted, count towards `maxAttempts`. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_disruptions: Option<bool>,
}

/// How many attempts may fail if the job does not say.
pub const MAX_ATTEMPTS: u32 = 3;

impl Retry {
    /// How many attempts may fail before the task has failed.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(MAX_ATTEMPTS)
    }

    /// The delay after the n-th failure that counts; `failures` counts from 1.
    pub fn wait_after(&self, failures: u32) -> Duration {
        let RetryBackoff { initial, factor, max } = self.backoff.unwrap_or_default();
        let growth = Growth {
            initial: initial.unwrap_or(Duration::from_secs(10)),
            factor: factor.unwrap_or(2),
            max: max.unwrap_or(Duration::from_secs(300)),
        };
        growth.wait_after(failures)
    }
}

/// Delay between attempts. It starts at `initial` and is multiplied by `factor` after each failure,
/// up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBackoff {
    /// Delay before the second attempt. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,
    /// Multiplier of the delay after each failure, a whole number of at least 1. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub factor: Option<u32>,
    /// Longest delay between two attempts. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// What to do after a failure that matches. Exactly one of `exitCodes` and `reasons` is required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryRule {
    /// Exit codes that match, from 1 to 255.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 1, max = 255)))]
    pub exit_codes: Vec<i32>,
    /// Reasons that match: OOMKilled, Timeout, ImagePull, CannotRun, MountFailed, PortTaken,
    /// NameTaken, InvalidContainer, Refused, StartFailed, Unhealthy, NodeLost, Preempted, Drained,
    /// Signal, ContainerGone, Restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What to do.
    pub action: RetryAction,
}

/// What a retry rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryAction {
    /// Retry, up to `maxAttempts`.
    Retry,
    /// Fail the task without another attempt.
    FailTask,
    /// Fail the whole job and stop its other tasks.
    FailJob,
    /// Retry without counting this failure.
    Ignore,
}

/// What happens to an existing job when what its tasks run changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OnChange {
    /// Stop the current run and run all tasks again. If only the template of a named task changes,
    /// that task alone runs again, in the same run.
    #[default]
    Rerun,
    /// Leave tasks that exist as they are; only tasks created later use the change.
    Ignore,
    /// Reject the change.
    Reject,
}

/// The observed state of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Current phase of the job.
    #[serde(default)]
    pub phase: JobPhase,
    /// The final phase that the run will have once its remaining tasks have stopped. Set when a run
    /// fails, times out or is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<JobPhase>,
    /// The `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Number of the current run, from 1.
    #[serde(default)]
    pub run: u32,
    /// Hash of what a run depends on: the template, the target and the kind of task list. A changed
    /// revision begins a new run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Number of tasks in the run: the sum of `pending`, `active`, `succeeded`, `failed` and
    /// `cancelled`.
    #[serde(default)]
    pub total: u32,
    /// Tasks that have no node yet, including those that are not created yet.
    #[serde(default)]
    pub pending: u32,
    /// Tasks that have a node and have not ended.
    #[serde(default)]
    pub active: u32,
    /// Tasks that succeeded.
    #[serde(default)]
    pub succeeded: u32,
    /// Tasks that failed or timed out and are not retried.
    #[serde(default)]
    pub failed: u32,
    /// Tasks that were stopped because they are no longer wanted.
    #[serde(default)]
    pub cancelled: u32,
    /// Number of attempts beyond the first of each task.
    #[serde(default)]
    pub retries: u32,
    /// Most frequent reasons why attempts ended that were tried again, with their counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_reasons: Vec<FailureCount>,
    /// Most frequent reasons why tasks failed, with their counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureCount>,
    /// Most frequent reasons why tasks of the run do not run yet, with their counts. Tasks that
    /// only wait for the scheduler's next look have none. Of a job that is suspended or has ended,
    /// nothing waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingCount>,
    /// What each task index stands for: the name of a listed task, the name of a partition, or the
    /// hash of an item; empty text where the task was removed. An index is not reused within a run.
    /// Empty for a job with `count`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<String>,
    /// For a job with `tasks`: a hash of each named task's own template, in the order of `indexes`;
    /// empty for a task that has none. A named task whose hash changes runs again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// What the run's tasks come from: `count`, `tasks`, `items`, or `target` and the name of the
    /// partition set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tasks_from: String,
    /// When the first task of the run got a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the last task of the run had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// When the job was suspended; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// Seconds the run spent suspended before the current suspension. `timeout` does not count
    /// them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspended_seconds: u64,
    /// Why the job is in its phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Conditions Ready, Reconciling and Stalled, one of which is True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A reason for failure and how many tasks or attempts failed for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureCount {
    /// Reason for the failure, such as `exit 3`, `Timeout` or `OOMKilled`.
    pub reason: String,
    /// Number of tasks, or of attempts, that failed for this reason.
    pub count: u32,
    /// Message of the first of these failures, if it had one. At most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Phase of a job.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum JobPhase {
    /// No task has a node yet.
    #[default]
    Pending,
    /// Tasks are running, or more will.
    Running,
    /// Stopped by `suspend`; can be resumed.
    Suspended,
    /// All tasks have ended, and no more of them failed than `maxFailedTasks`.
    Succeeded,
    /// More tasks failed than `maxFailedTasks`.
    Failed,
    /// `timeout` was exceeded.
    TimedOut,
    /// Cancelled by a user or by its workflow run.
    Cancelled,
    /// In a workflow run: not run, because of how a job it depends on ended.
    Skipped,
}

impl JobPhase {
    /// Whether the run has ended.
    pub fn is_final(self) -> bool {
        match self {
            JobPhase::Pending | JobPhase::Running | JobPhase::Suspended => false,
            JobPhase::Succeeded
            | JobPhase::Failed
            | JobPhase::TimedOut
            | JobPhase::Cancelled
            | JobPhase::Skipped => true,
        }
    }
}

impl fmt::Display for JobPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_attempts_grow_to_their_maximum() {
        let retry = Retry::default();
        let secs: Vec<u64> = (1..=7).map(|n| retry.wait_after(n).get().as_secs()).collect();
        assert_eq!(secs, [10, 20, 40, 80, 160, 300, 300]);
    }
}
