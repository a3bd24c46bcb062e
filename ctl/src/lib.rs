//! `hctl`: applies manifests, shows objects and follows what happens to them.
//!
//! Decisions and output are pure ([`output`], [`describe`], [`three_way`], [`deployed`], [`goal`],
//! [`verb`]); the commands in [`cmd`] read, print and wait. Data goes to stdout, everything else to
//! stderr.

pub mod args;
pub mod arguments;
pub mod bundle;
pub mod cmd;
pub mod completion;
pub mod connection;
pub mod deletion;
pub mod deploy;
pub mod deployed;
pub mod describe;
pub mod document;
pub mod examples;
pub mod failure;
pub mod following;
pub mod foreign;
pub mod foreign_flags;
pub mod format;
pub mod goal;
pub mod hints;
pub mod live;
pub mod log;
pub mod log_printer;
pub mod made_again;
pub mod marks;
pub mod namesakes;
pub mod node_args;
pub mod not_running;
pub mod outage;
pub mod output;
pub mod progress;
pub mod raw;
pub mod rollout;
pub mod rollout_args;
pub mod silence;
pub mod sources;
pub mod table;
pub mod target;
pub mod terminal;
pub mod three_way;
pub mod top;
pub mod usage;
pub mod usual;
pub mod verb;
pub mod waiting;
