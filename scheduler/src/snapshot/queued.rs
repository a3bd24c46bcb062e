//! The number of a task, and its position among the waiting tasks.

use std::cmp::Reverse;
use std::sync::Arc;

use api::Timestamp;
use api::object::ObjectKey;

/// The number of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u32);

/// The position of a task among the waiting tasks of its class: by priority, age, index and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queued {
    pub(crate) priority: Reverse<i32>,
    pub(crate) created: Timestamp,
    pub(crate) index: u32,
    pub(crate) key: Arc<ObjectKey>,
    pub(crate) task: TaskId,
}
