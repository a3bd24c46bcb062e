//! The whole cluster on virtual time, from a seed: one apiserver, scheduler, controllers and three
//! agents on simulated machines; crashes, lost answers, nodes that vanish and come back.
//!
//! Every promise that applies is checked after every step. A failing seed says how to run it again.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod agreement;
mod cluster;
mod deletion;
mod drains;
mod full_disk;
mod history;
mod images;
mod missing_nodes;
mod missing_sets;
mod network;
mod newer;
mod ports;
mod probes;
mod promises;
mod restarts;
mod restored;
mod seeds;
mod services;
mod stories;
mod taken_names;
mod watcher;
mod workflows;
mod workload;
mod writer;
