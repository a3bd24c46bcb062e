//! Exits, as they are written: inotify on the folder into which they are moved.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::sleep;
use tracing::warn;

use crate::engine::{EngineEvent, Identity};

/// How often to look where the kernel cannot tell.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Room for many events; the kernel wants at least one with the longest name.
const BUFFER_BYTES: usize = 16 * 1024;

/// Before each name: watch, mask, cookie and the name's padded length, four bytes each.
const HEADER_BYTES: usize = 16;

struct Watcher<F> {
    /// Tokio reads any descriptor that can be polled as it reads a pipe.
    exits: pipe::Receiver,
    ready: VecDeque<EngineEvent>,
    identity: F,
}

/// Yields an event for each file that is moved into `exits`; `identity` reads whose it is. The
/// watch stands when this returns.
pub(super) fn watch(
    exits: &Path,
    identity: impl Fn(&str) -> Option<Identity> + Send + Sync + 'static,
) -> BoxStream<'static, EngineEvent> {
    match open(exits) {
        Ok(exits) => {
            let watcher = Watcher { exits, ready: VecDeque::new(), identity };
            stream::unfold(watcher, |mut watcher| async move {
                let event = watcher.next().await;
                Some((event, watcher))
            })
            .boxed()
        }
        Err(error) => {
            warn!(%error, "exits cannot be watched; looking every second");
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

fn open(exits: &Path) -> io::Result<pipe::Receiver> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(exits, AddWatchFlags::IN_MOVED_TO)?;
    pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))
}

impl<F: Fn(&str) -> Option<Identity>> Watcher<F> {
    async fn next(&mut self) -> EngineEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Err(error) = self.read().await {
                warn!(%error, "exits cannot be read");
                sleep(POLL_INTERVAL).await;
                return EngineEvent::Missed;
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let length = self.exits.read(&mut buffer).await?;
        let mut rest = &buffer[..length];
        while let Some((event, after)) = parse(rest) {
            rest = after;
            match event {
                RawEvent::Overflow => self.ready.push_back(EngineEvent::Missed),
                RawEvent::Named(name) => {
                    self.ready.extend((self.identity)(&name).map(EngineEvent::Changed));
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum RawEvent {
    /// The kernel has dropped events.
    Overflow,
    Named(String),
}

/// Splits the first event off what the kernel wrote.
fn parse(bytes: &[u8]) -> Option<(RawEvent, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| header[at..].first_chunk().map(|word| u32::from_ne_bytes(*word));
    let (mask, length) = (word(4)?, word(12)?);
    let (name, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if mask & AddWatchFlags::IN_Q_OVERFLOW.bits() != 0 {
        return Some((RawEvent::Overflow, rest));
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some((RawEvent::Named(String::from_utf8_lossy(name).into_owned()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_one_after_the_other() {
        let event = |mask: u32, name: &[u8]| {
            let words = [1, mask, 0, u32::try_from(name.len()).unwrap()];
            [&words.map(u32::to_ne_bytes).concat(), name].concat()
        };
        let moved = event(AddWatchFlags::IN_MOVED_TO.bits(), b"0a-1\0\0\0\0");
        let overflow = event(AddWatchFlags::IN_Q_OVERFLOW.bits(), b"");
        let bytes = [moved, overflow].concat();
        let (first, rest) = parse(&bytes).unwrap();
        assert_eq!(first, RawEvent::Named("0a-1".to_owned()));
        let (second, rest) = parse(rest).unwrap();
        assert_eq!((second, parse(rest)), (RawEvent::Overflow, None));
    }
}
