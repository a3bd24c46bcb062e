//! What a watch sends: one JSON document a line.

use serde::{Deserialize, Serialize};

/// One line of a watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchEvent<T> {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: WatchEventType,
    /// The object as it is now; for DELETED as it was last, for BOOKMARK only its resourceVersion,
    /// for ERROR a Status.
    pub object: T,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WatchEventType {
    /// The object is new, or new to the selection.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or gone from the selection.
    Deleted,
    /// Nothing: all up to this resourceVersion was sent.
    Bookmark,
    /// The watch ends.
    Error,
}

/// The annotation of the bookmark that ends the initial events (Kubernetes' name).
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
