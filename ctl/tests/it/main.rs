//! `hctl` as a process, with a server that a test answers for.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod applies;
mod follows;
mod hanging;
mod lookups;
mod pipes;
mod server;
mod silent;
mod usage;
