//! The recent events, in order. Only the newest version of an object is kept as a whole.
//!
//! # Invariants
//!
//! * An older version of an object is kept as its difference from the version after it, so that a
//!   running task, which has three versions, takes little more memory than one. A watch gets the
//!   same bytes, whether it reads a version while it is the newest or later.
//! * What a difference was made with belongs to a later event, and events are forgotten from the
//!   oldest on: a version that is kept can be made.
//! * Making a version takes at most [`STEPS_MAX`] steps, however often its object has changed.
//! * The events are bounded in number and in the bytes that they take.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use api::resource_version::ResourceVersion;
use api::{KindId, ObjectKey};
use bytes::Bytes;

use super::difference::Difference;
use super::sharing::{Fields, Labels};
use super::{Entry, Selectable, TooOld};

/// The maximum number of kept events.
const EVENTS_MAX: usize = 200_000;
/// The maximum size of the kept events, in bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// The maximum number of differences to apply for one version. After so many versions of an object,
/// one stays whole.
const STEPS_MAX: u8 = 16;

/// A change of one object.
pub(crate) struct Event {
    pub(crate) version: ResourceVersion,
    pub(crate) kind: KindId,
    pub(crate) key: Arc<ObjectKey>,
    /// `None` if the object was not there before.
    before: Option<Marks>,
    after: After,
    /// The number of differences to apply to this version for the oldest one that rests on it.
    steps: u8,
}

/// What an object is selected by, besides its kind and its name.
struct Marks {
    labels: Arc<Labels>,
    fields: Arc<Fields>,
}

/// What an event leads to.
enum After {
    /// The newest version of the object, or one that was kept as it was.
    Whole(Arc<Entry>),
    /// A version that is not the newest one any more.
    Older(Box<Older>),
    /// The object is deleted. Its last state, under the resource version of the delete.
    Gone(Bytes),
}

/// A version of an object, as its difference from the next one.
struct Older {
    marks: Marks,
    /// The version of the event that came next for this object.
    next: ResourceVersion,
    difference: Difference,
}

/// Leaves out the objects, which may be Secrets.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("is_delete", &self.now().is_none())
            .finish_non_exhaustive()
    }
}

impl Marks {
    fn of(entry: &Entry) -> Self {
        Self { labels: Arc::clone(&entry.labels), fields: Arc::clone(&entry.fields) }
    }
}

impl Event {
    /// An object was created, or replaced `before`.
    pub(super) fn put(now: Arc<Entry>, before: Option<&Entry>) -> Self {
        Self {
            version: now.version,
            kind: now.kind,
            key: Arc::clone(&now.key),
            before: before.map(Marks::of),
            after: After::Whole(now),
            steps: 0,
        }
    }

    /// An object was deleted. `last` is its last state, under the resource version of the delete.
    pub(super) fn delete(version: ResourceVersion, before: &Entry, last: Bytes) -> Self {
        Self {
            version,
            kind: before.kind,
            key: Arc::clone(&before.key),
            before: Some(Marks::of(before)),
            after: After::Gone(last),
            steps: 0,
        }
    }

    /// The object before the event; `None` if it was not there.
    pub(crate) fn before(&self) -> Option<Selectable<'_>> {
        self.before.as_ref().map(|marks| self.selectable((&marks.labels, &marks.fields)))
    }

    /// The object after the event; `None` if it is deleted.
    pub(crate) fn now(&self) -> Option<Selectable<'_>> {
        match &self.after {
            After::Whole(entry) => Some(entry.selectable()),
            After::Older(older) => {
                Some(self.selectable((&older.marks.labels, &older.marks.fields)))
            }
            After::Gone(_) => None,
        }
    }

    fn selectable<'a>(&'a self, (labels, fields): (&'a Labels, &'a Fields)) -> Selectable<'a> {
        Selectable { kind: self.kind, key: &self.key, labels, fields }
    }

    /// The memory that it takes.
    fn bytes(&self) -> usize {
        let held = match &self.after {
            After::Whole(entry) => entry.wire.len(),
            After::Older(older) => size_of::<Older>() + older.difference.bytes(),
            After::Gone(last) => last.len(),
        };
        size_of::<Self>() + held
    }
}

/// The recent events.
#[derive(Debug, Default)]
pub(super) struct History {
    events: VecDeque<Event>,
    bytes: usize,
    /// Every event after this version is there.
    pub(super) complete_after: ResourceVersion,
}

/// An event of the history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PastEvent<'a> {
    pub(crate) event: &'a Event,
    history: &'a History,
}

impl PastEvent<'_> {
    /// The JSON of the object after the event; of a deleted one, its last state.
    pub(crate) fn wire(&self) -> Bytes {
        let wire = self.history.wire(self.event);
        wire.expect("what a difference was made with is in a later event")
    }
}

impl History {
    /// A history in which every event after `complete_after` is kept, of which there are none yet.
    pub(super) fn after(complete_after: ResourceVersion) -> Self {
        Self { complete_after, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The index of the first event after `after`.
    pub(super) fn start_after(&self, after: ResourceVersion) -> Result<usize, TooOld> {
        if after < self.complete_after {
            return Err(TooOld { oldest: self.complete_after });
        }
        Ok(self.events.partition_point(|event| event.version <= after))
    }

    /// The events from an index on.
    pub(super) fn since(&self, start: usize) -> impl ExactSizeIterator<Item = PastEvent<'_>> {
        self.events.range(start..).map(|event| PastEvent { event, history: self })
    }

    fn index(&self, version: ResourceVersion) -> Option<usize> {
        self.events.binary_search_by_key(&version, |event| event.version).ok()
    }

    /// The event with this version, if it is still kept.
    pub(super) fn at(&self, version: ResourceVersion) -> Option<PastEvent<'_>> {
        let event = self.events.get(self.index(version)?)?;
        Some(PastEvent { event, history: self })
    }

    /// Adds the next event. The version that it replaces is kept as a difference from now on.
    pub(super) fn push(&mut self, mut event: Event, replaced: Option<&Entry>) {
        let older = replaced.and_then(|replaced| {
            let older = self.index(replaced.version)?;
            Some((older, replaced))
        });
        if let Some((older, replaced)) = older {
            event.steps = self.shorten(older, replaced, &event);
        }
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            self.forget_oldest();
        }
    }

    /// Keeps the version of an event as its difference from the next one. Returns the number of
    /// differences that then rest on the next one.
    fn shorten(&mut self, older: usize, replaced: &Entry, next: &Event) -> u8 {
        let event = &mut self.events[older];
        let steps = event.steps + 1;
        let wire = match &next.after {
            After::Whole(entry) => &entry.wire,
            After::Gone(last) => last,
            After::Older(_) => return 0,
        };
        if steps > STEPS_MAX {
            return 0;
        }
        let Some(difference) = Difference::of(&replaced.wire, wire) else { return 0 };
        self.bytes -= event.bytes();
        let older = Older { marks: Marks::of(replaced), next: next.version, difference };
        event.after = After::Older(Box::new(older));
        self.bytes += event.bytes();
        steps
    }

    pub(super) fn forget_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.bytes -= oldest.bytes();
            self.complete_after = oldest.version;
        }
    }

    /// The JSON of an object after an event.
    fn wire(&self, event: &Event) -> Option<Bytes> {
        // From this version to the one that is kept as a whole.
        let mut differences = Vec::new();
        let mut event = event;
        let whole = loop {
            match &event.after {
                After::Whole(entry) => break &entry.wire,
                After::Gone(last) => break last,
                After::Older(older) => {
                    differences.push(&older.difference);
                    event = self.at(older.next)?.event;
                }
            }
        };
        let Some(last) = differences.pop() else { return Some(whole.clone()) };
        let mut wire = last.applied_to(whole)?;
        while let Some(difference) = differences.pop() {
            wire = difference.applied_to(&wire)?;
        }
        Some(wire.into())
    }
}

#[cfg(test)]
mod tests;
