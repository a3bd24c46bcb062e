//! Controllers: the loops that bring what is towards what is wanted.
//!
//! One folder a controller: `plan` decides and is pure, the folder's own file acts. What a plan may ask
//! for is in [`action`]. [`run()`] runs them all on one watch, whenever this process leads.

pub mod action;
pub mod drain;
pub mod event;
mod freed;
pub mod garbage;
pub mod job;
pub mod metrics;
#[cfg(test)]
mod model;
pub mod namespace;
pub mod node;
pub mod notice;
#[cfg(test)]
mod obedient;
mod packing;
pub mod partition_set;
pub mod remaining;
mod run;
pub mod service;
mod throttle;
mod tools;
pub mod workflow;
pub mod workflow_run;

pub use metrics::Metrics;
pub use run::{COMPONENT, Config, run};
