//! The stores, held to the laws and to each other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod crash;
mod embedded;
mod equivalence;
mod faults;
mod suites;
