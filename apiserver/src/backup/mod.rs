//! Backups: every record of a store at one revision, as lines of JSON, and how to restore them into
//! an empty store.
//!
//! # Invariants
//!
//! * A truncated or modified backup is detected before anything is restored from it.
//! * A store with an incomplete restore is used by nobody.
//! * A restored store never hands out a revision or a task's attempt number that the lost store has
//!   handed out, even if the lost store was used long after the backup.

mod form;
mod read;
mod restore;

pub use form::{Damage, Header, Reader, Summary};
pub use read::{BackupError, Lines, backup};
pub use restore::{Restore, RestoreError, check};
