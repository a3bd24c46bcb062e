//! What the store itself says was there at every revision: what the promises are checked against.

use std::collections::BTreeMap;

use api::resource_version::ResourceVersion;
use api::watch::WatchEventType;
use api::{KindId, ObjectKey};
use futures_util::FutureExt as _;
use runtime::{Any, Snapshot};
use store::{Event, Key, Record, Revision, Simulated, Store as _};

/// What all keys of Heliox start with.
const PREFIX: &str = "/heliox/v1/";

/// The store's history so far.
#[derive(Debug)]
pub(crate) struct History {
    next: Revision,
    /// All there is, as of the last revision that was read.
    seen: Snapshot,
    /// The object at each key of the store: a deletion tells no more than the key.
    keys: BTreeMap<Key, ObjectKey>,
    log: Vec<Told>,
}

/// What a complete watch tells of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) version: ResourceVersion,
    pub(crate) what: WatchEventType,
    pub(crate) kind: KindId,
    pub(crate) key: ObjectKey,
}

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) before: Option<Any>,
    pub(crate) now: Option<Any>,
}

/// One revision: what it changed, and all there was after it.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) changes: &'a [Change],
    pub(crate) seen: &'a Snapshot,
}

impl History {
    pub(crate) fn new() -> Self {
        let (seen, keys) = (Snapshot::default(), BTreeMap::new());
        Self { next: Revision(1), seen, keys, log: Vec::new() }
    }

    pub(crate) fn seen(&self) -> &Snapshot {
        &self.seen
    }

    /// Every event so far.
    pub(crate) fn log(&self) -> &[Told] {
        &self.log
    }

    /// Reads what has happened since, and calls `on_moment` for each revision.
    pub(crate) async fn read(&mut self, store: &Simulated, mut on_moment: impl FnMut(Moment<'_>)) {
        let mut watch = store.watch(PREFIX, self.next).await.unwrap();
        // What is there is there at once.
        let news = watch.next().now_or_never().transpose().unwrap();
        let mut revisions: BTreeMap<Revision, Vec<Event>> = BTreeMap::new();
        for event in news.into_iter().flat_map(|news| news.events) {
            revisions.entry(event.revision).or_default().push(event);
        }
        for (revision, events) in revisions {
            let changes: Vec<Change> =
                events.iter().filter_map(|event| self.apply(event)).collect();
            self.next = Revision(revision.0 + 1);
            on_moment(Moment { changes: &changes, seen: &self.seen });
        }
    }

    fn apply(&mut self, event: &Event) -> Option<Change> {
        let kind = kind_of(&event.key)?;
        let (before, now) = match &event.now {
            Some(record) => {
                let now = object(kind, record);
                self.keys.insert(event.key.clone(), now.key());
                (self.seen.insert(now.clone()), Some(now))
            }
            None => {
                let key = self.keys.remove(&event.key)?;
                (self.seen.remove(kind, &key), None)
            }
        };
        let what = match (&before, &now) {
            (None, _) => WatchEventType::Added,
            (Some(_), Some(_)) => WatchEventType::Modified,
            (Some(_), None) => WatchEventType::Deleted,
        };
        let key = now.as_ref().or(before.as_ref())?.key();
        let version = ResourceVersion::of_event(event.revision.0, event.position);
        self.log.push(Told { version, what, kind, key });
        Some(Change { before, now })
    }
}

fn kind_of(key: &str) -> Option<KindId> {
    let plural = key.strip_prefix(PREFIX)?.split('/').next()?;
    KindId::ALL.into_iter().find(|kind| kind.info().plural == plural)
}

/// A record is a byte that tells its form, and JSON.
fn object(kind: KindId, record: &Record) -> Any {
    let json = record.value.get(1..).unwrap_or_default();
    Any::parse(kind, json).unwrap_or_else(|error| panic!("{}: {error}", record.key))
}
