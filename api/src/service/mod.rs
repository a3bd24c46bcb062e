//! Service: a set of tasks that stay up.

pub mod change;
pub mod request;
mod row;
pub mod stages;
mod validate;

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::duration::Duration;
use crate::kind::KindId;
use crate::number_or_percent::NumberOrPercent;
use crate::object::{Definition, Object, is_default};
use crate::placement::Placement;
use crate::restart::Restart;
use crate::template::Template;

pub use request::{RolloutCommand, RolloutRequest, RolloutVerb};
pub use stages::{Canary, CanaryStatus, RolloutJob, Stage, StageJob};

/// A set of tasks that stay up.
pub type Service = Object<ServiceDefinition>;

/// Makes [`Service`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceDefinition;

impl Definition for ServiceDefinition {
    const ID: KindId = KindId::Service;
    type Spec = ServiceSpec;
    type Status = ServiceStatus;
}

/// The tasks of a service and how they are kept up. A change of `template`, `placement` or `restart`
/// is a new revision, which is rolled out; everything else is changed in place.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Number of tasks, from 0 to 10,000. Default 1. Not together with `perNode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = REPLICAS_MAX))]
    pub replicas: Option<u32>,
    /// Run one task on each node that `placement` allows, also on nodes that join later. Default
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_node: Option<bool>,
    /// The container that each task runs.
    pub template: Template,
    /// Which nodes tasks may run on, and which they prefer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// How a container is started again after it has ended, whatever its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Maximum number of tasks, or their share, that Heliox may make unavailable at the same time:
    /// by rollouts, by draining nodes and by scaling down. Default: as many as
    /// `rollout.parallelism`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<NumberOrPercent>,
    /// Priority of the tasks: tasks with a higher number are scheduled first. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How a new revision replaces the tasks of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Stop all tasks, and start them again when it is set back to false. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// When the service ends: its tasks are stopped then, and the service is in phase Expired.
    /// Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Number of earlier revisions to keep, from 0 to 100, besides those that tasks run. Default
    /// 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = HISTORY_MAX))]
    pub revision_history_limit: Option<u32>,
}

/// Most tasks of a service that says how many.
pub const REPLICAS_MAX: u32 = 10_000;
/// Most earlier revisions that a service keeps.
pub const HISTORY_MAX: u32 = 100;
/// How many earlier revisions are kept if the service does not say.
pub const HISTORY: u32 = 10;

/// How a new revision replaces the tasks of the one before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// A job that runs once for each revision that a change of the manifest makes, and must succeed
    /// before the first task changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<RolloutJob>,
    /// The first tasks of a new revision, which are watched before the others are replaced. Without
    /// effect on the first revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Number of tasks, or their share, that are replaced at the same time; at least 1. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<NumberOrPercent>,
    /// Replace tasks batch by batch: the next batch begins when the whole one before is ready.
    /// Default false: the next task is replaced as soon as one is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<bool>,
    /// Whether the old task is stopped before the new one starts, or after the new one is ready.
    /// Default StopFirst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<RolloutOrder>,
    /// How long a new task may take to become ready, counted from its creation. After that it
    /// counts as failed. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long a new task must have been ready, in seconds, before it counts as available: only then
    /// is the next one replaced. At most 86,400. Default 0 if the template has a `readinessProbe`,
    /// which says when the program can serve. Default 5 without one: a task is then ready as soon as
    /// its container runs, and with 0 a program that ends right after its start is taken for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MIN_READY_SECONDS_MAX))]
    pub min_ready_seconds: Option<u32>,
    /// Number of new tasks, or their share, that may fail before `onFailure` applies. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_tasks: Option<NumberOrPercent>,
    /// What happens when more new tasks have failed than `maxFailedTasks`. Default Pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Begin no further replacement. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// How long a new task may take to become ready if the service does not say.
pub const ROLLOUT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a new task must have been ready if the service does not say and no readiness probe does.
/// Such a task is ready while its container runs; without any time, a revision that crashes at once
/// would be rolled out everywhere.
pub const MIN_READY_SECONDS: u32 = 5;
/// Longest `minReadySeconds`: a day.
pub const MIN_READY_SECONDS_MAX: u32 = 24 * 3600;

/// How long a new task must have been ready, in seconds, if the service does not say.
pub(crate) fn min_ready_seconds(has_readiness_probe: bool) -> u32 {
    if has_readiness_probe { 0 } else { MIN_READY_SECONDS }
}

/// Which of two tasks comes first when one takes the place of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum RolloutOrder {
    /// Stop the old task, then start the new one.
    #[default]
    StopFirst,
    /// Start the new task, and stop the old one when the new one is available.
    StartFirst,
}

/// What happens when too many new tasks have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Replace no further task, until the service is changed.
    #[default]
    Pause,
    /// Go back to the last revision that was rolled out completely. The manifest stays as it is; its
    /// revision is tried again only after a change.
    Rollback,
    /// Continue as if the failed tasks were ready, as far as `maxUnavailable` allows: no good task is
    /// stopped where that would leave too few ready.
    Continue,
}

impl ServiceSpec {
    /// Number of tasks; without effect if there is one on each node.
    pub fn replicas(&self) -> u32 {
        self.replicas.unwrap_or(1)
    }

    /// Whether there is one task on each node.
    pub fn is_per_node(&self) -> bool {
        self.per_node.unwrap_or(false)
    }

    /// Whether the service is suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspend.unwrap_or(false)
    }

    /// Whether the service has expired at a time.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The placement of its tasks.
    pub fn placement(&self) -> Placement {
        self.placement.clone().unwrap_or_default()
    }

    /// How revisions are rolled out.
    pub fn rollout(&self) -> Rollout {
        self.rollout.clone().unwrap_or_default()
    }

    /// How many of `total` tasks may be unavailable because of what Heliox does. A share is at
    /// least one task: rounded down to none, it would stop every rollout of a small service.
    pub fn max_unavailable(&self, total: u32) -> u32 {
        match self.max_unavailable {
            Some(number @ NumberOrPercent::Number(_)) => number.of(total),
            Some(share @ NumberOrPercent::Percent(_)) => share.of(total).max(1),
            None => self.rollout().parallelism(total),
        }
    }

    /// How long a new task must have been ready before it is available.
    pub fn min_ready(&self) -> Duration {
        let said = self.rollout.as_ref().and_then(|rollout| rollout.min_ready_seconds);
        let is_probed = self.template.readiness_probe.is_some();
        Duration::from_secs(said.unwrap_or(min_ready_seconds(is_probed)))
    }

    /// How many earlier revisions are kept.
    pub fn revision_history_limit(&self) -> usize {
        usize::try_from(self.revision_history_limit.unwrap_or(HISTORY)).unwrap_or(usize::MAX)
    }
}

impl Rollout {
    /// How many of `total` tasks are replaced at the same time; at least 1.
    pub fn parallelism(&self, total: u32) -> u32 {
        self.parallelism.map_or(1, |parallelism| parallelism.of(total)).max(1)
    }

    /// How long a new task may take to become ready.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(ROLLOUT_TIMEOUT)
    }

    /// How many of `total` new tasks may fail.
    pub fn max_failed_tasks(&self, total: u32) -> u32 {
        self.max_failed_tasks.map_or(0, |max| max.of(total))
    }
}

/// The observed state of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Current phase of the service.
    #[serde(default)]
    pub phase: ServicePhase,
    /// The `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Number of tasks that the service should have.
    #[serde(default)]
    pub replicas: u32,
    /// Tasks that are ready.
    #[serde(default)]
    pub ready: u32,
    /// Tasks of the revision that is rolled out which are available: ready for
    /// `minReadySeconds`.
    #[serde(default)]
    pub updated: u32,
    /// Tasks that are missing or not ready.
    #[serde(default)]
    pub unavailable: u32,
    /// Number of the last revision that was rolled out completely; 0 before the first.
    #[serde(default)]
    pub current_revision: u32,
    /// Number of the revision that tasks should run.
    #[serde(default)]
    pub update_revision: u32,
    /// Number of the revision that the manifest asks for. It is another one than `updateRevision`
    /// after an undo or a rollback, until the manifest is changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub manifest_revision: u32,
    /// The revisions, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
    /// The rollout that is under way or was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// What was asked of the rollout and is not carried out yet: by `hctl rollout undo`, `restart` or
    /// `abort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RolloutRequest>,
    /// Selects the tasks of the service by their labels: what an autoscaler reads.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// When the service was suspended; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// Why the service is in its phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Conditions Ready, Reconciling and Stalled, one of which is True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A revision of a service: what its tasks run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its number, from 1. It only grows.
    pub number: u32,
    /// Name of its TaskTemplate. Two revisions have the same one if the service went back to it.
    pub template: String,
    /// The image that it runs.
    #[serde(default)]
    pub image: String,
    /// Digest of that image, from when the first task has run it: later tasks, and those that move to
    /// other nodes, run the same. Absent if no registry knows the image, or with `imagePullPolicy:
    /// Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When it was made.
    pub at: Timestamp,
    /// What made it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub origin: Origin,
    /// The revision whose template it has, after an undo, a rollback or a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<u32>,
    /// Who asked for it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When its rollout was complete, or had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Why it did not stay, in a few words, if its rollout failed. At most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What makes a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Origin {
    /// A change of the manifest.
    #[default]
    Change,
    /// `hctl rollout undo`.
    Undo,
    /// The failure of a rollout whose `onFailure` is Rollback.
    Rollback,
    /// `hctl rollout restart`.
    Restart,
}

/// The rollout of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Number of the revision that is rolled out.
    pub revision: u32,
    /// How it stands.
    #[serde(default)]
    pub state: RolloutState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was complete, or had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Number of the new tasks that have failed in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failed: u32,
    /// Names of these tasks; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_tasks: Vec<String>,
    /// Slots of the new tasks that have been available in it, as ranges: the first one, and how many
    /// there are. A task that was available has `timeout` to become so again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub available: Vec<[u32; 2]>,
    /// When a new task became available for the first time, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressed_at: Option<Timestamp>,
    /// When it was last resumed after it, or the service, was suspended. The time that new tasks have
    /// to become ready counts from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// Number of the revision that it goes back to, because the rollout of that one's successor
    /// failed. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_from: Option<u32>,
    /// Whether tasks that run the same already are replaced, too, since they were there before it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restarts: bool,
    /// The job that must succeed before the first task changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<StageJob>,
    /// The first tasks of the revision, which are watched before the others are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
}

/// Most failed tasks that the status of a rollout names.
pub const FAILED_TASKS_MAX: usize = 100;
/// Longest reason of a failed rollout, in characters.
pub const FAILURE_CHARS_MAX: usize = 256;

/// How a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum RolloutState {
    /// Tasks are being replaced.
    #[default]
    Progressing,
    /// Suspended by a user.
    Suspended,
    /// All tasks run the revision and are available.
    Complete,
    /// Too many new tasks failed, and no further task is replaced.
    Failed,
}

/// Phase of a service.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum ServicePhase {
    /// Tasks are being started, or replaced by those of a new revision.
    #[default]
    RollingOut,
    /// All tasks run the newest revision and are ready.
    Running,
    /// The rollout of a revision is suspended or has failed, and tasks run more than one revision.
    Paused,
    /// Some tasks are not ready, although no rollout is under way.
    Degraded,
    /// Stopped by `suspend`; can be resumed.
    Suspended,
    /// `expiresAt` has passed.
    Expired,
}

impl fmt::Display for ServicePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ServiceStatus {
    /// The revision with a number.
    pub fn revision(&self, number: u32) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.number == number)
    }

    /// The revision that tasks should run.
    pub fn wanted_revision(&self) -> Option<&Revision> {
        self.revision(self.update_revision)
    }
}
