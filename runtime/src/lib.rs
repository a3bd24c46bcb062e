//! The parts of every component that watches and writes objects: a reflector, a cache, a queue of
//! keys, the reconcile loop, leader election and events.
//!
//! # Invariants
//!
//! * A component sees one consistent state, in revision order: a single watch covers all kinds.
//! * A reconcile is told which key to look at, never what happened.
//! * Losing the watch, the cache or the process costs time, but never correctness.

pub mod any;
pub mod cache;
pub mod controller;
pub mod events;
pub mod leader;
pub mod parsed;
pub mod queue;
pub mod reflector;
mod relations;
pub mod table;

pub use any::{Any, UNHELD_LABELS_BYTES_MAX};
pub use cache::{Cache, Snapshot};
pub use controller::{Controller, Deposed, Feed, ReconcileError, Requeue, WorkerContext};
pub use events::{Recorder, Severity};
pub use leader::{Election, Leadership, lead};
pub use parsed::Parsed;
pub use queue::{Due, Queue};
pub use reflector::{Change, Reflector, Update};
pub use table::Table;
