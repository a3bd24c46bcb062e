//! Measured usage of containers and of the machine.

use std::io;

use tokio::time::Instant;

use super::Identity;

/// Nanoseconds in one of the clock ticks that `/proc` counts. User space sees 100 ticks a second on
/// every architecture that Heliox supports.
pub(crate) const TICK_NANOS: u64 = 10_000_000;

/// Usage at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Usage of the whole machine, Heliox's or not.
    pub machine: Used,
    /// Usage of the running containers of this scope, by identity.
    pub containers: Vec<(Identity, Used)>,
}

/// Usage of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// When this was measured.
    pub at: Instant,
    /// Processor time since its start, in nanoseconds. It only grows while the identity is the
    /// same.
    pub cpu_nanos: u64,
    /// Memory in bytes, without what the kernel can reclaim at once.
    pub memory_bytes: u64,
}

impl Used {
    /// Processor time since `before`, in thousandths of a core; nothing if no time has passed.
    pub fn cpu_millis_since(&self, before: &Self) -> Option<u64> {
        let nanos = u128::from(self.cpu_nanos.saturating_sub(before.cpu_nanos));
        let passed = self.at.saturating_duration_since(before.at).as_nanos();
        nanos.saturating_mul(1000).checked_div(passed).and_then(|millis| millis.try_into().ok())
    }
}

/// Usage of this machine.
pub(crate) fn of_this_machine() -> io::Result<Used> {
    let odd = || io::Error::other("cannot parse the figures in /proc");
    let cpu_nanos = busy_ticks(&std::fs::read_to_string("/proc/stat")?).ok_or_else(odd)?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let field = |name| kib_field(&memory, name).ok_or_else(odd);
    let memory_bytes = field("MemTotal:")?.saturating_sub(field("MemAvailable:")?);
    Ok(Used { at: Instant::now(), cpu_nanos: cpu_nanos.saturating_mul(TICK_NANOS), memory_bytes })
}

/// The memory of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostMemory {
    pub(crate) total_bytes: u64,
    /// What programs can still get, with what the kernel can reclaim at once.
    pub(crate) available_bytes: u64,
}

impl HostMemory {
    /// The memory of this machine.
    pub(crate) fn of_this_machine() -> io::Result<Self> {
        let odd = || io::Error::other("cannot parse the figures in /proc");
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let field = |name| kib_field(&memory, name).ok_or_else(odd);
        Ok(Self { total_bytes: field("MemTotal:")?, available_bytes: field("MemAvailable:")? })
    }
}

/// Ticks during which processors were neither idle nor waiting for a disk. Guests' time is
/// contained in user time.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let busy = |index: &usize| *index != 3 && *index != 4 && *index < 8;
    (ticks.len() >= 4).then(|| (0..ticks.len()).filter(busy).map(|index| ticks[index]).sum())
}

/// A field of `/proc/meminfo` or `/proc/<pid>/status`, in bytes.
pub(crate) fn kib_field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = rest.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn idle_time_is_not_used_and_guests_are_not_counted_twice() {
        let stat = "cpu  100 1 20 9000 500 3 4 5 70 7\ncpu0 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(133));
        assert_eq!(busy_ticks("intr 5\n"), None);
    }

    #[test]
    fn fields_are_in_kibibytes() {
        let text = "MemTotal:       16 kB\nMemAvailable:    4 kB\n";
        assert_eq!(kib_field(text, "MemAvailable:"), Some(4096));
        assert_eq!(kib_field(text, "MemFree:"), None);
    }

    #[test]
    fn processor_time_is_a_rate_of_what_was_used_in_between() {
        let at = Instant::now();
        let used = |seconds, cpu_nanos| Used {
            at: at + Duration::from_secs(seconds),
            cpu_nanos,
            memory_bytes: 0,
        };
        let later = used(2, 3_500_000_000);
        assert_eq!(later.cpu_millis_since(&used(0, 500_000_000)), Some(1500));
        assert_eq!(later.cpu_millis_since(&later), None, "no time has passed");
        assert_eq!(used(2, 1).cpu_millis_since(&used(1, 2)), Some(0), "it began anew");
    }
}
