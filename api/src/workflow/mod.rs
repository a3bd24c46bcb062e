//! Workflow: a DAG of jobs.

mod reach;
mod revision;
mod row;
mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::duration::Duration;
use crate::job::{JobPhase, Partial, Retry, with_job_fields};
use crate::kind::KindId;
use crate::object::{Definition, Object};
use crate::workflow_run::phase::RunPhase;

pub use revision::{revision, written_revision};
pub use validate::check_params;

/// A DAG of jobs.
pub type Workflow = Object<WorkflowDefinition>;

/// Makes [`Workflow`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowDefinition;

impl Definition for WorkflowDefinition {
    const ID: KindId = KindId::Workflow;
    type Spec = WorkflowSpec;
    type Status = WorkflowStatus;
}

/// The jobs of a workflow and how runs of it behave.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowSpec {
    /// Parameters of the workflow. Each run has its own values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Param>,
    /// Template, retry and placement that all jobs share. What a job sets itself takes precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<JobDefaults>,
    /// The jobs, from 1 to 1,000.
    pub jobs: Vec<WorkflowJob>,
    /// Start a run whenever a new revision of the workflow is applied. Default true; must be false
    /// if a parameter has no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_on_apply: Option<bool>,
    /// Number of failed jobs that a run tolerates. The run fails when more jobs have failed.
    /// Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_jobs: Option<u32>,
    /// Time limit for a run, counted from its start. Time spent suspended does not count. Default:
    /// no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Start no run when the workflow changes. Runs that exist continue; each has its own
    /// `suspend`. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How many finished runs are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// Most jobs of a workflow.
pub const JOBS_MAX: usize = 1_000;

/// A parameter of a workflow. Its value is always text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Param {
    /// Name of the parameter; jobs refer to its value as `$(params.NAME)`.
    pub name: String,
    /// Value for runs that give none. It may contain `$(run.name)` and `$(run.date)`. A parameter
    /// without a default is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The only values that are allowed. Default: any text of at most 64 KiB.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What the parameter is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Settings that all jobs of a workflow share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobDefaults {
    /// Default container settings. A job's own template is merged over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::generate::partial_template")]
    pub template: Option<Partial>,
    /// Retry policy of jobs that have no `retry` of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Default placement. A job's own placement is merged over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::generate::partial_placement")]
    pub placement: Option<Partial>,
}

with_job_fields! {
    /// A job of a workflow: the fields of a Job's spec, a name and dependencies. Template and
    /// placement may be incomplete; `defaults` supplies the rest.
    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    pub struct WorkflowJob {
        #[serde(default, skip_serializing_if = "WorkflowTemplate::is_empty")]
        #[schemars(schema_with = "crate::schema::generate::partial_template")]
        template: WorkflowTemplate,
        #[schemars(schema_with = "crate::schema::generate::partial_placement")]
        placement: Partial,
        /// Name of the job, unique in the workflow.
        pub name: String,
        /// Jobs of this workflow that must have ended before this one starts. Default: none, and
        /// the job starts with the run.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub depends_on: Vec<Dependency>,
    }
}

/// A partial template that may be left out where the defaults have all of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WorkflowTemplate(pub Partial);

impl WorkflowTemplate {
    /// Whether the defaults have all of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A job that must have ended first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Name of the job to wait for.
    pub job: String,
    /// Phases of that job that allow this one to start: any of Succeeded, Skipped, Failed, TimedOut
    /// and Cancelled. Default Succeeded and Skipped. Failed includes TimedOut. A job that accepts
    /// Failed, TimedOut or Cancelled runs even when the workflow run is failing, as does what
    /// depends on it; the failure still counts. If the other job ends in another phase, this one is
    /// Skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<JobPhase>,
}

impl Dependency {
    /// Whether it names a phase of failure: then the dependent job is meant to run when something
    /// goes wrong.
    pub fn names_failure(&self) -> bool {
        let fails = |phase: &JobPhase| {
            matches!(phase, JobPhase::Failed | JobPhase::TimedOut | JobPhase::Cancelled)
        };
        self.phases.iter().any(fails)
    }

    /// Whether a job that ended in `phase` lets the dependent one start.
    pub fn is_met_by(&self, phase: JobPhase) -> bool {
        if self.phases.is_empty() {
            return matches!(phase, JobPhase::Succeeded | JobPhase::Skipped);
        }
        self.phases.contains(&phase)
            || (phase == JobPhase::TimedOut && self.phases.contains(&JobPhase::Failed))
    }
}

/// How many finished runs of a workflow are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Number of succeeded runs to keep. Default 10. The newest run, and the newest one that was
    /// started by itself for the current revision, are always kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<u32>,
    /// Number of runs to keep that ended in any other way. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u32>,
}

/// How many finished runs are kept if the workflow does not say.
pub const HISTORY: u32 = 10;

/// The reason of the conditions of a workflow of whose revision there is no run, and none starts by
/// itself.
pub const NO_RUN: &str = "NoRun";
/// The reason of the conditions of a workflow that starts no run of its revision since it is
/// suspended.
pub const SUSPENDED: &str = "Suspended";

/// The observed state of a workflow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStatus {
    /// Phase of `lastRun`. Absent if the current revision has not been run; the workflow is then
    /// Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// The `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Hash of the part of the spec that runs execute.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Number of the last run that was given a numbered name.
    #[serde(default)]
    pub last_run_number: u32,
    /// Name of the newest run of the current revision, whoever started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Name of the newest run that the workflow started by itself for its revision. Absent if there
    /// is none, for example since a suspended workflow holds the revision back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed_run: Option<String>,
    /// Number of runs that have not ended.
    #[serde(default)]
    pub active: u32,
    /// Conditions Ready, Reconciling and Stalled, one of which is True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
