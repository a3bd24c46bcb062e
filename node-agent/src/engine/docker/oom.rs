//! Decides whether the kernel killed a container because it ran out of memory.
//!
//! No source is reliable alone. The Docker Engine learns of the kill from its shim, which misses it
//! if the control group vanishes together with its last process; and the engine's `oom` event may
//! come after `die`. So the agent also watches the control group itself ([`super::memory`]), and
//! this module combines what the three sources say.
//!
//! # Invariants
//!
//! * Only a source that saw it makes it an out-of-memory kill: a manual `kill -9` has exit code
//!   137, too.
//! * An end is held back only while a source may still report, and for a bounded time.

use std::time::Duration;

/// Exit code of a program that was killed.
const KILLED: i32 = 137;

/// How long an end waits for the watched control group. The kernel reports the removal of a control
/// group within milliseconds.
const CGROUP_WAIT: Duration = Duration::from_millis(500);
/// How long an end waits for the engine's `oom` event if the control group was not watched.
const EVENT_WAIT: Duration = Duration::from_secs(2);

/// What the watch of a container's control group has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cgroup {
    /// It was not watched: it was not found, or is on another machine.
    Unwatched,
    /// Nothing so far; more may come.
    Open,
    /// It ran out of memory.
    OutOfMemory,
    /// It is gone and never ran out of memory.
    Clean,
}

/// What is known of a container that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// Its exit code.
    pub(super) code: i32,
    /// Whether it has a memory limit. Without one its control group never runs out.
    pub(super) is_limited: bool,
    /// Whether this agent sent KILL, which explains the exit code.
    pub(super) was_killed_by_us: bool,
    /// Whether the engine reports it, in its state or by an event.
    pub(super) engine_says_so: bool,
    /// The control group.
    pub(super) cgroup: Cgroup,
    /// How long ago its end was first seen.
    pub(super) waited: Duration,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its memory ended it.
    OomKilled,
    /// Something else did.
    Other,
    /// A source may still report: decide later.
    Wait,
}

/// Decides what ended the container.
pub(super) fn judge(case: &Case) -> Verdict {
    if case.code == 0 {
        // At most a child process was killed, and the program coped with that.
        return Verdict::Other;
    }
    if case.engine_says_so || case.cgroup == Cgroup::OutOfMemory {
        return Verdict::OomKilled;
    }
    if case.code != KILLED || !case.is_limited || case.was_killed_by_us {
        return Verdict::Other;
    }
    let wait = match case.cgroup {
        Cgroup::Clean | Cgroup::OutOfMemory => Duration::ZERO,
        Cgroup::Open => CGROUP_WAIT,
        Cgroup::Unwatched => EVENT_WAIT,
    };
    if case.waited < wait { Verdict::Wait } else { Verdict::Other }
}

impl Cgroup {
    /// The result of an eventfd on version 1's `memory.oom_control` that has counted to `signals`.
    /// It counts each time the group runs out of memory, and once when the group is removed; that
    /// is why the count alone is not enough. `is_gone` must be determined after the count was read.
    pub(super) fn of_version_1(signals: u64, is_gone: bool) -> Self {
        match (signals, is_gone) {
            (0, _) | (1, true) => Self::Open,
            (1, false) | (2.., _) => Self::OutOfMemory,
        }
    }

    /// The result of version 2's `memory.events` and `cgroup.events`; `None` for a file that could
    /// not be read.
    pub(super) fn of_version_2(memory_events: Option<&str>, cgroup_events: Option<&str>) -> Self {
        match (memory_events, cgroup_events) {
            (None, _) => Self::Unwatched,
            (Some(events), _) if field(events, "oom_kill").is_some_and(|kills| kills > 0) => {
                Self::OutOfMemory
            }
            // Without a process in the group nothing can be killed any more.
            (Some(_), Some(group)) if field(group, "populated") == Some(0) => Self::Clean,
            (Some(_), _) => Self::Open,
        }
    }
}

/// A number in a file of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

/// The control group that limits a process's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Membership {
    /// In the `memory` hierarchy of version 1.
    Version1(String),
    /// In the one hierarchy of version 2.
    Version2(String),
}

/// Parses `/proc/<pid>/cgroup`. If both versions are mounted, version 1 controls the memory if it
/// is listed with it.
pub(super) fn membership(text: &str) -> Option<Membership> {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let of_memory =
        |(controllers, _): &(&str, &str)| controllers.split(',').any(|it| it == "memory");
    if let Some((_, path)) = lines().find(of_memory) {
        return Some(Membership::Version1(path.to_owned()));
    }
    let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
    Some(Membership::Version2(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED_WITH_A_LIMIT: Case = Case {
        code: KILLED,
        is_limited: true,
        was_killed_by_us: false,
        engine_says_so: false,
        cgroup: Cgroup::Unwatched,
        waited: Duration::ZERO,
    };

    #[test]
    fn one_witness_is_enough_and_none_is_not() {
        let late = Duration::from_secs(60);
        let case = KILLED_WITH_A_LIMIT;
        let cases = [
            ("the engine", Case { engine_says_so: true, ..case }, Verdict::OomKilled),
            ("the group", Case { cgroup: Cgroup::OutOfMemory, ..case }, Verdict::OomKilled),
            (
                "a shell that outlives its child",
                Case { code: 2, cgroup: Cgroup::OutOfMemory, ..case },
                Verdict::OomKilled,
            ),
            (
                "a shell that copes",
                Case { code: 0, engine_says_so: true, cgroup: Cgroup::OutOfMemory, ..case },
                Verdict::Other,
            ),
            ("kill -9, seen", Case { cgroup: Cgroup::Clean, ..case }, Verdict::Other),
            ("kill -9, not yet seen", Case { cgroup: Cgroup::Open, ..case }, Verdict::Wait),
            ("silence", Case { cgroup: Cgroup::Open, waited: late, ..case }, Verdict::Other),
            ("no event yet", case, Verdict::Wait),
            ("no event at all", Case { waited: late, ..case }, Verdict::Other),
            ("killed by us", Case { was_killed_by_us: true, ..case }, Verdict::Other),
            ("without a limit", Case { is_limited: false, ..case }, Verdict::Other),
            ("another code", Case { code: 1, ..case }, Verdict::Other),
        ];
        for (what, case, verdict) in cases {
            assert_eq!(judge(&case), verdict, "{what}");
        }
    }

    #[test]
    fn the_removal_of_a_group_counts_once_in_version_1() {
        assert_eq!(Cgroup::of_version_1(0, false), Cgroup::Open);
        assert_eq!(Cgroup::of_version_1(1, false), Cgroup::OutOfMemory);
        // One count may be the removal, or a kill whose removal is not counted yet.
        assert_eq!(Cgroup::of_version_1(1, true), Cgroup::Open);
        assert_eq!(Cgroup::of_version_1(2, true), Cgroup::OutOfMemory);
    }

    #[test]
    fn the_files_of_version_2_tell_of_kills() {
        let events =
            |kills| format!("low 0\nhigh 0\nmax 31\noom 2\noom_kill {kills}\noom_group_kill 0\n");
        let of = |memory: &str, group| Cgroup::of_version_2(Some(memory), group);
        assert_eq!(of(&events(0), Some("populated 1\nfrozen 0\n")), Cgroup::Open);
        assert_eq!(of(&events(0), Some("populated 0\nfrozen 0\n")), Cgroup::Clean);
        assert_eq!(of(&events(1), Some("populated 0\nfrozen 0\n")), Cgroup::OutOfMemory);
        assert_eq!(of(&events(1), None), Cgroup::OutOfMemory);
        assert_eq!(of(&events(0), None), Cgroup::Open);
        assert_eq!(Cgroup::of_version_2(None, None), Cgroup::Unwatched);
    }

    #[test]
    fn a_process_says_which_group_limits_its_memory() {
        let both = "9:name=systemd:/a\n4:cpu,memory:/docker/0af3\n0::/docker/0af3\n";
        assert_eq!(membership(both), Some(Membership::Version1("/docker/0af3".to_owned())));
        let new = "0::/system.slice/docker-0af3.scope\n";
        let path = "/system.slice/docker-0af3.scope".to_owned();
        assert_eq!(membership(new), Some(Membership::Version2(path)));
        assert_eq!(membership("4:cpu:/x\n"), None);
    }
}
