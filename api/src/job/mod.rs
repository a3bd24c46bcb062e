//! Job: a set of tasks that complete.

mod cancel;
pub mod indexes;
mod revision;
mod row;
mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

use crate::conditions::Condition;
use crate::duration::Duration;
use crate::kind::KindId;
use crate::object::{Definition, Object, is_default};
use crate::placement::Placement;
use crate::template::Template;

pub use cancel::{REASON_CHARS_MAX, is_of_earlier_run};
pub use revision::{is_revision, revision};
pub use row::failures;
pub(crate) use validate::{parts_bytes, retry, spec as validate_spec, timeout, too_late_to_retry};

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

/// Declares a struct with the fields of a Job's spec after its own: a workflow's job takes them in,
/// and `#[serde(flatten)]` would lose the refusal of unknown fields.
macro_rules! with_job_fields {
    ($(#[$attributes:meta])* $vis:vis struct $name:ident { $(#[$template_attributes:meta])* template: $template:ty, $(#[$placement_attributes:meta])* placement: $placement:ty, $($(#[$field_attributes:meta])* $field_vis:vis $field:ident: $type:ty,)* }) => {
        $(#[$attributes])*
        $vis struct $name {
            $($(#[$field_attributes])* $field_vis $field: $type,)*
            /// So many tasks, alike.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub count: Option<u32>,
            /// Listed tasks, each of which lays its part over the template.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[schemars(length(min = 1))]
            pub tasks: Vec<$crate::job::ListedTask>,
            /// One task for each item: text, or an object of texts.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub items: Option<Vec<serde_json::Value>>,
            /// One task for each partition (or replica) of a set, beside it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub target: Option<$crate::job::Target>,
            /// What each task runs.
            $(#[$template_attributes])*
            pub template: $template,
            /// Where tasks may run.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            $(#[$placement_attributes])*
            pub placement: Option<$placement>,
            /// Most tasks at once; 0 pauses. No limit by default.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub parallelism: Option<u32>,
            /// Most tasks of this job at once on one node. No limit by default.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub max_per_node: Option<u32>,
            /// What happens when an attempt fails.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub retry: Option<$crate::job::Retry>,
            /// Given-up tasks that the job survives: a number or a share. Default 0.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub max_failed_tasks: Option<$crate::job::NumberOrPercent>,
            /// Of the job, from its first task's start; time suspended does not count.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub timeout: Option<$crate::duration::Duration>,
            /// Of one attempt, from its start.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub attempt_timeout: Option<$crate::duration::Duration>,
            /// Higher goes first. Default 0.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub priority: Option<i32>,
            /// Stops what runs and keeps the progress.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub suspend: Option<bool>,
            /// What a changed template or target means. Default Rerun.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub on_change: Option<$crate::job::OnChange>,
            /// How long objects and logs of finished tasks stay. Default 24h.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub keep_tasks: Option<$crate::duration::Duration>,
        }
    };
}
pub(crate) use with_job_fields;

with_job_fields! {
    /// What a job is to do. At most one of `count`, `tasks`, `items` and `target`; none is one task.
    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct JobSpec {
        template: Template,
        placement: Placement,
        /// Ends the job's run: running tasks stop, nothing starts. Final for the run; a change that
        /// opens another run takes it back, so leave it out of manifests and use `hctl cancel`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub cancel: bool,
        /// Why `cancel` is set, for people: shown where the job's end is. At most 256 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub cancel_reason: Option<String>,
        /// How often it was asked to run once more as it is. `hctl rerun` raises it; it only grows, so
        /// leave it out of manifests.
        #[serde(default, skip_serializing_if = "crate::object::is_default")]
        pub reruns: u32,
    }
}

/// How long objects of finished tasks stay where the job says nothing.
pub const KEEP_TASKS: Duration = Duration::from_secs(24 * 3600);
/// A job with more tasks than this keeps a window of task objects.
pub const SMALL_JOB_TASKS_MAX: u32 = 10_000;
/// Most tasks of a job.
pub const TASKS_MAX: u32 = 10_000_000;
/// Most listed tasks or items of a job: they are stored in it.
pub const LISTED_TASKS_MAX: usize = 10_000;

impl JobSpec {
    /// What happens when an attempt fails, defaults included.
    pub fn retry(&self) -> Retry {
        self.retry.clone().unwrap_or_default()
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspend.unwrap_or(false)
    }

    /// What a changed template or target means.
    pub fn on_change(&self) -> OnChange {
        self.on_change.unwrap_or_default()
    }

    /// How long objects of finished tasks stay.
    pub fn keep_tasks(&self) -> Duration {
        self.keep_tasks.unwrap_or(KEEP_TASKS)
    }

    /// Where its tasks may run.
    pub fn placement(&self) -> Placement {
        self.placement.clone().unwrap_or_default()
    }
}

/// A task that a job lists by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListedTask {
    /// Its name within the job.
    pub name: String,
    /// A partial template, laid over the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::partial_template")]
    pub template: Option<Partial>,
    /// A partial placement, laid over the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::partial_placement")]
    pub placement: Option<Partial>,
}

/// Part of a template or placement: merged as a document before it is typed.
pub type Partial = serde_json::Map<String, serde_json::Value>;

/// One task for each partition or replica of a set, on a node that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// The set.
    pub partition_set: String,
    /// Only these partitions; all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<String>,
    /// Only beside replicas in these states; any where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
}

/// What happens when an attempt fails: there is no restart in place, each start is an attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Attempts of one task in one run that may fail before it is given up. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long to wait before the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<RetryBackoff>,
    /// The first that matches decides; none means Retry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RetryRule>,
    /// Whether the scheduler would rather not use nodes where an attempt failed. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avoid_failed_nodes: Option<bool>,
    /// Whether lost, drained and preempted attempts count. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_disruptions: Option<bool>,
}

/// Attempts that may fail where the job says nothing.
pub const MAX_ATTEMPTS: u32 = 3;

impl Retry {
    /// Attempts that may fail before a task is given up.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(MAX_ATTEMPTS)
    }

    /// How long to wait after the n-th counted failure, `failures` from 1.
    pub fn wait_after(&self, failures: u32) -> Duration {
        let backoff = self.backoff.unwrap_or_default();
        let initial = backoff.initial.unwrap_or(Duration::from_secs(10));
        let max = backoff.max.unwrap_or(Duration::from_secs(300));
        let factor = backoff.factor.unwrap_or(2).max(1);
        let growth = factor.saturating_pow(failures.saturating_sub(1));
        initial.get().saturating_mul(growth).min(max.get()).into()
    }
}

/// Waits between attempts: `initial`, then `factor` times as long each time, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBackoff {
    /// Before the second attempt. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,
    /// Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<u32>,
    /// Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// What to do with a failure that matches: exactly one of `exitCodes` and `reasons`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryRule {
    /// Exit codes that match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
    /// Reasons that match: OOMKilled, Timeout, ImagePull, CannotRun, MountFailed, PortTaken,
    /// NameTaken, InvalidContainer, Refused, StartFailed, Unhealthy, NodeLost, Preempted, Drained,
    /// Signal, ContainerGone, Restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What is done.
    pub action: RetryAction,
}

/// What a retry rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryAction {
    /// Try again, within `maxAttempts`.
    Retry,
    /// Give the task up.
    FailTask,
    /// Fail the whole job.
    FailJob,
    /// Try again; this failure does not count.
    Ignore,
}

/// What a changed template or target means for a job that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OnChange {
    /// A new run of every task.
    #[default]
    Rerun,
    /// Nothing for tasks that exist.
    Ignore,
    /// The change is refused.
    Reject,
}

/// A number, or a share such as `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberOrPercent {
    /// So many.
    Number(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl NumberOrPercent {
    /// How many of `total`, rounded down.
    pub fn of(self, total: u32) -> u32 {
        match self {
            NumberOrPercent::Number(number) => number,
            NumberOrPercent::Percent(percent) => {
                let share = u64::from(total) * u64::from(percent) / 100;
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        }
    }
}

impl fmt::Display for NumberOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NumberOrPercent::Number(number) => number.fmt(f),
            NumberOrPercent::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for NumberOrPercent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            NumberOrPercent::Number(number) => serializer.serialize_u32(*number),
            NumberOrPercent::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for NumberOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = NumberOrPercent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a share such as \"10%\"")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<NumberOrPercent, E> {
                u32::try_from(number).map(NumberOrPercent::Number).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<NumberOrPercent, E> {
                u32::try_from(number).map(NumberOrPercent::Number).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<NumberOrPercent, E> {
                text.strip_suffix('%')
                    .and_then(|percent| percent.parse().ok())
                    .filter(|percent| *percent <= 100)
                    .map(NumberOrPercent::Percent)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for NumberOrPercent {
    fn schema_name() -> Cow<'static, str> {
        "NumberOrPercent".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["integer", "string"], "format": "number-or-percent" })
    }
}

/// What a job has come to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobStatus {
    /// One word.
    #[serde(default)]
    pub phase: JobPhase,
    /// The phase that it will have once its tasks have stopped: it was decided that the run ends
    /// other than by itself, which is final for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<JobPhase>,
    /// The generation that the rest speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The run, from 1.
    #[serde(default)]
    pub run: u32,
    /// The hash of template and target that the run is of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Tasks of the run: `succeeded + failed + cancelled + active + pending`.
    #[serde(default)]
    pub total: u32,
    /// Not bound to a node yet, or not made yet.
    #[serde(default)]
    pub pending: u32,
    /// Bound to a node and not ended.
    #[serde(default)]
    pub active: u32,
    /// Ended well.
    #[serde(default)]
    pub succeeded: u32,
    /// Given up.
    #[serde(default)]
    pub failed: u32,
    /// Stopped on purpose.
    #[serde(default)]
    pub cancelled: u32,
    /// Attempts after the first.
    #[serde(default)]
    pub retries: u32,
    /// Why tasks were given up: a reason such as `exit 3`, and how often; the most frequent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureCount>,
    /// What each index is of, where it is not just a number: a listed task's name, a partition's
    /// name, an item's hash; nothing where that was removed. An index is never used twice in a run.
    /// Empty for `count`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<String>,
    /// When its first task was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its last task had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Since when it is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// Seconds that it was suspended before, not counted by `timeout`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspended_seconds: u64,
    /// Why it is in its phase, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A reason, and how many tasks were given up for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureCount {
    /// `exit 3`, `Timeout`, `OOMKilled`, ...
    pub reason: String,
    /// How many.
    pub count: u32,
    /// What the first of them said, where it said anything; at most 256 characters of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A job's phase.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum JobPhase {
    /// Nothing runs yet.
    #[default]
    Pending,
    /// Tasks run, or ran and more will.
    Running,
    /// Stopped on purpose; to be resumed.
    Suspended,
    /// Done.
    Succeeded,
    /// Too many tasks were given up.
    Failed,
    /// Its time was up.
    TimedOut,
    /// Stopped for good.
    Cancelled,
    /// In a run: not to be run at all.
    Skipped,
}

impl JobPhase {
    /// Whether nothing more happens in this run.
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

    #[test]
    fn a_share_is_rounded_down() {
        assert_eq!(NumberOrPercent::Percent(10).of(19), 1);
        assert_eq!(NumberOrPercent::Number(3).of(1), 3);
        assert!(serde_json::from_str::<NumberOrPercent>("\"110%\"").is_err());
        assert!(serde_json::from_str::<NumberOrPercent>("-1").is_err());
    }
}
