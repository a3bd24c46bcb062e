//! Which Rust type belongs to each kind, and how code that is generic over kinds is run for all of
//! them.

use crate::kind::KindId;
use crate::resource::{Column, Resource};

/// Passes every kind to a macro, in the order of [`KindId`]: its variant, the name of a field that
/// holds many of its objects, and its type. Whatever needs one part for each kind is generated with
/// it, so that a new kind is named here alone.
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
            Service, services: $crate::Service;
            CompletionChunk, completion_chunks: $crate::CompletionChunk;
            PartitionSet, partition_sets: $crate::PartitionSet;
            TaskTemplate, task_templates: $crate::TaskTemplate;
            Task, tasks: $crate::Task;
        }
    };
}

/// Code that is generic over the types of kinds, to be run by [`KindId::with_type`].
pub trait WithType {
    /// The result.
    type Output;

    /// Runs the code with the type of one kind.
    fn of<K: Resource>(self) -> Self::Output;
}

macro_rules! typed {
    ($($kind:ident, $field:ident: $type:ty;)+) => {
        impl KindId {
            /// Every kind.
            pub const ALL: [KindId; [$(KindId::$kind),+].len()] = [$(KindId::$kind),+];

            /// Runs generic code with the type of this kind: the way from a kind that is only known
            /// at run time to code that needs its type.
            pub fn with_type<W: WithType>(self, what: W) -> W::Output {
                match self { $(KindId::$kind => what.of::<$type>(),)+ }
            }
        }
    };
}
every_kind!(typed);

/// The columns in the table of a kind.
pub fn columns_of(kind: KindId) -> &'static [Column] {
    kind.with_type(Columns)
}

struct Columns;

impl WithType for Columns {
    type Output = &'static [Column];

    fn of<K: Resource>(self) -> Self::Output {
        K::columns()
    }
}
