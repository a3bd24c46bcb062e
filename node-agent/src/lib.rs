//! The node agent: runs the tasks that are bound to its node.
//!
//! [`plan`] decides what to do next, from the tasks that are bound to the node, the containers that
//! the engine shows, and the [`journal`] of what the agent has begun. [`run`] observes, plans and
//! acts. [`engine`] runs the containers: Docker, plain processes or a simulation, behind one trait.

mod added;
pub mod attempt;
pub mod engine;
mod free;
pub mod health;
pub mod journal;
pub mod ledger;
mod metrics;
pub mod plan;
pub mod resolve;
mod shell;
mod taken;

pub use added::Added;
pub use journal::{Journal, JournalError, Log};
pub use ledger::Ledger;
pub use shell::view::{LocalTask, LocalView, VIEW_SOCKET};
pub use shell::{AgentError, Config, Host, OpenEngine, Outside, run};
