//! The lowest layer of Heliox: time, randomness, tasks, back-off, health and error chains.
//!
//! Everything that could make two runs of one decision differ goes through this crate, so that a
//! whole cluster can run on virtual time from one seed. It depends on no other crate of Heliox.

mod backoff;
mod clock;
mod error_chain;
mod health;
mod raise;
mod reserved_port;
mod retry;
mod rng;
mod server_url;
mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use error_chain::ErrorChain;
pub use health::{Health, Problem, Tally};
pub use jiff::Timestamp;
pub use raise::raise;
pub use reserved_port::reserved_port;
pub use retry::Retry;
pub use rng::Rng;
pub use server_url::server_url;
pub use tasks::{
    BoxError, PartEnd, PartFailure, Spawner, Stop, Tasks, blocking, caught_panic, panics,
    without_panic,
};
