//! The API as a client meets it: requests in, answers out, over the simulated store.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod batches;
mod harness;
mod objects;
mod peers;
mod restores;
mod rules;
mod watches;
