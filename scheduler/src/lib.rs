//! Decides on which node each task runs, and why some tasks wait.
//!
//! [`Snapshot`] holds the known objects and is updated by changes; [`place`] decides; [`explain`]
//! says why a class waits. All of these are pure. [`shell`] feeds them from a watch and sends the
//! decisions.

mod class;
mod metrics;
mod plan;
mod resources;
mod shared;
pub mod shell;
mod slab;
mod snapshot;
#[cfg(test)]
mod world;

pub use class::ClassId;
pub use metrics::Metrics;
pub use plan::{Bind, Blocked, Explanation, Limits, Plan, Rejection, explain, place};
pub use snapshot::{Change, Snapshot};
