//! Stories with real processes, the real Docker Engine and real files.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bundle;
mod dev_ends;
mod documents;
mod drains;
mod ends;
mod figures;
mod foreign;
mod full_disk;
mod kills;
mod kube_rs;
mod kubectl;
mod leaders;
mod logs;
mod private;
mod probes;
mod restores;
mod streams;
mod verbs;
mod workflow;
