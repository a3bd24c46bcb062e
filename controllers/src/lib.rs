//! Controllers: the loops that bring what is towards what is wanted.
//!
//! One folder a controller: `plan` decides and is pure, the folder's own file acts.

pub mod garbage;
pub mod job;
pub mod node;
pub mod workflow;
pub mod workflow_run;
