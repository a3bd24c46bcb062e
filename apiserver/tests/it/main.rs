//! The API as a client meets it: requests in, answers out, over the simulated store.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod batches;
mod bounds;
mod conditions;
mod deletions;
mod fixed_fields;
mod harness;
mod namespaces;
mod objects;
mod odd_store;
mod other_versions;
mod owners;
mod parameters;
mod peers;
mod readiness;
mod refusals;
mod restores;
mod rollouts;
mod rules;
mod scale;
mod secrets;
mod stale_caches;
mod startups;
mod takeovers;
mod turns;
mod watches;
