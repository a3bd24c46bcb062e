//! What a decision looks at: the newest that is known of each key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::resource_version::ResourceVersion;
use api::{Kind, KindId, ObjectKey};
use serde_json::Value;
use store::{Change, Expectation, Guard, Key, Record, Revision, Write};

use crate::cache::Cache;
use crate::{encoding, keys};

/// An object as it is now, for all that is known.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// Its stored form.
    pub(crate) object: Value,
    /// The point of its last change.
    pub(crate) version: ResourceVersion,
    /// The revision that created it.
    pub(crate) created: Revision,
}

/// What the store itself said of keys, newer than the cache.
pub(crate) type Known = BTreeMap<Key, Option<Current>>;

/// What a decision may look at. Remembers what was looked at in the cache alone.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    cache: &'a Cache,
    known: &'a Known,
    cached: BTreeSet<Key>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(cache: &'a Cache, known: &'a Known) -> Self {
        Self { cache, known, cached: BTreeSet::new() }
    }

    /// What is at a key.
    pub(crate) fn at(&mut self, key: &Key) -> Option<Current> {
        if let Some(known) = self.known.get(key) {
            return known.clone();
        }
        self.cached.insert(Arc::clone(key));
        let entry = self.cache.get(key)?;
        Some(Current { object: entry.stored(), version: entry.version, created: entry.created })
    }

    /// An object.
    pub(crate) fn object(&mut self, kind: KindId, key: &ObjectKey) -> Option<Current> {
        self.at(&keys::object(kind, key))
    }

    /// A typed object and the revision that created it.
    pub(crate) fn typed<K: Kind>(&mut self, key: &ObjectKey) -> Option<(K, Current)> {
        let current = self.object(K::ID, key)?;
        Some((K::deserialize(&current.object).ok()?, current))
    }

    /// Whether an object of `kind` is in a namespace, as far as the cache knows.
    pub(crate) fn any_in(&self, kind: KindId, namespace: &str) -> bool {
        !self.cache.cut(&[keys::prefix(kind, namespace)], None).entries.is_empty()
    }

    /// Keys that only the cache was asked for.
    pub(crate) fn into_cached(self) -> BTreeSet<Key> {
        self.cached
    }
}

impl Current {
    /// What the store holds.
    pub(crate) fn of_record(record: &Record) -> Result<Self, encoding::Unreadable> {
        Ok(Self {
            object: encoding::decode(&record.value)?,
            version: ResourceVersion::of_event(record.modified.0, record.position),
            created: record.created,
        })
    }

    /// The revision of its last change: what compare-and-swap compares.
    pub(crate) fn modified(&self) -> Revision {
        Revision(self.version.revision())
    }

    /// A write that puts `object` in its place.
    pub(crate) fn put(&self, key: Key, object: &Value) -> Write {
        let change = Change::Put { value: encoding::encode(object), lease: None };
        Write { key, expect: Expectation::Modified(self.modified()), change }
    }

    /// A write that deletes it.
    pub(crate) fn delete(&self, key: Key) -> Write {
        Write { key, expect: Expectation::Modified(self.modified()), change: Change::Delete }
    }

    /// A guard: this very object is still there, whatever has changed in it.
    pub(crate) fn alive(&self, key: Key) -> Guard {
        Guard { key, expect: Expectation::Created(self.created) }
    }

    /// A guard: it has not changed.
    pub(crate) fn unchanged(&self, key: Key) -> Guard {
        Guard { key, expect: Expectation::Modified(self.modified()) }
    }

    /// `metadata.uid`.
    pub(crate) fn uid(&self) -> &str {
        text(&self.object, "uid")
    }

    /// Whether its deletion was asked for.
    pub(crate) fn is_deleting(&self) -> bool {
        self.object["metadata"].get("deletionTimestamp").is_some_and(|time| !time.is_null())
    }
}

/// A text in an object's metadata; empty if it is not there.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"].get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A write that makes `object`.
pub(crate) fn make(key: Key, object: &Value) -> Write {
    let change = Change::Put { value: encoding::encode(object), lease: None };
    Write { key, expect: Expectation::Absent, change }
}

/// A guard: nothing is there.
pub(crate) fn absent(key: Key) -> Guard {
    Guard { key, expect: Expectation::Absent }
}
