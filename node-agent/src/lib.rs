//! The node agent: runs the tasks that are bound to its node.
//!
//! [`engine`] is what containers run in: Docker, plain processes, or a simulation, behind one
//! trait. [`shim`] is the little process that stands beside each task of the process engine.

pub mod engine;
pub mod shim;
