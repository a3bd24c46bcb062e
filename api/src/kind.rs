//! The table of kinds: names, groups and what each serves. A new kind begins here: a variant, its row in
//! [`KindId::info`], its type in [`every_kind`]. Its type says the rest ([`crate::resource::Resource`]).

use std::fmt;

use crate::verb::Subresource;

use crate::labels;
use crate::phases;
use crate::resource::Resource;

/// The API group of Heliox's own kinds.
pub const GROUP: &str = "heliox.dev";
/// Its one version.
pub const VERSION: &str = "v1";

/// Names a kind. The order is that of lists that show several.
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
    /// The proof that a node's agent lives; goes by itself when it is not renewed.
    NodeLease,
    /// A DAG of jobs.
    Workflow,
    /// One execution of a workflow.
    WorkflowRun,
    /// A set of tasks that complete.
    Job,
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
    /// In a namespace.
    Namespaced,
    /// One for the cluster.
    Cluster,
}

/// Which names objects of a kind may have ([`crate::names`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A DNS label or subdomain of at most 63 characters.
    Dns,
    /// A DNS label.
    Label,
    /// What Kubernetes takes, since other programs make them: a DNS subdomain of at most 253 characters.
    Foreign,
}

/// What is fixed about a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// API group; empty for Kubernetes' core.
    pub group: &'static str,
    /// API version within the group.
    pub version: &'static str,
    /// The kind as manifests say it.
    pub kind: &'static str,
    /// The plural in paths and keys.
    pub plural: &'static str,
    /// The singular that `hctl` accepts, too.
    pub singular: &'static str,
    /// Short names.
    pub short: &'static [&'static str],
    /// The word in `KIND/NAME`, as people type it and `hctl` prints it (`run/load-3`), where that is not
    /// the singular.
    pub word: Option<&'static str>,
    /// Namespaced or not.
    pub scope: Scope,
    /// Fields that selectors may name beside `metadata.name` and `metadata.namespace`, with values
    /// from [`crate::resource::Resource::fields`].
    pub fields: &'static [&'static str],
    /// Every value of `status.phase`, where objects have one.
    pub phases: &'static [&'static str],
    /// Which names objects may have.
    pub names: Names,
    /// Subresources beside the object itself.
    pub subresources: &'static [Subresource],
    /// Whether it is part of `all`, as in `hctl get all`: what people run, not what they keep.
    pub in_all: bool,
    /// The place of a kind among others that are applied together: what others need has a lower one.
    pub apply_order: u8,
    /// Whether `status.observedGeneration` says which generation its controller has handled.
    pub is_observed: bool,
    /// The label by which tasks name an object of this kind as the one that they belong to.
    pub task_label: Option<&'static str>,
    /// Internal kinds are read through watches and written by the apiserver alone: they have no
    /// discovery entry and no routes of their own.
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

/// Passes every kind to a macro, in the order of [`KindId`]: its variant, the name of a field for many of
/// its objects, and its type. Whatever has a part for each kind is made with it.
#[macro_export]
macro_rules! every_kind {
    ($then:ident) => {
        $then! {
            Namespace, namespaces: $crate::core::Namespace;
            ConfigMap, config_maps: $crate::core::ConfigMap;
            Secret, secrets: $crate::core::Secret;
            Event, events: $crate::core::Event;
            Lease, leases: $crate::core::Lease;
            Node, nodes: $crate::Node;
            NodeLease, node_leases: $crate::NodeLease;
            Workflow, workflows: $crate::Workflow;
            WorkflowRun, workflow_runs: $crate::WorkflowRun;
            Job, jobs: $crate::Job;
            CompletionChunk, completion_chunks: $crate::CompletionChunk;
            PartitionSet, partition_sets: $crate::PartitionSet;
            TaskTemplate, task_templates: $crate::TaskTemplate;
            Task, tasks: $crate::Task;
        }
    };
}

/// What can be done with the type of any kind, by [`KindId::with_type`].
pub trait WithType {
    /// What comes of it.
    type Output;

    /// Does it with a kind's type.
    fn of<K: Resource>(self) -> Self::Output;
}

macro_rules! typed {
    ($($kind:ident, $field:ident: $type:ty;)+) => {
        impl KindId {
            /// Every kind.
            pub const ALL: [KindId; [$(KindId::$kind),+].len()] = [$(KindId::$kind),+];

            /// Does something with the type of this kind: the way from a kind that is known at run time
            /// alone to code that is generic over kinds.
            pub fn with_type<W: WithType>(self, what: W) -> W::Output {
                match self { $(KindId::$kind => what.of::<$type>(),)+ }
            }
        }
    };
}
every_kind!(typed);

impl KindId {
    /// What is fixed about this kind.
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

    /// The kind that a manifest's `apiVersion` and `kind` mean.
    pub fn from_manifest(api_version: &str, kind: &str) -> Option<KindId> {
        Self::ALL.into_iter().find(|id| id.info().kind == kind && id.api_version() == api_version)
    }

    /// The kind that a path's group and plural mean.
    pub fn from_path(group: &str, version: &str, plural: &str) -> Option<KindId> {
        Self::ALL.into_iter().find(|id| {
            let info = id.info();
            info.group == group && info.version == version && info.plural == plural
        })
    }

    /// The kind that a person means by a word: plural, singular, short name or kind, in any case.
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

    /// The same for a kind as an object refers to it; one that is not known is shown in lower case.
    pub fn word_of(kind: &str) -> String {
        let known = Self::ALL.into_iter().find(|id| id.info().kind == kind);
        known.map_or_else(|| kind.to_ascii_lowercase(), |id| id.word().to_owned())
    }

    /// Every field that a selector of this kind may name.
    pub fn selectable_fields(self) -> Vec<&'static str> {
        [&["metadata.name", "metadata.namespace"], self.info().fields].concat()
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
            assert_eq!(KindId::from_path(info.group, info.version, info.plural), Some(id));
            let words = [info.plural, info.singular].into_iter().chain(info.short.iter().copied());
            for word in words.filter(|_| !info.internal) {
                assert_eq!(KindId::from_word(word), Some(id), "{word}");
            }
        }
    }
}
