//! Measured usage of a node and its tasks. The agent measures it on request; it is never stored.

use serde::{Deserialize, Serialize};

/// Usage of a node and of its tasks: `GET /apis/heliox.dev/v1/nodes/{node}/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    /// Length of the interval over which processor time was measured, in milliseconds.
    pub window_millis: u64,
    /// Processor time of the whole machine, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Memory of the whole machine that is in use, in bytes.
    pub memory_bytes: u64,
    /// The tasks that run on it.
    pub tasks: Vec<TaskStats>,
}

/// Usage of a task's current attempt: `GET .../namespaces/{namespace}/tasks/{task}/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStats {
    /// Namespace of the task.
    pub namespace: String,
    /// Name of the task.
    pub name: String,
    /// UID of the task.
    pub uid: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Processor time, in thousandths of a core; absent if the container has just started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Processor time since the start, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in bytes, without the file cache that the kernel can drop.
    pub memory_bytes: u64,
}
