//! The engines held to their laws, on this machine's processes and its Docker Engine.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod docker;
mod full_disk;
mod memory;
mod process;
mod registry;
mod template_fields;
