//! Room on the journal's disk, part of which is reserved for the journal.
//!
//! The reserve is released when the journal cannot be written for lack of room. So an agent on a
//! full disk can still write down, and report, what it does not start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::{Journal, JournalError, blocking};
use crate::free::Free;
use shim::private;

/// A disk with less room than this is nearly full, in bytes: a task takes a few blocks.
pub(crate) const LOW_BYTES: u64 = 64 * 1024;
/// A disk that was nearly full has enough room again from here on, in bytes.
pub(crate) const ENOUGH_BYTES: u64 = 4 * LOW_BYTES;
/// Size of the reserve, in bytes.
const RESERVED_BYTES: usize = 64 * 1024;

impl Journal {
    /// The free room on the journal's disk. If there is enough, the reserve is created.
    pub(crate) async fn free(&self) -> Result<Free, JournalError> {
        match self {
            Self::Memory(held) => {
                let held = held.lock().unwrap_or_else(PoisonError::into_inner);
                let is_low = held.is_full || held.is_short;
                Ok(if is_low { Free { bytes: 0, ..Free::ALL } } else { Free::ALL })
            }
            Self::File(path) => {
                let journal = path.clone();
                blocking(path, move || {
                    let free = Free::on(journal.parent().unwrap_or(&journal))?;
                    if free.bytes >= ENOUGH_BYTES {
                        // Without a reserve the journal is still written as long as there is room.
                        let _later = set_aside(&journal);
                    }
                    Ok(free)
                })
                .await
            }
        }
    }
}

fn reserved(journal: &Path) -> PathBuf {
    journal.with_extension("room")
}

/// Creates the reserve if it does not exist.
fn set_aside(journal: &Path) -> io::Result<()> {
    let room = reserved(journal);
    if room.exists() {
        return Ok(());
    }
    private::reserve(&room, RESERVED_BYTES)
}

/// Releases the reserve. Returns whether there was one.
pub(super) fn give_back(journal: &Path) -> bool {
    fs::remove_file(reserved(journal)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::process::Command;

    use super::*;
    use crate::engine::Identity;
    use crate::journal::Owner;

    /// Needs root.
    fn run(command: &[&str], path: &Path) {
        let status = Command::new(command[0]).args(&command[1..]).arg(path).status().unwrap();
        assert!(status.success(), "{command:?} needs root");
    }

    /// Fills a disk until an append fails; then what the disk has left.
    async fn fill(journal: &Journal, disk: &Path) -> Free {
        let mut log = journal.begin(&Owner::default(), &BTreeMap::new()).await.unwrap();
        journal.free().await.unwrap();
        let mut filler = private::file(&disk.join("filler")).unwrap();
        while filler.write_all(&[b'x'; 4096]).is_ok() {}
        let change = (Identity::new("default", "t", "0af3", 1).unwrap(), None);
        let changes = vec![change; 1000];
        assert!(log.append(&changes).await.is_err(), "the disk is full");
        journal.free().await.unwrap()
    }

    #[tokio::test]
    async fn a_journal_on_a_full_disk_is_written_in_the_room_that_was_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        run(&["mount", "-t", "tmpfs", "-o", "size=1m", "small"], dir.path());
        let journal = Journal::in_dir(dir.path()).unwrap();
        let free = fill(&journal, dir.path()).await;
        let begun = journal.begin(&Owner::default(), &BTreeMap::new()).await;
        let given_back = journal.free().await.unwrap();
        let (before, room) = (reserved(&dir.path().join("journal.log")), RESERVED_BYTES as u64);
        let is_there = before.exists();
        fs::remove_file(dir.path().join("filler")).unwrap();
        journal.free().await.unwrap();
        let is_there_again = before.exists();
        run(&["umount", "--lazy"], dir.path());
        assert!(free.bytes < LOW_BYTES, "{free:?}");
        begun.unwrap();
        assert!(given_back.bytes > 0 && given_back.bytes <= room, "{given_back:?}");
        assert_eq!((is_there, is_there_again), (false, true));
    }
}
