//! Backups: every record of a store at one revision, as lines; and an empty store made of them.
//!
//! # Invariants
//!
//! * A backup that was cut, changed or mixed up is noticed before anything is made of it.
//! * A store into which a backup was half restored is used by nobody.
//! * What a restored store hands out (revisions, attempts of tasks) is nothing that anybody knows
//!   from the lost one, even where that went on for long after the backup.

mod form;
mod read;
mod restore;

pub use form::{Damage, Header, Reader, Summary};
pub use read::{BackupError, Lines, backup};
pub use restore::{Restore, RestoreError, check};
