//! Substitution of `$(...)` in templates and placements.
//!
//! It has two stages, both pure. When a run creates its jobs, `params` and `run` are replaced
//! ([`job_in_run`]). On the node, `task`, `node`, `ports` and declared environment variables are
//! replaced ([`for_node`]). `$$(` is a literal `$(`; any other `$(...)` is left as it is.
//!
//! # Invariants
//!
//! * A value that was inserted is never searched for names again: a parameter's value cannot refer
//!   to a task or a variable.
//! * A name that does not exist under one of Heliox's roots is an error when the manifest is
//!   applied.

mod check;
mod foreign;
pub mod names;
mod near;
mod node;
mod reference;
mod run;

pub(crate) use check::{Scope, check_default, check_job, is_plain};
pub use near::near_misses;
pub(crate) use node::too_long;
pub use node::{NodeNames, TEXT_BYTES_MAX, TEXTS_BYTES_MAX, for_node};
pub use run::{RunNames, job_in_run, params_of_run};
pub(crate) use run::{default_in_run, is_open, job_document_in_run, params_in, substitute_job};

#[cfg(test)]
mod tests;
