//! The node agent: runs the tasks that are bound to its node.
//!
//! [`plan`] decides what is done next, from the tasks that are bound here, the containers that are
//! seen and the [`journal`] of what was promised; [`run`] looks, plans and acts. [`engine`] is
//! what containers run in: Docker, plain processes, or a simulation, behind one trait. [`shim`] is
//! the little process that stands beside each task of the process engine.

pub mod attempt;
pub mod engine;
mod free;
mod inherited;
pub mod journal;
pub mod ledger;
mod metrics;
pub mod plan;
mod private;
pub mod resolve;
mod shell;
pub mod shim;
mod taken;

pub use journal::{Journal, JournalError, Log};
pub use ledger::Ledger;
pub use shell::{AgentError, Config, OpenEngine, Outside, run};
