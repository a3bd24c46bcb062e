//! Classes: groups of tasks that the scheduler cannot tell apart.
//!
//! Whether a node fits, and how well, is computed once for a class and not for each task. Tasks of
//! one class differ only in which nodes they avoid.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use api::job::Target;
use api::object::ObjectKey;
use api::owner::Owner;
use api::placement::{Constraint, Near, Placement};
use api::room::WantedPorts;
use api::taint::Toleration;
use api::task::Overrides;
use api::task_template::TaskTemplateSpec;
use api::template::Template;
use api::{Kind as _, KindId, Task, Violation, merge, names};

use crate::resources::{Requests, Resources};
use crate::snapshot::queued::Queued;

/// The number of a class. After its last task is gone, another class may get the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClassId(pub(crate) u32);

/// The number of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(pub(crate) u32);

impl JobId {
    /// A job without tasks anywhere. No real job has this number.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// The number of a shape. After its last class is gone, another shape may get the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeId(pub(crate) u32);

/// The identity of an owner of tasks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobKey {
    pub(crate) namespace: String,
    pub(crate) owner: Owner,
}

impl JobKey {
    /// The owner of a task: its controller, or its template if it has none. Labels do not count,
    /// because anybody can change them.
    pub(crate) fn of(task: &Task) -> Self {
        let alone = || Owner { kind: String::new(), name: task.spec.template.clone() };
        let owner = task.controller().map_or_else(alone, Owner::of);
        Self { namespace: task.namespace().to_owned(), owner }
    }

    /// The job that `near: {job: name}` refers to: within a run, the run's job of that name.
    pub(crate) fn near(&self, run: &str, name: &str) -> JobKey {
        let name = if run.is_empty() { name.to_owned() } else { names::job_in_run(run, name) };
        Self { namespace: self.namespace.clone(), owner: Owner::new(KindId::Job, name) }
    }
}

/// Everything that distinguishes one class from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassKey {
    pub(crate) template: ObjectKey,
    pub(crate) job: JobKey,
    pub(crate) partition: Option<String>,
    /// Those parts of the overrides that placement depends on, as JSON; empty if there are none.
    overrides: String,
}

impl ClassKey {
    /// The class of a task.
    pub(crate) fn of(task: &Task) -> Self {
        Self {
            template: ObjectKey::new(task.namespace(), &task.spec.template),
            job: JobKey::of(task),
            partition: task.spec.overrides.partition.clone(),
            overrides: relevant(&task.spec.overrides),
        }
    }
}

/// Fields of a template that placement depends on.
const RELEVANT: [&str; 3] = ["image", "resources", "ports"];

fn relevant(overrides: &Overrides) -> String {
    let of_template = |field: &&str| overrides.template.as_ref()?.get(*field);
    let parts: Vec<_> = RELEVANT.iter().map(of_template).collect();
    if overrides.placement.is_none() && parts.iter().all(Option::is_none) {
        return String::new();
    }
    serde_json::to_string(&(parts, &overrides.placement)).unwrap_or_default()
}

/// What tasks of a class require of a node and prefer.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) requests: Requests,
    pub(crate) ports: WantedPorts,
    /// Names of the ports that the node assigns from its range.
    pub(crate) range_ports: Vec<String>,
    pub(crate) image: String,
    /// The only nodes that are allowed; all if empty.
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) constraints: Vec<Constraint>,
    pub(crate) preferences: Vec<(u32, Constraint)>,
    pub(crate) near: Vec<Near>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) target: Option<Target>,
    pub(crate) max_per_node: Option<u32>,
}

impl Shape {
    /// Whether a node fits all jobs with this shape or none of them. Not if the shape refers to
    /// data: data near one job need not be near another.
    pub(crate) fn is_same_for_all_jobs(&self) -> bool {
        self.near.is_empty() && self.target.is_none()
    }

    /// The shape of a template with the task's partial template merged over it. The error is a
    /// sentence; it cannot occur for objects that the apiserver has accepted.
    pub(crate) fn new(
        spec: &TaskTemplateSpec,
        overrides: &Overrides,
        resources: &mut Resources,
    ) -> Result<Self, String> {
        if overrides.template.is_none() && overrides.placement.is_none() {
            return Self::of(spec, &spec.template, &spec.placement, resources);
        }
        let first = |violations: Vec<Violation>| {
            violations.first().map_or_else(String::new, ToString::to_string)
        };
        let template = merge::template(&spec.template, overrides.template.as_deref());
        let placement = merge::placement(&spec.placement, overrides.placement.as_deref());
        let (template, placement) = (template.map_err(first)?, placement.map_err(first)?);
        Self::of(spec, &template, &placement, resources)
    }

    fn of(
        spec: &TaskTemplateSpec,
        template: &Template,
        placement: &Placement,
        resources: &mut Resources,
    ) -> Result<Self, String> {
        let parse = |text: &String| text.parse::<Constraint>().map_err(|error| error.to_string());
        let constraints = placement.constraints.iter().map(parse).collect::<Result<_, _>>()?;
        let preference = |preference: &api::placement::Preference| {
            Ok((u32::from(preference.weight), parse(&preference.constraint)?))
        };
        let preferences = placement.preferences.iter().map(preference);
        let range_ports = template.ports.iter().filter(|port| port.host_port.is_none());
        Ok(Self {
            requests: resources.requests(&template.requests()),
            ports: WantedPorts::of(&template.ports),
            range_ports: range_ports.map(|port| port.name.clone()).collect(),
            image: template.image.clone(),
            nodes: placement.nodes.iter().cloned().collect(),
            node_selector: placement.node_selector.clone(),
            constraints,
            preferences: preferences.collect::<Result<_, String>>()?,
            near: placement.near.clone(),
            tolerations: placement.tolerations.clone(),
            target: spec.target.clone(),
            max_per_node: spec.max_per_node,
        })
    }
}

/// Why no node is considered for a class at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// Its template does not exist.
    NoTemplate {
        /// Name of the template.
        template: String,
    },
    /// The partition set that it targets or must be near does not exist.
    NoPartitionSet {
        /// Name of the set.
        set: String,
    },
    /// Template and overrides cannot be merged.
    Unreadable {
        /// What is wrong, as a sentence.
        problem: String,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocked::NoTemplate { template } => write!(f, "task template {template} not found"),
            Blocked::NoPartitionSet { set } => write!(f, "PartitionSet {set} does not exist"),
            Blocked::Unreadable { problem } => f.write_str(problem),
        }
    }
}

/// What has to happen before a class that fits no node is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Its template or partition set has to appear. Until then no node is tried.
    Blocked,
    /// A node has to appear or change.
    UntilNode,
    /// The same, or a task has to end.
    UntilRoom,
}

/// The constant properties of a class.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) key: ClassKey,
    pub(crate) job: JobId,
    /// The jobs that `near` refers to.
    pub(crate) near_jobs: Vec<JobId>,
    /// `None` if the template does not exist or cannot be merged.
    pub(crate) shape: Option<Arc<Shape>>,
    /// The number of the shape.
    pub(crate) shape_id: Option<ShapeId>,
    /// Why no node is considered.
    pub(crate) blocked: Option<Blocked>,
}

/// A class and its waiting tasks.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) facts: Arc<Facts>,
    /// Number of tasks of the class, waiting or not.
    pub(crate) tasks: u32,
    /// Tasks that wait for a node, in the order in which they are placed.
    pub(crate) queue: BTreeSet<Queued>,
    /// Set while no node fits the class.
    pub(crate) parked: Option<Parked>,
    /// Set once tasks of its job are on so many nodes that a shared index would cost more than one
    /// of its own.
    pub(crate) has_own_index: bool,
    /// The count of node changes when it was last served; 0 before the first time.
    pub(crate) served_at: u64,
}

#[cfg(test)]
mod tests {
    use api::KindId;
    use api::task::TaskSpec;
    use serde_json::{Map, Value, json};

    use super::*;

    /// A value for a field of a template that differs from what a template has that says nothing.
    fn other(field: &str) -> Value {
        match field {
            "image" | "workingDir" | "hostname" | "runtime" => json!("other"),
            "dns" => json!(["10.0.0.7"]),
            "hostAliases" => json!([{ "ip": "10.0.0.7", "hostnames": ["other"] }]),
            "hostPID" => json!(true),
            "devices" => json!(["/dev/other"]),
            "sysctls" => json!([{ "name": "net.other", "value": "1" }]),
            "ulimits" => json!([{ "name": "core", "soft": 7 }]),
            "securityContext" => json!({ "runAsUser": 7 }),
            "logs" => json!({ "keep": "7h" }),
            "stopSignal" => json!("SIGUSR1"),
            "imagePullPolicy" => json!("Always"),
            "networkMode" => json!("host"),
            "command" | "args" => json!(["other"]),
            "env" => json!([{ "name": "OTHER", "value": "1" }]),
            "resources" => json!({ "requests": { "cpu": "7" } }),
            "ports" => json!([{ "name": "other", "hostPort": 7 }]),
            "mounts" => json!([{ "path": "/other", "tmpfs": {} }]),
            "labels" => json!({ "other": "1" }),
            "terminationGracePeriodSeconds" => json!(7),
            "startupProbe" | "readinessProbe" | "livenessProbe" => {
                json!({ "exec": { "command": ["other"] } })
            }
            "drainDelay" => json!("7s"),
            _ => panic!("say how a template differs in {field}"),
        }
    }

    #[test]
    fn tasks_of_a_class_want_the_same_of_a_node_whatever_their_overrides_say() {
        let schema = &api::schema::of(KindId::TaskTemplate)["properties"]["spec"]["properties"];
        let fields = schema["template"]["properties"].as_object().unwrap();
        assert!(fields.len() > 10, "{fields:?}");
        let task = |template: Option<Map<String, Value>>| {
            let overrides = Overrides { template: template.map(Box::new), ..Overrides::default() };
            Task::new("default", "t", TaskSpec { overrides, ..TaskSpec::default() })
        };
        let mut resources = Resources::default();
        let mut shape = |task: &Task| {
            Shape::new(&TaskTemplateSpec::default(), &task.spec.overrides, &mut resources).unwrap()
        };
        let plain = task(None);
        for field in fields.keys() {
            let over = task(Some(Map::from_iter([(field.clone(), other(field))])));
            let is_another_class = ClassKey::of(&over) != ClassKey::of(&plain);
            assert!(is_another_class || shape(&over) == shape(&plain), "{field}");
        }
    }
}
