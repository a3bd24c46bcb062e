//! Everything that a component watches, as of one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use api::resource_version::ResourceVersion;
use api::{Job, Kind, KindId, ObjectKey, Task};
use tokio::sync::watch;

use crate::any::Any;
use crate::reflector::{Change, Update};

/// Objects of one kind, by key and by the uids of their owners.
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
        self.dependents(uid).filter(move |object| controller_of(object.as_ref()) == Some(uid))
    }

    /// Objects that name this uid among their owners, as their controller or not.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.by_owner.get(uid).into_iter().flatten().filter_map(|key| self.objects.get(key))
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
        for owner in owners_of(object.as_ref()) {
            self.by_owner.entry(owner.to_owned()).or_default().insert(key.clone());
        }
        self.objects.insert(key, object);
        before
    }

    /// Takes an object away.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let before = self.objects.remove(key)?;
        for owner in owners_of(before.as_ref()) {
            let Some(keys) = self.by_owner.get_mut(owner) else { continue };
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
fn controller_of<K: Kind>(object: &K) -> Option<&str> {
    if K::ID == KindId::CompletionChunk {
        return Some(object.namespace());
    }
    object.controller().map(|owner| owner.uid.as_str())
}

/// The uids of all owners of an object. One that is named twice comes twice.
fn owners_of<K: Kind>(object: &K) -> impl Iterator<Item = &str> {
    let chunk = (K::ID == KindId::CompletionChunk).then(|| object.namespace());
    let owners = object.meta().owner_references.iter().flatten();
    chunk.into_iter().chain(owners.map(|owner| owner.uid.as_str()))
}

macro_rules! snapshot {
    ($($kind:ident, $field:ident: $type:ty;)+) => {
        /// Everything watched, as of one revision.
        #[derive(Debug, Clone, Default)]
        #[expect(missing_docs, reason = "each table holds the kind it is named after")]
        pub struct Snapshot {
            $(pub $field: Table<$type>,)+
            /// The point in history that it shows.
            pub version: ResourceVersion,
            /// How many tasks run each template.
            template_users: BTreeMap<ObjectKey, usize>,
            /// Where the job of each uid is: a chunk of its record knows no more of it.
            job_keys: BTreeMap<String, ObjectKey>,
        }

        impl Snapshot {
            /// Puts an object; what was there before.
            pub fn insert(&mut self, object: Any) -> Option<Any> {
                self.count(&object);
                let before = match object {
                    $(Any::$kind(object) => self.$field.insert(object).map(Any::$kind),)+
                };
                before.inspect(|before| self.discount(before))
            }

            /// Takes an object away.
            pub fn remove(&mut self, kind: KindId, key: &ObjectKey) -> Option<Any> {
                let before = match kind {
                    $(KindId::$kind => self.$field.remove(key).map(Any::$kind),)+
                };
                before.inspect(|before| self.discount(before))
            }

            /// One object of any kind.
            pub fn get(&self, kind: KindId, key: &ObjectKey) -> Option<Any> {
                match kind {
                    $(KindId::$kind => self.$field.get(key).cloned().map(Any::$kind),)+
                }
            }

            /// Objects of every kind that name this uid among their owners, as their controller or
            /// not: one look into an index for each kind.
            pub fn dependents(&self, uid: &str) -> impl Iterator<Item = Any> {
                std::iter::empty()
                    $(.chain(self.$field.dependents(uid).cloned().map(Any::$kind)))+
            }

            /// Objects of every kind in a namespace. Chunks of completion records are in none: they
            /// belong to their jobs.
            pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = Any> + 'a {
                std::iter::empty()
                    $(.chain(
                        self.$field
                            .of_namespace(namespace)
                            .filter(|_| KindId::$kind.is_namespaced() && !KindId::$kind.info().internal)
                            .cloned()
                            .map(Any::$kind),
                    ))+
            }

            /// Every object of every kind.
            pub fn objects(&self) -> impl Iterator<Item = Any> {
                std::iter::empty()$(.chain(self.$field.iter().cloned().map(Any::$kind)))+
            }
        }
    };
}

api::every_kind!(snapshot);

impl Snapshot {
    /// How many tasks run a template.
    pub fn template_users(&self, template: &ObjectKey) -> usize {
        self.template_users.get(template).copied().unwrap_or_default()
    }

    /// The job with this uid.
    pub fn job_with_uid(&self, uid: &str) -> Option<&Arc<Job>> {
        self.jobs.get(self.job_keys.get(uid)?).filter(|job| job.uid() == uid)
    }

    /// Enters an object that comes into the indexes that span kinds.
    fn count(&mut self, object: &Any) {
        if let Any::Task(task) = object {
            *self.template_users.entry(template_of(task)).or_default() += 1;
        }
        if let Any::Job(job) = object {
            self.job_keys.insert(job.uid().to_owned(), job.key());
        }
    }

    /// Takes an object that goes out of the indexes that span kinds. The one that replaces it was
    /// entered before.
    fn discount(&mut self, object: &Any) {
        if let Any::Task(task) = object {
            let template = template_of(task);
            if let Some(users) = self.template_users.get_mut(&template) {
                *users -= 1;
                if *users == 0 {
                    self.template_users.remove(&template);
                }
            }
        }
        if let Any::Job(job) = object
            && self.jobs.get(&job.key()).is_none_or(|now| now.uid() != job.uid())
        {
            self.job_keys.remove(job.uid());
        }
    }

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

fn template_of(task: &Task) -> ObjectKey {
    ObjectKey::new(task.namespace(), &*task.spec.template)
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
    use api::task::TaskSpec;

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
    fn every_owner_has_its_dependents_and_the_controller_alone_is_the_owner() {
        let Any::Job(parent) = job("parent", "u1", None) else {
            panic!("a job is a job");
        };
        let mut owner = parent.as_controller();
        owner.controller = None;
        let Any::Job(child) = job("child", "u2", None) else {
            panic!("a job is a job");
        };
        let mut child = child.as_ref().clone();
        child.metadata.owner_references = Some(vec![owner.clone(), owner]);
        let mut snapshot = Snapshot::default();
        snapshot.insert(Any::Job(Arc::new(child)));
        assert_eq!(snapshot.dependents("u1").count(), 1);
        assert_eq!(snapshot.jobs.of_owner("u1").count(), 0);
        snapshot.remove(KindId::Job, &ObjectKey::new("default", "child"));
        assert_eq!(snapshot.dependents("u1").count(), 0);
        assert!(snapshot.jobs.by_owner.is_empty());
    }

    #[test]
    fn indexes_that_span_kinds_follow_every_change() {
        let task = |template: &str| {
            let spec = TaskSpec { template: template.to_owned(), ..TaskSpec::default() };
            Any::Task(Arc::new(Task::new("default", "t", spec)))
        };
        let users = |snapshot: &Snapshot, name: &str| {
            snapshot.template_users(&ObjectKey::new("default", name))
        };
        let mut snapshot = Snapshot::default();
        snapshot.insert(task("a"));
        snapshot.insert(task("a"));
        assert_eq!(users(&snapshot, "a"), 1);
        snapshot.insert(task("b"));
        assert_eq!((users(&snapshot, "a"), users(&snapshot, "b")), (0, 1));
        snapshot.remove(KindId::Task, &ObjectKey::new("default", "t"));
        assert!(snapshot.template_users.is_empty());
        snapshot.insert(job("j", "u1", None));
        snapshot.insert(job("j", "u1", None));
        assert!(snapshot.job_with_uid("u1").is_some());
        snapshot.insert(job("j", "u2", None));
        assert!(snapshot.job_with_uid("u1").is_none() && snapshot.job_with_uid("u2").is_some());
        snapshot.remove(KindId::Job, &ObjectKey::new("default", "j"));
        assert!(snapshot.job_keys.is_empty());
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
