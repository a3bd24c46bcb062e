//! Task: the unit of work. One container, on one node at a time.
//!
//! # Invariants
//!
//! * A stored Task has five parts with one writer each: the spec (its controller), `stop` (anyone
//!   allowed to, through evict), `binding` (the scheduler), the report (the node's agent) and
//!   `loss` (the node controller). A part speaks of one attempt; of any other it says nothing.
//! * The phase is a pure function of the parts ([`Task::state`]) and is never stored.
//! * Every change of a part goes through [`transition`], which checks the facts it was decided on.
//! * What few tasks have and what takes more than a few words is boxed: servers hold every task.

mod conditions;
mod refusal;
pub mod report;
pub mod restore;
mod row;
mod state;
pub mod transition;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Computed;
use crate::job::Partial;
use crate::kind::KindId;
use crate::object::{Definition, Object, is_default};

pub use refusal::{REFUSING_NODES_MAX, Refusal, Refusals};
pub use state::TaskState;

/// The unit of work.
pub type Task = Object<TaskDefinition>;

/// Makes [`Task`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefinition;

impl Definition for TaskDefinition {
    const ID: KindId = KindId::Task;
    type Spec = TaskSpec;
    type Status = TaskStatus;
}

/// What a task runs and where. Written by Heliox, not by users.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskSpec {
    /// Name of the TaskTemplate that the task runs, in the same namespace.
    pub template: String,
    /// What differs from the template for this task.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// Index of the task in its job, from 0.
    #[serde(default)]
    pub index: u32,
    /// Number of tasks in the job.
    #[serde(default)]
    pub count: u32,
    /// Number of the job's run that the task belongs to, from 1.
    #[serde(default = "one")]
    pub run: u32,
    /// Number of the current attempt, from 1. It only grows, even across runs of the job.
    #[serde(default = "one")]
    pub attempt: u32,
    /// Lowest number of the next attempt. Set after a restore from a backup, which may not know the
    /// latest attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<u32>,
    /// Number of failed attempts in this run that count towards `maxAttempts`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Earliest time at which this attempt gets a node: the end of the retry delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Nodes where an attempt of this run failed or was evicted, the latest last; at most 5. The
    /// scheduler uses one of them only if no other node fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<String>,
    /// Priority: tasks with a higher number are scheduled first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Digest of the image to run, for example `sha256:4f1d...`, whatever the tag in the template means
    /// by now. Set for a task of a service once a task of its revision has run the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Box<str>>,
    /// Queue that admitted the task. Not used at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Number of the run in whose completion record the end of this task is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<u32>,
    /// Request to stop the attempt before it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Box<Stop>>,
    /// Node that the scheduler chose for the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// Why no node was found for the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<Box<Unschedulable>>,
    /// Nodes whose agents returned the attempt without starting it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<Box<Refusals>>,
    /// Name of the node of the current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}

fn one() -> u32 {
    1
}

/// What differs from the template for one task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overrides {
    /// Name of the task in the job's list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Item of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Box<serde_json::Value>>,
    /// Partition of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Changes to the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::generate::partial_template")]
    pub template: Option<Box<Partial>>,
    /// Changes to the placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::generate::partial_placement")]
    pub placement: Option<Box<Partial>>,
}

impl Overrides {
    /// Whether the task does not differ from the template.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A request to stop an attempt. It is made once for an attempt and does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// Number of the attempt.
    pub attempt: u32,
    /// Why the attempt has to stop.
    pub reason: StopReason,
    /// What happened, in a few words, for example `job timed out after 10s`. At most 256
    /// characters; absent if the reason is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the request was made.
    pub at: Timestamp,
}

impl Stop {
    /// The reason for people: `stopped: job timed out after 10s`.
    pub fn words(&self) -> String {
        match &self.message {
            Some(message) => format!("stopped: {message}"),
            None => self.reason.words().to_owned(),
        }
    }

    /// The same without the word for stopping: `job timed out after 10s`, `evicted`.
    pub fn cause(&self) -> String {
        let words = self.words();
        words.strip_prefix("stopped: ").map(str::to_owned).unwrap_or(words)
    }
}

/// The reason of the end of an attempt that was suspended.
pub(crate) const SUSPENDED: &str = "Suspended";

/// Why an attempt is to stop.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum StopReason {
    /// The task was cancelled. It does not run again in this run.
    Cancel,
    /// The job no longer has this task: its count was lowered, or the task was taken out of its list.
    ScaleDown,
    /// The job has ended: it timed out, or another of its tasks failed.
    JobEnded,
    /// The task is being deleted.
    Delete,
    /// The time limit was exceeded.
    Timeout,
    /// The node is being drained.
    Drain,
    /// A task with a higher priority needs the resources.
    Preemption,
    /// The job is suspended.
    Suspend,
    /// A newer revision replaces the template.
    Revision,
    /// Another task of the gang failed.
    Gang,
    /// Evicted by a user, to start again on another node.
    Evict,
}

impl StopReason {
    /// The reason that an attempt stopped for this is recorded with, if another attempt follows it.
    pub fn word_of_end(self) -> Option<&'static str> {
        match self {
            StopReason::Timeout => Some(reason::TIMEOUT),
            StopReason::Drain => Some(reason::DRAINED),
            StopReason::Preemption => Some(reason::PREEMPTED),
            StopReason::Evict => Some("Evicted"),
            StopReason::Suspend => Some(SUSPENDED),
            StopReason::Cancel
            | StopReason::ScaleDown
            | StopReason::JobEnded
            | StopReason::Delete
            | StopReason::Revision
            | StopReason::Gang => None,
        }
    }

    /// Whether the task does not run again in this run.
    pub fn is_for_good(self) -> bool {
        match self {
            StopReason::Cancel
            | StopReason::ScaleDown
            | StopReason::JobEnded
            | StopReason::Delete => true,
            StopReason::Timeout
            | StopReason::Drain
            | StopReason::Preemption
            | StopReason::Suspend
            | StopReason::Revision
            | StopReason::Gang
            | StopReason::Evict => false,
        }
    }
}

impl StopReason {
    /// The reason for people: `stopped: its job is suspended`.
    pub fn words(self) -> &'static str {
        match self {
            StopReason::Cancel => "cancelled",
            StopReason::ScaleDown => "stopped: its job was scaled down",
            StopReason::JobEnded => "stopped: its job has ended",
            StopReason::Delete => "deleted",
            StopReason::Timeout => "timed out",
            StopReason::Drain => "stopped: its node is being drained",
            StopReason::Preemption => "stopped: a task of higher priority needs its place",
            StopReason::Suspend => "stopped: its job is suspended",
            StopReason::Revision => "stopped: a newer revision replaces it",
            StopReason::Gang => "stopped: another task of its gang failed",
            StopReason::Evict => "evicted",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The decision that an attempt runs on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the node; absent after the agent returned the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Number of the attempt.
    pub attempt: u32,
    /// Number of the binding, counted over the life of the task.
    pub number: u32,
    /// When the decision was made.
    pub at: Timestamp,
}

/// Why no node is found for an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unschedulable {
    /// Number of the attempt.
    pub attempt: u32,
    /// What is wrong with each node, for example `0 of 3 nodes: 2 have cpu < 500m, 1 cordoned`.
    pub message: String,
}

/// The observed state of a task, as reported by the agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Current phase of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<TaskPhase>,
    /// Number of the attempt that the status describes; 0 before the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    /// Number of the binding that the status describes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub binding: u32,
    /// The `bootId` of the agent that reported the status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// State of the container as the agent sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ReportState>,
    /// Name of the node that the attempt ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Whether the task is ready to serve: its startup and readiness probes have succeeded. Without
    /// them, true while its container runs. False while it is being stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// Since when the task has been ready without a break, by the clock of the apiserver that
    /// stored it. Absent while it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// Number of restarts in place within this attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restarts: u32,
    /// How the container before the current one ended. Absent if the attempt has had no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Box<LastExit>>,
    /// When the container is started again, by the clock of its node. Present while it waits for
    /// that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_at: Option<Timestamp>,
    /// Digest of the image that the task runs. Absent for the tasks of a job, and for an image that no
    /// registry knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Box<str>>,
    /// Exit code of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why the attempt ended, one word: OOMKilled, Timeout, ImagePull, CannotRun, MountFailed,
    /// PortTaken, NameTaken, InvalidContainer, Refused, StartFailed, Unhealthy, NodeLost,
    /// Preempted, Drained, Signal, ContainerGone, Restored or Flapping. Absent if the process
    /// exited by itself. While the task waits to be started again in place: BackOff, Flapping, or
    /// why the last start failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Details of why the attempt ended, of what delays its start or its stop, or of what its probes
    /// find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Node ports by port name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Set while the node of the attempt is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Box<Loss>>,
    /// Earlier attempts; the last 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<PastAttempt>,
    /// Ready (it is ready to serve, or has succeeded), Reconciling, Stalled; derived from the rest when read.
    #[serde(default, skip_serializing_if = "Computed::is_nothing")]
    pub conditions: Computed,
}

/// How many earlier attempts a task keeps.
pub const ATTEMPTS_KEPT: usize = 5;
/// Longest message of an earlier attempt, in characters.
pub const PAST_MESSAGE_CHARS_MAX: usize = 256;
/// Most nodes that a task avoids.
pub const AVOIDED_NODES_MAX: usize = 5;

/// The reasons for which attempts end, each one word. [`reason::ALL`] is generated with the
/// constants, so every reason can be named in retry rules.
pub mod reason {
    /// Declares the constants and the list of all of them.
    macro_rules! reasons {
        ($($(#[$doc:meta])+ $name:ident = $word:literal;)+) => {
            $($(#[$doc])+ pub const $name: &str = $word;)+

            /// Every reason that an attempt of a job's task can end with.
            pub const ALL: &[&str] = &[$($name),+];
        };
    }

    /// It kept ending, however often it was started again in place. The tasks of a job are not, so
    /// no retry rule names it.
    pub const FLAPPING: &str = "Flapping";

    reasons! {
        /// The kernel killed it because it exceeded its memory limit.
        OOM_KILLED = "OOMKilled";
        /// Its time limit was exceeded.
        TIMEOUT = "Timeout";
        /// Its image could not be pulled.
        IMAGE_PULL = "ImagePull";
        /// Its command cannot be executed.
        CANNOT_RUN = "CannotRun";
        /// One of its mounts cannot be made.
        MOUNT_FAILED = "MountFailed";
        /// One of its node ports is in use by something other than a task.
        PORT_TAKEN = "PortTaken";
        /// A container that is not Heliox's has its name.
        NAME_TAKEN = "NameTaken";
        /// The runtime rejects another property of the container.
        INVALID_CONTAINER = "InvalidContainer";
        /// The agent refused it: its template cannot be run, or does not fit the node.
        REFUSED = "Refused";
        /// The runtime failed to start it repeatedly.
        START_FAILED = "StartFailed";
        /// Its startup or liveness probe failed.
        UNHEALTHY = "Unhealthy";
        /// Its node was lost.
        NODE_LOST = "NodeLost";
        /// A task of higher priority took its place.
        PREEMPTED = "Preempted";
        /// Its node was drained.
        DRAINED = "Drained";
        /// It was killed by a signal that Heliox did not send.
        SIGNAL = "Signal";
        /// Its container is gone, and nothing tells how it ended.
        CONTAINER_GONE = "ContainerGone";
        /// It ended after the backup was taken from which the cluster was restored, so its result
        /// is not known.
        RESTORED = "Restored";
    }
}

/// Why a task waits that is to be started again in place, and whose last start did not fail. It is
/// no reason of an end.
pub const BACK_OFF: &str = "BackOff";

/// How a container ended that was started again in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastExit {
    /// Exit code of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended, one word. Absent if the process exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it ended. At most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it ended, by the clock of its node.
    pub at: Timestamp,
}

/// State of an attempt as the agent sees it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ReportState {
    /// The container is being created.
    Starting,
    /// The container runs.
    Running,
    /// The process exited with 0.
    Succeeded,
    /// The process exited with another code, or could not be started.
    Failed,
    /// Stopped because a time limit was exceeded.
    TimedOut,
    /// Stopped for another reason.
    Cancelled,
}

impl ReportState {
    /// Whether the attempt has ended.
    pub fn is_terminal(self) -> bool {
        match self {
            ReportState::Starting | ReportState::Running => false,
            ReportState::Succeeded
            | ReportState::Failed
            | ReportState::TimedOut
            | ReportState::Cancelled => true,
        }
    }
}

/// The node of an attempt is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// Number of the attempt.
    pub attempt: u32,
    /// When the node was last heard from.
    pub since: Timestamp,
    /// Whether the attempt may be replaced. Its resources are then free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaceable: bool,
    /// Whether the task waits for the node to come back, as `onNodeLoss` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

/// An earlier attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastAttempt {
    /// Number of the attempt.
    pub attempt: u32,
    /// Number of the job's run that the attempt belonged to. 0 if an older version of Heliox
    /// recorded it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub run: u32,
    /// Phase in which it ended.
    pub phase: TaskPhase,
    /// Name of the node that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Exit code of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended, one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it ended. At most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Phase of a task.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TaskPhase {
    /// Waits for a node.
    Pending,
    /// Has a node; its resources are reserved there.
    Bound,
    /// The container is being created.
    Starting,
    /// The container runs.
    Running,
    /// The container is being stopped.
    Stopping,
    /// The process exited with 0.
    Succeeded,
    /// The process exited with another code, or could not be started.
    Failed,
    /// Stopped because a time limit was exceeded.
    TimedOut,
    /// Stopped for another reason.
    Cancelled,
    /// The node is lost.
    Lost,
}

impl fmt::Display for TaskPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
