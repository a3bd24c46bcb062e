//! Frees a process from what it inherited of whoever started the agent.
//!
//! A process hands down more than it says: signals that it ignores (`nohup`, a shell's `&`), open
//! descriptors, limits, its nice value, its umask, its folder, its place in the kernel's order of
//! out-of-memory kills. A task gets none of that but the fixed values here. (Environment, signal
//! mask and SIGPIPE are `std::process::Command`'s part.)
//!
//! Two signals stay ignored, 32 and 33: glibc's posix_spawn, which starts every child here, leaves
//! them so, and no function of the C library changes them. Nobody notices: they are the library's own,
//! and a program's library takes them up itself when it needs them.
//!
//! What the administrator gave the agent as a bound stays one: hard limits, control groups,
//! processor affinity.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::close;
use signal_hook::consts::FORBIDDEN;

/// What a task's files are not by default: writable by others.
const UMASK: u32 = 0o022;

/// The first descriptor that is not one of the three that every program has.
const FIRST_OWN: RawFd = 3;

/// Soft limits; of those not named there is none. A hard limit that is lower holds.
const SOFT_LIMITS: &[(Resource, rlim_t)] = &[
    (Resource::RLIMIT_CORE, 0),
    (Resource::RLIMIT_CPU, RLIM_INFINITY),
    (Resource::RLIMIT_FSIZE, RLIM_INFINITY),
    (Resource::RLIMIT_DATA, RLIM_INFINITY),
    (Resource::RLIMIT_AS, RLIM_INFINITY),
    (Resource::RLIMIT_STACK, 8 << 20),
    // Programs that use select() break with more; those that need more raise it themselves.
    (Resource::RLIMIT_NOFILE, 1024),
    (Resource::RLIMIT_NPROC, RLIM_INFINITY),
];

/// Signals are numbered from 1.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// Closes every descriptor but the three that every program has. To be called before anything is
/// opened: whoever holds one of these would be left with somebody else's.
pub fn close_descriptors() -> io::Result<()> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<RawFd>().ok();
    // All numbers are read before one is closed: the folder is read with one of them.
    let numbers: Vec<RawFd> =
        fs::read_dir("/proc/self/fd")?.filter_map(Result::ok).filter_map(number).collect();
    for number in numbers.into_iter().filter(|number| *number >= FIRST_OWN) {
        // The one that the folder was read with is closed already.
        let _ = close(number);
    }
    Ok(())
}

/// Sets what a child gets. It fails nowhere: what may not be set stays as it is.
pub fn reset() {
    forget_ignored_signals();
    umask(Mode::from_bits_truncate(UMASK));
    for (resource, wanted) in SOFT_LIMITS {
        if let Ok((soft, hard)) = getrlimit(*resource)
            && soft != (*wanted).min(hard)
        {
            let _ = setrlimit(*resource, (*wanted).min(hard), hard);
        }
    }
    // Both need a privilege where the agent was made less important than others.
    let _ = rustix::process::setpriority_process(None, 0);
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    // The folder in which the agent was started is not kept in use.
    let _ = std::env::set_current_dir("/");
}

/// Lets children have the default of each signal that this process was started to ignore: it
/// catches the signal instead, without doing anything, which no child inherits. This process minds
/// it as little as before.
fn forget_ignored_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let can_be_caught = |number: &i32| !FORBIDDEN.contains(number);
    for number in ignored(&status).into_iter().filter(can_be_caught) {
        let _nobody_asks = signal_hook::flag::register(number, Arc::new(AtomicBool::new(false)));
    }
}

/// The signals that `/proc/<pid>/status` says are ignored, but SIGPIPE: Rust ignores it in its own
/// programs, and not in their children.
fn ignored(status: &str) -> Vec<i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    let is_ignored = |number: &i32| mask & (1 << (number - 1)) != 0;
    SIGNALS.filter(is_ignored).filter(|number| *number != nix::libc::SIGPIPE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001007\n";
        assert_eq!(ignored(status), [1, 2, 3]);
        assert!(ignored("Name:\tx\n").is_empty());
    }
}
