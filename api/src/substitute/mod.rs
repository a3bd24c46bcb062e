//! Substitution: what `$(...)` means in a template or placement.
//!
//! Two stages, both pure. When a run makes its jobs, `params` and `run` get their values
//! ([`job_in_run`]); on the node, `task`, `node`, `ports` and declared environment variables get
//! theirs ([`for_node`]). `$$(` is a literal `$(`; any other `$(...)` is left alone.
//!
//! # Invariants
//!
//! * A value is never looked at again: what a parameter says cannot name a task or a variable.
//! * A name that does not exist under our roots is an error when the manifest is applied.

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
