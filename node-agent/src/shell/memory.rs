//! Watches the free memory of the host: a node that has hardly any left takes no new tasks.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Agent;
use crate::engine::HostMemory;

/// How often the memory is checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Free memory below this is too little for another task, as in Kubernetes; on a small host, a
/// twentieth of its memory.
const LOW_BYTES: u64 = 100 << 20;
const LOW_SHARE: u64 = 20;

/// The last check of the memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    looked_at: Option<Instant>,
    is_short: bool,
}

impl Memory {
    /// When to check again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.looked_at.map(|at| at + LOOK_INTERVAL)
    }
}

/// Whether a host has too little memory left. Once it had, it counts as such until it has clearly
/// more.
fn is_short(was_short: bool, memory: HostMemory) -> bool {
    let low = LOW_BYTES.min(memory.total_bytes / LOW_SHARE);
    memory.available_bytes < if was_short { 2 * low } else { low }
}

impl Agent {
    /// Checks the memory if it is time. A simulated machine has none of its own.
    pub(super) async fn look_at_memory_in_time(&mut self) {
        let is_due = self.memory.wake_at().is_none_or(|at| at <= Instant::now());
        if !is_due || !self.config.host.is_real() {
            return;
        }
        self.memory.looked_at = Some(Instant::now());
        let memory = match base::blocking("memory", HostMemory::of_this_machine).await {
            Ok(Ok(memory)) => memory,
            Ok(Err(error)) => return warn!(%error, "cannot read the free memory"),
            Err(error) => return warn!(error, "cannot read the free memory"),
        };
        self.memory.is_short = is_short(self.memory.is_short, memory);
        let shortage = self.memory.is_short.then(|| {
            format!(
                "the host has less than {} MiB of memory free, so it is given no new tasks",
                2 * LOW_BYTES.min(memory.total_bytes / LOW_SHARE) / (1 << 20)
            )
        });
        self.publishing.set_memory_problem(shortage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_short_of_memory_until_it_has_clearly_more() {
        let mib = |available: u64, total: u64| HostMemory {
            available_bytes: available << 20,
            total_bytes: total << 20,
        };
        for (memory, from_room, from_shortage) in [
            (mib(300, 8192), false, false),
            (mib(150, 8192), false, true),
            (mib(99, 8192), true, true),
            (mib(60, 1024), false, true),
            (mib(50, 1024), true, true),
            (mib(110, 1024), false, false),
        ] {
            let found = (is_short(false, memory), is_short(true, memory));
            assert_eq!(found, (from_room, from_shortage), "{memory:?}");
        }
    }
}
