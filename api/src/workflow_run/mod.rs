//! WorkflowRun: one execution of a workflow.

mod row;
mod validate;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::job::JobPhase;
use crate::kind::KindId;
use crate::object::is_default;
use crate::object::{Definition, Object};
use crate::workflow::WorkflowSpec;

/// One execution of a workflow.
pub type WorkflowRun = Object<WorkflowRunDefinition>;

/// Makes [`WorkflowRun`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowRunDefinition;

impl Definition for WorkflowRunDefinition {
    const ID: KindId = KindId::WorkflowRun;
    type Spec = WorkflowRunSpec;
    type Status = WorkflowRunStatus;
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowRunSpec {
    /// The workflow, in the same namespace.
    pub workflow: String,
    /// Values of its parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Holds the run: running tasks stop, nothing starts, progress stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Ends the run: running tasks stop, nothing starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// What a run has come to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowRunStatus {
    /// One word.
    #[serde(default)]
    pub phase: RunPhase,
    /// The generation that the rest speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The workflow as it was when the run began: later changes of it do not touch this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Box<WorkflowSpec>>,
    /// The revision of that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Every parameter's value, defaults included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// How each job stands, in the workflow's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<RunJob>,
    /// Tasks of all jobs made so far.
    #[serde(default)]
    pub total: u32,
    /// Of those, not bound to a node yet.
    #[serde(default)]
    pub pending: u32,
    /// Of those, bound and not ended.
    #[serde(default)]
    pub active: u32,
    /// Of those, ended well.
    #[serde(default)]
    pub succeeded: u32,
    /// Of those, given up.
    #[serde(default)]
    pub failed: u32,
    /// Of those, stopped on purpose.
    #[serde(default)]
    pub cancelled: u32,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
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

/// How a job of a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunJob {
    /// Its name in the workflow.
    pub name: String,
    /// The Job object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// One word.
    #[serde(default)]
    pub phase: JobPhase,
    /// Its tasks.
    #[serde(default)]
    pub total: u32,
    /// Of those, not bound to a node yet.
    #[serde(default)]
    pub pending: u32,
    /// Of those, bound and not ended.
    #[serde(default)]
    pub active: u32,
    /// Of those, ended well.
    #[serde(default)]
    pub succeeded: u32,
    /// Of those, given up.
    #[serde(default)]
    pub failed: u32,
    /// Of those, stopped on purpose.
    #[serde(default)]
    pub cancelled: u32,
    /// When its first task was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Why it waits or how it ended, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A run's phase.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum RunPhase {
    /// Nothing runs yet.
    #[default]
    Pending,
    /// Jobs run, or ran and more will.
    Running,
    /// Stopped on purpose; to be resumed.
    Suspended,
    /// Done.
    Succeeded,
    /// Too many jobs failed.
    Failed,
    /// Its time was up.
    TimedOut,
    /// Stopped for good.
    Cancelled,
    /// Never run.
    Skipped,
}

impl RunPhase {
    /// Whether nothing more happens.
    pub fn is_final(self) -> bool {
        match self {
            RunPhase::Pending | RunPhase::Running | RunPhase::Suspended => false,
            RunPhase::Succeeded
            | RunPhase::Failed
            | RunPhase::TimedOut
            | RunPhase::Cancelled
            | RunPhase::Skipped => true,
        }
    }
}

impl fmt::Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
