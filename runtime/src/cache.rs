//! All objects that a component watches, as of one revision.

use std::sync::{Arc, PoisonError, RwLock};

use api::resource_version::ResourceVersion;
use api::{Job, Kind as _, KindId, ObjectKey, PartitionSet, Service, Task, WorkflowRun};
use tokio::sync::watch;

use crate::any::Any;
use crate::reflector::{Change, Update};
use crate::relations::Relations;
use crate::table::Table;

macro_rules! snapshot {
    ($($kind:ident, $field:ident: $type:ty;)+) => {
        /// All watched objects, as of one revision.
        #[derive(Debug, Clone, Default)]
        #[expect(missing_docs, reason = "each table holds the kind it is named after")]
        pub struct Snapshot {
            $(pub $field: Table<$type>,)+
            /// The resource version that it shows.
            pub version: ResourceVersion,
            relations: Relations,
        }

        impl Snapshot {
            /// Adds or replaces an object, and returns the old one.
            pub fn insert(&mut self, object: Any) -> Option<Any> {
                let before = match object.clone() {
                    $(Any::$kind(object) => self.$field.insert(object).map(Any::$kind),)+
                };
                before.iter().for_each(|before| self.relations.leave(before));
                self.relations.enter(&object);
                before
            }

            /// Removes an object.
            pub fn remove(&mut self, kind: KindId, key: &ObjectKey) -> Option<Any> {
                let before = match kind {
                    $(KindId::$kind => self.$field.remove(key).map(Any::$kind),)+
                };
                before.inspect(|before| self.relations.leave(before))
            }

            /// Looks up an object of any kind.
            pub fn get(&self, kind: KindId, key: &ObjectKey) -> Option<Any> {
                match kind {
                    $(KindId::$kind => self.$field.get(key).cloned().map(Any::$kind),)+
                }
            }

            /// The objects of every kind that have this uid among their owner references, as their
            /// controller or not. Takes one look-up in an index for each kind.
            pub fn dependents(&self, uid: &str) -> impl Iterator<Item = Any> {
                std::iter::empty()
                    $(.chain(self.$field.dependents(uid).cloned().map(Any::$kind)))+
            }

            /// Those of the dependents that are not about to go away: see
            /// [`Table::staying_dependents`].
            pub fn staying_dependents(&self, uid: &str) -> impl Iterator<Item = Any> {
                std::iter::empty()
                    $(.chain(self.$field.staying_dependents(uid).cloned().map(Any::$kind)))+
            }

            /// The number of dependents that have to be gone before the object with this uid can be
            /// deleted in the foreground.
            pub fn blocking_dependents(&self, uid: &str) -> usize {
                0 $(+ self.$field.blocking_dependents(uid))+
            }

            /// The objects of every kind in a namespace. Chunks of completion records are in no
            /// namespace: they belong to their jobs.
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
    /// The number of tasks that use a template.
    pub fn template_users(&self, template: &ObjectKey) -> usize {
        self.relations.template_users.get(template).copied().unwrap_or_default()
    }

    /// Whether the owner with this uid has tasks of a run.
    pub fn has_tasks_of_run(&self, uid: &str, run: u32) -> bool {
        self.relations.tasks_of_runs.get(uid).is_some_and(|runs| runs.contains_key(&run))
    }

    /// The job with this uid.
    pub fn job_with_uid(&self, uid: &str) -> Option<&Arc<Job>> {
        self.jobs.get(self.relations.job_keys.get(uid)?).filter(|job| job.uid() == uid)
    }

    /// The tasks that are bound to a node and are not known to have ended.
    pub fn tasks_on(&self, node: &str) -> impl Iterator<Item = &Arc<Task>> {
        self.relations.tasks_on.get(node).into_iter().flat_map(|tasks| tasks.iter())
    }

    /// The names of the nodes that have such tasks, including nodes that do not exist.
    pub fn nodes_with_tasks(&self) -> impl Iterator<Item = &str> {
        self.relations.tasks_on.keys().map(String::as_str)
    }

    /// The tasks that have not ended and whose node was declared lost.
    pub fn lost_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.relations.lost_tasks.iter()
    }

    /// The jobs that target a partition set, which need not exist.
    pub fn jobs_targeting(&self, set: &ObjectKey) -> impl Iterator<Item = &Arc<Job>> {
        self.relations.jobs_targeting.get(set).into_iter().flat_map(|jobs| jobs.iter())
    }

    /// The services that have one task on each node.
    pub fn services_per_node(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.relations.services_per_node.iter()
    }

    /// The runs of a workflow, which need not exist.
    pub fn runs_of_workflow(
        &self,
        workflow: &ObjectKey,
    ) -> impl Iterator<Item = &Arc<WorkflowRun>> {
        self.relations.runs_of_workflow.get(workflow).into_iter().flat_map(|runs| runs.iter())
    }

    /// The partition sets whose assignment names a node, which need not exist.
    pub fn sets_naming(&self, node: &str) -> impl Iterator<Item = &Arc<PartitionSet>> {
        self.relations.sets_naming.get(node).into_iter().flat_map(|sets| sets.iter())
    }

    #[cfg(test)]
    pub(crate) fn relations_are_empty(&self) -> bool {
        self.relations == Relations::default()
    }

    /// Applies an update. `touched` is called for each object with its old and its new state,
    /// either of which may be `None`. An object that was replaced by another one of the same name
    /// counts as removed and added.
    /// After a reset, every object counts as new, so that everything is looked at again. This finds
    /// whatever was missed while the history was lost.
    pub fn apply(
        &mut self,
        update: Update,
        mut touched: impl FnMut(Option<&Any>, Option<&Any>, &Self),
    ) {
        match update {
            Update::Reset { objects, version } => {
                let mut next = Self { version, ..Self::default() };
                for object in objects {
                    next.insert(object);
                }
                let before = std::mem::replace(self, next);
                for object in before.objects() {
                    let now = self.get(object.kind(), &object.key());
                    if now.is_none_or(|now| now.meta().uid != object.meta().uid) {
                        touched(Some(&object), None, self);
                    }
                }
                for object in self.objects() {
                    touched(None, Some(&object), self);
                }
            }
            Update::Changes { changes, version } => {
                for change in changes {
                    match change {
                        Change::Upsert(object) => {
                            let before = self.insert(object.clone());
                            let is_same = |before: &&Any| before.meta().uid == object.meta().uid;
                            let same = before.as_ref().filter(is_same);
                            if same.is_none() && before.is_some() {
                                touched(before.as_ref(), None, self);
                            }
                            touched(same, Some(&object), self);
                        }
                        Change::Remove(kind, key) => {
                            let before = self.remove(kind, &key);
                            touched(before.as_ref(), None, self);
                        }
                    }
                }
                self.version = version;
            }
        }
    }
}

/// A snapshot that one task updates and others read.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Guards the snapshot. Locked by one task while an update is applied, and by others while they
    /// build a view.
    snapshot: Arc<RwLock<Snapshot>>,
    version: watch::Sender<ResourceVersion>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { snapshot: Arc::default(), version: watch::Sender::new(ResourceVersion::default()) }
    }
}

impl Cache {
    /// Reads one consistent state. Build a view and return it: updates wait until this returns.
    pub fn read<R>(&self, read: impl FnOnce(&Snapshot) -> R) -> R {
        read(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies an update. Only the task that follows the watch may call this. `touched` runs while
    /// the cache is locked: it must use the snapshot that it is given, and not this cache.
    pub fn apply(
        &self,
        update: Update,
        touched: impl FnMut(Option<&Any>, Option<&Any>, &Snapshot),
    ) {
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        snapshot.apply(update, touched);
        self.version.send_replace(snapshot.version);
    }

    /// The version that the cache has reached; 0 before the first list.
    pub fn version(&self) -> ResourceVersion {
        *self.version.borrow()
    }

    /// Waits until the cache has everything up to `version`.
    pub async fn reached(&self, version: ResourceVersion) {
        let mut versions = self.version.subscribe();
        // `self` owns the sender, so the wait can only end when the version is reached.
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
        assert!(snapshot.jobs.is_unowned());
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
        assert!(snapshot.relations.template_users.is_empty());
        snapshot.insert(job("j", "u1", None));
        snapshot.insert(job("j", "u1", None));
        assert!(snapshot.job_with_uid("u1").is_some());
        snapshot.insert(job("j", "u2", None));
        assert!(snapshot.job_with_uid("u1").is_none() && snapshot.job_with_uid("u2").is_some());
        snapshot.remove(KindId::Job, &ObjectKey::new("default", "j"));
        assert!(snapshot.relations.job_keys.is_empty());
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
        snapshot.apply(update, |before, now, _| {
            gone.extend(before.map(|object| object.key().name));
            there.extend(now.map(|object| object.key().name));
        });
        assert_eq!((gone, there), (vec!["old".to_owned()], vec!["new".to_owned()]));
        assert_eq!(snapshot.jobs.len(), 1);
    }
}
