//! What a node and its tasks use: answered by its agent, never stored.

use serde::{Deserialize, Serialize};

/// What a node and the tasks that run on it use: `GET /apis/heliox.dev/v1/nodes/{node}/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    /// Over how long processor time was measured, in milliseconds.
    pub window_millis: u64,
    /// Processor time that the whole machine used, in thousandths of a core, tasks or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Memory of the whole machine that is in use, in bytes.
    pub memory_bytes: u64,
    /// The tasks that run on it.
    pub tasks: Vec<TaskStats>,
}

/// What a task's attempt uses: `GET .../namespaces/{namespace}/tasks/{task}/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStats {
    /// The task's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The attempt.
    pub attempt: u32,
    /// Processor time, in thousandths of a core; nothing where it started just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Processor time since it started, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory, in bytes, without files that are cached for it and can be dropped.
    pub memory_bytes: u64,
}
