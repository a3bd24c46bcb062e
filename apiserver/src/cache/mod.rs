//! The watch cache: the newest version of every object and the recent events, shared by all readers
//! and watchers.
//!
//! # Invariants
//!
//! * It is fed by a single watch of the store, over the whole prefix. A revision is applied as a
//!   whole, so that no reader sees half of a transaction.
//! * An event is encoded once, and all watchers share its bytes.
//! * On start it is filled from the oldest kept revision, so that after a restart watchers can
//!   resume and do not all get a 410.
//! * The kept events are bounded in number and in bytes. A watcher that falls further behind gets a
//!   410.
//! * An event wakes only the watches that it may concern.

mod audience;
mod behind;
mod follow;
mod objects;
mod parsing;
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
pub(crate) use subscription::{NextEvents, Subscription};

/// The maximum number of kept events.
const EVENTS_MAX: usize = 200_000;
/// The maximum size of the kept events, in bytes.
const EVENTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A version of an object.
pub(crate) struct Entry {
    pub(crate) kind: KindId,
    pub(crate) key: Arc<ObjectKey>,
    /// The resource version of its last change.
    pub(crate) version: ResourceVersion,
    /// The revision that created it.
    pub(crate) created: Revision,
    pub(crate) uid: Arc<str>,
    /// Whether its deletion has been requested.
    pub(crate) is_deleting: bool,
    /// Whether it has fields that this version of the program does not know.
    pub(crate) has_more: bool,
    /// Its JSON as clients see it.
    pub(crate) wire: Bytes,
    pub(crate) labels: Arc<Labels>,
    pub(crate) fields: Arc<Fields>,
}

/// Leaves out the object, which may be a Secret.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Returns the JSON of an object with another resource version in it.
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
    /// The new state. `None` for a delete: then `last` is the last state, under the resource
    /// version of the delete.
    pub(crate) now: Option<Arc<Entry>>,
    pub(crate) last: Option<Bytes>,
}

/// Leaves out the deleted object, which may be a Secret.
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

/// A number of items and their size in bytes.
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
    /// The number and size of the objects of kind Event.
    told: Tally,
    /// `events` has every event after this version.
    complete_after: ResourceVersion,
    revision: Revision,
}

impl State {
    /// The index in `events` of the first event after `after`.
    fn start_after(&self, after: ResourceVersion) -> Result<usize, TooOld> {
        if after < self.complete_after {
            return Err(TooOld { oldest: self.complete_after });
        }
        Ok(self.events.partition_point(|event| event.version <= after))
    }

    /// Up to `limit` events after `after`, for all watches.
    fn news_after(&self, after: ResourceVersion, limit: usize) -> Result<NextEvents, TooOld> {
        let start = self.start_after(after)?;
        let events: Vec<Arc<Event>> =
            self.events.range(start..).take(limit).map(Arc::clone).collect();
        let is_all = start + events.len() == self.events.len();
        let reached = match events.last() {
            Some(last) if !is_all => last.version,
            _ => ResourceVersion::after(self.revision.0).max(after),
        };
        Ok(NextEvents { events, reached, is_all })
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.event_bytes -= oldest.bytes();
            self.complete_after = oldest.version;
        }
    }

    /// The event with this version, if it is still kept.
    fn event_at(&self, version: ResourceVersion) -> Option<Arc<Event>> {
        let at = self.events.binary_search_by_key(&version, |event| event.version).ok()?;
        self.events.get(at).map(Arc::clone)
    }
}

/// The watch cache.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Guards the state. Locked for writing while a revision is applied, and for reading while some
    /// pointers are copied.
    state: RwLock<State>,
    /// Guards the listeners. Locked to add or remove one, and, within the state's lock, to announce
    /// the events of a revision.
    audience: Mutex<Audience<Arc<Listener>>>,
    /// The revision that readers see; 0 until the cache is filled.
    progress: watch::Sender<Revision>,
    /// The newest revision that anybody has waited for.
    wanted: watch::Sender<Revision>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            state: RwLock::default(),
            audience: Mutex::default(),
            progress: watch::Sender::new(Revision::default()),
            // Everybody waits for the cache to be filled.
            wanted: watch::Sender::new(Revision(1)),
        }
    }
}

/// The requested version is older than what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The oldest version that a watch can resume from.
    pub(crate) oldest: ResourceVersion,
}

/// Objects as of one revision.
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

    /// The object at a key.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state().objects.get(key).cloned()
    }

    /// The selected objects whose keys start with one of `prefixes`, all as of one revision.
    pub(crate) fn cut(&self, prefixes: &[Key], selects: impl Fn(&Entry) -> bool) -> Cut {
        let state = self.state();
        let all = prefixes.iter().flat_map(|prefix| state.objects.within(prefix, None));
        let entries = all.filter(|entry| selects(entry)).map(Arc::clone).collect();
        Cut { revision: state.revision, entries }
    }

    /// One page of the objects whose keys start with `prefix`, beginning after the key `after`, and
    /// the revision that it shows.
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

    /// Whether any object's key starts with `prefix`.
    pub(crate) fn holds_any(&self, prefix: &Key) -> bool {
        self.state().objects.within(prefix, None).len() > 0
    }

    /// The number and size of the objects of kind Event.
    pub(crate) fn told(&self) -> Tally {
        self.state().told
    }

    /// The revision that readers see.
    pub(crate) fn revision(&self) -> Revision {
        *self.progress.borrow()
    }

    /// Waits until readers see `revision`.
    pub(crate) async fn reached(&self, revision: Revision) {
        base::raise(&self.wanted, revision);
        let mut progress = self.progress.subscribe();
        // `self` owns the sender, so the wait can only end when the revision is reached.
        let _reached = progress.wait_for(|at| *at >= revision).await;
    }

    /// Waits until a request waits for a revision that the cache does not show yet, and returns
    /// that revision.
    async fn is_behind(&self) -> Revision {
        let mut wanted = self.wanted.subscribe();
        // `self` owns the sender, so the wait can only end with such a revision.
        let beyond = wanted.wait_for(|wanted| *wanted > self.revision()).await;
        beyond.map_or_else(|_| self.revision(), |wanted| *wanted)
    }

    /// The revision that has been applied, even if readers cannot see it yet.
    fn applied(&self) -> Revision {
        self.state().revision
    }

    /// Notifies of each revision that the cache reaches.
    pub(crate) fn progress(&self) -> watch::Receiver<Revision> {
        self.progress.subscribe()
    }

    /// Up to `limit` events after `after`, for all watches.
    pub(crate) fn news_after(
        &self,
        after: ResourceVersion,
        limit: usize,
    ) -> Result<NextEvents, TooOld> {
        self.state().news_after(after, limit)
    }

    /// Fails if an event after `after` is no longer kept.
    pub(crate) fn can_resume(&self, after: ResourceVersion) -> Result<(), TooOld> {
        self.state().start_after(after).map(drop)
    }

    /// The revision after which every event is kept.
    pub(crate) fn oldest(&self) -> Revision {
        Revision(self.state().complete_after.revision())
    }

    /// The number of objects and of events in the cache.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let state = self.state();
        (state.objects.len(), state.events.len())
    }

    /// Replaces everything with the objects as of `revision`.
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
        // What happened before is not in the events, so every listener has to check whether it can
        // continue.
        self.audience().everybody().for_each(|listener| listener.start_over());
        drop(state);
    }

    /// Applies the events of one or more whole revisions.
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
