//! Decides on which node each task runs, and why some wait.
//!
//! [`Snapshot`] is what is known, kept by changes; [`place`] decides on it; [`explain`] says why a
//! class waits. All of that is pure. [`shell`] feeds it from a watch and sends what it decided.

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
