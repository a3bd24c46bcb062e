//! Watches control groups of version 2, all of them with one inotify instance.
//!
//! By default the kernel allows a user 128 instances, and other programs use most of them. It
//! allows many thousands of watches; each group needs two.
//!
//! # Invariants
//!
//! * A group's files are read after its watches were set, and after each change, so nothing is
//!   missed.
//! * A final result ([`Cgroup::OutOfMemory`] and others) is never overwritten.
//! * The kernel has one descriptor for a file, however often it is watched. Two watches of one
//!   group are both notified, and the descriptor is removed with the last of them.
//! * A group is only added while a task reads the instance.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Tasks;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tracing::warn;

use super::oom::Cgroup;

/// The files that tell of an out-of-memory kill, and that the group is empty.
const FILES: [&str; 2] = ["memory.events", "cgroup.events"];

/// Room for a thousand events.
const BUFFER_BYTES: usize = 16 * 1024;
/// Bytes before each name (which is absent here): watch, mask, cookie and the length of the name.
const HEADER_BYTES: usize = 16;
/// A second instance is created if the first one fails just while a group is added.
const INSTANCES_TRIED: usize = 2;
/// The kernel has dropped events: any group may have changed.
const OVERFLOW: i32 = -1;

/// All groups that are watched.
#[derive(Debug)]
pub(super) struct GroupWatches {
    /// The task that reads the instance. It ends when this is dropped.
    tasks: Tasks,
    /// `None` before the first group and after a failure. Guards the creation of the instance.
    instance: Mutex<Option<Arc<Instance>>>,
}

/// A group that is watched until this is dropped.
#[derive(Debug)]
pub(super) struct GroupWatch {
    group: Arc<Group>,
    watches: Vec<WatchDescriptor>,
    instance: Arc<Instance>,
}

#[derive(Debug)]
struct Instance {
    inotify: Inotify,
    /// Groups by watch. Locked while watches are set, so that no event arrives for a watch that is
    /// not in the map yet.
    groups: Mutex<BTreeMap<i32, Vec<Arc<Group>>>>,
    /// The instance is not read any more. Set while `groups` is locked, so that every group in the
    /// map is notified.
    has_broken: AtomicBool,
}

#[derive(Debug)]
struct Group {
    path: PathBuf,
    /// The last result. Locked while the files are read, so that an older result cannot overwrite a
    /// newer one.
    seen: Mutex<Cgroup>,
}

impl GroupWatches {
    /// Nothing is watched yet.
    pub(super) fn new() -> Self {
        Self { tasks: Tasks::new("memory watches"), instance: Mutex::default() }
    }

    /// Watches the group at `path`.
    pub(super) fn add(&self, path: &Path) -> io::Result<GroupWatch> {
        for _ in 0..INSTANCES_TRIED {
            if let Some(watch) = self.instance()?.watch(path)? {
                watch.group.look();
                return Ok(watch);
            }
        }
        Err(io::Error::other("inotify cannot be read"))
    }

    /// How many watches there are.
    #[cfg(test)]
    pub(super) fn watches(&self) -> usize {
        let there = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        there.as_ref().map_or(0, |instance| instance.groups().len())
    }

    /// For tests: behaves as if the instance could not be read any more.
    #[cfg(test)]
    pub(super) fn break_off(&self) {
        self.instance().unwrap().breaks();
    }

    /// The current instance, created if there is none.
    fn instance(&self) -> io::Result<Arc<Instance>> {
        let mut there = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        // A failed instance is only held by watches that will never get a result.
        if let Some(instance) =
            there.as_ref().filter(|instance| !instance.has_broken.load(Ordering::Acquire))
        {
            return Ok(Arc::clone(instance));
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // tokio has no general type for pollable descriptors; its pipe reader works for any.
        let events =
            pipe::Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        let instance = Arc::new(Instance {
            inotify,
            groups: Mutex::default(),
            has_broken: AtomicBool::new(false),
        });
        self.tasks.spawn("memory watches", follow(Arc::clone(&instance), events));
        Ok(Arc::clone(there.insert(instance)))
    }
}

impl GroupWatch {
    /// The last result for the group.
    pub(super) fn seen(&self) -> Cgroup {
        *self.group.seen()
    }

    /// The path of the group, which may be gone.
    pub(super) fn path(&self) -> &Path {
        &self.group.path
    }
}

impl Drop for GroupWatch {
    fn drop(&mut self) {
        let mut groups = self.instance.groups();
        for watch in self.watches.drain(..) {
            if let Entry::Occupied(mut entered) = groups.entry(watch.as_raw()) {
                entered.get_mut().retain(|group| !Arc::ptr_eq(group, &self.group));
                if !entered.get().is_empty() {
                    continue;
                }
                entered.remove();
            }
            // If the group is gone, the kernel has removed the watch already.
            let _gone = self.instance.inotify.rm_watch(watch);
        }
    }
}

impl Instance {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<i32, Vec<Arc<Group>>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, file: &Path) -> Result<WatchDescriptor, Errno> {
        self.inotify.add_watch(file, AddWatchFlags::IN_MODIFY)
    }

    /// Adds the group at `path`; nothing if the instance has failed.
    fn watch(self: Arc<Self>, path: &Path) -> io::Result<Option<GroupWatch>> {
        let group = Arc::new(Group { path: path.to_owned(), seen: Mutex::new(Cgroup::Open) });
        // Created before the lock is taken: dropping it takes the lock as well.
        let mut watch =
            GroupWatch { group: Arc::clone(&group), watches: Vec::new(), instance: self.clone() };
        let mut groups = self.groups();
        if self.has_broken.load(Ordering::Acquire) {
            return Ok(None);
        }
        for file in FILES {
            let added = self.add(&path.join(file))?;
            watch.watches.push(added);
            groups.entry(added.as_raw()).or_default().push(Arc::clone(&group));
        }
        drop(groups);
        Ok(Some(watch))
    }

    /// The instance has failed: every group without a final result counts as not watched.
    fn breaks(&self) {
        let groups = self.groups();
        self.has_broken.store(true, Ordering::Release);
        for group in groups.values().flatten() {
            let mut seen = group.seen();
            if *seen == Cgroup::Open {
                *seen = Cgroup::Unwatched;
            }
        }
    }

    /// Reads the files of the groups named by these kernel events.
    fn changed(&self, mut events: &[u8]) {
        let mut changed: Vec<Arc<Group>> = Vec::new();
        let groups = self.groups();
        while let Some((watch, rest)) = next_event(events) {
            events = rest;
            if watch == OVERFLOW {
                changed = groups.values().flatten().cloned().collect();
                break;
            }
            changed.extend(groups.get(&watch).into_iter().flatten().cloned());
        }
        drop(groups);
        changed.iter().for_each(|group| group.look());
    }
}

/// Splits off the first event. Returns its watch and the rest.
fn next_event(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let watch = i32::from_ne_bytes(*header.first_chunk()?);
    let name = u32::from_ne_bytes(*header.last_chunk()?);
    Some((watch, rest.get(usize::try_from(name).ok()?..)?))
}

impl Group {
    fn seen(&self) -> MutexGuard<'_, Cgroup> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files unless there is a final result. A group that vanished before its last state
    /// could be read counts as not watched.
    fn look(&self) {
        let mut seen = self.seen();
        if *seen == Cgroup::Open {
            *seen = read(&self.path);
        }
    }
}

fn read(group: &Path) -> Cgroup {
    // In this order: a kill that happens before the group is empty is then counted in the second
    // file.
    let group_events = std::fs::read_to_string(group.join("cgroup.events")).ok();
    let memory_events = std::fs::read_to_string(group.join("memory.events")).ok();
    Cgroup::of_version_2(memory_events.as_deref(), group_events.as_deref())
}

/// Reads the groups whenever the kernel reports a change.
async fn follow(instance: Arc<Instance>, mut events: pipe::Receiver) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match events.read(&mut buffer).await {
            Ok(length) => instance.changed(&buffer[..length]),
            Err(error) => {
                warn!(%error, "lost track of the control groups; watching them again");
                return instance.breaks();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart() {
        let event = |watch: i32, name: u32| {
            let words = [watch.to_ne_bytes(), [2, 0, 0, 0], [0; 4], name.to_ne_bytes()];
            [words.concat(), vec![0; name as usize]].concat()
        };
        let bytes = [event(7, 0), event(9, 16), event(OVERFLOW, 0)].concat();
        let (mut rest, mut watches) = (&bytes[..], Vec::new());
        while let Some((watch, after)) = next_event(rest) {
            (rest, watches) = (after, [watches, vec![watch]].concat());
        }
        assert_eq!(watches, [7, 9, OVERFLOW]);
        assert_eq!(next_event(&bytes[..15]), None);
    }

    /// A group made of plain files, in which nothing was killed yet.
    fn group() -> tempfile::TempDir {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("memory.events"), "oom_kill 0\n").unwrap();
        std::fs::write(group.path().join("cgroup.events"), "populated 1\n").unwrap();
        group
    }

    #[tokio::test]
    async fn a_group_that_is_watched_twice_is_told_of_after_either_watch_ends() {
        let watches = GroupWatches::new();
        for ends_first in [0, 1] {
            let group = group();
            let mut both =
                vec![watches.add(group.path()).unwrap(), watches.add(group.path()).unwrap()];
            drop(both.remove(ends_first));
            assert_eq!(watches.watches(), FILES.len());
            std::fs::write(group.path().join("memory.events"), "oom_kill 1\n").unwrap();
            let told = async {
                while both[0].seen() == Cgroup::Open {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(30), told).await.unwrap();
            assert_eq!(both[0].seen(), Cgroup::OutOfMemory);
            drop(both);
            assert_eq!(watches.watches(), 0);
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_what_an_instance_that_broke_will_not_tell() {
        let (watches, group) = (GroupWatches::new(), group());
        let before = watches.add(group.path()).unwrap();
        // Whoever adds a group may hold the instance when it breaks.
        let instance = watches.instance().unwrap();
        instance.breaks();
        assert_eq!(before.seen(), Cgroup::Unwatched);
        assert!(instance.watch(group.path()).unwrap().is_none());
        let anew = watches.add(group.path()).unwrap();
        assert_eq!(anew.seen(), Cgroup::Open);
    }
}
