//! The events of a watch: one JSON document on each line.

use serde::{Deserialize, Serialize};

/// One event of a watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchEvent<T> {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: WatchEventType,
    /// The object: its current state, for DELETED its last state, for BOOKMARK only its
    /// resourceVersion. For ERROR it is a Status.
    pub object: T,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WatchEventType {
    /// The object was created, or begins to match the selector.
    Added,
    /// The object was changed.
    Modified,
    /// The object was deleted, or no longer matches the selector.
    Deleted,
    /// No change: everything up to this resourceVersion was sent.
    Bookmark,
    /// The watch ends with an error.
    Error,
}

/// The annotation of the bookmark that follows the initial events. The name is Kubernetes'.
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
