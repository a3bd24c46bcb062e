//! The free room on a disk.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;

/// The free room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) bytes: u64,
    /// Number of files that can still be created.
    pub(crate) files: u64,
}

impl Free {
    /// A disk without limits.
    pub(crate) const ALL: Self = Self { bytes: u64::MAX, files: u64::MAX };

    /// The free room on the disk of this folder.
    pub(crate) fn on(folder: &Path) -> io::Result<Self> {
        let disk = statvfs(folder)?;
        // Many file systems reserve their last blocks for root.
        let (blocks, files) = if Uid::effective().is_root() {
            (disk.blocks_free(), disk.files_free())
        } else {
            (disk.blocks_available(), disk.files_available())
        };
        // Some file systems do not limit the number of files.
        let files = if disk.files() == 0 { u64::MAX } else { files };
        Ok(Self { bytes: blocks.saturating_mul(disk.fragment_size()), files })
    }
}
