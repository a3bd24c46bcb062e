//! The watch cache: every object as of the newest revision, and the recent events, shared by all
//! readers and watchers.
//!
//! # Invariants
//!
//! * One store watch over the whole prefix feeds it. A revision is applied whole, so that no reader
//!   sees half a transaction.
//! * An event is encoded once; its bytes are shared by every watcher.
//! * It starts at the oldest kept revision, so that a restart does not send 410 to everybody.
//! * Events are bounded in number and bytes; a watcher that falls behind further gets 410.
//! * An event wakes the watches that it can concern, and no others.

mod audience;
mod behind;
mod follow;
mod objects;
mod part;
mod scope;
mod sharing;
mod subscription;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use api::resource_version::ResourceVersion;
use api::{KindId, ObjectKey};
use bytes::Bytes;
use serde_json::Value;
use store::{Key, Revision};
use tokio::sync::watch;

use audience::Audience;
pub(crate) use follow::follow;
use objects::Objects;
pub(crate) use part::Part;
pub(crate) use scope::{Scope, Selection};
pub(crate) use sharing::{Fields, Labels};
use subscription::Listener;
pub(crate) use subscription::{News, Subscription};

/// Most events kept.
const EVENTS_MAX: usize = 200_000;
/// Most bytes of events kept.
const EVENTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An object at one point of its life.
pub(crate) struct Entry {
    pub(crate) kind: KindId,
    pub(crate) key: Arc<ObjectKey>,
    /// The point of its last change.
    pub(crate) version: ResourceVersion,
    /// The revision that created it.
    pub(crate) created: Revision,
    pub(crate) uid: Arc<str>,
    /// Whether its deletion was asked for.
    pub(crate) is_deleting: bool,
    /// Whether it has fields that this version does not know.
    pub(crate) has_more: bool,
    /// Its JSON as clients see it.
    pub(crate) wire: Bytes,
    pub(crate) labels: Arc<Labels>,
    pub(crate) fields: Arc<Fields>,
}

/// Without the object: it may be a Secret.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// An object's JSON under another version.
fn under(wire: &[u8], version: ResourceVersion) -> Option<Bytes> {
    let mut object: Value = serde_json::from_slice(wire).ok()?;
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    serde_json::to_vec(&object).ok().map(Bytes::from)
}

/// A change of one object.
pub(crate) struct Event {
    pub(crate) version: ResourceVersion,
    pub(crate) before: Option<Arc<Entry>>,
    /// Nothing for a delete: then `last` has the last state under the version of the delete.
    pub(crate) now: Option<Arc<Entry>>,
    pub(crate) last: Option<Bytes>,
}

/// Without what a deleted object was: it may be a Secret.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("version", &self.version)
            .field("before", &self.before)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Event {
    fn bytes(&self) -> usize {
        self.now.as_ref().map_or(0, |entry| entry.wire.len())
            + self.last.as_ref().map_or(0, Bytes::len)
    }
}

/// How many of something there are, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        if entry.kind == KindId::Event {
            self.count += 1;
            self.bytes += entry.wire.len();
        }
    }

    fn take(&mut self, entry: &Entry) {
        if entry.kind == KindId::Event {
            self.count -= 1;
            self.bytes -= entry.wire.len();
        }
    }
}

#[derive(Debug, Default)]
struct State {
    objects: Objects,
    events: VecDeque<Arc<Event>>,
    event_bytes: usize,
    /// How many objects of kind Event there are, and their bytes.
    told: Tally,
    /// Every event after this point is in `events`.
    complete_after: ResourceVersion,
    revision: Revision,
}

impl State {
    /// Where the events after `after` begin.
    fn start_after(&self, after: ResourceVersion) -> Result<usize, TooOld> {
        if after < self.complete_after {
            return Err(TooOld { oldest: self.complete_after });
        }
        Ok(self.events.partition_point(|event| event.version <= after))
    }

    /// At most `limit` events after `after`, whomever they concern.
    fn news_after(&self, after: ResourceVersion, limit: usize) -> Result<News, TooOld> {
        let start = self.start_after(after)?;
        let events: Vec<Arc<Event>> =
            self.events.range(start..).take(limit).map(Arc::clone).collect();
        let is_all = start + events.len() == self.events.len();
        let reached = match events.last() {
            Some(last) if !is_all => last.version,
            _ => ResourceVersion::after(self.revision.0).max(after),
        };
        Ok(News { events, reached, is_all })
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.event_bytes -= oldest.bytes();
            self.complete_after = oldest.version;
        }
    }

    /// The event at a point, while it is kept.
    fn event_at(&self, version: ResourceVersion) -> Option<Arc<Event>> {
        let at = self.events.binary_search_by_key(&version, |event| event.version).ok()?;
        self.events.get(at).map(Arc::clone)
    }
}

/// The watch cache.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Guards the state: written by the follower for the length of a revision, read for the length
    /// of copying some pointers.
    state: RwLock<State>,
    /// Guards who listens: for the length of entering and leaving, and, within the state's lock, of
    /// announcing a revision's events.
    audience: Mutex<Audience<Arc<Listener>>>,
    /// The revision that the cache shows; 0 before it was filled.
    progress: watch::Sender<Revision>,
    /// The newest revision that somebody has waited for.
    wanted: watch::Sender<Revision>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            state: RwLock::default(),
            audience: Mutex::default(),
            progress: watch::Sender::new(Revision::default()),
            // That it is filled.
            wanted: watch::Sender::new(Revision(1)),
        }
    }
}

/// The point asked for is older than what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The oldest point that can be resumed from.
    pub(crate) oldest: ResourceVersion,
}

/// Some objects as of one revision.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<Arc<Entry>>,
}

impl Cache {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn audience(&self) -> MutexGuard<'_, Audience<Arc<Listener>>> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state().objects.get(key).cloned()
    }

    /// Those objects whose keys start with one of `prefixes` and which are selected, as of one revision.
    pub(crate) fn cut(&self, prefixes: &[Key], selects: impl Fn(&Entry) -> bool) -> Cut {
        let state = self.state();
        let all = prefixes.iter().flat_map(|prefix| state.objects.within(prefix, None));
        let entries = all.filter(|entry| selects(entry)).map(Arc::clone).collect();
        Cut { revision: state.revision, entries }
    }

    /// A part of the objects whose keys start with `prefix`, and the revision that it shows: what comes
    /// after the key `after`.
    pub(crate) fn part(
        &self,
        (prefix, after): (&Key, Option<&str>),
        limit: usize,
        selection: &Selection,
    ) -> (Part, Revision) {
        let state = self.state();
        let left = state.objects.within(prefix, after);
        (Part::of(left, limit, selection), state.revision)
    }

    /// Whether there is an object whose key starts with `prefix`.
    pub(crate) fn holds_any(&self, prefix: &Key) -> bool {
        self.state().objects.within(prefix, None).len() > 0
    }

    /// How many objects of kind Event there are, and their bytes.
    pub(crate) fn told(&self) -> Tally {
        self.state().told
    }

    /// The revision that the cache shows.
    pub(crate) fn revision(&self) -> Revision {
        *self.progress.borrow()
    }

    /// Waits until the cache shows `revision`.
    pub(crate) async fn reached(&self, revision: Revision) {
        base::raise(&self.wanted, revision);
        let mut progress = self.progress.subscribe();
        // The sender lives in self: this ends only when the revision is there.
        let _reached = progress.wait_for(|at| *at >= revision).await;
    }

    /// Waits until somebody waits for a revision that the cache does not show yet; which one.
    async fn is_behind(&self) -> Revision {
        let mut wanted = self.wanted.subscribe();
        // The sender lives in self: this ends only when somebody does.
        let beyond = wanted.wait_for(|wanted| *wanted > self.revision()).await;
        beyond.map_or_else(|_| self.revision(), |wanted| *wanted)
    }

    /// The revision that the cache has come to, also before it shows it.
    fn applied(&self) -> Revision {
        self.state().revision
    }

    /// News of the cache's progress.
    pub(crate) fn progress(&self) -> watch::Receiver<Revision> {
        self.progress.subscribe()
    }

    /// At most `limit` events after `after`, whomever they concern.
    pub(crate) fn news_after(&self, after: ResourceVersion, limit: usize) -> Result<News, TooOld> {
        self.state().news_after(after, limit)
    }

    /// Whether every event after `after` is held.
    pub(crate) fn can_resume(&self, after: ResourceVersion) -> Result<(), TooOld> {
        self.state().start_after(after).map(drop)
    }

    /// The revision after which every event is held.
    pub(crate) fn oldest(&self) -> Revision {
        Revision(self.state().complete_after.revision())
    }

    /// How many objects and events are held.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let state = self.state();
        (state.objects.len(), state.events.len())
    }

    /// Starts over with all there is at `revision`.
    fn reset(&self, objects: Objects, revision: Revision) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut told = Tally::default();
        objects.values().for_each(|entry| told.add(entry));
        *state = State {
            objects,
            told,
            events: VecDeque::new(),
            event_bytes: 0,
            complete_after: ResourceVersion::after(revision.0),
            revision,
        };
        // What happened before is not told as events: whoever listens has to see whether it can go on.
        self.audience().everybody().for_each(|listener| listener.start_over());
        drop(state);
    }

    /// Applies the events of whole revisions.
    fn apply(&self, changes: Vec<(Key, Event)>, revision: Revision) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let audience = self.audience();
        let mut asleep: Vec<Arc<Listener>> = Vec::new();
        for (key, mut event) in changes {
            event.before = match &event.now {
                Some(now) => state.objects.insert(key, Arc::clone(now)),
                None => state.objects.remove(&key),
            };
            if event.now.is_none() && event.last.is_none() {
                let before = event.before.as_ref();
                event.last = before.and_then(|before| under(&before.wire, event.version));
            }
            event.now.iter().for_each(|entry| state.told.add(entry));
            event.before.iter().for_each(|entry| state.told.take(entry));
            let concerned = event.before.iter().chain(&event.now);
            let listeners = concerned.flat_map(|entry| audience.of(entry));
            asleep.extend(listeners.filter(|it| it.announce(event.version)).map(Arc::clone));
            state.event_bytes += event.bytes();
            state.events.push_back(Arc::new(event));
        }
        drop(audience);
        state.revision = revision;
        while state.events.len() > EVENTS_MAX || state.event_bytes > EVENTS_BYTES_MAX {
            state.forget_oldest();
        }
        drop(state);
        asleep.iter().for_each(|listener| listener.wake());
    }

    fn publish(&self, revision: Revision) {
        self.progress.send_replace(revision);
    }
}
