//! The node agent: runs the tasks that are bound to its node.
//!
//! [`plan`] decides what is done next, from the tasks that are bound here, the containers that are
//! seen and the [`journal`] of what was promised; [`run`] looks, plans and acts. [`engine`] is
//! what containers run in: Docker, plain processes, or a simulation, behind one trait.

pub mod attempt;
pub mod engine;
mod free;
pub mod journal;
pub mod ledger;
mod metrics;
pub mod plan;
pub mod resolve;
mod shell;
mod taken;

pub use journal::{Journal, JournalError, Log};
pub use ledger::Ledger;
pub use shell::{AgentError, Config, OpenEngine, Outside, run};
