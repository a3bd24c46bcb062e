//! The processes of this machine, read from `/proc`: which process is whose child, and which belong
//! to a task whose shim is gone.

use std::collections::BTreeMap;
use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Most rounds in which newly started processes are searched. Processes that were found are stopped
/// first, so only a program that starts others faster than `/proc` is read needs more than two or
/// three rounds.
const ROUNDS_MAX: u32 = 100;

/// From `/proc/<pid>/stat`: to whom a process belongs, and what distinguishes it from others with
/// its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub is_zombie: bool,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    pub start_ticks: u64,
}

/// Nothing if the process does not exist, or is not visible to this user: then it is not one of a
/// task.
pub fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(line) => Ok(parse_stat(&line)),
        Err(error) if is_none_of_ours(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A process that ends while it is being read is gone, too. If `/proc` hides the processes of other
/// users (`hidepid`), reading them is not permitted.
fn is_none_of_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        || error.raw_os_error() == Some(nix::libc::ESRCH)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The command's name is in parentheses and may contain anything, even spaces and parentheses.
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let is_zombie = fields.next()? == "Z";
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let start_ticks = fields.nth(15)?.parse().ok()?;
    Some(Stat { is_zombie, parent, group, session, start_ticks })
}

/// All processes by id.
fn all() -> io::Result<BTreeMap<i32, Stat>> {
    let mut table = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        table.extend(stat(pid)?.map(|stat| (pid, stat)));
    }
    Ok(table)
}

/// The children of a process that it has not reaped.
pub fn children(parent: i32) -> io::Result<Vec<i32>> {
    let is_child = |(pid, stat): (i32, Stat)| (stat.parent == parent).then_some(pid);
    Ok(all()?.into_iter().filter_map(is_child).collect())
}

/// Ends the main process of a task whose shim is gone, and everything that belongs to it: its
/// group, its session, and their descendants. A process that created a session of its own and whose
/// parent has ended is not found. Returns the processes that this user may not end.
pub fn end_family(main: i32, start_ticks: u64, session: i32) -> io::Result<Vec<i32>> {
    end_found(|| Ok(find_family(&all()?, main, start_ticks, session)), send)
}

/// Ends a shim that was not reaped, and everything that it has started, as [`end_family`] does.
pub fn end_session(shim: i32) -> io::Result<Vec<i32>> {
    // The id cannot be reused while the session has a process.
    let start_ticks = stat(shim)?.map_or(0, |stat| stat.start_ticks);
    end_family(shim, start_ticks, shim)
}

/// Ends the processes that `find` finds until there are no new ones. A process that cannot be ended
/// does not prevent the end of others.
fn end_found(
    mut find: impl FnMut() -> io::Result<BTreeMap<i32, u64>>,
    mut send: impl FnMut(i32, u64, Signal) -> io::Result<()>,
) -> io::Result<Vec<i32>> {
    let mut family = BTreeMap::new();
    for _ in 0..ROUNDS_MAX {
        let known = family.len();
        for (pid, start_ticks) in find()? {
            if family.insert(pid, start_ticks).is_none() {
                // Whether it may be signalled is found out when it is killed.
                let _not_permitted = send(pid, start_ticks, Signal::SIGSTOP);
            }
        }
        if family.len() == known {
            break;
        }
    }
    let mut is_left = |pid: i32, start_ticks: u64| send(pid, start_ticks, Signal::SIGKILL).is_err();
    Ok(family.into_iter().filter(|(pid, ticks)| is_left(*pid, *ticks)).map(|it| it.0).collect())
}

/// The living processes of a family, with their start times.
fn find_family(
    table: &BTreeMap<i32, Stat>,
    main: i32,
    start_ticks: u64,
    session: i32,
) -> BTreeMap<i32, u64> {
    // Ids of groups and sessions are reused after their last process is gone, and then by a process
    // that leads them.
    let is_group_ours = table.get(&main).is_none_or(|stat| stat.start_ticks == start_ticks);
    // The shim may remain as a zombie. It is older than what it started.
    let is_session_ours =
        session > 0 && table.get(&session).is_none_or(|stat| stat.start_ticks <= start_ticks);
    let belongs = |stat: &Stat| {
        stat.start_ticks >= start_ticks
            && ((is_group_ours && stat.group == main)
                || (is_session_ours && stat.session == session))
    };
    let mut family: BTreeMap<i32, u64> = table
        .iter()
        .filter(|(_, stat)| belongs(stat))
        .map(|(pid, stat)| (*pid, stat.start_ticks))
        .collect();
    loop {
        let is_new = |(pid, stat): &(&i32, &Stat)| {
            family.contains_key(&stat.parent) && !family.contains_key(*pid)
        };
        let new: Vec<_> = table.iter().filter(is_new).collect();
        if new.is_empty() {
            break;
        }
        family.extend(new.into_iter().map(|(pid, stat)| (*pid, stat.start_ticks)));
    }
    family.retain(|pid, _| table.get(pid).is_some_and(|stat| !stat.is_zombie));
    family
}

/// Signals a process unless it does not exist any more.
fn send(pid: i32, start_ticks: u64, signal: Signal) -> io::Result<()> {
    if stat(pid)?.is_none_or(|stat| stat.start_ticks != start_ticks) {
        return Ok(());
    }
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_found_behind_any_name() {
        let stat = "7 (a ) b (c) S 1 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 10 11";
        let wanted = Stat { is_zombie: false, parent: 1, group: 8, session: 9, start_ticks: 4711 };
        assert_eq!(parse_stat(stat), Some(wanted));
        assert_eq!(parse_stat("nonsense"), None);
    }

    fn process(parent: i32, group: i32, session: i32, start_ticks: u64) -> Stat {
        Stat { is_zombie: false, parent, group, session, start_ticks }
    }

    /// The main process 10, started at 100, in the session of the shim 9, which is gone.
    fn family_in(others: &[(i32, Stat)]) -> Vec<i32> {
        let table: BTreeMap<i32, Stat> = others.iter().cloned().collect();
        find_family(&table, 10, 100, 9).into_keys().collect()
    }

    #[test]
    fn a_family_is_its_group_its_session_and_their_descendants() {
        let all = [
            (1, process(0, 1, 1, 1)),
            (10, process(1, 10, 9, 100)),
            (11, process(10, 10, 9, 101)),
            // It has left the group, and its parent is gone.
            (12, process(1, 12, 9, 102)),
            // It has left the session, and its parent exists; and a child of it.
            (13, process(11, 13, 13, 103)),
            (14, process(13, 14, 14, 104)),
            (20, process(1, 20, 20, 105)),
        ];
        assert_eq!(family_in(&all), [10, 11, 12, 13, 14]);
        assert_eq!(family_in(&all[2..]), [11, 12, 13, 14], "without its main process");
    }

    #[test]
    fn a_shim_that_nobody_has_waited_for_hides_nobody() {
        let shim = Stat { is_zombie: true, ..process(1, 9, 9, 100) };
        let all = [(9, shim), (10, process(1, 10, 9, 100)), (12, process(1, 12, 9, 102))];
        assert_eq!(family_in(&all), [10, 12]);
        assert_eq!(family_in(&[all[0].clone(), all[2].clone()]), [12]);
    }

    #[test]
    fn a_process_that_may_not_be_ended_keeps_no_other_alive() {
        let mut sent = Vec::new();
        let left = end_found(
            || Ok(BTreeMap::from([(10, 100), (11, 101), (12, 102)])),
            |pid, _, signal| {
                if pid == 11 {
                    return Err(nix::errno::Errno::EPERM.into());
                }
                sent.push((pid, signal));
                Ok(())
            },
        );
        assert_eq!(left.unwrap(), [11]);
        let (stop, kill) = (Signal::SIGSTOP, Signal::SIGKILL);
        assert_eq!(sent, [(10, stop), (12, stop), (10, kill), (12, kill)]);
    }

    #[test]
    fn a_process_that_may_not_be_seen_is_none_of_ours() {
        use nix::errno::Errno;
        for errno in [Errno::ENOENT, Errno::ESRCH, Errno::EPERM, Errno::EACCES] {
            assert!(is_none_of_ours(&errno.into()), "{errno}");
        }
        assert!(!is_none_of_ours(&Errno::EIO.into()));
    }

    #[test]
    fn others_that_have_the_numbers_now_are_left_alone() {
        let later = [
            // Other processes lead a group and a session with these ids.
            (10, process(1, 10, 10, 900)),
            (11, process(10, 10, 10, 901)),
            (9, process(1, 9, 9, 800)),
            (12, process(9, 12, 9, 801)),
        ];
        assert_eq!(family_in(&later), [0; 0]);
        // It is older than the task.
        assert_eq!(family_in(&[(12, process(1, 12, 9, 99))]), [0; 0]);
        let ended = Stat { is_zombie: true, ..process(1, 10, 9, 100) };
        assert_eq!(family_in(&[(10, ended)]), [0; 0]);
    }
}
