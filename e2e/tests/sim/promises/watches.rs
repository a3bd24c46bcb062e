//! Promise 6: watches are ordered, complete and resumable.

use std::collections::BTreeMap;
use std::time::Duration;

use api::resource_version::ResourceVersion;
use api::watch::WatchEventType;
use api::{KindId, ObjectKey};
use bytes::Bytes;
use client::object_path;
use http::Method;
use serde_json::Value;
use store::Revision;

use crate::cluster::Cluster;
use crate::history::Told;
use crate::watcher::{Heard, Memory};

/// How far a watcher's memory was compared with the store's history.
#[derive(Debug, Default)]
pub(super) struct Watches {
    checked: usize,
    /// What the events so far amount to.
    model: Model,
}

type Key = (KindId, ObjectKey);

/// What a watcher knows from events alone.
#[derive(Debug, Default)]
struct Model {
    objects: BTreeMap<Key, (ResourceVersion, Bytes)>,
    /// All up to here was told; nothing while the first list is not complete.
    last: Option<ResourceVersion>,
    /// The next event of the store's history that it is to hear.
    next: usize,
}

impl Watches {
    /// Compares what was heard since the last check with the store's history, whose oldest kept
    /// revision is `oldest`: of that one itself, only what came of it is kept.
    pub(super) fn check(&mut self, heard: &[Heard], log: &[Told], oldest: Revision) {
        for heard in &heard[self.checked..] {
            self.model.hear(heard);
            self.model.is_complete(heard, log);
            if let Heard::Expired(from) = heard {
                let kept = *from >= ResourceVersion::after(oldest.0);
                assert!(!kept, "promise 6: {from} is kept, and the watcher had to list anew");
            }
        }
        self.checked = heard.len();
    }
}

impl Model {
    /// Takes over an event, which must be possible after those before.
    fn hear(&mut self, heard: &Heard) {
        match heard {
            Heard::Opened(from) => {
                assert_eq!(*from, self.last, "a watcher resumes from what it heard last");
                if from.is_none() {
                    self.objects.clear();
                }
            }
            Heard::Expired(_) => self.last = None,
            Heard::Bookmark { version, ends_initial } => {
                let last = self.last.unwrap_or_default();
                assert!(*version >= last, "promise 6: a bookmark of {version} after {last}");
                if self.last.is_some() || *ends_initial {
                    self.last = Some(*version);
                }
            }
            Heard::Event { what, kind, key, version, json } => {
                if let Some(last) = self.last {
                    assert!(*version > last, "promise 6: {key} of {version} came after {last}");
                    self.last = Some(*version);
                }
                let key = (*kind, key.clone());
                let before = if *what == WatchEventType::Deleted {
                    self.objects.remove(&key)
                } else {
                    self.objects.insert(key.clone(), (*version, json.clone()))
                };
                let was_there = *what != WatchEventType::Added;
                assert_eq!(before.is_some(), was_there, "promise 6: {what:?} of {key:?}");
            }
        }
    }

    /// Whether this is what the store's history has next.
    fn is_complete(&mut self, heard: &Heard, log: &[Told]) {
        match heard {
            Heard::Bookmark { version, ends_initial: true } => {
                self.next = log.partition_point(|told| told.version <= *version);
                let there = objects_of(&log[..self.next]);
                let listed = self.objects.iter().map(|(key, (version, _))| (key.clone(), *version));
                let listed: BTreeMap<_, _> = listed.collect();
                assert_eq!(listed, there, "promise 6: the list of {version}");
            }
            Heard::Bookmark { version, ends_initial: false } if self.last.is_some() => {
                let missed = log.get(self.next).filter(|next| next.version <= *version);
                assert_eq!(missed, None, "promise 6: all up to {version} was told, but not");
            }
            Heard::Event { what, kind, key, version, .. } if self.last.is_some() => {
                let told = Told { version: *version, what: *what, kind: *kind, key: key.clone() };
                assert_eq!(log.get(self.next), Some(&told), "promise 6: another event was next");
                self.next += 1;
            }
            Heard::Bookmark { .. } | Heard::Event { .. } | Heard::Opened(_) | Heard::Expired(_) => {
            }
        }
    }
}

fn objects_of(log: &[Told]) -> BTreeMap<Key, ResourceVersion> {
    let mut objects = BTreeMap::new();
    for told in log {
        let key = (told.kind, told.key.clone());
        if told.what == WatchEventType::Deleted {
            objects.remove(&key);
        } else {
            objects.insert(key, told.version);
        }
    }
    objects
}

/// When nothing is on its way, what the watcher knows is what a fresh list says, to the byte.
pub(super) async fn check_quiet(cluster: &Cluster, memory: &Memory) {
    for kind in KindId::ALL.into_iter().filter(|kind| !kind.info().internal) {
        let path = object_path(kind, "", "");
        let list = cluster.god.bytes(Method::GET, &path, None).await.unwrap();
        let list: Value = serde_json::from_slice(&list).unwrap();
        let version: ResourceVersion =
            list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        // The watcher hears of it within the time between bookmarks.
        let known = loop {
            if let Some(known) = memory.read(|heard| known_at(heard, version)) {
                break known;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let known = known.into_iter().filter(|((of, _), _)| *of == kind);
        let known: BTreeMap<ObjectKey, Value> = known.map(|((_, key), it)| (key, it)).collect();
        let listed = list["items"].as_array().unwrap().iter().map(|item| {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
            (ObjectKey::new(text("namespace"), text("name")), without_computed(kind, item))
        });
        let listed: BTreeMap<ObjectKey, Value> = listed.collect();
        assert_eq!(known, listed, "promise 6: a fresh list of {}", kind.info().plural);
    }
}

/// A listed object as our own components are sent it: they derive a task's conditions themselves.
fn without_computed(kind: KindId, item: &Value) -> Value {
    let mut item = item.clone();
    if kind == KindId::Task {
        let conditions = item["status"].as_object_mut().unwrap().remove("conditions");
        assert_eq!(conditions.unwrap().as_array().unwrap().len(), 3);
    }
    item
}

/// What a watcher knew when it had heard all up to `version`; nothing before.
fn known_at(heard: &[Heard], version: ResourceVersion) -> Option<BTreeMap<Key, Value>> {
    let mut model = Model::default();
    for heard in heard {
        if let Heard::Event { version: at, .. } | Heard::Bookmark { version: at, .. } = heard
            && model.last.is_some()
            && *at > version
        {
            break;
        }
        model.hear(heard);
    }
    let reached = heard.iter().rev().find_map(|heard| match heard {
        Heard::Event { version, .. } | Heard::Bookmark { version, .. } => Some(*version),
        Heard::Opened(_) | Heard::Expired(_) => None,
    });
    reached.filter(|reached| *reached >= version)?;
    let parse = |json: &Bytes| serde_json::from_slice(json).unwrap();
    Some(model.objects.into_iter().map(|(key, (_, json))| (key, parse(&json))).collect())
}
