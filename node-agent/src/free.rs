//! What a disk has left.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;

/// What a disk has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) bytes: u64,
    /// Files that can still be made.
    pub(crate) files: u64,
}

impl Free {
    /// More than anybody needs.
    pub(crate) const ALL: Self = Self { bytes: u64::MAX, files: u64::MAX };

    /// What the disk has left that this folder is on.
    pub(crate) fn on(folder: &Path) -> io::Result<Self> {
        let disk = statvfs(folder)?;
        // The last blocks of many file systems are root's.
        let (blocks, files) = if Uid::effective().is_root() {
            (disk.blocks_free(), disk.files_free())
        } else {
            (disk.blocks_available(), disk.files_available())
        };
        // Some file systems do not count files.
        let files = if disk.files() == 0 { u64::MAX } else { files };
        Ok(Self { bytes: blocks.saturating_mul(disk.fragment_size()), files })
    }
}
