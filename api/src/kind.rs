//! The table of kinds: names, groups and what each serves.

use std::fmt;

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
    /// A thing cut into partitions.
    PartitionSet,
    /// A DAG of jobs.
    Workflow,
    /// One execution of a workflow.
    WorkflowRun,
    /// A set of tasks that complete.
    Job,
    /// 8,192 indexes of a job run's completion record.
    CompletionChunk,
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
    /// Namespaced or not.
    pub scope: Scope,
    /// Fields that selectors may name beside `metadata.name` and `metadata.namespace`, with values
    /// from [`crate::resource::Resource::fields`].
    pub fields: &'static [&'static str],
    /// Subresources beside the object itself.
    pub subresources: &'static [&'static str],
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
    scope: Scope::Namespaced,
    fields: &[],
    subresources: &["status"],
    internal: false,
};
const CORE: Info = Info { group: "", version: "v1", subresources: &[], ..OURS };

impl KindId {
    /// Every kind.
    pub const ALL: [KindId; 14] = [
        KindId::Namespace,
        KindId::ConfigMap,
        KindId::Secret,
        KindId::Event,
        KindId::Lease,
        KindId::Node,
        KindId::NodeLease,
        KindId::PartitionSet,
        KindId::Workflow,
        KindId::WorkflowRun,
        KindId::Job,
        KindId::CompletionChunk,
        KindId::TaskTemplate,
        KindId::Task,
    ];

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
                        subresources: &["status", "stats"],
                        scope: Scope::Cluster,
                        fields: &["status.phase", "spec.unschedulable"],
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
                        subresources: &["status", "scale", "record"],
                        fields: &["status.phase", "spec.suspend"],
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
                        fields: &["spec.job", "spec.run"],
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
                        subresources: &["binding", "status", "evict", "log", "stats", "exec"],
                        fields: &["status.phase", "spec.nodeName", "spec.template"],
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
        match self {
            KindId::WorkflowRun => "run",
            KindId::Namespace
            | KindId::ConfigMap
            | KindId::Secret
            | KindId::Event
            | KindId::Lease
            | KindId::Node
            | KindId::NodeLease
            | KindId::PartitionSet
            | KindId::Workflow
            | KindId::Job
            | KindId::CompletionChunk
            | KindId::TaskTemplate
            | KindId::Task => self.info().singular,
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
