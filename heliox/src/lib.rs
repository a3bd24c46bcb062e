//! The server binary: puts apiserver, scheduler, controllers and agents together.

pub mod agent_flags;
pub mod agent_status;
pub mod args;
pub mod backup;
pub mod control_plane;
pub mod dev;
mod dev_ready;
pub mod dir_lock;
pub mod engine_flags;
pub mod in_process;
pub mod listen;
pub mod metrics;
pub mod node;
mod places;
pub mod process;
pub mod restore;
pub mod serve;
pub mod status;
pub mod storage;
