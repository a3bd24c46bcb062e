//! Task: the unit of work. One container, on one node at a time.
//!
//! # Invariants
//!
//! * A stored Task has five parts with one writer each: the spec (its controller), `stop` (anyone
//!   allowed to, through evict), `binding` (the scheduler), the report (the node's agent) and
//!   `loss` (the node controller). A part speaks of one attempt; of any other it says nothing.
//! * The phase is a pure function of the parts ([`Task::state`]) and is never stored.
//! * Every change of a part goes through [`transition`], which checks the facts it was decided on.

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

/// What a task is to do, and where that was decided.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskSpec {
    /// The TaskTemplate that it runs, in the same namespace.
    pub template: String,
    /// What of it is this task's own.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// Its index among its owner's tasks.
    #[serde(default)]
    pub index: u32,
    /// How many tasks its owner has.
    #[serde(default)]
    pub count: u32,
    /// The owner's run that it belongs to, from 1.
    #[serde(default = "one")]
    pub run: u32,
    /// The attempt, from 1; only grows, over runs too.
    #[serde(default = "one")]
    pub attempt: u32,
    /// The least number of the next attempt: set where the task came out of a backup, since later
    /// attempts of it may have been made that the backup does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<u32>,
    /// Attempts of this run that failed and count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// This attempt is not bound before: the back-off of a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Nodes where an attempt of this run failed or was evicted, the last one last. The
    /// scheduler uses one only where no other would do, and of those rather the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<String>,
    /// Higher goes first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// The queue that it was admitted by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The run whose completion record has its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<u32>,
    /// Why an attempt is to end before it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Where an attempt runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// Why the scheduler has no node for this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<Unschedulable>,
    /// Nodes whose agents gave an attempt back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<Refusals>,
    /// The node of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}

fn one() -> u32 {
    1
}

/// What of a template is a task's own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overrides {
    /// Its name in its job's list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<serde_json::Value>,
    /// The partition that it targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// A partial template, laid over the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::partial_template")]
    pub template: Option<Partial>,
    /// A partial placement, laid over the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::partial_placement")]
    pub placement: Option<Partial>,
}

impl Overrides {
    /// Whether the template says all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an attempt is to end before it ends by itself. Set once per attempt and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stop {
    /// The attempt.
    pub attempt: u32,
    /// Why.
    pub reason: StopReason,
    /// When it was asked for.
    pub at: Timestamp,
}

/// Why an attempt is to end.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum StopReason {
    /// It is not wanted any more: its job ended or a person said so. For good.
    Cancel,
    /// Its object is being deleted. For good.
    Delete,
    /// Its time was up.
    Timeout,
    /// Its node is being emptied.
    Drain,
    /// A task of higher priority needs its place.
    Preemption,
    /// Its job is suspended.
    Suspend,
    /// Its template was replaced by a newer one.
    Revision,
    /// Another task of its gang failed.
    Gang,
    /// A person wants it to start anew elsewhere.
    Evict,
}

impl StopReason {
    /// Whether the task is not to run again in this run.
    pub fn is_for_good(self) -> bool {
        match self {
            StopReason::Cancel | StopReason::Delete => true,
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
    /// Why, for people: `stopped: its job is suspended`.
    pub fn words(self) -> &'static str {
        match self {
            StopReason::Cancel => "cancelled",
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Binding {
    /// The node; nothing after the agent refused, when only the number is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The attempt.
    pub attempt: u32,
    /// Counts the bindings of this task; only grows.
    pub number: u32,
    /// When it was decided.
    pub at: Timestamp,
}

/// Why the scheduler has no node for an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unschedulable {
    /// The attempt.
    pub attempt: u32,
    /// `0 of 3 nodes: 2 have cpu < 500m, 1 cordoned`.
    pub message: String,
}

/// The agent's report and the node controller's verdict; flat on the wire.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskStatus {
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<TaskPhase>,
    /// The attempt that the report speaks of; 0 before the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    /// The number of the binding that it speaks of.
    #[serde(default, skip_serializing_if = "is_default")]
    pub binding: u32,
    /// The start of the agent that speaks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// What the agent saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ReportState>,
    /// The node that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Whether it is ready to serve.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// Restarts in place of this attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restarts: u32,
    /// How the process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended, in one word: OOMKilled, Timeout, ImagePull, Refused, StartFailed, Signal,
    /// NodeLost, Preempted, ContainerGone, Restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it ended, or what is in the way of its start or its stop, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Host ports by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// That its node is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Earlier attempts: the last 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<PastAttempt>,
}

/// Earlier attempts that a task remembers.
pub const ATTEMPTS_KEPT: usize = 5;
/// Characters of a past attempt's message that a task remembers.
pub const PAST_MESSAGE_CHARS_MAX: usize = 256;
/// Nodes that a task avoids at most.
pub const AVOIDED_NODES_MAX: usize = 5;

/// Words for why an attempt ended. [`reason::ALL`] has every one of them, by construction: what an
/// attempt can end with is what the rules of a retry may name.
pub mod reason {
    /// Makes the constants and the list of all of them.
    macro_rules! reasons {
        ($($(#[$doc:meta])+ $name:ident = $word:literal;)+) => {
            $($(#[$doc])+ pub const $name: &str = $word;)+

            /// Every reason that an attempt can end with.
            pub const ALL: &[&str] = &[$($name),+];
        };
    }

    reasons! {
        /// The kernel killed it for its memory.
        OOM_KILLED = "OOMKilled";
        /// Its time was up.
        TIMEOUT = "Timeout";
        /// Its image is not there.
        IMAGE_PULL = "ImagePull";
        /// Its command cannot be executed.
        CANNOT_RUN = "CannotRun";
        /// One of its mounts cannot be made.
        MOUNT_FAILED = "MountFailed";
        /// Something that is no task has one of its host ports.
        PORT_TAKEN = "PortTaken";
        /// A container that is not ours has its name.
        NAME_TAKEN = "NameTaken";
        /// The runtime rejects something else that was asked of it.
        INVALID_CONTAINER = "InvalidContainer";
        /// The agent refused it: what its template asks for cannot be, or does not fit the node.
        REFUSED = "Refused";
        /// The runtime failed to start it, time and again.
        START_FAILED = "StartFailed";
        /// Its health check failed.
        UNHEALTHY = "Unhealthy";
        /// Its node was lost.
        NODE_LOST = "NodeLost";
        /// A task of higher priority took its place.
        PREEMPTED = "Preempted";
        /// Its node was drained.
        DRAINED = "Drained";
        /// A signal ended it that nobody here sent.
        SIGNAL = "Signal";
        /// Its container is gone, and nothing tells how it ended.
        CONTAINER_GONE = "ContainerGone";
        /// It ended after the backup that the cluster was restored from, which does not tell how.
        RESTORED = "Restored";
    }
}

/// What the agent saw of an attempt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ReportState {
    /// Its container is being made.
    Starting,
    /// It runs.
    Running,
    /// It ended by itself, with exit code 0.
    Succeeded,
    /// It ended by itself otherwise, or could not be started.
    Failed,
    /// It was stopped, since its time was up.
    TimedOut,
    /// It was stopped for another reason.
    Cancelled,
}

impl ReportState {
    /// Whether nothing more happens in this attempt.
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

/// That an attempt's node is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loss {
    /// The attempt.
    pub attempt: u32,
    /// When the node controller saw it.
    pub since: Timestamp,
    /// Whether the attempt may be replaced: its resources are free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaceable: bool,
}

/// An earlier attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastAttempt {
    /// Its number.
    pub attempt: u32,
    /// How it ended.
    pub phase: TaskPhase,
    /// Where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// How its process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it ended, as a sentence; at most 256 characters of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// A task's phase: its state in one word.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TaskPhase {
    /// Waits for a node.
    Pending,
    /// Has a node, whose resources it takes.
    Bound,
    /// Its container is being made.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// Ended well.
    Succeeded,
    /// Ended otherwise.
    Failed,
    /// Was stopped, since its time was up.
    TimedOut,
    /// Was stopped for another reason.
    Cancelled,
    /// Its node is lost.
    Lost,
}

impl fmt::Display for TaskPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
