//! Watches the control groups of containers that have a memory limit, so that no out-of-memory kill
//! is missed. [`super::oom`] evaluates what they tell.
//!
//! A watch begins while the engine starts the container, as soon as the control group exists: a
//! program may run out of memory before the engine has answered. Containers that were running
//! before this agent are watched from when they are first seen. If a group cannot be found (the
//! engine is on another machine or in another namespace, or the agent lacks the permission), only
//! the engine's own statement counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::group_watch::{GroupWatch, GroupWatches};
use super::oom::{Case, Cgroup, Membership, Verdict, judge, membership};

/// How often to look for the control group of a container that is being started. Between the
/// creation of the group and the start of the program some tens of milliseconds pass.
const APPEAR_INTERVAL: Duration = Duration::from_millis(2);

/// The watches, and what was decided for each container.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where control groups are mounted.
    root: PathBuf,
    /// The watches of version 2.
    groups: GroupWatches,
    /// Whether the last group that was found could not be watched.
    is_blind: AtomicBool,
    /// Guards what is known of each container, by Docker's id.
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    watch: Option<Watch>,
    /// Whether this agent has sent KILL.
    was_killed_by_us: bool,
    /// When its end was first seen.
    ended: Option<Instant>,
    /// What ended it. Never changed once it is decided.
    verdict: Option<Verdict>,
}

impl Known {
    /// Whether another watch would tell nothing new: one works, or the cause is decided. A failed
    /// watch tells nothing.
    fn needs_no_watch(&mut self) -> bool {
        let tells = |watch: &mut Watch| watch.look() != Cgroup::Unwatched;
        self.verdict.is_some() || self.watch.as_mut().is_some_and(tells)
    }
}

#[derive(Debug)]
enum Watch {
    Version1 { group: PathBuf, signals: EventFd, count: u64 },
    Version2(GroupWatch),
}

impl Memory {
    /// Watches groups below `root`, normally `/sys/fs/cgroup`.
    pub(super) fn new(root: &Path) -> Self {
        let shared = Shared {
            root: root.to_owned(),
            groups: GroupWatches::new(),
            is_blind: AtomicBool::new(false),
            known: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the control group of a container that is being started, and watches it.
    pub(super) async fn watch_start(&self, id: &str) {
        loop {
            if self.candidates(id).into_iter().any(|group| self.watch(id, group)) {
                return;
            }
            sleep(APPEAR_INTERVAL).await;
        }
    }

    /// Where the control group of a container will be if the engine has its default configuration.
    fn candidates(&self, id: &str) -> Vec<Membership> {
        let paths = [format!("/docker/{id}"), format!("/system.slice/docker-{id}.scope")];
        let both = |path: String| [Membership::Version1(path.clone()), Membership::Version2(path)];
        paths.into_iter().flat_map(both).collect()
    }

    /// Watches a container that runs, unless it is watched already.
    pub(super) fn watch_running(&self, id: &str, pid: i64) {
        if self.known().get_mut(id).is_some_and(Known::needs_no_watch) {
            return;
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // The engine may be in another process namespace, where this id means another process.
        if text.contains(id)
            && let Some(group) = membership(&text)
        {
            self.watch(id, group);
        }
    }

    /// Watches a group unless it is watched already. Returns false if it does not exist (yet). If
    /// it cannot be watched, the other sources must be enough.
    fn watch(&self, id: &str, group: Membership) -> bool {
        // Locked from the check until the watch is added: a container may be seen running while it
        // is still being started, and the second caller has to find the first one's watch.
        let mut all = self.known();
        if all.get_mut(id).is_some_and(Known::needs_no_watch) {
            return true;
        }
        let root = &self.shared.root;
        let (watch, path) = match &group {
            Membership::Version1(path) => {
                let group = root.join("memory").join(path.trim_start_matches('/'));
                (watch_version_1(&group), group)
            }
            Membership::Version2(path) => {
                let group = root.join(path.trim_start_matches('/'));
                (self.shared.groups.add(&group).map(Watch::Version2), group)
            }
        };
        match watch {
            Ok(watch) => {
                if self.shared.is_blind.swap(false, Ordering::Relaxed) {
                    info!("watching the memory of containers again");
                }
                all.entry(id.to_owned()).or_default().watch = Some(watch);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                self.cannot_watch(id, &path, &error);
                true
            }
        }
    }

    /// Logs the problem once, until a group can be watched again.
    fn cannot_watch(&self, id: &str, group: &Path, error: &io::Error) {
        debug!(id, group = %group.display(), %error, "cannot watch the memory of containers");
        if !self.shared.is_blind.swap(true, Ordering::Relaxed) {
            let hint = remedy(error);
            warn!(
                group = %group.display(), %error, hint,
                "cannot watch the memory of containers: if the Docker Engine misses an \
                 out-of-memory kill, the task is reported as killed by signal 9"
            );
        }
    }

    /// Notes that this agent kills a container.
    pub(super) fn killing(&self, id: &str) {
        self.known().entry(id.to_owned()).or_default().was_killed_by_us = true;
    }

    /// Whether a watch may still tell something of a container.
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

    /// The container was removed.
    pub(super) fn forget(&self, id: &str) {
        self.known().remove(id);
    }

    /// Forgets containers that are gone: the engine does not list them, and their group does not
    /// exist. A container that is just being started has a group before it is listed.
    pub(super) fn keep(&self, listed: &BTreeSet<String>) {
        self.known().retain(|id, known| {
            listed.contains(id) || known.watch.as_ref().is_some_and(|watch| !watch.is_gone())
        });
    }
}

/// The engine's statement about an end.
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
                // Reading takes everything that was counted. If nothing was, there is nothing to
                // read.
                *count = count.saturating_add(signals.read().unwrap_or_default());
                // Must be checked after the count was read: see `Cgroup::of_version_1`.
                let is_gone = !group.exists();
                Cgroup::of_version_1(*count, is_gone)
            }
            Self::Version2(watch) => watch.seen(),
        }
    }

    fn is_gone(&self) -> bool {
        let group = match self {
            Self::Version1 { group, .. } => group,
            Self::Version2(watch) => watch.path(),
        };
        !group.exists()
    }
}

/// Makes the kernel count how often the group runs out of memory. The count outlives the group.
fn watch_version_1(group: &Path) -> io::Result<Watch> {
    let control = File::open(group.join("memory.oom_control"))?;
    let signals = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let mut registry = OpenOptions::new().write(true).open(group.join("cgroup.event_control"))?;
    // In one write, because the kernel parses both numbers together.
    let request = format!("{} {}", signals.as_raw_fd(), control.as_raw_fd());
    registry.write_all(request.as_bytes())?;
    Ok(Watch::Version1 { group: group.to_owned(), signals, count: 0 })
}

/// What a person can do so that a group can be watched.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC) => "raise the sysctl fs.inotify.max_user_watches",
        Some(Errno::EMFILE) => {
            "raise the sysctl fs.inotify.max_user_instances, or the agent's limit of open files"
        }
        Some(Errno::ENFILE) => "raise the sysctl fs.file-max",
        Some(Errno::EACCES | Errno::EPERM) => {
            "let the agent read the control groups: run it as root"
        }
        _ => "see the error",
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
            // The test's clock does not move, so only a watch can decide it.
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
                    Watch::Version2(watch) => watch.seen() == Cgroup::Open,
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

    #[tokio::test]
    async fn a_start_and_a_look_at_one_container_watch_it_once_and_are_told() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::new(root.path());
        let group = group(root.path(), "0a");
        memory.watch_start("0a").await;
        memory.watch_start("0a").await;
        assert_eq!(memory.shared.groups.watches(), 2, "one for each file");
        write(&group, 1, 0);
        assert_eq!(verdict(&memory, "0a").await, Verdict::OomKilled);
        // A late watch attempt leaves nothing behind.
        memory.watch_start("0a").await;
        assert_eq!(memory.shared.groups.watches(), 0);
    }

    #[tokio::test]
    async fn a_container_whose_watch_broke_is_watched_anew() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::new(root.path());
        let group = group(root.path(), "0a");
        memory.watch_start("0a").await;
        memory.shared.groups.break_off();
        assert!(!memory.is_watched("0a"));
        memory.watch_start("0a").await;
        assert!(memory.is_watched("0a"));
        write(&group, 1, 0);
        assert_eq!(verdict(&memory, "0a").await, Verdict::OomKilled);
    }

    /// How many descriptors of inotify this process has: an instance has one and a copy.
    fn descriptors() -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("inotify")).count()
    }

    #[tokio::test]
    async fn many_groups_take_one_instance_and_each_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::new(root.path());
        let ids: Vec<String> = (0..300).map(|number| format!("{number:03x}")).collect();
        for id in &ids {
            group(root.path(), id);
            memory.watch_start(id).await;
        }
        assert_eq!(descriptors(), 2);
        for (number, id) in ids.iter().enumerate() {
            write(&root.path().join("docker").join(id), u32::from(number % 3 == 0), 0);
        }
        for (number, id) in ids.iter().enumerate() {
            let expected = if number % 3 == 0 { Verdict::OomKilled } else { Verdict::Other };
            assert_eq!(verdict(&memory, id).await, expected, "{id}");
        }
        assert_eq!(memory.shared.groups.watches(), 0, "what is decided is not watched any more");
    }

    #[tokio::test]
    async fn where_no_watch_can_be_had_the_engines_word_counts_and_later_ones_are_watched() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};

        let root = tempfile::tempdir().unwrap();
        let memory = Memory::new(root.path());
        group(root.path(), "0a");
        let second = group(root.path(), "0b");
        // Simulates that the kernel provides no more instances: this process may open no more
        // files.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
        memory.watch_start("0a").await;
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert!(memory.shared.is_blind.load(Ordering::Relaxed), "it was said");
        let now = Instant::now();
        assert_eq!(memory.judge("0a", ENDED, now), Verdict::Wait, "the engine may say so yet");
        let said = Ended { engine_says_so: true, ..ENDED };
        assert_eq!(memory.judge("0a", said, now), Verdict::OomKilled);
        memory.watch_start("0b").await;
        assert!(!memory.shared.is_blind.load(Ordering::Relaxed));
        write(&second, 1, 0);
        assert_eq!(verdict(&memory, "0b").await, Verdict::OomKilled);
    }

    #[test]
    fn what_runs_out_is_named() {
        let remedy = |errno: Errno| remedy(&io::Error::from(errno));
        assert!(remedy(Errno::ENOSPC).contains("max_user_watches"));
        assert!(remedy(Errno::EMFILE).contains("max_user_instances"));
        assert!(remedy(Errno::EACCES).contains("root"));
    }
}
