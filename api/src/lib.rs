//! The kinds: what users write and processes exchange. Types, defaults, validation, phases.
//!
//! No I/O, no tokio, no clock: `now` is an argument wherever it matters. One file per kind.

pub mod amounts;
mod backoff;
pub mod batch;
pub mod cluster;
pub mod completion;
pub mod conditions;
pub mod core;
pub mod duration;
pub mod every_kind;
pub mod exec;
pub mod job;
pub mod json;
pub mod key_order;
pub mod kind;
pub mod labels;
pub mod list;
pub mod log;
pub mod manifest;
pub mod meaning;
pub mod merge;
pub mod metadata;
pub mod names;
pub mod node;
pub mod object;
pub mod owner;
pub mod partition_set;
pub mod patch;
pub mod path;
mod phases;
pub mod placement;
pub mod query;
pub mod resource;
pub mod resource_version;
pub mod restart;
pub mod room;
pub mod schema;
pub mod selector;
pub mod size;
pub mod status;
pub mod subresource;
pub mod substitute;
pub mod table;
pub mod task;
pub mod task_template;
pub mod template;
pub mod verb;
pub mod violation;
pub mod watch;
pub mod workflow;
pub mod workflow_run;

pub use jiff::Timestamp;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
pub use kind::{KindId, Scope};
pub use object::{Definition, Kind, Object, ObjectKey};
pub use violation::Violation;

pub use completion::CompletionChunk;
pub use job::Job;
pub use node::{Node, NodeLease};
pub use partition_set::PartitionSet;
pub use task::Task;
pub use task_template::TaskTemplate;
pub use workflow::Workflow;
pub use workflow_run::WorkflowRun;
