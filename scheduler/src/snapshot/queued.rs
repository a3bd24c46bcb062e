//! A task's number, and its place among those that wait.

use std::cmp::Reverse;
use std::sync::Arc;

use api::Timestamp;
use api::object::ObjectKey;

/// A task's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u32);

/// A task's place among those of its class that wait: by priority, age, index and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queued {
    pub(crate) priority: Reverse<i32>,
    pub(crate) created: Timestamp,
    pub(crate) index: u32,
    pub(crate) key: Arc<ObjectKey>,
    pub(crate) task: TaskId,
}
