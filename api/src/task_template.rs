//! TaskTemplate: an immutable revision of what tasks run. All that agent and scheduler need.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::job::Target;
use crate::kind::KindId;
use crate::object::{Definition, Object};
use crate::placement::Placement;
use crate::template::Template;

/// An immutable revision of what tasks run.
pub type TaskTemplate = Object<TaskTemplateDefinition>;

/// Makes [`TaskTemplate`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskTemplateDefinition;

impl Definition for TaskTemplateDefinition {
    const ID: KindId = KindId::TaskTemplate;
    type Spec = TaskTemplateSpec;
    type Status = TaskTemplateStatus;
}

/// What tasks run. `$(task...)`, `$(node...)` and `$(ports...)` are still in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskTemplateSpec {
    /// The container.
    pub template: Template,
    /// Where tasks may run.
    #[serde(default)]
    pub placement: Placement,
    /// The set beside whose replicas tasks run; each task names its partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The job, for `maxPerNode` and the environment.
    pub job: String,
    /// The run that it was made for, for the environment; empty outside a run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// Most tasks of the job at once on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// Of one attempt, from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<Duration>,
}

/// Nothing: a template never changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskTemplateStatus {}
