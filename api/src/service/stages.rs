//! What a rollout does before its tasks change and while the first of them are tried: a job before, and
//! canaries.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RolloutState, RolloutStatus, ServiceSpec};
use crate::duration::Duration;
use crate::job::{JobSpec, Partial, Retry};
use crate::merge;
use crate::number_or_percent::NumberOrPercent;
use crate::object::is_default;
use crate::template::Template;
use crate::violation::Violation;

/// A job that a rollout runs: one task over the service's template.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutJob {
    /// Changes to the service's template: only the fields that differ. The job has no probes and no
    /// fixed host ports of the service's template, so that it can run beside the tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::generate::partial_template")]
    pub template: Option<Partial>,
    /// How often and when a failed attempt is retried. Default: 3 attempts, 10s before the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Time limit for the job, counted from the start of its task. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// The first tasks of a new revision, which are watched before the others are replaced.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Number of tasks, or their share, that run the new revision first; at least 1. Default 1. They
    /// start beside the others, unless `perNode` or a fixed host port allows only one task at a place:
    /// then they take the place of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<NumberOrPercent>,
    /// How long the canaries must have been available before the rollout goes on by itself. Default:
    /// it waits for `hctl rollout promote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<Duration>,
    /// A job that must succeed once the canaries are available; if it fails, so does the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<RolloutJob>,
}

/// A job of a rollout, as its status shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageJob {
    /// Name of the job.
    pub job: String,
    /// Whether it has succeeded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub succeeded: bool,
}

/// The canaries of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// Number of tasks that run the new revision first.
    pub count: u32,
    /// When all of them were available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_at: Option<Timestamp>,
    /// The job that checks them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<StageJob>,
    /// Who promoted the revision, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_by: Option<String>,
    /// When the other tasks began to be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_at: Option<Timestamp>,
}

impl RolloutJob {
    /// The spec of the job.
    ///
    /// # Errors
    /// What is wrong with its template. Paths are relative to that.
    pub fn spec(&self, service: &ServiceSpec) -> Result<JobSpec, Vec<Violation>> {
        Ok(JobSpec {
            template: self.template(&service.template)?,
            placement: service.placement.clone(),
            retry: self.retry.clone(),
            timeout: self.timeout,
            priority: service.priority,
            ..JobSpec::default()
        })
    }

    fn template(&self, of_service: &Template) -> Result<Template, Vec<Violation>> {
        let mut under = merge::to_map(of_service);
        for field in ["startupProbe", "readinessProbe", "livenessProbe", "drainDelay"] {
            under.shift_remove(field);
        }
        let ports = under.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.shift_remove("hostPort");
        }
        let under: Template = serde_json::from_value(Value::Object(under))
            .map_err(|error| vec![Violation::new("", error.to_string())])?;
        merge::template(&under, self.template.as_ref())
    }
}

impl ServiceSpec {
    /// Whether a new task can start beside the old ones: there may be two at a place.
    pub fn has_room_beside(&self) -> bool {
        !self.is_per_node() && self.template.ports.iter().all(|port| port.host_port.is_none())
    }
}

/// What a rollout may do with tasks now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: the job before is not done.
    Before,
    /// So many tasks may run the new revision.
    Canary(u32),
    /// All tasks are replaced.
    All,
}

impl RolloutStatus {
    /// What the rollout may do with tasks now.
    pub fn stage(&self) -> Stage {
        if self.before.as_ref().is_some_and(|before| !before.succeeded) {
            return Stage::Before;
        }
        match &self.canary {
            Some(canary) if canary.passed_at.is_none() => Stage::Canary(canary.count),
            Some(_) | None => Stage::All,
        }
    }

    /// Whether the rollout waits for somebody to promote it, or can be promoted before it does.
    pub fn can_be_promoted(&self) -> bool {
        let is_open = match self.state {
            RolloutState::Progressing | RolloutState::Suspended => true,
            RolloutState::Complete | RolloutState::Failed => false,
        };
        is_open && self.canary.as_ref().is_some_and(|canary| canary.passed_at.is_none())
    }
}
