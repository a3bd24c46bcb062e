//! The table of kinds: names, groups and what each serves. A new kind begins here: a variant and its row
//! in [`KindId::info`]; then its type goes into [`every_kind!`](crate::every_kind!), and that type
//! says the rest ([`crate::resource::Resource`]).

use std::fmt;

use crate::labels;
use crate::phases;
use crate::subresource::Subresource;

/// The API group of Heliox's kinds.
pub const GROUP: &str = "heliox.dev";
/// The API version of that group.
pub const VERSION: &str = "v1";

/// A kind. The order is the one in which a list of several kinds shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KindId {
    /// `v1/Namespace`.
    Namespace,
    /// `v1/ConfigMap`.
    ConfigMap,
    /// `v1/Secret`.
    Secret,
    /// `v1/Event`.
    Event,
    /// `coordination.k8s.io/v1/Lease`: elects leaders.
    Lease,
    /// A host that runs tasks.
    Node,
    /// The proof that a node's agent lives. It expires unless the agent renews it.
    NodeLease,
    /// A DAG of jobs.
    Workflow,
    /// One execution of a workflow.
    WorkflowRun,
    /// A set of tasks that complete.
    Job,
    /// A set of tasks that stay up.
    Service,
    /// 8,192 indexes of a job run's completion record.
    CompletionChunk,
    /// A thing cut into partitions.
    PartitionSet,
    /// An immutable revision of what tasks run.
    TaskTemplate,
    /// One container, on one node at a time.
    Task,
}

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each object is in a namespace.
    Namespaced,
    /// Objects belong to the whole cluster.
    Cluster,
}

/// Which names objects of a kind may have; the rules are in [`crate::names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A DNS label or subdomain of at most 63 characters.
    Dns,
    /// A DNS label.
    Label,
    /// A DNS subdomain of at most 253 characters: what Kubernetes allows, because other programs
    /// choose these names.
    Foreign,
}

/// The constant properties of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// API group; empty for Kubernetes' core group.
    pub group: &'static str,
    /// API version within the group.
    pub version: &'static str,
    /// The kind as manifests write it.
    pub kind: &'static str,
    /// The plural, in URL paths and store keys.
    pub plural: &'static str,
    /// The singular, which `hctl` accepts as well.
    pub singular: &'static str,
    /// Short names that `hctl` accepts.
    pub short: &'static [&'static str],
    /// The word in `KIND/NAME`, as people type it and `hctl` prints it (`run/load-3`). Absent where
    /// it is the singular.
    pub word: Option<&'static str>,
    /// Whether objects are in a namespace.
    pub scope: Scope,
    /// Fields that field selectors may name besides `metadata.name` and `metadata.namespace`. Their
    /// values come from [`crate::resource::Resource::fields`].
    pub fields: &'static [&'static str],
    /// Every value of `status.phase`; empty for kinds without one.
    pub phases: &'static [&'static str],
    /// Which names objects may have.
    pub names: Names,
    /// Subresources of its objects.
    pub subresources: &'static [Subresource],
    /// Whether `hctl get all` includes it: kinds that run something, not kinds that only hold data.
    pub in_all: bool,
    /// The order in which `hctl apply` applies kinds, lowest first: what others refer to comes
    /// before them.
    pub apply_order: u8,
    /// Whether its controller writes `status.observedGeneration`.
    pub is_observed: bool,
    /// The label that tasks of such an object carry, with its name as value; absent for kinds that
    /// have no tasks.
    pub task_label: Option<&'static str>,
    /// Internal kinds are written by the apiserver alone and read through watches: discovery does
    /// not list them, and they have no paths of their own.
    pub internal: bool,
}

const OURS: Info = Info {
    group: GROUP,
    version: VERSION,
    kind: "",
    plural: "",
    singular: "",
    short: &[],
    word: None,
    scope: Scope::Namespaced,
    fields: &[],
    phases: &[],
    names: Names::Dns,
    subresources: &[Subresource::Status],
    in_all: false,
    apply_order: 3,
    is_observed: false,
    task_label: None,
    internal: false,
};
const CORE: Info =
    Info { group: "", version: "v1", names: Names::Foreign, subresources: &[], ..OURS };

impl Info {
    /// Whether its objects have this subresource.
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

impl KindId {
    /// The constant properties of this kind.
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    pub const fn info(self) -> &'static Info {
        match self {
            KindId::Namespace => {
                const {
                    &Info {
                        kind: "Namespace",
                        plural: "namespaces",
                        singular: "namespace",
                        short: &["ns"],
                        scope: Scope::Cluster,
                        fields: &["status.phase"],
                        phases: &["Active", "Terminating"],
                        names: Names::Label,
                        subresources: &[Subresource::Status],
                        apply_order: 0,
                        ..CORE
                    }
                }
            }
            KindId::ConfigMap => {
                const {
                    &Info {
                        kind: "ConfigMap",
                        plural: "configmaps",
                        singular: "configmap",
                        short: &["cm"],
                        apply_order: 1,
                        ..CORE
                    }
                }
            }
            KindId::Secret => {
                const {
                    &Info {
                        kind: "Secret",
                        plural: "secrets",
                        singular: "secret",
                        fields: &["type"],
                        apply_order: 1,
                        ..CORE
                    }
                }
            }
            KindId::Event => {
                const {
                    &Info {
                        kind: "Event",
                        plural: "events",
                        singular: "event",
                        short: &["ev"],
                        fields: &[
                            "involvedObject.kind",
                            "involvedObject.namespace",
                            "involvedObject.name",
                            "involvedObject.uid",
                            "involvedObject.apiVersion",
                            "involvedObject.fieldPath",
                            "reason",
                            "reportingComponent",
                            "source",
                            "type",
                        ],
                        ..CORE
                    }
                }
            }
            KindId::Lease => {
                const {
                    &Info {
                        group: "coordination.k8s.io",
                        kind: "Lease",
                        plural: "leases",
                        singular: "lease",
                        ..CORE
                    }
                }
            }
            KindId::Node => {
                const {
                    &Info {
                        kind: "Node",
                        plural: "nodes",
                        singular: "node",
                        short: &["no"],
                        subresources: &[Subresource::Status, Subresource::Stats],
                        scope: Scope::Cluster,
                        fields: &["status.phase", "spec.unschedulable"],
                        phases: phases::NODE,
                        apply_order: 2,
                        ..OURS
                    }
                }
            }
            KindId::NodeLease => {
                const {
                    &Info {
                        kind: "NodeLease",
                        plural: "nodelease",
                        singular: "nodelease",
                        scope: Scope::Cluster,
                        subresources: &[],
                        internal: true,
                        apply_order: 2,
                        ..OURS
                    }
                }
            }
            KindId::PartitionSet => {
                const {
                    &Info {
                        kind: "PartitionSet",
                        plural: "partitionsets",
                        singular: "partitionset",
                        short: &["ps"],
                        fields: &["status.phase", "spec.stateModel"],
                        phases: &["Ready", "Degraded"],
                        in_all: true,
                        apply_order: 2,
                        ..OURS
                    }
                }
            }
            KindId::Workflow => {
                const {
                    &Info {
                        kind: "Workflow",
                        plural: "workflows",
                        singular: "workflow",
                        short: &["wf"],
                        fields: &["status.phase", "spec.suspend"],
                        phases: phases::RUN,
                        in_all: true,
                        is_observed: true,
                        task_label: Some(labels::WORKFLOW),
                        ..OURS
                    }
                }
            }
            KindId::WorkflowRun => {
                const {
                    &Info {
                        kind: "WorkflowRun",
                        plural: "workflowruns",
                        singular: "workflowrun",
                        short: &["run", "runs"],
                        fields: &["status.phase", "spec.workflow", "spec.suspend"],
                        word: Some("run"),
                        phases: phases::RUN,
                        in_all: true,
                        apply_order: 4,
                        is_observed: true,
                        task_label: Some(labels::RUN),
                        ..OURS
                    }
                }
            }
            KindId::Job => {
                const {
                    &Info {
                        kind: "Job",
                        plural: "jobs",
                        singular: "job",
                        subresources: &[
                            Subresource::Status,
                            Subresource::Scale,
                            Subresource::Record,
                        ],
                        fields: &["status.phase", "spec.suspend"],
                        phases: phases::JOB,
                        in_all: true,
                        is_observed: true,
                        task_label: Some(labels::JOB),
                        ..OURS
                    }
                }
            }
            KindId::Service => {
                const {
                    &Info {
                        kind: "Service",
                        plural: "services",
                        singular: "service",
                        short: &["svc"],
                        subresources: &[
                            Subresource::Status,
                            Subresource::Scale,
                            Subresource::Rollout,
                        ],
                        fields: &["status.phase", "spec.suspend"],
                        phases: phases::SERVICE,
                        in_all: true,
                        is_observed: true,
                        task_label: Some(labels::SERVICE),
                        ..OURS
                    }
                }
            }
            KindId::CompletionChunk => {
                const {
                    &Info {
                        kind: "CompletionChunk",
                        plural: "done",
                        singular: "done",
                        subresources: &[],
                        internal: true,
                        ..OURS
                    }
                }
            }
            KindId::TaskTemplate => {
                const {
                    &Info {
                        kind: "TaskTemplate",
                        plural: "tasktemplates",
                        singular: "tasktemplate",
                        short: &["tt"],
                        subresources: &[],
                        fields: &["spec.owner.kind", "spec.owner.name", "spec.run"],
                        ..OURS
                    }
                }
            }
            KindId::Task => {
                const {
                    &Info {
                        kind: "Task",
                        plural: "tasks",
                        singular: "task",
                        short: &["tk"],
                        subresources: &[
                            Subresource::Binding,
                            Subresource::Status,
                            Subresource::Evict,
                            Subresource::Log,
                            Subresource::Stats,
                            Subresource::Exec,
                        ],
                        fields: &["status.phase", "spec.nodeName", "spec.template"],
                        phases: phases::TASK,
                        in_all: true,
                        ..OURS
                    }
                }
            }
        }
    }

    /// `v1`, or `group/v1`.
    pub fn api_version(self) -> String {
        let info = self.info();
        if info.group.is_empty() {
            info.version.to_owned()
        } else {
            format!("{}/{}", info.group, info.version)
        }
    }

    /// The kind that `apiVersion` and `kind` of a manifest name.
    pub fn from_manifest(api_version: &str, kind: &str) -> Option<KindId> {
        Self::ALL.into_iter().find(|id| id.info().kind == kind && id.api_version() == api_version)
    }

    /// The kind that a word on the command line names: plural, singular or short name, in any case.
    /// Internal kinds have none.
    pub fn from_word(word: &str) -> Option<KindId> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().filter(|id| !id.info().internal).find(|id| {
            let info = id.info();
            info.plural == word || info.singular == word || info.short.contains(&word.as_str())
        })
    }

    /// The word for this kind in `KIND/NAME`, as people type it and `hctl` prints it: `run/load-3`.
    pub const fn word(self) -> &'static str {
        match self.info().word {
            Some(word) => word,
            None => self.info().singular,
        }
    }

    /// The same for the kind of an owner or involved object, which may be a kind that this version
    /// does not know: then it is shown in lower case.
    pub fn word_of(kind: &str) -> String {
        let known = Self::ALL.into_iter().find(|id| id.info().kind == kind);
        known.map_or_else(|| kind.to_ascii_lowercase(), |id| id.word().to_owned())
    }

    /// Every field that a field selector of this kind may name.
    pub fn selectable_fields(self) -> Vec<&'static str> {
        [&["metadata.name", "metadata.namespace"], self.info().fields].concat()
    }

    /// Every phase that objects of this kind can be in; empty where they have none.
    pub const fn phases(self) -> &'static [&'static str] {
        self.info().phases
    }

    /// Every value that a selectable field of this kind can have; nothing where it may be any text.
    pub fn values(self, field: &str) -> Option<&'static [&'static str]> {
        match field {
            "status.phase" => Some(self.phases()),
            "spec.suspend" | "spec.unschedulable" => Some(phases::SWITCH),
            "spec.stateModel" => Some(&phases::MODELS),
            _ => None,
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        self.info().scope == Scope::Namespaced
    }
}

impl fmt::Display for KindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_kind_is_one_that_people_may_type() {
        for id in KindId::ALL.into_iter().filter(|id| !id.info().internal) {
            assert_eq!(KindId::from_word(id.word()), Some(id));
        }
        assert_eq!(KindId::word_of("WorkflowRun"), "run");
        assert_eq!(KindId::word_of("Pod"), "pod");
    }

    #[test]
    fn every_name_leads_to_one_kind() {
        for id in KindId::ALL {
            let info = id.info();
            assert_eq!(KindId::from_manifest(&id.api_version(), info.kind), Some(id));
            let words = [info.plural, info.singular].into_iter().chain(info.short.iter().copied());
            for word in words.filter(|_| !info.internal) {
                assert_eq!(KindId::from_word(word), Some(id), "{word}");
            }
        }
    }

    /// The words of an enum, from its schema.
    fn words<T: schemars::JsonSchema>() -> Vec<String> {
        let schema = schemars::schema_for!(T).to_value();
        let word = |of: &serde_json::Value| of["const"].as_str().map(str::to_owned);
        let described = schema["oneOf"].as_array().into_iter().flatten().filter_map(word);
        described.collect()
    }

    #[test]
    fn phases_are_those_of_the_types() {
        assert_eq!(KindId::Task.phases(), words::<crate::task::TaskPhase>());
        assert_eq!(KindId::Job.phases(), words::<crate::job::JobPhase>());
        assert_eq!(KindId::Service.phases(), words::<crate::service::ServicePhase>());
        assert_eq!(KindId::WorkflowRun.phases(), words::<crate::workflow_run::RunPhase>());
        assert_eq!(KindId::Node.phases(), words::<crate::node::NodePhase>());
    }

    #[test]
    fn a_field_with_phases_has_values() {
        for kind in KindId::ALL {
            let has = kind.selectable_fields().contains(&"status.phase");
            assert_eq!(has, !kind.phases().is_empty(), "{kind}");
        }
        let models =
            ["LeaderStandby", "MasterSlave", "OnlineOffline", "OnlineOfflineWithBootstrap"];
        assert_eq!(KindId::PartitionSet.values("spec.stateModel"), Some(&models[..]));
    }
}
