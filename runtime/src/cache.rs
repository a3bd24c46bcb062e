//! Everything that a component watches, as of one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use api::core::{ConfigMap, Event, Lease, Namespace, Secret};
use api::resource_version::ResourceVersion;
use api::{
    CompletionChunk, Job, Kind, KindId, Node, NodeLease, ObjectKey, PartitionSet, Task,
    TaskTemplate, Workflow, WorkflowRun,
};
use tokio::sync::watch;

use crate::any::Any;
use crate::reflector::{Change, Update};

/// Objects of one kind, by key and by the uid of their controller.
#[derive(Debug, Clone)]
pub struct Table<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    by_owner: BTreeMap<String, BTreeSet<ObjectKey>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), by_owner: BTreeMap::new() }
    }
}

impl<K: Kind> Table<K> {
    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// Every object, in order of namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// Objects of one namespace.
    pub fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        self.objects
            .range(ObjectKey::new(namespace, "")..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// Objects whose controller has this uid.
    pub fn of_owner(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.by_owner.get(uid).into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// Uids of controllers that own objects here.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.by_owner.keys().map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Puts an object; what was there before.
    pub fn insert(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let key = object.key();
        let before = self.remove(&key);
        if let Some(owner) = owner_of(object.as_ref()) {
            self.by_owner.entry(owner.to_owned()).or_default().insert(key.clone());
        }
        self.objects.insert(key, object);
        before
    }

    /// Takes an object away.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let before = self.objects.remove(key)?;
        if let Some(owner) = owner_of(before.as_ref())
            && let Some(keys) = self.by_owner.get_mut(owner)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(owner);
            }
        }
        Some(before)
    }
}

/// The uid of an object's controller. A chunk of a completion record has no owner reference: it is
/// its job's by its key.
fn owner_of<K: Kind>(object: &K) -> Option<&str> {
    if K::ID == KindId::CompletionChunk {
        return Some(object.namespace());
    }
    object.controller().map(|owner| owner.uid.as_str())
}

macro_rules! snapshot {
    ($($field:ident: $kind:ident),+ $(,)?) => {
        /// Everything watched, as of one revision.
        #[derive(Debug, Clone, Default)]
        #[expect(missing_docs, reason = "each table holds the kind it is named after")]
        pub struct Snapshot {
            $(pub $field: Table<$kind>,)+
            /// The point in history that it shows.
            pub version: ResourceVersion,
        }

        impl Snapshot {
            /// Puts an object; what was there before.
            pub fn insert(&mut self, object: Any) -> Option<Any> {
                match object {
                    $(Any::$kind(object) => self.$field.insert(object).map(Any::$kind),)+
                }
            }

            /// Takes an object away.
            pub fn remove(&mut self, kind: KindId, key: &ObjectKey) -> Option<Any> {
                match kind {
                    $(KindId::$kind => self.$field.remove(key).map(Any::$kind),)+
                }
            }

            /// Every object of every kind.
            pub fn objects(&self) -> impl Iterator<Item = Any> {
                std::iter::empty()$(.chain(self.$field.iter().cloned().map(Any::$kind)))+
            }
        }
    };
}

snapshot!(
    namespaces: Namespace,
    config_maps: ConfigMap,
    secrets: Secret,
    events: Event,
    leases: Lease,
    nodes: Node,
    node_leases: NodeLease,
    partition_sets: PartitionSet,
    workflows: Workflow,
    workflow_runs: WorkflowRun,
    jobs: Job,
    completion_chunks: CompletionChunk,
    task_templates: TaskTemplate,
    tasks: Task,
);

impl Snapshot {
    /// Applies news. What each object was and is goes to `touched`: either may be nothing.
    pub fn apply(&mut self, update: Update, mut touched: impl FnMut(Option<&Any>, Option<&Any>)) {
        match update {
            Update::Reset { objects, version } => {
                let before = std::mem::take(self);
                for object in before.objects() {
                    touched(Some(&object), None);
                }
                for object in objects {
                    touched(None, Some(&object));
                    self.insert(object);
                }
                self.version = version;
            }
            Update::Changes { changes, version } => {
                for change in changes {
                    match change {
                        Change::Upsert(object) => {
                            let before = self.insert(object.clone());
                            touched(before.as_ref(), Some(&object));
                        }
                        Change::Remove(kind, key) => {
                            let before = self.remove(kind, &key);
                            touched(before.as_ref(), None);
                        }
                    }
                }
                self.version = version;
            }
        }
    }
}

/// A snapshot that one task writes and others read.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Guards the snapshot: written by one task for the length of an update, read for the length
    /// of building one view.
    snapshot: Arc<RwLock<Snapshot>>,
    version: watch::Sender<ResourceVersion>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { snapshot: Arc::default(), version: watch::Sender::new(ResourceVersion::default()) }
    }
}

impl Cache {
    /// Reads one cut. Build a view and return it: while this runs, news wait.
    pub fn read<R>(&self, read: impl FnOnce(&Snapshot) -> R) -> R {
        read(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies news: only the task that follows the watch does.
    pub fn apply(&self, update: Update, touched: impl FnMut(Option<&Any>, Option<&Any>)) {
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        snapshot.apply(update, touched);
        self.version.send_replace(snapshot.version);
    }

    /// The point that the cache has reached; 0 before its first list.
    pub fn version(&self) -> ResourceVersion {
        *self.version.borrow()
    }

    /// Waits until the cache has seen everything up to `version`.
    pub async fn reached(&self, version: ResourceVersion) {
        let mut versions = self.version.subscribe();
        // The sender lives in self: this ends only when the version is there.
        let _seen = versions.wait_for(|at| *at >= version).await;
    }
}

#[cfg(test)]
mod tests {
    use api::job::JobSpec;

    use super::*;

    fn job(name: &str, uid: &str, owner: Option<&Job>) -> Any {
        let mut job = Job::new("default", name, JobSpec::default());
        job.metadata.uid = Some(uid.to_owned());
        job.metadata.owner_references = owner.map(|owner| vec![owner.as_controller()]);
        Any::Job(Arc::new(job))
    }

    #[test]
    fn an_owner_index_follows_every_change() {
        let Any::Job(parent) = job("parent", "u1", None) else {
            panic!("a job is a job");
        };
        let mut snapshot = Snapshot::default();
        snapshot.insert(job("child", "u2", Some(&parent)));
        assert_eq!(snapshot.jobs.of_owner("u1").count(), 1);
        snapshot.insert(job("child", "u2", None));
        assert_eq!(snapshot.jobs.of_owner("u1").count(), 0);
        assert_eq!(snapshot.jobs.of_namespace("default").count(), 1);
        assert_eq!(snapshot.jobs.of_namespace("defaul").count(), 0);
    }

    #[test]
    fn a_reset_tells_what_is_gone_and_what_is_there() {
        let mut snapshot = Snapshot::default();
        snapshot.insert(job("old", "u1", None));
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        let update = Update::Reset {
            objects: vec![job("new", "u2", None)],
            version: ResourceVersion::after(3),
        };
        snapshot.apply(update, |before, now| {
            gone.extend(before.map(|object| object.key().name));
            there.extend(now.map(|object| object.key().name));
        });
        assert_eq!((gone, there), (vec!["old".to_owned()], vec!["new".to_owned()]));
        assert_eq!(snapshot.jobs.len(), 1);
    }
}
