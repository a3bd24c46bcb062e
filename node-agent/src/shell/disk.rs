//! Watches the free room on the journal's disk, to act before writing fails.
//!
//! A node whose disk is nearly full reports that and starts nothing. Attempts whose start has not
//! begun are returned, so that they go to another node, even if their start was decided before, for
//! example while an image is being pulled.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Agent;
use crate::free::Free;
use crate::journal::{ENOUGH_BYTES, LOW_BYTES};

/// How often the disk is checked, besides before each plan.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A check before a plan is left out if the last one is not older than this. When many tasks start
/// one after the other, there is a plan each millisecond, and a check takes a thread of its own.
const FRESH: Duration = Duration::from_millis(20);
/// Least number of files that can be created: enough for a few tasks.
const FILES_MIN: u64 = 64;
/// What fails while there is no room, as a description for health reports.
const HAVING_ROOM: &str = "checking the free space on the disk";

/// The last check of the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    looked_at: Option<Instant>,
    /// Why nothing is started; `None` if there is room.
    shortage: Option<String>,
}

impl Disk {
    /// Why nothing may be started now, if so.
    pub(super) fn shortage(&self) -> Option<&str> {
        self.shortage.as_deref()
    }

    /// When to check again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.looked_at.map(|at| at + LOOK_INTERVAL)
    }
}

/// Whether a disk is nearly full. Once it was, it counts as such until it has clearly more room;
/// otherwise each file that comes and goes would change the node's state.
fn is_short(was_short: bool, free: Free) -> bool {
    let (bytes, files) =
        if was_short { (ENOUGH_BYTES, 2 * FILES_MIN) } else { (LOW_BYTES, FILES_MIN) };
    free.bytes < bytes || free.files < files
}

impl Agent {
    /// Checks the disk if it is time, even if nothing is to be planned.
    pub(super) async fn look_at_disk_in_time(&mut self) {
        if self.disk.wake_at().is_none_or(|at| at <= Instant::now()) {
            self.look_at_disk().await;
        }
    }

    /// Checks the disk before a plan, unless that was just done.
    pub(super) async fn look_at_disk_anew(&mut self) {
        if self.disk.looked_at.is_none_or(|at| at.elapsed() >= FRESH) {
            self.look_at_disk().await;
        }
    }

    /// Checks how much room the disk has.
    async fn look_at_disk(&mut self) {
        self.disk.looked_at = Some(Instant::now());
        let free = match self.keeping.free().await {
            Ok(free) => free,
            // If this matters, writing the journal fails as well, which is reported.
            Err(error) => return warn!(%error, "cannot read the free space on the disk"),
        };
        if is_short(self.disk.shortage.is_some(), free) {
            let shortage = format!(
                "the disk with the agent's state is nearly full, so the agent starts nothing new: \
                 free at least {} KiB and {} files",
                ENOUGH_BYTES / 1024,
                2 * FILES_MIN
            );
            self.outside.health.failed(HAVING_ROOM, &shortage);
            self.disk.shortage = Some(shortage);
        } else {
            if self.disk.shortage.take().is_some() {
                self.queue.add_all();
            }
            self.outside.health.works(HAVING_ROOM);
        }
        self.publishing.set_disk_problem(self.disk.shortage.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_short_of_bytes_or_files_until_it_has_clearly_more() {
        let enough = Free { bytes: ENOUGH_BYTES, files: 2 * FILES_MIN };
        let between = Free { bytes: LOW_BYTES, files: FILES_MIN };
        for (free, from_room, from_shortage) in [
            (enough, false, false),
            (between, false, true),
            (Free { bytes: LOW_BYTES, ..enough }, false, true),
            (Free { files: FILES_MIN, ..enough }, false, true),
            (Free { bytes: LOW_BYTES - 1, ..enough }, true, true),
            (Free { files: FILES_MIN - 1, ..enough }, true, true),
        ] {
            assert_eq!((is_short(false, free), is_short(true, free)), (from_room, from_shortage));
        }
    }
}
