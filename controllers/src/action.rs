//! What controllers do, as types, and the one place that turns it into operations of a batch.
//!
//! Plans return actions and never build JSON. So a plan cannot write more of an object than it
//! names, and tests can compare and print what it writes.

use api::batch::{self, Op, Propagation};
use api::completion::End;
use api::core::Namespace;
use api::object::Kind;
use api::resource_version::ResourceVersion;
use api::size::json_bytes;
use api::task::transition::TaskChange;
use api::task::{Overrides, StopReason};
use api::{
    Job, KindId, Node, ObjectKey, ObjectMeta, PartitionSet, Service, Task, TaskTemplate, Workflow,
    WorkflowRun, labels, names,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;
use serde_json::{Value, json};

/// One thing that a controller does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Creates an object.
    Create(New),
    /// Creates tasks of one template. [`crate::packing`] splits it if it is too large for a group.
    CreateTasks(NewTasks),
    /// Changes single fields of an object.
    Patch(Patch),
    /// Replaces the status of an object.
    Status(Status),
    /// Changes one part of a task: evicts it, gives it another attempt, ...
    Task {
        /// The task.
        task: ObjectRef,
        /// The attempt that this was decided on.
        attempt: u32,
        /// The change.
        change: TaskChange,
    },
    /// Records how tasks of a job ended.
    Record {
        /// The job.
        job: ObjectRef,
        /// The run.
        run: u32,
        /// Indexes, all of one chunk of the completion record, and how they ended.
        ends: Vec<(u32, End)>,
    },
    /// Removes the object of a task that runs nowhere, and is recorded or has lost its owner.
    Remove {
        /// The task.
        task: ObjectRef,
    },
    /// Deletes an object as a person's delete does: owners and finalizers are respected.
    Delete {
        /// Its kind.
        kind: KindId,
        /// The object.
        object: ObjectRef,
        /// What happens to the objects that it owns.
        propagation: Propagation,
        /// The resourceVersion that this was decided on: the object must not have changed since.
        /// `None` if any state will do.
        version: Option<ResourceVersion>,
    },
    /// Removes a namespace that is being deleted and holds nothing any more.
    Emptied {
        /// The namespace.
        namespace: ObjectRef,
    },
}

/// One particular object. A later object with the same name has another uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// The namespace and name.
    pub key: ObjectKey,
    /// The uid.
    pub uid: String,
}

impl ObjectRef {
    /// A reference to this object.
    pub fn of<K: Kind>(object: &K) -> Self {
        Self::of_meta(object.meta())
    }

    /// A reference to the object with this metadata.
    pub fn of_meta(meta: &ObjectMeta) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let key = ObjectKey::new(text(&meta.namespace), text(&meta.name));
        Self { key, uid: text(&meta.uid) }
    }
}

/// Declares an enum with a variant for an object of each of these kinds.
macro_rules! some_kinds {
    ($(#[doc = $doc:literal])+ $name:ident: $($kind:ident),+) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "each variant is the kind it is named after")]
        pub enum $name { $($kind(Box<$kind>),)+ }

        $(impl From<$kind> for $name {
            fn from(object: $kind) -> Self {
                Self::$kind(Box::new(object))
            }
        })+
    };
}

some_kinds! {
    /// A new object. New tasks are in [`NewTasks`].
    New: TaskTemplate, Job, WorkflowRun
}

some_kinds! {
    /// An object with a new status. Only the status is written. Name, uid and resourceVersion say
    /// which object is meant and which state was read; nothing else of it is sent.
    Status: Job, Service, WorkflowRun, Workflow, PartitionSet, Node, Namespace
}

/// New tasks of one template. They differ only in index, name and overrides.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTasks {
    /// A task with everything that they have in common.
    pub alike: Box<Task>,
    /// Index, name and overrides of each task.
    pub each: Vec<NewTask>,
}

/// What distinguishes a new task from the others of its template.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Its index in its owner.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// How it differs from the template.
    pub overrides: Overrides,
}

impl NewTasks {
    /// The tasks as objects.
    pub fn objects(&self) -> impl Iterator<Item = Task> {
        self.each.iter().map(|own| self.object(own))
    }

    fn object(&self, own: &NewTask) -> Task {
        let mut task = Task::clone(&self.alike);
        task.metadata.name = Some(own.name.clone());
        task.spec.index = own.index;
        task.spec.overrides = own.overrides.clone();
        task
    }

    /// Adds the operations that create them: one for all tasks that differ only in the index and in
    /// the name that follows from it, and one for each other task.
    fn write(&self, ops: &mut Vec<Op>) {
        let owner = self.alike.controller().map(|owner| owner.name.as_str());
        let is_plain = |task: &NewTask| {
            let name = owner.map(|owner| names::task(owner, &task.index.to_string()));
            task.overrides.is_empty() && name.as_ref() == Some(&task.name)
        };
        let (plain, own): (Vec<&NewTask>, Vec<&NewTask>) =
            self.each.iter().partition(|task| is_plain(task));
        if let Some(first) = plain.first() {
            let indexes = plain.iter().map(|task| task.index).collect();
            ops.push(Op::create_tasks(&self.object(first), indexes));
        }
        ops.extend(own.into_iter().map(|own| Op::create(&self.object(own))));
    }

    /// Keeps the first `count` tasks, and returns the others.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> Self {
        let each = self.each.split_off(count.min(self.each.len()));
        Self { alike: self.alike.clone(), each }
    }
}

/// New values of single fields of an object. The object must not have changed since it was read. No
/// other field is sent, so that controllers never become the owner of fields that users write.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The kind of the object.
    pub kind: KindId,
    /// The object.
    pub object: ObjectRef,
    /// The resourceVersion of the state that this was decided on.
    pub version: String,
    /// The fields.
    pub fields: Vec<Field>,
}

/// A field and its new value.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// `spec.cancel`.
    Cancel(bool),
    /// `spec.cancelReason`.
    CancelReason(String),
    /// `spec.suspend`. False removes the field, which means the same.
    Suspend(bool),
    /// `metadata.ownerReferences`.
    OwnerReferences(Vec<OwnerReference>),
    /// `metadata.finalizers`.
    Finalizers(Vec<String>),
    /// One of `metadata.annotations`.
    Annotation(&'static str, String),
}

impl Patch {
    /// Cancels a job.
    pub fn cancel(job: &Job, reason: &str) -> Self {
        let reason = Field::CancelReason(reason.to_owned());
        Self::of(KindId::Job, &job.metadata, vec![Field::Cancel(true), reason])
    }

    /// Suspends or resumes a job.
    pub fn suspend(job: &Job, suspend: bool) -> Self {
        Self::of(KindId::Job, &job.metadata, vec![Field::Suspend(suspend)])
    }

    /// Gives an object other owners.
    pub fn owner_references(kind: KindId, meta: &ObjectMeta, owners: Vec<OwnerReference>) -> Self {
        Self::of(kind, meta, vec![Field::OwnerReferences(owners)])
    }

    /// Gives an object other finalizers.
    pub fn finalizers(kind: KindId, meta: &ObjectMeta, finalizers: Vec<String>) -> Self {
        Self::of(kind, meta, vec![Field::Finalizers(finalizers)])
    }

    /// Says for people what the deletion of an object waits for.
    pub fn deletion_waits_for(kind: KindId, meta: &ObjectMeta, what: String) -> Self {
        Self::of(kind, meta, vec![Field::Annotation(labels::DELETION_WAITS_FOR, what)])
    }

    /// Also sets an annotation.
    #[must_use]
    pub fn and_annotation(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push(Field::Annotation(name, value.to_owned()));
        self
    }

    fn of(kind: KindId, meta: &ObjectMeta, fields: Vec<Field>) -> Self {
        let version = meta.resource_version.clone().unwrap_or_default();
        Self { kind, object: ObjectRef::of_meta(meta), version, fields }
    }

    /// Its size in bytes as JSON.
    pub(crate) fn bytes(&self) -> usize {
        json_bytes(&self.document())
    }

    fn document(&self) -> Value {
        let mut document =
            json!({ "metadata": { "uid": self.object.uid, "resourceVersion": self.version } });
        for field in &self.fields {
            match field {
                Field::Cancel(cancel) => document["spec"]["cancel"] = json!(cancel),
                Field::CancelReason(why) => document["spec"]["cancelReason"] = json!(why),
                Field::Suspend(suspend) => {
                    document["spec"]["suspend"] = json!(suspend.then_some(true));
                }
                Field::OwnerReferences(owners) => {
                    document["metadata"]["ownerReferences"] = json!(owners);
                }
                Field::Finalizers(finalizers) => {
                    document["metadata"]["finalizers"] = json!(finalizers);
                }
                Field::Annotation(name, value) => {
                    document["metadata"]["annotations"][*name] = json!(value);
                }
            }
        }
        document
    }
}

impl New {
    /// The kind of the object, and its name.
    fn identity(&self) -> (KindId, &str) {
        match self {
            New::TaskTemplate(it) => (KindId::TaskTemplate, it.name()),
            New::Job(it) => (KindId::Job, it.name()),
            New::WorkflowRun(it) => (KindId::WorkflowRun, it.name()),
        }
    }

    fn document(&self) -> Value {
        match self {
            New::TaskTemplate(it) => json!(it),
            New::Job(it) => json!(it),
            New::WorkflowRun(it) => json!(it),
        }
    }
}

impl Status {
    fn document(&self) -> Value {
        match self {
            Status::Job(it) => status_of(&**it, &it.status),
            Status::Service(it) => status_of(&**it, &it.status),
            Status::WorkflowRun(it) => status_of(&**it, &it.status),
            Status::Workflow(it) => status_of(&**it, &it.status),
            Status::PartitionSet(it) => status_of(&**it, &it.status),
            Status::Node(it) => status_of(&**it, &it.status),
            Status::Namespace(it) => status_of(&**it, &it.status),
        }
    }
}

/// The document of a status operation: which object is meant, which state was read, and the status.
fn status_of<K: Kind>(object: &K, status: &impl Serialize) -> Value {
    json!({
        "apiVersion": K::ID.api_version(),
        "kind": K::ID.info().kind,
        "metadata": {
            "name": object.name(),
            "namespace": object.namespace(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
        },
        "status": status,
    })
}

impl Action {
    /// Creates an object.
    pub fn create(object: impl Into<New>) -> Self {
        Action::Create(object.into())
    }

    /// Replaces the status of an object by the one that it has here.
    pub fn status(object: impl Into<Status>) -> Self {
        Action::Status(object.into())
    }

    /// Changes one part of a task, decided on its current attempt.
    pub fn task(task: &Task, change: TaskChange) -> Self {
        Action::Task { task: ObjectRef::of(task), attempt: task.spec.attempt, change }
    }

    /// Stops a task's current attempt.
    pub fn evict(task: &Task, reason: StopReason, message: Option<String>) -> Self {
        Self::task(task, TaskChange::Evict { reason, message })
    }

    /// Removes a task's object.
    pub fn remove(task: &Task) -> Self {
        Action::Remove { task: ObjectRef::of(task) }
    }

    /// Deletes an object in any state, and afterwards the objects that it owns.
    pub fn delete<K: Kind>(object: &K) -> Self {
        let (kind, object) = (K::ID, ObjectRef::of(object));
        Action::Delete { kind, object, propagation: Propagation::Background, version: None }
    }

    /// The number of operations of a batch that it counts as.
    pub(crate) fn ops(&self) -> usize {
        match self {
            Action::CreateTasks(tasks) => tasks.each.len(),
            Action::Create(_)
            | Action::Patch(_)
            | Action::Status(_)
            | Action::Task { .. }
            | Action::Record { .. }
            | Action::Remove { .. }
            | Action::Delete { .. }
            | Action::Emptied { .. } => 1,
        }
    }

    /// Adds its operations to those of a group.
    fn write(&self, ops: &mut Vec<Op>) {
        ops.push(match self {
            Action::CreateTasks(tasks) => return tasks.write(ops),
            Action::Create(New::Job(job)) if job.status.run > 0 => {
                Op::CreateWithStatus { object: json!(job) }
            }
            Action::Create(new) => Op::Create { object: new.document() },
            Action::Status(status) => Op::Status { object: status.document() },
            Action::Patch(patch) => Op::Patch {
                kind: patch.kind.info().plural.to_owned(),
                key: patch.object.key.clone(),
                patch: patch.document(),
            },
            Action::Task { task: ObjectRef { key, uid }, attempt, change } => Op::Task {
                key: key.clone(),
                uid: uid.clone(),
                attempt: *attempt,
                change: change.clone(),
            },
            Action::Record { job: ObjectRef { key, uid }, run, ends } => {
                Op::Record { job: key.clone(), uid: uid.clone(), run: *run, ends: ends.clone() }
            }
            Action::Remove { task: ObjectRef { key, uid } } => {
                Op::Remove { key: key.clone(), uid: uid.clone() }
            }
            Action::Delete { kind, object: ObjectRef { key, uid }, propagation, version } => {
                Op::Delete {
                    kind: kind.info().plural.to_owned(),
                    key: key.clone(),
                    uid: uid.clone(),
                    propagation: *propagation,
                    version: *version,
                }
            }
            Action::Emptied { namespace: ObjectRef { key, uid } } => {
                Op::Emptied { key: key.clone(), uid: uid.clone() }
            }
        });
    }
}

/// Actions that happen together or not at all: one transaction of the store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// In order; no object twice.
    pub actions: Vec<Action>,
}

impl From<Action> for Group {
    fn from(action: Action) -> Self {
        Self { actions: vec![action] }
    }
}

impl Group {
    /// The number of operations of a batch that it counts as.
    pub(crate) fn ops(&self) -> usize {
        self.actions.iter().map(Action::ops).sum()
    }

    /// The group as operations of a batch.
    pub(crate) fn to_batch(&self) -> batch::Group {
        let mut ops = Vec::with_capacity(self.ops());
        self.actions.iter().for_each(|action| action.write(&mut ops));
        batch::Group { ops }
    }
}

/// The names of the objects of a kind that groups create.
pub(crate) fn created(groups: &[Group], kind: KindId) -> Vec<&str> {
    let mut names = Vec::new();
    for action in groups.iter().flat_map(|group| &group.actions) {
        match action {
            Action::Create(new) if new.identity().0 == kind => names.push(new.identity().1),
            Action::CreateTasks(tasks) if kind == KindId::Task => {
                names.extend(tasks.each.iter().map(|task| task.name.as_str()));
            }
            Action::Create(_)
            | Action::CreateTasks(_)
            | Action::Patch(_)
            | Action::Status(_)
            | Action::Task { .. }
            | Action::Record { .. }
            | Action::Remove { .. }
            | Action::Delete { .. }
            | Action::Emptied { .. } => (),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use api::job::JobSpec;
    use api::labels;
    use api::task::TaskSpec;
    use expect_test::expect;

    use super::*;

    fn job() -> Job {
        let spec = JobSpec { count: Some(3), ..JobSpec::default() };
        let mut job = Job::new("default", "j", spec);
        job.metadata.uid = Some("job-uid".to_owned());
        job.metadata.resource_version = Some("7".to_owned());
        job.status.total = 3;
        job
    }

    fn task() -> Task {
        let spec = TaskSpec { count: 2, run: 1, attempt: 1, ..TaskSpec::default() };
        let mut task = Task::new("default", "j-0", spec);
        task.metadata.uid = Some("task-uid".to_owned());
        task
    }

    /// Each action on a line, as a batch carries it.
    fn written(actions: Vec<Action>) -> String {
        let ops = Group { actions }.to_batch().ops;
        ops.iter().map(|op| serde_json::to_string(op).unwrap() + "\n").collect()
    }

    /// Field ownership will go by what a write names: cancelling or suspending a job must not name
    /// the rest of its spec, nor a status the spec.
    #[test]
    fn a_patch_names_the_fields_that_it_sets_and_a_status_no_spec() {
        let job = job();
        let owners = vec![job.as_controller()];
        let meta = &job.metadata;
        let orphan = Patch::owner_references(KindId::TaskTemplate, meta, Vec::new());
        expect![[r#"
            {"patch":{"kind":"jobs","key":{"namespace":"default","name":"j"},"patch":{"metadata":{"uid":"job-uid","resourceVersion":"7"},"spec":{"cancel":true,"cancelReason":"the run was cancelled"}}}}
            {"patch":{"kind":"jobs","key":{"namespace":"default","name":"j"},"patch":{"metadata":{"uid":"job-uid","resourceVersion":"7"},"spec":{"suspend":true}}}}
            {"patch":{"kind":"jobs","key":{"namespace":"default","name":"j"},"patch":{"metadata":{"uid":"job-uid","resourceVersion":"7"},"spec":{"suspend":null}}}}
            {"patch":{"kind":"jobs","key":{"namespace":"default","name":"j"},"patch":{"metadata":{"uid":"job-uid","resourceVersion":"7","ownerReferences":[{"apiVersion":"heliox.dev/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"j","uid":"job-uid"}]}}}}
            {"patch":{"kind":"tasktemplates","key":{"namespace":"default","name":"j"},"patch":{"metadata":{"uid":"job-uid","resourceVersion":"7","ownerReferences":[],"annotations":{"heliox.dev/orphaned":"true"}}}}}
            {"patch":{"kind":"jobs","key":{"namespace":"default","name":"j"},"patch":{"metadata":{"uid":"job-uid","resourceVersion":"7","finalizers":["a"]}}}}
            {"status":{"object":{"apiVersion":"heliox.dev/v1","kind":"Job","metadata":{"name":"j","namespace":"default","uid":"job-uid","resourceVersion":"7"},"status":{"phase":"Pending","observedGeneration":0,"run":0,"total":3,"pending":0,"active":0,"succeeded":0,"failed":0,"cancelled":0,"retries":0}}}}
        "#]]
        .assert_eq(&written(vec![
            Action::Patch(Patch::cancel(&job, "the run was cancelled")),
            Action::Patch(Patch::suspend(&job, true)),
            Action::Patch(Patch::suspend(&job, false)),
            Action::Patch(Patch::owner_references(KindId::Job, meta, owners)),
            Action::Patch(orphan.and_annotation(labels::ORPHANED, "true")),
            Action::Patch(Patch::finalizers(KindId::Job, meta, vec!["a".to_owned()])),
            Action::status(job.clone()),
        ]));
    }

    #[test]
    fn new_tasks_are_alike_but_for_what_is_their_own() {
        let (mut alike, job) = (task(), job());
        alike.metadata.uid = None;
        let own = |index: u32, partition: Option<&str>| NewTask {
            index,
            name: format!("j-{index}"),
            overrides: Overrides {
                partition: partition.map(str::to_owned),
                ..Overrides::default()
            },
        };
        alike.metadata.owner_references = Some(vec![job.as_controller()]);
        let mut listed = own(8, None);
        listed.name = "j-eight".to_owned();
        let mut tasks = NewTasks {
            alike: Box::new(alike),
            each: vec![own(3, None), own(5, Some("p")), own(4, None), listed, own(6, None)],
        };
        let rest = tasks.split_off(4);
        assert_eq!((tasks.each.len(), rest.each.len()), (4, 1));
        let groups = [Action::create(job), Action::CreateTasks(tasks)].map(Group::from);
        assert_eq!(created(&groups, KindId::Job), ["j"]);
        assert_eq!(created(&groups, KindId::Task), ["j-3", "j-5", "j-4", "j-eight"]);
        assert_eq!(groups[1].ops(), 4);
        expect![[r#"
            {"createTasks":{"task":{"apiVersion":"heliox.dev/v1","kind":"Task","metadata":{"name":"j-3","namespace":"default","ownerReferences":[{"apiVersion":"heliox.dev/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"j","uid":"job-uid"}]},"spec":{"template":"","index":3,"count":2,"run":1,"attempt":1}},"indexes":[[3,2]]}}
            {"create":{"object":{"apiVersion":"heliox.dev/v1","kind":"Task","metadata":{"name":"j-5","namespace":"default","ownerReferences":[{"apiVersion":"heliox.dev/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"j","uid":"job-uid"}]},"spec":{"template":"","overrides":{"partition":"p"},"index":5,"count":2,"run":1,"attempt":1}}}}
            {"create":{"object":{"apiVersion":"heliox.dev/v1","kind":"Task","metadata":{"name":"j-eight","namespace":"default","ownerReferences":[{"apiVersion":"heliox.dev/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"j","uid":"job-uid"}]},"spec":{"template":"","index":8,"count":2,"run":1,"attempt":1}}}}
        "#]].assert_eq(&written(groups[1].actions.clone()));
    }

    #[test]
    fn what_is_done_to_an_object_names_which_one_is_meant() {
        let (task, job) = (task(), job());
        let ends = vec![(0, End::Succeeded)];
        let namespace = ObjectRef { key: ObjectKey::new("", "n"), uid: "n-uid".to_owned() };
        expect![[r#"
            {"task":{"key":{"namespace":"default","name":"j-0"},"uid":"task-uid","attempt":1,"change":{"evict":{"reason":"Cancel","message":"why"}}}}
            {"task":{"key":{"namespace":"default","name":"j-0"},"uid":"task-uid","attempt":1,"change":"record"}}
            {"record":{"job":{"namespace":"default","name":"j"},"uid":"job-uid","run":1,"ends":[[0,"Succeeded"]]}}
            {"remove":{"key":{"namespace":"default","name":"j-0"},"uid":"task-uid"}}
            {"delete":{"kind":"jobs","key":{"namespace":"default","name":"j"},"uid":"job-uid"}}
            {"emptied":{"key":{"name":"n"},"uid":"n-uid"}}
        "#]].assert_eq(&written(vec![
            Action::evict(&task, StopReason::Cancel, Some("why".to_owned())),
            Action::task(&task, TaskChange::Record),
            Action::Record { job: ObjectRef::of(&job), run: 1, ends },
            Action::remove(&task),
            Action::delete(&job),
            Action::Emptied { namespace },
        ]));
    }
}
