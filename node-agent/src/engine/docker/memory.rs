//! Watches the control groups of containers with a memory limit, so that no out-of-memory kill is
//! missed: see [`super::oom`] for what is made of it.
//!
//! A watch begins while the engine starts the container, as soon as its control group is there: a
//! program may run out of memory before the engine has answered. Containers that ran before this
//! agent are watched from when they are first seen. Where a group cannot be found (the engine is
//! on another machine, in another namespace, or the agent may not read it) nobody watches, and the
//! engine's own word has to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Tasks;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::oom::{Case, Cgroup, Membership, Verdict, judge, membership};

/// How often a control group is looked for while its container is being started. A start takes
/// tens of milliseconds between making the group and running the program.
const APPEAR_INTERVAL: Duration = Duration::from_millis(2);

/// Bytes for inotify's events, which are not looked at: that there is one is enough.
const EVENTS_BYTES: usize = 4 * 1024;

/// Who watches, and what was decided.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where control groups are mounted.
    root: PathBuf,
    /// Runs the watches of version 2, and ends with this.
    tasks: Tasks,
    /// Guards what is known of each container, by Docker's id.
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    watch: Option<Watch>,
    /// This agent sent KILL.
    was_killed_by_us: bool,
    /// When its end was first seen.
    ended: Option<Instant>,
    /// What ended it. Once decided it stays so.
    verdict: Option<Verdict>,
}

#[derive(Debug)]
enum Watch {
    Version1 {
        group: PathBuf,
        signals: EventFd,
        count: u64,
    },
    Version2 {
        group: PathBuf,
        /// What was last read. Guards one value.
        seen: Arc<Mutex<Cgroup>>,
    },
}

impl Memory {
    /// Watches groups below `root`, which is `/sys/fs/cgroup`.
    pub(super) fn new(root: &Path) -> Self {
        let tasks = Tasks::new("memory watches");
        let shared = Shared { root: root.to_owned(), tasks, known: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the control group of a container that is being started is there, and watches it.
    pub(super) async fn watch_start(&self, id: &str) {
        loop {
            if self.candidates(id).into_iter().any(|group| self.watch(id, group)) {
                return;
            }
            sleep(APPEAR_INTERVAL).await;
        }
    }

    /// Where the control group of a container will be, under the engine's defaults.
    fn candidates(&self, id: &str) -> Vec<Membership> {
        let paths = [format!("/docker/{id}"), format!("/system.slice/docker-{id}.scope")];
        let both = |path: String| [Membership::Version1(path.clone()), Membership::Version2(path)];
        paths.into_iter().flat_map(both).collect()
    }

    /// Watches a container that runs, unless it is watched already.
    pub(super) fn watch_running(&self, id: &str, pid: i64) {
        let is_watched = self.known().get(id).is_some_and(|known| known.watch.is_some());
        if is_watched {
            return;
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // The engine may be in another namespace of processes, where the number means another one.
        if text.contains(id)
            && let Some(group) = membership(&text)
        {
            self.watch(id, group);
        }
    }

    /// Whether the group was there, and can be watched.
    fn watch(&self, id: &str, group: Membership) -> bool {
        let root = &self.shared.root;
        let (watch, path) = match &group {
            Membership::Version1(path) => {
                let group = root.join("memory").join(path.trim_start_matches('/'));
                (watch_version_1(&group), group)
            }
            Membership::Version2(path) => {
                let group = root.join(path.trim_start_matches('/'));
                (self.watch_version_2(&group), group)
            }
        };
        match watch {
            Ok(watch) => {
                self.known().entry(id.to_owned()).or_default().watch = Some(watch);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                debug!(id, group = %path.display(), %error, "memory is not watched");
                false
            }
        }
    }

    fn watch_version_2(&self, group: &Path) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        for file in ["memory.events", "cgroup.events"] {
            inotify.add_watch(&group.join(file), AddWatchFlags::IN_MODIFY)?;
        }
        let events = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))?;
        let seen = Arc::new(Mutex::new(read_version_2(group)));
        let follow = follow_version_2(group.to_owned(), events, Arc::clone(&seen));
        self.shared.tasks.spawn("memory watch", follow);
        Ok(Watch::Version2 { group: group.to_owned(), seen })
    }

    /// That this agent kills a container.
    pub(super) fn killing(&self, id: &str) {
        self.known().entry(id.to_owned()).or_default().was_killed_by_us = true;
    }

    /// Whether a watch has something to say of a container, now or soon.
    pub(super) fn is_watched(&self, id: &str) -> bool {
        let mut all = self.known();
        let watch = all.get_mut(id).and_then(|known| known.watch.as_mut());
        watch.is_some_and(|watch| watch.look() != Cgroup::Unwatched)
    }

    /// Decides what ended a container.
    pub(super) fn judge(&self, id: &str, ended: Ended, now: Instant) -> Verdict {
        let mut all = self.known();
        let known = all.entry(id.to_owned()).or_default();
        if let Some(verdict) = known.verdict {
            return verdict;
        }
        let since = *known.ended.get_or_insert(now);
        let cgroup = known.watch.as_mut().map_or(Cgroup::Unwatched, Watch::look);
        let verdict = judge(&Case {
            code: ended.code,
            is_limited: ended.is_limited,
            was_killed_by_us: known.was_killed_by_us,
            engine_says_so: ended.engine_says_so,
            cgroup,
            waited: now.duration_since(since),
        });
        if verdict != Verdict::Wait {
            known.verdict = Some(verdict);
            known.watch = None;
        }
        verdict
    }

    /// A container was removed.
    pub(super) fn forget(&self, id: &str) {
        self.known().remove(id);
    }

    /// Forgets containers that are not there any more: neither the engine lists them, nor is
    /// their group there, as that of one that is just being started.
    pub(super) fn keep(&self, listed: &BTreeSet<String>) {
        self.known().retain(|id, known| {
            listed.contains(id) || known.watch.as_ref().is_some_and(|watch| !watch.is_gone())
        });
    }
}

/// What the engine says of an end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) is_limited: bool,
    pub(super) engine_says_so: bool,
}

impl Watch {
    fn look(&mut self) -> Cgroup {
        match self {
            Self::Version1 { group, signals, count } => {
                // Reading takes all that was counted; there is nothing to read where that is none.
                *count = count.saturating_add(signals.read().unwrap_or_default());
                // Looked at after the count was read: see `Cgroup::of_version_1`.
                let is_gone = !group.exists();
                Cgroup::of_version_1(*count, is_gone)
            }
            Self::Version2 { seen, .. } => *seen.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn is_gone(&self) -> bool {
        let (Self::Version1 { group, .. } | Self::Version2 { group, .. }) = self;
        !group.exists()
    }
}

/// Has the kernel count how often the group runs out of memory. The count outlives the group.
fn watch_version_1(group: &Path) -> io::Result<Watch> {
    let control = File::open(group.join("memory.oom_control"))?;
    let signals = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let mut registry = OpenOptions::new().write(true).open(group.join("cgroup.event_control"))?;
    // One write: the kernel reads both numbers at once.
    let request = format!("{} {}", signals.as_raw_fd(), control.as_raw_fd());
    registry.write_all(request.as_bytes())?;
    Ok(Watch::Version1 { group: group.to_owned(), signals, count: 0 })
}

fn read_version_2(group: &Path) -> Cgroup {
    // Read in this order: what is killed before the group is empty is counted by then.
    let group_events = std::fs::read_to_string(group.join("cgroup.events")).ok();
    let memory_events = std::fs::read_to_string(group.join("memory.events")).ok();
    Cgroup::of_version_2(memory_events.as_deref(), group_events.as_deref())
}

/// Reads the group's files each time the kernel says that they changed, until that settles it.
async fn follow_version_2(group: PathBuf, mut events: pipe::Receiver, seen: Arc<Mutex<Cgroup>>) {
    let mut buffer = vec![0; EVENTS_BYTES];
    loop {
        let now = read_version_2(&group);
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        // Unwatched: the group went before its last state could be read.
        if now != Cgroup::Open || events.read(&mut buffer).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Ended = Ended { code: 137, is_limited: true, engine_says_so: false };

    /// A group of version 2, made of plain files.
    fn group(root: &Path, id: &str) -> PathBuf {
        let group = root.join("docker").join(id);
        std::fs::create_dir_all(&group).unwrap();
        write(&group, 0, 1);
        group
    }

    fn write(group: &Path, kills: u32, populated: u32) {
        std::fs::write(group.join("memory.events"), format!("oom 3\noom_kill {kills}\n")).unwrap();
        std::fs::write(group.join("cgroup.events"), format!("populated {populated}\n")).unwrap();
    }

    /// The verdict, once there is one.
    async fn verdict(memory: &Memory, id: &str) -> Verdict {
        loop {
            // No time passes: only a witness can settle it.
            let verdict = memory.judge(id, ENDED, Instant::now());
            if verdict != Verdict::Wait {
                return verdict;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_group_of_version_2_is_read_before_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::new(root.path());
        for (id, kills, expected) in [("0a", 1, Verdict::OomKilled), ("0b", 0, Verdict::Other)] {
            let group = group(root.path(), id);
            memory.watch_start(id).await;
            write(&group, kills, 0);
            let settled = async {
                while memory.known()[id].watch.as_ref().is_some_and(|watch| match watch {
                    Watch::Version2 { seen, .. } => *seen.lock().unwrap() == Cgroup::Open,
                    Watch::Version1 { .. } => false,
                }) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            settled.await;
            std::fs::remove_dir_all(&group).unwrap();
            assert_eq!(verdict(&memory, id).await, expected, "{kills} kills");
            assert_eq!(verdict_again(&memory, id), expected, "what is decided stays decided");
            memory.forget(id);
        }
    }

    fn verdict_again(memory: &Memory, id: &str) -> Verdict {
        memory.judge(id, ENDED, Instant::now())
    }

    #[tokio::test]
    async fn what_is_neither_listed_nor_there_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::new(root.path());
        for id in ["0a", "0b", "0c"] {
            group(root.path(), id);
            memory.watch_start(id).await;
        }
        for id in ["0a", "0b"] {
            std::fs::remove_dir_all(root.path().join("docker").join(id)).unwrap();
        }
        memory.keep(&BTreeSet::from(["0b".to_owned()]));
        assert_eq!(memory.known().keys().collect::<Vec<_>>(), ["0b", "0c"]);
    }
}
