//! What a decision looks at: the newest that is known of each key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use api::core::{EVENTS_BYTES_MAX, EVENTS_MAX, EVENTS_REFUSED_FACTOR};
use api::resource_version::ResourceVersion;
use api::status::{Refusal, Why};
use api::{CompletionChunk, Kind, KindId, ObjectKey, Task, Workflow};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Change, Expectation, Guard, Key, Record, Revision, Write};

use super::Prepared;
use super::refusals::not_found;
use crate::cache::{Cache, Entry, Tally};
use crate::kinds::{Wire, strip_wire};
use crate::{carried, encoding, keys};

/// An object as it is now, for all that is known. Most decisions need no more than its metadata:
/// its document is read when it is asked for.
#[derive(Clone)]
pub(crate) struct Current {
    kind: KindId,
    /// Its document as it is stored, or as it is on the wire.
    json: Bytes,
    /// The point of its last change.
    pub(crate) version: ResourceVersion,
    /// The revision that created it.
    created: Revision,
    uid: Arc<str>,
    is_deleting: bool,
    /// Whether it may have fields that this version does not know.
    may_have_more: bool,
}

/// What the store itself said of keys, newer than the cache.
pub(crate) type Known = BTreeMap<Key, Option<Current>>;

/// Chunks of completion records at the points at which they were read: many decisions of one
/// request look at the same one.
pub(crate) type Chunks = BTreeMap<Key, (ResourceVersion, Arc<CompletionChunk>)>;

/// What a decision may look at. Remembers what was looked at in the cache alone.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    cache: &'a Cache,
    known: &'a Known,
    chunks: &'a mut Chunks,
    cached: BTreeSet<Key>,
    /// The uids of objects that the group creates, by key.
    made: BTreeMap<Key, String>,
    /// What the decision that is being taken has looked at, and the revision that it saw there.
    looked_at: BTreeMap<Key, Option<Revision>>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(cache: &'a Cache, known: &'a Known, chunks: &'a mut Chunks) -> Self {
        let (cached, made, looked_at) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { cache, known, chunks, cached, made, looked_at }
    }

    /// What is at a key.
    pub(crate) fn at(&mut self, key: &Key) -> Option<Current> {
        let current = self.newest(key);
        let revision = current.as_ref().map(Current::modified);
        self.looked_at.insert(Arc::clone(key), revision);
        current
    }

    /// Notes that the group creates an object, so that later decisions of the group may rely on it.
    pub(crate) fn make(&mut self, key: &Key, uid: &str) {
        self.made.insert(Arc::clone(key), uid.to_owned());
    }

    /// Whether the group creates the object with this key and uid.
    pub(crate) fn makes(&self, key: &Key, uid: &str) -> bool {
        self.made.get(key).is_some_and(|made| made == uid)
    }

    /// Ends one decision. One that writes is held to what it looked at by its guards and the
    /// expectations of its writes. One that writes nothing ("it is like that already") would be
    /// answered from the cache alone, which may be behind: so all that it looked at is guarded, and
    /// the store says whether that is how it is now.
    pub(crate) fn guard_what_writes_nothing(&mut self, prepared: &mut Prepared) {
        let looked_at = std::mem::take(&mut self.looked_at);
        if !prepared.writes.is_empty() {
            return;
        }
        for (key, revision) in looked_at {
            if prepared.guards.iter().any(|guard| guard.key == key) {
                continue;
            }
            let expect = revision.map_or(Expectation::Absent, Expectation::Modified);
            prepared.guards.push(Guard { key, expect });
        }
    }

    fn newest(&mut self, key: &Key) -> Option<Current> {
        if let Some(known) = self.known.get(key) {
            return known.clone();
        }
        self.cached.insert(Arc::clone(key));
        self.cache.get(key).as_deref().map(Current::of_entry)
    }

    /// An object.
    pub(crate) fn object(&mut self, kind: KindId, key: &ObjectKey) -> Option<Current> {
        self.at(&keys::object(kind, key))
    }

    /// A task in its stored form.
    pub(crate) fn task(&mut self, key: &ObjectKey) -> Result<(Task, Current), Refusal> {
        let Some(current) = self.object(KindId::Task, key) else {
            return Err(not_found(KindId::Task, &key.name));
        };
        Ok((current.task()?, current))
    }

    /// A chunk of a completion record, where it is there.
    pub(crate) fn chunk(
        &mut self,
        key: &Key,
    ) -> Result<Option<(Arc<CompletionChunk>, Current)>, Refusal> {
        let Some(current) = self.at(key) else { return Ok(None) };
        if let Some((version, chunk)) = self.chunks.get(key)
            && *version == current.version
        {
            return Ok(Some((Arc::clone(chunk), current)));
        }
        let mut chunk: CompletionChunk = current.typed()?;
        chunk.metadata.resource_version = None;
        let chunk = Arc::new(chunk);
        self.chunks.insert(Arc::clone(key), (current.version, Arc::clone(&chunk)));
        Ok(Some((chunk, current)))
    }

    /// Whether an object of `kind` is in a namespace, as far as the cache knows.
    pub(crate) fn any_in(&self, kind: KindId, namespace: &str) -> bool {
        self.cache.holds_any(&keys::prefix(kind, namespace))
    }

    /// Whether there are so many events that new ones have to wait until the oldest were removed.
    pub(crate) fn has_too_many_events(&self) -> bool {
        are_too_many(self.cache.told())
    }

    /// Whether the cache shows `revision`.
    pub(crate) fn shows(&self, revision: Revision) -> bool {
        self.cache.revision() >= revision
    }

    /// Keys that only the cache was asked for.
    pub(crate) fn into_cached(self) -> BTreeSet<Key> {
        self.cached
    }
}

/// More events than these wait for the collection of the oldest.
fn are_too_many(told: Tally) -> bool {
    told.count >= EVENTS_REFUSED_FACTOR * EVENTS_MAX
        || told.bytes >= EVENTS_REFUSED_FACTOR * EVENTS_BYTES_MAX
}

/// Without the document: it may be a Secret.
impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("kind", &self.kind)
            .field("uid", &self.uid)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What of an object's metadata decisions need most.
#[derive(Default, Deserialize)]
struct Glance {
    #[serde(default)]
    metadata: GlanceMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GlanceMeta {
    uid: Option<String>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl Current {
    /// What the cache shows.
    pub(crate) fn of_entry(entry: &Entry) -> Self {
        Self {
            kind: entry.kind,
            json: entry.wire.clone(),
            version: entry.version,
            created: entry.created,
            uid: Arc::clone(&entry.uid),
            is_deleting: entry.is_deleting,
            may_have_more: entry.has_more,
        }
    }

    /// What the store holds.
    pub(crate) fn of_record(record: &Record) -> Result<Self, encoding::Unreadable> {
        let unreadable = |why: String| encoding::Unreadable(why);
        let kind = keys::kind_of(&record.key)
            .ok_or_else(|| unreadable(format!("{} is not the key of an object", record.key)))?;
        let version = ResourceVersion::of_event(record.modified.0, record.position);
        // A list could be read as a struct, too.
        let is_map = |json: &&[u8]| json.first() == Some(&b'{');
        let json = encoding::json(&record.value).ok().filter(is_map);
        let glance = |json: &[u8]| serde_json::from_slice::<Glance>(json).ok();
        let read = json.and_then(|json| Some((json, glance(json)?)));
        let (json, glance) = match read {
            Some((json, glance)) => (record.value.slice_ref(json), glance),
            // It is there all the same, as the cache shows it, too.
            None => {
                let key = keys::object_key(kind, &record.key).unwrap_or_default();
                let (wire, _said_by_the_cache) = Wire::of(kind, &key, &record.value, version);
                (wire.json.into(), Glance::default())
            }
        };
        Ok(Self {
            kind,
            json,
            version,
            created: record.created,
            uid: glance.metadata.uid.unwrap_or_default().into(),
            is_deleting: glance.metadata.deletion_timestamp.is_some(),
            may_have_more: true,
        })
    }

    /// Its document, in its stored form.
    pub(crate) fn object(&self) -> Value {
        let mut object: Value = serde_json::from_slice(&self.json).unwrap_or_default();
        strip_wire(self.kind, &mut object);
        object
    }

    /// Its stored form once it is `after`, where this version reads it as `before` now.
    pub(crate) fn changed<T: Serialize>(&self, before: &T, after: &T) -> Bytes {
        if self.may_have_more {
            encoding::encode(&carried::over(self.object(), before, after))
        } else {
            encoding::encode(after)
        }
    }

    /// It as a type. Of a kind with fields that are added on the way out, they may be there.
    fn typed<K: Kind>(&self) -> Result<K, Refusal> {
        serde_json::from_slice(&self.json).map_err(|error| {
            Refusal::new(Why::Internal, format!("the stored object cannot be read: {error}"))
                .about(self.kind, "")
        })
    }

    /// It as a task, in its stored form.
    pub(crate) fn task(&self) -> Result<Task, Refusal> {
        let mut task = self.typed::<Task>()?.to_stored();
        task.metadata.resource_version = None;
        Ok(task)
    }

    /// It as a workflow.
    pub(crate) fn workflow(&self) -> Result<Workflow, Refusal> {
        self.typed()
    }

    /// The revision of its last change: what compare-and-swap compares.
    pub(crate) fn modified(&self) -> Revision {
        Revision(self.version.revision())
    }

    /// A write that puts an object, in its stored form, in its place.
    pub(crate) fn put(&self, key: Key, value: Bytes) -> Write {
        let change = Change::Put { value, lease: None };
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

    /// How many bytes it takes, about: the fields that are added on the way out may be counted.
    pub(crate) fn bytes(&self) -> usize {
        self.json.len()
    }

    /// `metadata.uid`.
    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// Whether it may have fields that this version does not know.
    pub(crate) fn may_have_more(&self) -> bool {
        self.may_have_more
    }

    /// Whether its deletion was asked for.
    pub(crate) fn is_deleting(&self) -> bool {
        self.is_deleting
    }
}

/// A text in an object's metadata; empty if it is not there.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"].get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A write that makes an object, in its stored form.
pub(crate) fn make(key: Key, value: Bytes) -> Write {
    let change = Change::Put { value, lease: None };
    Write { key, expect: Expectation::Absent, change }
}

/// A guard: nothing is there.
pub(crate) fn absent(key: Key) -> Guard {
    Guard { key, expect: Expectation::Absent }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Document;
    use super::*;

    #[test]
    fn events_are_bounded_by_their_number_and_by_their_bytes() {
        let are = |count, bytes| are_too_many(Tally { count, bytes });
        let (count, bytes) =
            (EVENTS_REFUSED_FACTOR * EVENTS_MAX, EVENTS_REFUSED_FACTOR * EVENTS_BYTES_MAX);
        assert!(!are(count - 1, bytes - 1));
        assert!(are(count, 0) && are(0, bytes));
    }

    #[test]
    fn nothing_that_can_be_logged_shows_what_an_object_holds() {
        const SECRET: &str = "hunter2";
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "a", "namespace": "n", "uid": "0af3" },
            "data": { "password": SECRET },
        });
        let record = Record {
            key: keys::object(KindId::Secret, &ObjectKey::new("n", "a")),
            value: encoding::encode(&object),
            created: Revision(3),
            modified: Revision(3),
            position: 0,
        };
        let current = Current::of_record(&record).unwrap();
        let was = Document::AsItWas(current.clone());
        let stored = Document::Stored(record.value.clone());
        let write = current.put(Arc::clone(&record.key), record.value.clone());
        // Bytes are shown as text, or as a list of numbers.
        let numbers = format!("{:?}", SECRET.as_bytes());
        for shown in [
            format!("{current:?} {was:?} {stored:?} {write:?}"),
            format!("{current:#?} {was:#?} {stored:#?} {write:#?}"),
        ] {
            assert!(!shown.contains(SECRET) && !shown.contains(&numbers[1..10]), "{shown}");
            assert!(shown.contains("0af3"), "which object it is is shown: {shown}");
        }
    }
}
