//! `hctl` as a process, with a server that a test answers for.

mod applies;
mod pipes;
mod server;
