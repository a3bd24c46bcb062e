//! Watches control groups of version 2, all of them with one instance of inotify.
//!
//! The kernel gives a user 128 instances by default, and most of them are taken by others. It gives
//! many thousands of watches; two are needed for a group.
//!
//! # Invariants
//!
//! * A group's files are read after its watches were set, and after each change: nothing is missed.
//! * What settles a case ([`Cgroup::OutOfMemory`] and others) is never overwritten.

use std::collections::BTreeMap;
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

/// The files of a group that tell of an out-of-memory kill, and that the group is empty.
const FILES: [&str; 2] = ["memory.events", "cgroup.events"];

/// Room for a thousand events.
const BUFFER_BYTES: usize = 16 * 1024;
/// Before each name, of which there are none here: watch, mask, cookie and the name's length.
const HEADER_BYTES: usize = 16;
/// The kernel has dropped events: any group may have changed.
const OVERFLOW: i32 = -1;

/// All groups that are watched.
#[derive(Debug)]
pub(super) struct GroupWatches {
    /// Follows the instance, and ends with this.
    tasks: Tasks,
    /// Nothing before the first group, or after it broke. Guards its making.
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
    /// Groups by watch. Locked while watches are set, so that no event comes of one that is not here.
    groups: Mutex<BTreeMap<i32, Arc<Group>>>,
    /// Nobody reads it any more.
    has_broken: AtomicBool,
}

#[derive(Debug)]
struct Group {
    path: PathBuf,
    /// What was last read. Locked while the files are read, so that nothing older overwrites it.
    seen: Mutex<Cgroup>,
}

impl GroupWatches {
    /// Nothing is watched yet.
    pub(super) fn new() -> Self {
        Self { tasks: Tasks::new("memory watches"), instance: Mutex::default() }
    }

    /// Watches the group at `path`.
    pub(super) fn add(&self, path: &Path) -> io::Result<GroupWatch> {
        let instance = self.instance()?;
        let group = Arc::new(Group { path: path.to_owned(), seen: Mutex::new(Cgroup::Open) });
        // From here on dropped with its watches.
        let mut watch = GroupWatch {
            group: Arc::clone(&group),
            watches: Vec::new(),
            instance: instance.clone(),
        };
        {
            let mut groups = instance.groups();
            for file in FILES {
                let added = instance.add(&path.join(file));
                match added {
                    Ok(added) => {
                        watch.watches.push(added);
                        groups.insert(added.as_raw(), Arc::clone(&group));
                    }
                    Err(errno) => {
                        drop(groups);
                        return Err(errno.into());
                    }
                }
            }
        }
        group.look();
        Ok(watch)
    }

    /// How many watches there are.
    #[cfg(test)]
    pub(super) fn watches(&self) -> usize {
        let there = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        there.as_ref().map_or(0, |instance| instance.groups().len())
    }

    /// The one instance, which is made where there is none.
    fn instance(&self) -> io::Result<Arc<Instance>> {
        let mut there = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        // One that broke is held by none but those who wait for what it will not tell.
        if let Some(instance) =
            there.as_ref().filter(|instance| !instance.has_broken.load(Ordering::Acquire))
        {
            return Ok(Arc::clone(instance));
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Tokio reads any descriptor that can be polled as it reads a pipe.
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
    /// What was seen of the group.
    pub(super) fn seen(&self) -> Cgroup {
        *self.group.seen()
    }

    /// Where the group is, or was.
    pub(super) fn path(&self) -> &Path {
        &self.group.path
    }
}

impl Drop for GroupWatch {
    fn drop(&mut self) {
        let mut groups = self.instance.groups();
        for watch in self.watches.drain(..) {
            groups.remove(&watch.as_raw());
            // The kernel has removed it already where the group is gone.
            let _gone = self.instance.inotify.rm_watch(watch);
        }
    }
}

impl Instance {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, file: &Path) -> Result<WatchDescriptor, Errno> {
        self.inotify.add_watch(file, AddWatchFlags::IN_MODIFY)
    }

    /// Nothing more will be heard: what is not settled is as if nobody watched it.
    fn breaks(&self) {
        self.has_broken.store(true, Ordering::Release);
        for group in self.groups().values() {
            let mut seen = group.seen();
            if *seen == Cgroup::Open {
                *seen = Cgroup::Unwatched;
            }
        }
    }

    /// Reads the files of the groups that changed, by what the kernel wrote.
    fn changed(&self, mut events: &[u8]) {
        let mut changed: Vec<Arc<Group>> = Vec::new();
        let groups = self.groups();
        while let Some((watch, rest)) = next_event(events) {
            events = rest;
            if watch == OVERFLOW {
                changed = groups.values().cloned().collect();
                break;
            }
            changed.extend(groups.get(&watch).cloned());
        }
        drop(groups);
        changed.iter().for_each(|group| group.look());
    }
}

/// Splits the first event off what the kernel wrote: of which watch it is.
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

    /// Reads the files, unless they have settled it. A group that went before its last state could be
    /// read is as one that nobody watched.
    fn look(&self) {
        let mut seen = self.seen();
        if *seen == Cgroup::Open {
            *seen = read(&self.path);
        }
    }
}

fn read(group: &Path) -> Cgroup {
    // Read in this order: what is killed before the group is empty is counted by then.
    let group_events = std::fs::read_to_string(group.join("cgroup.events")).ok();
    let memory_events = std::fs::read_to_string(group.join("memory.events")).ok();
    Cgroup::of_version_2(memory_events.as_deref(), group_events.as_deref())
}

/// Reads groups each time the kernel says that they changed.
async fn follow(instance: Arc<Instance>, mut events: pipe::Receiver) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match events.read(&mut buffer).await {
            Ok(length) => instance.changed(&buffer[..length]),
            Err(error) => {
                warn!(%error, "control groups can no longer be followed: watching them anew");
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
}
