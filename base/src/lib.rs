//! The bottom of Heliox: time, randomness, tasks, back-off and error chains.
//!
//! Everything that would make two runs of the same decision differ goes through this crate, so
//! that a whole cluster can run on virtual time from one seed. It knows nothing else of ours.

mod backoff;
mod clock;
mod error_chain;
mod rng;
mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use error_chain::ErrorChain;
pub use jiff::Timestamp;
pub use rng::Rng;
pub use tasks::{Spawner, Stop, Tasks};
