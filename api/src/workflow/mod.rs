//! Workflow: a DAG of jobs.

mod reach;
mod row;
mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::duration::Duration;
use crate::job::{JobPhase, Partial, Retry, with_job_fields};
use crate::kind::KindId;
use crate::object::{Definition, Object};
use crate::workflow_run::RunPhase;

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

/// What a workflow is to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowSpec {
    /// What each run is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Param>,
    /// Laid under every job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<JobDefaults>,
    /// The jobs; at least one.
    pub jobs: Vec<WorkflowJob>,
    /// Whether a new revision is run once, at once. Default true; a workflow with a parameter that
    /// has no default must set it to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_on_apply: Option<bool>,
    /// Failed jobs that a run survives. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_jobs: Option<u32>,
    /// Of a run, from its start; time suspended does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// No new runs; a run is held by its own `suspend`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How many finished runs are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// Most jobs of a workflow.
pub const JOBS_MAX: usize = 1_000;

/// A parameter. Its values are text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Param {
    /// Its name: `$(params.NAME)`.
    pub name: String,
    /// The value where a run gives none; a parameter without one is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The values allowed; any where empty.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What is laid under every job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobDefaults {
    /// A partial template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::partial_template")]
    pub template: Option<Partial>,
    /// For jobs that say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// A partial placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::partial_placement")]
    pub placement: Option<Partial>,
}

with_job_fields! {
    /// A job of a workflow: a Job's spec with a name and what it waits for. Its template and
    /// placement are parts, completed by the workflow's defaults.
    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct WorkflowJob {
        #[serde(default, skip_serializing_if = "WorkflowTemplate::is_empty")]
        #[schemars(schema_with = "crate::schema::partial_template")]
        template: WorkflowTemplate,
        #[schemars(schema_with = "crate::schema::partial_placement")]
        placement: Partial,
        /// Its name within the workflow.
        pub name: String,
        /// What must have ended before.
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

/// A job that must have ended before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// Its name.
    pub job: String,
    /// How it may have ended: of Succeeded, Skipped, Failed, TimedOut, Cancelled. Default Succeeded
    /// and Skipped. `Failed` takes in TimedOut. A job that names Failed, TimedOut or Cancelled, and
    /// what follows it, still runs when the run is about to fail; the failure counts all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<JobPhase>,
}

impl Dependency {
    /// Whether it names a way to fail: its dependent is meant for when something goes wrong.
    pub fn names_failure(&self) -> bool {
        let fails = |phase: &JobPhase| {
            matches!(phase, JobPhase::Failed | JobPhase::TimedOut | JobPhase::Cancelled)
        };
        self.phases.iter().any(fails)
    }

    /// Whether a job that ended as `phase` lets the dependent start.
    pub fn is_met_by(&self, phase: JobPhase) -> bool {
        if self.phases.is_empty() {
            return matches!(phase, JobPhase::Succeeded | JobPhase::Skipped);
        }
        self.phases.contains(&phase)
            || (phase == JobPhase::TimedOut && self.phases.contains(&JobPhase::Failed))
    }
}

/// How many finished runs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct History {
    /// Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<u32>,
    /// All that ended otherwise. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u32>,
}

/// Finished runs kept where the workflow says nothing.
pub const HISTORY: u32 = 10;

/// What a workflow has come to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowStatus {
    /// The phase of the newest run of the newest revision; nothing where that has no run, and the
    /// workflow is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// The generation that the rest speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The hash of the spec's part that runs execute.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The number of the last run that Heliox named.
    #[serde(default)]
    pub last_run_number: u32,
    /// The newest run of the newest revision, whoever started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Runs that have not ended.
    #[serde(default)]
    pub active: u32,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
