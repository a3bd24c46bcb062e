//! The watch cache: the newest version of every object and the recent events, shared by all readers
//! and watchers.
//!
//! # Invariants
//!
//! * It is fed by a single watch of the store, over the whole prefix. A revision is applied as a
//!   whole, so that no reader sees half of a transaction.
//! * The newest version of an object is encoded once, and all watchers share its bytes.
//! * On start it is filled from the oldest kept revision, so that after a restart watchers can
//!   resume and do not all get a 410.
//! * The kept events are bounded in number and in bytes. A watcher that falls further behind gets a
//!   410.
//! * An event wakes only the watches that it may concern.

mod audience;
mod behind;
mod difference;
mod follow;
mod history;
mod objects;
mod parsing;
mod part;
mod scope;
mod sharing;
mod subscription;

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
pub(crate) use history::PastEvent;
use history::{Event, History};
use objects::Objects;
pub(crate) use part::Part;
pub(crate) use scope::{Scope, Selection};
pub(crate) use sharing::{Fields, Labels};
use subscription::Listener;
pub(crate) use subscription::{News, Subscription};

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

/// What selectors look at in an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selectable<'a> {
    pub(crate) kind: KindId,
    pub(crate) key: &'a ObjectKey,
    pub(crate) labels: &'a Labels,
    pub(crate) fields: &'a Fields,
}

impl Entry {
    /// What selectors look at.
    pub(crate) fn selectable(&self) -> Selectable<'_> {
        let Self { kind, key, labels, fields, .. } = self;
        Selectable { kind: *kind, key, labels, fields }
    }
}

/// Returns the JSON of an object that is at version `from` with another resource version in it.
fn under(wire: &[u8], from: ResourceVersion, version: ResourceVersion) -> Option<Bytes> {
    let field = |version| format!("\"resourceVersion\":\"{version}\"");
    let old = field(from);
    let text = std::str::from_utf8(wire).ok()?;
    let mut places = text.match_indices(&old);
    // Nearly always this text is there once, and it is the metadata's: within a string, its quotes
    // would be escaped. Another map may have such a key as well, so then the metadata is looked for.
    if let (Some((at, _)), None) = (places.next(), places.next()) {
        let (before, after) = (&text[..at], &text[at + old.len()..]);
        return Some([before, &field(version), after].concat().into());
    }
    let mut object: Value = serde_json::from_str(text).ok()?;
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    serde_json::to_vec(&object).ok().map(Bytes::from)
}

/// A change of one object, before it is known what it replaces.
struct Change {
    version: ResourceVersion,
    /// The new state. `None` for a delete.
    now: Option<Arc<Entry>>,
}

impl Change {
    /// The event for watches. `None` for the delete of an object that was not there.
    fn into_event(self, before: Option<&Entry>) -> Option<Event> {
        if let Some(now) = self.now {
            return Some(Event::put(now, before));
        }
        let before = before?;
        let last = under(&before.wire, before.version, self.version);
        Some(Event::delete(self.version, before, last.unwrap_or_else(|| before.wire.clone())))
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
    history: History,
    /// The number and size of the objects of kind Event.
    told: Tally,
    revision: Revision,
}

impl State {
    /// Looks at up to `limit` events after `after`, whichever watch they are for, and returns what
    /// `tell` makes of them.
    fn news_after<T>(
        &self,
        (after, limit): (ResourceVersion, usize),
        tell: impl FnMut(PastEvent<'_>) -> Option<T>,
    ) -> Result<News<T>, TooOld> {
        let start = self.history.start_after(after)?;
        let left = self.history.since(start);
        let is_all = left.len() <= limit;
        let mut reached = ResourceVersion::after(self.revision.0).max(after);
        let events = left.take(limit).inspect(|past| {
            if !is_all {
                reached = past.event.version;
            }
        });
        let news = events.filter_map(tell).collect();
        Ok(News { news, reached, is_all })
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

    /// Looks at up to `limit` events after `after`, whichever watch they are for, and returns what
    /// `tell` makes of them.
    pub(crate) fn news_after<T>(
        &self,
        (after, limit): (ResourceVersion, usize),
        tell: impl FnMut(PastEvent<'_>) -> Option<T>,
    ) -> Result<News<T>, TooOld> {
        self.state().news_after((after, limit), tell)
    }

    /// Fails if an event after `after` is no longer kept.
    pub(crate) fn can_resume(&self, after: ResourceVersion) -> Result<(), TooOld> {
        self.state().history.start_after(after).map(drop)
    }

    /// The revision after which every event is kept.
    pub(crate) fn oldest(&self) -> Revision {
        Revision(self.state().history.complete_after.revision())
    }

    /// The number of objects and of events in the cache.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let state = self.state();
        (state.objects.len(), state.history.len())
    }

    /// Replaces everything with the objects as of `revision`.
    fn reset(&self, objects: Objects, revision: Revision) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut told = Tally::default();
        objects.values().for_each(|entry| told.add(entry));
        let history = History::after(ResourceVersion::after(revision.0));
        *state = State { objects, told, history, revision };
        // What happened before is not in the events, so every listener has to check whether it can
        // continue.
        self.audience().everybody().for_each(|listener| listener.start_over());
        drop(state);
    }

    /// Applies the events of one or more whole revisions.
    fn apply(&self, changes: Vec<(Key, Change)>, revision: Revision) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let audience = self.audience();
        let mut asleep: Vec<Arc<Listener>> = Vec::new();
        for (key, change) in changes {
            let before = match &change.now {
                Some(now) => state.objects.insert(key, Arc::clone(now)),
                None => state.objects.remove(&key),
            };
            change.now.iter().for_each(|entry| state.told.add(entry));
            before.iter().for_each(|entry| state.told.take(entry));
            let Some(event) = change.into_event(before.as_deref()) else { continue };
            let concerned = event.before().into_iter().chain(event.now());
            let listeners = concerned.flat_map(|object| audience.of(object));
            asleep.extend(listeners.filter(|it| it.announce(event.version)).map(Arc::clone));
            state.history.push(event, before.as_deref());
        }
        drop(audience);
        state.revision = revision;
        drop(state);
        asleep.iter().for_each(|listener| listener.wake());
    }

    fn publish(&self, revision: Revision) {
        self.progress.send_replace(revision);
    }
}
