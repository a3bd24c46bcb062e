//! TaskTemplate: an immutable revision of what tasks run. It holds all that scheduler and agent
//! need.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amounts::Amounts;
use crate::duration::Duration;
use crate::job::{self, Target};
use crate::kind::KindId;
use crate::merge;
use crate::metadata;
use crate::object::{Definition, Kind as _, Object};
use crate::owner::{self, Owner};
use crate::placement::{self, Placement};
use crate::resource::{Column, Resource, column};
use crate::restart::{self, Restart};
use crate::table::{age, text_or_dash};
use crate::task::Overrides;
use crate::template::{self, Template};
use crate::violation::Violation;

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

/// What the tasks of a job run. Written by Heliox, not by users. `$(task...)`, `$(node...)` and
/// `$(ports...)` are replaced when an attempt starts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskTemplateSpec {
    /// The container that tasks run.
    pub template: Template,
    /// Which nodes tasks may run on, and which they prefer.
    #[serde(default)]
    pub placement: Placement,
    /// Partition set beside whose replicas the tasks run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The object that the tasks belong to.
    #[serde(alias = "job", deserialize_with = "owner::read")]
    pub owner: Owner,
    /// Name of the workflow run; empty if the job does not belong to one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// Maximum number of tasks of the job on one node at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// Time limit for each attempt, counted from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<Duration>,
    /// How the container is started again after it has ended, whatever its exit code. Absent for
    /// the tasks of a job: there the end of the container is the end of the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
}

impl TaskTemplateSpec {
    /// What a node must have free for a task with these overrides.
    pub fn requests(&self, overrides: &Overrides) -> Amounts {
        let merged = merge::template(&self.template, overrides.template.as_deref());
        // Cannot fail: the apiserver refuses overrides that do not belong in a template.
        merged.map(|template| template.requests()).unwrap_or_default()
    }
}

/// Empty: a template never changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TaskTemplateStatus {}

impl Resource for TaskTemplate {
    fn validate(&self) -> Vec<Violation> {
        let mut found = metadata::validate(KindId::TaskTemplate, &self.metadata);
        template::validate(&self.spec.template, "spec.template", &mut found);
        placement::validate(&self.spec.placement, "spec.placement", &mut found);
        job::timeout(self.spec.attempt_timeout, "spec.attemptTimeout", &mut found);
        if let Some(restart) = &self.spec.restart {
            restart::validate(restart, "spec.restart", &mut found);
        }
        owner::validate(&self.spec.owner, "spec.owner", &mut found);
        found
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        if self.spec == old.spec {
            return Vec::new();
        }
        let violation = Violation::new("spec", "a TaskTemplate cannot be changed");
        vec![violation.hint("create another one and refer to it")]
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("spec.owner.kind", self.spec.owner.kind.clone()),
            ("spec.owner.name", self.spec.owner.name.clone()),
            ("spec.run", self.spec.run.clone()),
        ]
    }

    fn columns() -> &'static [Column] {
        const { &[column("NAME"), column("OWNER"), column("RUN"), column("IMAGE"), column("AGE")] }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name().to_owned(),
            self.spec.owner.to_string(),
            text_or_dash(&self.spec.run),
            self.spec.template.image.clone(),
            age(self.created(), now),
        ]
    }
}
