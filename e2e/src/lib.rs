//! What tests and benchmarks of the whole have in common: real processes, and the table of figures.

#![expect(clippy::unwrap_used, reason = "tests and benchmarks may panic")]

pub mod bench;
pub mod dev;
pub mod fleet;
