//! How a watch hears of events: it sleeps until one can concern it, and then reads those alone.
//!
//! # Invariants
//!
//! * No event is lost between "nothing more for me up to here" and the sleep: both are looked at under
//!   the lock under which events are announced, and an announcement that comes before the sleep ends it
//!   at once.
//! * An announcement holds no event, only its version: who reads slowly keeps no history alive, and is
//!   told when what it has yet to read is gone.
//! * Announcements are bounded. A watch that has too many reads on in the history, like one that begins.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::resource_version::ResourceVersion;
use tokio::sync::Notify;

use super::audience::{ListenerId, Topic};
use super::{Cache, Event, State, TooOld};

/// Most events that are announced to a watch one by one: 4 KiB of versions.
const ANNOUNCED_MAX: usize = 512;

/// What a watch has yet to look at.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    /// These events.
    Announced(VecDeque<ResourceVersion>),
    /// Every event after the last one that it knows: it has only begun, or too many were announced, or
    /// the cache was filled anew.
    Everything,
}

impl Unread {
    /// Adds an event; whether the watch may be asleep, and is to be woken for it.
    fn announce(&mut self, version: ResourceVersion, max: usize) -> bool {
        let Unread::Announced(versions) = self else { return false };
        // What an object was before and what it is now may have the same listeners.
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

/// A watch as the cache knows it.
#[derive(Debug)]
pub(super) struct Listener {
    /// Guards what is unread: for the length of adding a version, or of looking some up.
    unread: Mutex<Unread>,
    announced_max: usize,
    woken: Notify,
}

impl Listener {
    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces an event; whether the listener is to be woken for it.
    pub(super) fn announce(&self, version: ResourceVersion) -> bool {
        self.unread().announce(version, self.announced_max)
    }

    /// Says that events may have come that nobody announced.
    pub(super) fn start_over(&self) {
        *self.unread() = Unread::Everything;
        self.wake();
    }

    /// Ends its sleep, or the next one where it does not sleep.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }
}

/// Some events, in order.
#[derive(Debug)]
pub(crate) struct News {
    /// All that can concern the listener up to `reached`, and maybe others.
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) reached: ResourceVersion,
    /// Whether that was all there was.
    pub(crate) is_all: bool,
}

/// A watch's place in the audience. It leaves when this is dropped.
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
    /// Begins to listen. What is to be read first is all that comes after the point that the first
    /// [`Subscription::news`] names.
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
    /// At most `limit` events after `after`, and the point that they lead to.
    pub(crate) fn news(&self, after: ResourceVersion, limit: usize) -> Result<News, TooOld> {
        let state = self.cache.state();
        let mut unread = self.listener.unread();
        let news = match &mut *unread {
            Unread::Everything => state.news_after(after, limit)?,
            Unread::Announced(versions) => announced(&state, versions, (after, limit))?,
        };
        if news.is_all {
            // Events are announced under the lock of the state: none came since.
            *unread = Unread::Announced(VecDeque::new());
        }
        Ok(news)
    }

    /// Waits until there may be something to read.
    pub(crate) async fn woken(&self) {
        self.listener.woken.notified().await;
    }

    /// Tells it from the other watches of this process.
    pub(crate) fn number(&self) -> u64 {
        self.id
    }
}

/// Takes the next events out of those that were announced.
fn announced(
    state: &State,
    versions: &mut VecDeque<ResourceVersion>,
    (after, limit): (ResourceVersion, usize),
) -> Result<News, TooOld> {
    let mut events = Vec::with_capacity(versions.len().min(limit));
    while events.len() < limit
        && let Some(version) = versions.pop_front()
    {
        // Where the cache was filled anew, what the watch knows already may come again.
        if version > after {
            let too_old = TooOld { oldest: state.complete_after };
            events.push(state.event_at(version).ok_or(too_old)?);
        }
    }
    let is_all = versions.is_empty();
    let reached = match events.last() {
        Some(last) if !is_all => last.version,
        _ => ResourceVersion::after(state.revision.0).max(after),
    };
    Ok(News { events, reached, is_all })
}

#[cfg(test)]
mod tests;
