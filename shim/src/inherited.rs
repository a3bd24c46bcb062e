//! Frees a process from what it inherited from whoever started the agent.
//!
//! A process passes on more than is visible: ignored signals (`nohup`, a shell's `&`), open
//! descriptors, limits, its nice value, its umask, its working directory, its out-of-memory score.
//! Tasks get the fixed values in this file instead. (`std::process::Command` takes care of
//! environment, signal mask and SIGPIPE.)
//!
//! Signals 32 and 33 stay ignored: glibc's posix_spawn, which starts every child here, leaves them
//! so, and no function of the C library can change them. That has no effect: they are internal to
//! the C library, which sets them up when it needs them.
//!
//! Bounds that an administrator set for the agent stay: hard limits, control groups, processor
//! affinity.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::close;
use signal_hook::consts::FORBIDDEN;

/// Which permissions new files of a task do not get: write permission for others.
const UMASK: u32 = 0o022;

/// The first descriptor after the three standard ones.
const FIRST_OWN: RawFd = 3;

/// Soft limits. Limits that are not listed are unlimited. A lower hard limit takes precedence.
const SOFT_LIMITS: &[(Resource, rlim_t)] = &[
    (Resource::RLIMIT_CORE, 0),
    (Resource::RLIMIT_CPU, RLIM_INFINITY),
    (Resource::RLIMIT_FSIZE, RLIM_INFINITY),
    (Resource::RLIMIT_DATA, RLIM_INFINITY),
    (Resource::RLIMIT_AS, RLIM_INFINITY),
    (Resource::RLIMIT_STACK, 8 << 20),
    // Programs that use select() fail with more. Programs that need more can raise it themselves.
    (Resource::RLIMIT_NOFILE, 1024),
    (Resource::RLIMIT_NPROC, RLIM_INFINITY),
];

/// Signals are numbered from 1.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// Closes every descriptor but the three standard ones. Must be called before anything is opened:
/// an open file would lose its descriptor to somebody else.
pub fn close_descriptors() -> io::Result<()> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<RawFd>().ok();
    // All numbers are read first, because reading the folder uses a descriptor as well.
    let numbers: Vec<RawFd> =
        fs::read_dir("/proc/self/fd")?.filter_map(Result::ok).filter_map(number).collect();
    for number in numbers.into_iter().filter(|number| *number >= FIRST_OWN) {
        // The descriptor of the folder itself is closed already.
        let _ = close(number);
    }
    Ok(())
}

/// Sets these values for this process and its children. What is not permitted stays as it is.
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
    // Both need a privilege if the agent was given a lower priority.
    let _ = rustix::process::setpriority_process(None, 0);
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    // So that the folder in which the agent was started is not in use.
    let _ = std::env::set_current_dir("/");
}

/// Restores the default action for signals that this process was started to ignore, in its
/// children: it installs an empty handler, which children do not inherit. For this process that has
/// the same effect as ignoring them.
fn forget_ignored_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let can_be_caught = |number: &i32| !FORBIDDEN.contains(number);
    for number in ignored(&status).into_iter().filter(can_be_caught) {
        let _nobody_asks = signal_hook::flag::register(number, Arc::new(AtomicBool::new(false)));
    }
}

/// The signals that `/proc/<pid>/status` shows as ignored, except SIGPIPE: Rust ignores that itself
/// and restores it for children.
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
