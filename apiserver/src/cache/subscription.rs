//! How a watch learns of events: it sleeps until an event may concern it, and then reads only such
//! events.
//!
//! # Invariants
//!
//! * No event gets lost between finding nothing to read and going to sleep: the check is made under
//!   the lock under which events are announced, and an announcement made before the sleep ends it
//!   at once.
//! * An announcement holds only the version of an event, so a slow reader keeps no history alive.
//!   It gets an error when an event that it has yet to read is gone.
//! * Announcements are bounded. A watch with too many of them reads the whole history from its
//!   position, like a new watch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::resource_version::ResourceVersion;
use tokio::sync::Notify;

use super::audience::{ListenerId, Topic};
use super::{Cache, PastEvent, State, TooOld};

/// The maximum number of events announced one by one to a watch: 4 KiB of versions.
const ANNOUNCED_MAX: usize = 512;

/// What a watch has yet to read.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    /// The events with these versions.
    Announced(VecDeque<ResourceVersion>),
    /// Every event after the last one that it has read: the watch is new, too many events were
    /// announced, or the cache was filled anew.
    Everything,
}

impl Unread {
    /// Adds an event. Returns whether the watch may be asleep and has to be woken.
    fn announce(&mut self, version: ResourceVersion, max: usize) -> bool {
        let Unread::Announced(versions) = self else { return false };
        // The old and the new state of an object may have the same listeners.
        if versions.back() == Some(&version) {
            return false;
        }
        if versions.len() >= max {
            *self = Unread::Everything;
            return false;
        }
        versions.push_back(version);
        versions.len() == 1
    }
}

/// A watch, as the cache sees it.
#[derive(Debug)]
pub(super) struct Listener {
    /// Guards what is unread. Locked to add a version or to look some up.
    unread: Mutex<Unread>,
    announced_max: usize,
    woken: Notify,
}

impl Listener {
    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces an event. Returns whether the listener has to be woken.
    pub(super) fn announce(&self, version: ResourceVersion) -> bool {
        self.unread().announce(version, self.announced_max)
    }

    /// Makes the listener read everything: there may be events that were not announced.
    pub(super) fn start_over(&self) {
        *self.unread() = Unread::Everything;
        self.wake();
    }

    /// Ends the current sleep, or else the next one.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }
}

/// What a reader makes of some events, in order.
#[derive(Debug)]
pub(crate) struct News<T> {
    /// What it makes of those up to `reached` that may concern it, and possibly of others.
    pub(crate) news: Vec<T>,
    pub(crate) reached: ResourceVersion,
    /// Whether these are all events so far.
    pub(crate) is_all: bool,
}

/// The registration of a watch, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    cache: Arc<Cache>,
    id: ListenerId,
    topics: Vec<Topic>,
    listener: Arc<Listener>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.audience().leave(&self.topics, self.id);
    }
}

impl Cache {
    /// Starts to listen. The first call of [`Subscription::news`] names the version after which to
    /// read.
    pub(crate) fn listen(self: &Arc<Self>, topics: Vec<Topic>) -> Subscription {
        self.listen_up_to(topics, ANNOUNCED_MAX)
    }

    fn listen_up_to(self: &Arc<Self>, topics: Vec<Topic>, announced_max: usize) -> Subscription {
        let unread = Mutex::new(Unread::Everything);
        let listener = Arc::new(Listener { unread, announced_max, woken: Notify::new() });
        let id = self.audience().enter(&topics, &listener);
        Subscription { cache: Arc::clone(self), id, topics, listener }
    }
}

impl Subscription {
    /// Looks at up to `limit` events after `after`. Returns what `tell` makes of them, and the
    /// version that they lead to. `tell` runs while the cache is locked.
    pub(crate) fn news<T>(
        &self,
        (after, limit): (ResourceVersion, usize),
        tell: impl FnMut(PastEvent<'_>) -> Option<T>,
    ) -> Result<News<T>, TooOld> {
        let state = self.cache.state();
        let mut unread = self.listener.unread();
        let news = match &mut *unread {
            Unread::Everything => state.news_after((after, limit), tell)?,
            Unread::Announced(versions) => announced((&state, versions), (after, limit), tell)?,
        };
        if news.is_all {
            // Events are announced under the state's lock, which we hold: none has come since.
            *unread = Unread::Announced(VecDeque::new());
        }
        Ok(news)
    }

    /// Waits until there may be something to read.
    pub(crate) async fn woken(&self) {
        self.listener.woken.notified().await;
    }

    /// Identifies this watch among those of the process.
    pub(crate) fn number(&self) -> u64 {
        self.id
    }
}

/// Takes the next of the announced events.
fn announced<T>(
    (state, versions): (&State, &mut VecDeque<ResourceVersion>),
    (after, limit): (ResourceVersion, usize),
    mut tell: impl FnMut(PastEvent<'_>) -> Option<T>,
) -> Result<News<T>, TooOld> {
    let (mut news, mut looked_at, mut last) = (Vec::new(), 0, after);
    while looked_at < limit
        && let Some(version) = versions.pop_front()
    {
        // If the cache was filled anew, events that the watch has already read may come again.
        if version > after {
            let too_old = TooOld { oldest: state.history.complete_after };
            news.extend(tell(state.history.at(version).ok_or(too_old)?));
            (looked_at, last) = (looked_at + 1, version);
        }
    }
    let is_all = versions.is_empty();
    let newest = ResourceVersion::after(state.revision.0).max(after);
    Ok(News { news, reached: if is_all { newest } else { last }, is_all })
}

#[cfg(test)]
mod tests;
