//! The objects of one kind, with indexes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Kind, KindId, ObjectKey, Task};

/// The objects of one kind, by key and by the uids of their owners.
#[derive(Debug, Clone)]
pub struct Table<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    by_owner: BTreeMap<String, Dependents<K>>,
}

/// The objects that have one uid among their owners.
#[derive(Debug, Clone)]
struct Dependents<K> {
    /// Those that are not about to go away.
    staying: Sorted<K>,
    /// Those that go away by themselves, or once something else has happened: see [`is_leaving`].
    leaving: Sorted<K>,
    /// How many of both sets the owner waits for when it is deleted in the foreground.
    blocking: usize,
}

impl<K> Default for Dependents<K> {
    fn default() -> Self {
        Self { staying: Sorted::default(), leaving: Sorted::default(), blocking: 0 }
    }
}

impl<K: Kind> Dependents<K> {
    fn side_of(&mut self, object: &K) -> &mut Sorted<K> {
        if is_leaving(object) { &mut self.leaving } else { &mut self.staying }
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.staying.iter().chain(self.leaving.iter())
    }
}

/// Objects ordered by namespace and name, for an index. An entry is a pointer to the object in the
/// table, so an index takes very little memory.
#[derive(Debug, Clone)]
pub(crate) struct Sorted<K>(BTreeSet<ByKey<K>>);

impl<K: Kind> PartialEq for Sorted<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K> Default for Sorted<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Kind> Sorted<K> {
    pub(crate) fn insert(&mut self, object: Arc<K>) {
        // `insert` would keep an existing entry that compares equal: here, an older version of the
        // object.
        self.0.replace(ByKey(object));
    }

    pub(crate) fn remove(&mut self, object: &Arc<K>) {
        self.0.remove(&ByKey(Arc::clone(object)));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.0.iter().map(|ByKey(object)| object)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An object that is compared only by its namespace and name.
#[derive(Debug, Clone)]
struct ByKey<K>(Arc<K>);

impl<K: Kind> Ord for ByKey<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, two) = (self.0.as_ref(), other.0.as_ref());
        (one.namespace(), one.name()).cmp(&(two.namespace(), two.name()))
    }
}

impl<K: Kind> PartialOrd for ByKey<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Kind> PartialEq for ByKey<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Kind> Eq for ByKey<K> {}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), by_owner: BTreeMap::new() }
    }
}

impl<K: Kind> Table<K> {
    /// Looks up an object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// Every object, ordered by namespace and name. If only some of them matter, use an index
    /// instead: this visits all objects for each event that leads here.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// The objects of a namespace.
    pub fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        self.starting_with(namespace, "")
    }

    /// The objects of a namespace whose names start with `prefix`.
    pub fn starting_with<'a>(
        &'a self,
        namespace: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<K>> {
        self.objects
            .range(ObjectKey::new(namespace, prefix)..)
            .take_while(move |(key, _)| key.namespace == namespace && key.name.starts_with(prefix))
            .map(|(_, object)| object)
    }

    /// The objects whose controller has this uid.
    pub fn of_owner(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.dependents(uid).filter(move |object| controller_of(object.as_ref()) == Some(uid))
    }

    /// The objects that have this uid among their owners, as their controller or not.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.by_owner.get(uid).into_iter().flat_map(Dependents::iter)
    }

    /// Those of them that are not about to go away. A caller that removes dependents step by step
    /// finds the remaining ones without a look at the others.
    pub fn staying_dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.by_owner.get(uid).into_iter().flat_map(|dependents| dependents.staying.iter())
    }

    /// The number of dependents that have to be gone before the object with this uid can be deleted
    /// in the foreground.
    pub fn blocking_dependents(&self, uid: &str) -> usize {
        self.by_owner.get(uid).map_or(0, |dependents| dependents.blocking)
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Adds or replaces an object, and returns the old one.
    pub fn insert(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let key = object.key();
        let before = self.remove(&key);
        for owner in owners_of(object.as_ref()) {
            let dependents = self.by_owner.entry(owner.to_owned()).or_default();
            dependents.side_of(&object).insert(Arc::clone(&object));
            dependents.blocking += usize::from(blocks(object.as_ref(), owner));
        }
        self.objects.insert(key, object);
        before
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let before = self.objects.remove(key)?;
        for owner in owners_of(before.as_ref()) {
            let Some(dependents) = self.by_owner.get_mut(owner) else { continue };
            dependents.side_of(&before).remove(&before);
            dependents.blocking -= usize::from(blocks(before.as_ref(), owner));
            if dependents.staying.is_empty() && dependents.leaving.is_empty() {
                self.by_owner.remove(owner);
            }
        }
        Some(before)
    }

    #[cfg(test)]
    pub(crate) fn is_unowned(&self) -> bool {
        self.by_owner.is_empty()
    }
}

/// The uid of an object's controller. A chunk of a completion record has no owner reference: its
/// key says which job it belongs to.
fn controller_of<K: Kind>(object: &K) -> Option<&str> {
    if K::ID == KindId::CompletionChunk {
        return Some(object.namespace());
    }
    object.controller().map(|owner| owner.uid.as_str())
}

/// The uids of all owners of an object, each once.
fn owners_of<K: Kind>(object: &K) -> impl Iterator<Item = &str> {
    let chunk = (K::ID == KindId::CompletionChunk).then(|| object.namespace());
    let owners = object.meta().owner_references.as_deref().unwrap_or_default();
    let first = |(at, uid): &(usize, &str)| owners[..*at].iter().all(|owner| owner.uid != *uid);
    let uids = owners.iter().map(|owner| owner.uid.as_str()).enumerate();
    chunk.into_iter().chain(uids.filter(first).map(|(_, uid)| uid))
}

/// Whether an owner that is deleted in the foreground waits for this dependent.
fn blocks<K: Kind>(object: &K, owner: &str) -> bool {
    let owners = object.meta().owner_references.iter().flatten();
    owners.into_iter().any(|it| it.uid == owner && it.block_owner_deletion == Some(true))
}

/// Whether an object is about to go away: it is being deleted, or it is a task that was asked to
/// stop and still holds its node. Once such a task has released its node, it no longer counts as
/// leaving, since somebody has to remove it then, unless a finalizer holds it.
fn is_leaving<K: Kind>(object: &K) -> bool {
    let Some(task) = (object as &dyn std::any::Any).downcast_ref::<Task>() else {
        return object.meta().deletion_timestamp.is_some();
    };
    if task.takes_resources_on().is_some() {
        return task.stop().is_some();
    }
    task.is_deleting() && task.meta().finalizers.as_ref().is_some_and(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use api::core::ConfigMap;
    use api::{ObjectMeta, Time, Timestamp};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    /// An object with these owners. Those marked with `!` wait for it.
    fn config(name: &str, owners: &[&str], is_deleting: bool) -> Arc<ConfigMap> {
        let reference = |owner: &&str| OwnerReference {
            uid: owner.trim_end_matches('!').to_owned(),
            block_owner_deletion: owner.ends_with('!').then_some(true),
            ..OwnerReference::default()
        };
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: Some(owners.iter().map(reference).collect()),
            deletion_timestamp: is_deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        };
        Arc::new(ConfigMap { metadata, ..ConfigMap::default() })
    }

    #[test]
    fn dependents_are_told_apart_by_whether_they_are_leaving() {
        let mut table = Table::default();
        let counts = |table: &Table<ConfigMap>, uid: &str| {
            let staying = table.staying_dependents(uid).count();
            (staying, table.dependents(uid).count(), table.blocking_dependents(uid))
        };
        table.insert(config("a", &["u", "v!"], false));
        table.insert(config("b", &["u!", "u!"], false));
        assert_eq!((counts(&table, "u"), counts(&table, "v")), ((2, 2, 1), (1, 1, 1)));
        table.insert(config("a", &["u!", "v!"], true));
        assert_eq!((counts(&table, "u"), counts(&table, "v")), ((1, 2, 2), (0, 1, 1)));
        table.insert(config("a", &["u!"], false));
        assert_eq!((counts(&table, "u"), counts(&table, "v")), ((2, 2, 2), (0, 0, 0)));
        table.insert(config("b", &[], true));
        table.remove(&ObjectKey::new("", "a"));
        assert!(table.is_unowned());
    }
}
