//! WorkflowRun: one execution of a workflow.

mod fit;
pub(crate) mod phase;
mod row;
mod validate;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::job::JobPhase;
use crate::kind::KindId;
use crate::object::is_default;
use crate::object::{Definition, Object};
use crate::workflow::WorkflowSpec;

pub use fit::{misfits, too_large};
pub use phase::RunPhase;

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

/// The workflow to run and the values of its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRunSpec {
    /// Name of the workflow, in the same namespace. Cannot be changed.
    pub workflow: String,
    /// Values of the workflow's parameters, always text. Parameters left out have their default.
    /// Parameters that the workflow does not have, or that make one of its jobs invalid, are refused;
    /// if the workflow does not exist yet, the run fails when it starts. Cannot be changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Stop the tasks of the run and start no new ones, keeping the progress made. Set it back to
    /// false to resume. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Cancel the run: running tasks are stopped and no new ones start. This is final. Default
    /// false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// The observed state of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRunStatus {
    /// Current phase of the run.
    #[serde(default)]
    pub phase: RunPhase,
    /// The `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Copy of the workflow's spec, taken when the run started. Later changes to the workflow do
    /// not affect the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Box<WorkflowSpec>>,
    /// Revision of that copy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Values of all parameters, including defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// State of each job, in the order of the workflow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<RunJob>,
    /// Number of tasks of all jobs created so far.
    #[serde(default)]
    pub total: u32,
    /// Tasks that have no node yet.
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
    /// When the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// When the run was suspended; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// Seconds the run spent suspended before the current suspension. `timeout` does not count
    /// them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspended_seconds: u64,
    /// Why the run is in its phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// While there is no message: why the first of the jobs failed, or what the first one waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Conditions Ready, Reconciling and Stalled, one of which is True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// State of a job in a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunJob {
    /// Name of the job in the workflow.
    pub name: String,
    /// Name of the Job object; absent if it has not been created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Current phase of the job.
    #[serde(default)]
    pub phase: JobPhase,
    /// Number of tasks of the job.
    #[serde(default)]
    pub total: u32,
    /// Tasks that have no node yet.
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
    /// When the first task of the job got a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// What the job waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
