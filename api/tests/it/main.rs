//! Wire forms, manifests and the life of a task, from outside.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bad_manifests;
mod bad_probes;
mod bad_workflows;
mod bounds;
mod docs;
mod hostile;
mod misspelled;
mod newcomers;
mod newer;
mod ranges;
mod task_life;
mod wire;
