//! What happens to tasks, as it happens: exits, as they are written (inotify on the folder into which
//! they are moved), and shims that were killed (the kernel closes the lock that each holds).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::sleep;
use tracing::warn;

use super::dir::TaskDir;
use crate::engine::{EngineEvent, Identity};

/// How often to look where the kernel cannot tell.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Room for many events; the kernel wants at least one with the longest name.
const BUFFER_BYTES: usize = 16 * 1024;

/// Before each name: watch, mask, cookie and the name's padded length, four bytes each.
const HEADER_BYTES: usize = 16;

struct Watcher<F> {
    inotify: Inotify,
    /// The same, to read from. Tokio reads any descriptor that can be polled as it reads a pipe.
    news: pipe::Receiver,
    exits: PathBuf,
    tasks: PathBuf,
    /// The watch of the folder into which tasks are moved.
    new_tasks: i32,
    /// Those of locks, and the names of their tasks.
    locks: BTreeMap<i32, String>,
    ready: VecDeque<EngineEvent>,
    identity: F,
}

/// Yields an event for each file that is moved into `exits`, and for each task in `tasks` whose shim
/// ends without that; `identity` reads whose it is. The watch stands when this returns.
pub(super) fn watch(
    exits: &Path,
    tasks: &Path,
    identity: impl Fn(&str) -> Option<Identity> + Send + Sync + 'static,
) -> BoxStream<'static, EngineEvent> {
    match Watcher::open(exits, tasks, identity) {
        Ok(watcher) => stream::unfold(watcher, |mut watcher| async move {
            let event = watcher.next().await;
            Some((event, watcher))
        })
        .boxed(),
        Err(error) => {
            warn!(%error, "cannot watch for exits; polling every second");
            poll().boxed()
        }
    }
}

fn poll() -> impl futures_util::Stream<Item = EngineEvent> + Send {
    stream::unfold((), |()| async {
        sleep(POLL_INTERVAL).await;
        Some((EngineEvent::Missed, ()))
    })
}

impl<F: Fn(&str) -> Option<Identity>> Watcher<F> {
    fn open(exits: &Path, tasks: &Path, identity: F) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let news = inotify.as_fd().try_clone_to_owned()?;
        inotify.add_watch(exits, AddWatchFlags::IN_MOVED_TO)?;
        // Before what is there is looked at: a task that comes meanwhile is seen twice, not never.
        let new_tasks = inotify.add_watch(tasks, AddWatchFlags::IN_MOVED_TO)?.as_raw();
        let mut watcher = Self {
            inotify,
            news: pipe::Receiver::from_owned_fd_unchecked(news)?,
            exits: exits.to_owned(),
            tasks: tasks.to_owned(),
            new_tasks,
            locks: BTreeMap::new(),
            ready: VecDeque::new(),
            identity,
        };
        for entry in std::fs::read_dir(tasks)? {
            if let Some(name) = entry?.file_name().to_str() {
                watcher.watch_lock(name);
            }
        }
        Ok(watcher)
    }

    async fn next(&mut self) -> EngineEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Err(error) = self.read().await {
                warn!(%error, "cannot read exits");
                sleep(POLL_INTERVAL).await;
                return EngineEvent::Missed;
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let length = self.news.read(&mut buffer).await?;
        let mut rest = &buffer[..length];
        while let Some((event, after)) = parse(rest) {
            rest = after;
            self.take(event);
        }
        Ok(())
    }

    fn take(&mut self, event: RawEvent) {
        match event {
            RawEvent::Overflow => self.ready.push_back(EngineEvent::Missed),
            RawEvent::Named { watch, name } if watch == self.new_tasks => self.watch_lock(&name),
            RawEvent::Named { name, .. } => self.tell(&name),
            RawEvent::Closed { watch } => {
                // A shim that has ended by itself has written the task's exit before.
                if let Some(name) = self.locks.remove(&watch)
                    && !self.exits.join(&name).exists()
                {
                    self.tell(&name);
                }
            }
        }
    }

    fn tell(&mut self, name: &str) {
        self.ready.extend((self.identity)(name).map(EngineEvent::Changed));
    }

    /// Hears of the end of a task's shim from now on, also where it has ended before.
    fn watch_lock(&mut self, name: &str) {
        if name.starts_with('.') {
            return;
        }
        let dir = TaskDir(self.tasks.join(name));
        // Whoever only looks whether it is locked opens it to read.
        let mask = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ONESHOT;
        match self.inotify.add_watch(&dir.lock_path(), mask).map(WatchDescriptor::as_raw) {
            Ok(watch) => {
                self.locks.insert(watch, name.to_owned());
                if !dir.has_shim().unwrap_or(true) && !self.exits.join(name).exists() {
                    self.tell(name);
                }
            }
            // It was removed meanwhile.
            Err(nix::errno::Errno::ENOENT) => (),
            // All are looked at now and then.
            Err(error) => warn!(%error, task = name, "cannot watch the shim of a task"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum RawEvent {
    /// The kernel has dropped events.
    Overflow,
    /// Something came under this name.
    Named { watch: i32, name: String },
    /// A file that is watched was closed, or is gone.
    Closed { watch: i32 },
}

/// Splits the first event off what the kernel wrote.
fn parse(bytes: &[u8]) -> Option<(RawEvent, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| header[at..].first_chunk().map(|word| u32::from_ne_bytes(*word));
    let (watch, mask, length) = (word(0)?.cast_signed(), word(4)?, word(12)?);
    let (name, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if mask & AddWatchFlags::IN_Q_OVERFLOW.bits() != 0 {
        return Some((RawEvent::Overflow, rest));
    }
    if name.is_empty() {
        return Some((RawEvent::Closed { watch }, rest));
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some((RawEvent::Named { watch, name: String::from_utf8_lossy(name).into_owned() }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_one_after_the_other() {
        let event = |watch: u32, mask: AddWatchFlags, name: &[u8]| {
            let words = [watch, mask.bits(), 0, u32::try_from(name.len()).unwrap()];
            [&words.map(u32::to_ne_bytes).concat(), name].concat()
        };
        let bytes = [
            event(1, AddWatchFlags::IN_MOVED_TO, b"0a-1\0\0\0\0"),
            event(7, AddWatchFlags::IN_CLOSE_WRITE, b""),
            event(u32::MAX, AddWatchFlags::IN_Q_OVERFLOW, b""),
        ]
        .concat();
        let mut rest = &bytes[..];
        let events = std::iter::from_fn(|| {
            let (event, after) = parse(rest)?;
            rest = after;
            Some(event)
        });
        let named = RawEvent::Named { watch: 1, name: "0a-1".to_owned() };
        let expected = [named, RawEvent::Closed { watch: 7 }, RawEvent::Overflow];
        assert_eq!(events.collect::<Vec<_>>(), expected);
    }
}
