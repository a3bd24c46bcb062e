//! Nodes and tasks as of one revision, with the promises: bindings that were decided and that the
//! cache does not show yet.
//!
//! # Invariants
//!
//! * The snapshot is a function of the latest objects and the open promises, whatever the order in
//!   which they came: one that is kept up to date by changes equals one that is built anew.
//! * What a node has taken is the sum over tasks that hold resources there
//!   ([`Task::takes_resources_on`]), open promises, and the node's leftovers. Nothing else.
//! * A promise ends when the cache shows its result (the attempt is bound, stopped, over or gone),
//!   or when [`Snapshot::put_back`] says that the binding was refused.

pub(crate) mod job;
pub(crate) mod node;
mod queue;
pub(crate) mod queued;
pub(crate) mod set;
pub(crate) mod shapes;
pub(crate) mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::object::ObjectKey;
use api::partition_set::PartitionSet;
use api::{Kind as _, KindId, Node, Task, TaskTemplate, Timestamp};

use crate::class::{Blocked, Class, ClassId, ClassKey, Facts, JobKey, Shape};
use crate::plan::indexes::{IndexOf, Indexes};
use crate::resources::Resources;
use crate::slab::Slab;

pub(crate) use job::Jobs;
pub(crate) use node::{Improvement, Nodes};
pub(crate) use queue::Waiting;
pub(crate) use queued::TaskId;
pub(crate) use set::SetState;
pub(crate) use shapes::Shapes;
pub(crate) use task::{TaskEntry, TaskUse};

/// A change that a watch reported.
#[derive(Debug, Clone)]
pub enum Change {
    /// A node was added or changed.
    Node(Arc<Node>),
    /// A node was deleted.
    NodeGone(String),
    /// A task was added or changed.
    Task(Arc<Task>),
    /// A task was deleted.
    TaskGone(ObjectKey),
    /// A template was added.
    TaskTemplate(Arc<TaskTemplate>),
    /// A template was deleted.
    TaskTemplateGone(ObjectKey),
    /// A partition set was added or changed.
    PartitionSet(Arc<PartitionSet>),
    /// A partition set was deleted.
    PartitionSetGone(ObjectKey),
}

/// A template, and the tasks that run it.
#[derive(Debug, Default)]
struct TemplateState {
    /// Kept while tasks run it, even after it was deleted: they hold the resources that it says.
    object: Option<Arc<TaskTemplate>>,
    gone: bool,
    tasks: BTreeSet<TaskId>,
}

/// Nodes and tasks as of one revision, with open promises.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(crate) nodes: Nodes,
    pub(crate) tasks: Slab<TaskEntry>,
    task_ids: BTreeMap<Arc<ObjectKey>, TaskId>,
    templates: BTreeMap<ObjectKey, TemplateState>,
    pub(crate) sets: BTreeMap<ObjectKey, SetState>,
    pub(crate) jobs: Jobs,
    pub(crate) classes: Slab<Class>,
    class_ids: BTreeMap<ClassKey, ClassId>,
    pub(crate) shapes: Shapes,
    /// The nodes that fit each class, as far as computed.
    pub(crate) indexes: Indexes,
    pub(crate) waiting: Waiting,
    resources: Resources,
}

impl Snapshot {
    /// An empty snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Node(node) => self.nodes.upsert(node, &mut self.resources),
            Change::NodeGone(name) => self.nodes.remove(&name, &mut self.resources),
            Change::Task(task) => self.upsert_task(task),
            Change::TaskGone(key) => self.remove_task(&key),
            Change::TaskTemplate(template) => self.upsert_template(template),
            Change::TaskTemplateGone(key) => self.remove_template(&key),
            Change::PartitionSet(set) => self.set_partition_set(set.key(), Some(set)),
            Change::PartitionSetGone(key) => self.set_partition_set(key, None),
        }
    }

    /// Applies a complete list: objects that are not in it are removed. Open promises stay.
    pub fn reset(&mut self, changes: Vec<Change>) {
        let (mut nodes, mut others) = (BTreeSet::new(), BTreeSet::new());
        for change in &changes {
            let _is_new = match change {
                Change::Node(node) => nodes.insert(node.name().to_owned()),
                Change::Task(task) => others.insert((KindId::Task, task.key())),
                Change::TaskTemplate(template) => {
                    others.insert((KindId::TaskTemplate, template.key()))
                }
                Change::PartitionSet(set) => others.insert((KindId::PartitionSet, set.key())),
                Change::NodeGone(_)
                | Change::TaskGone(_)
                | Change::TaskTemplateGone(_)
                | Change::PartitionSetGone(_) => false,
            };
        }
        let is_gone = |kind, key: &ObjectKey| !others.contains(&(kind, key.clone()));
        let tasks = self.task_ids.keys().filter(|key| is_gone(KindId::Task, key));
        let tasks = tasks.map(|key| Change::TaskGone(ObjectKey::clone(key)));
        let templates = self.templates.keys().filter(|key| is_gone(KindId::TaskTemplate, key));
        let templates = templates.map(|key| Change::TaskTemplateGone(key.clone()));
        let sets = self.sets.keys().filter(|key| is_gone(KindId::PartitionSet, key));
        let sets = sets.map(|key| Change::PartitionSetGone(key.clone()));
        let known = self.nodes.iter().map(|(_, node)| node.name.to_string());
        let nodes = known.filter(|name| !nodes.contains(name)).map(Change::NodeGone);
        let gone: Vec<Change> = tasks.chain(templates).chain(sets).chain(nodes).collect();
        for change in gone.into_iter().chain(changes) {
            self.apply(change);
        }
    }

    /// A binding was refused: its promise ends, and the task waits again until `retry_at`, or until
    /// the cache shows that the task has changed.
    pub fn put_back(&mut self, key: &ObjectKey, attempt: u32, retry_at: Timestamp) {
        let Some(&id) = self.task_ids.get(key) else { return };
        let entry = self.tasks.at_mut(id.0);
        if entry.end_promise_of(attempt) {
            entry.held_until = Some(retry_at);
            self.settle(id);
        }
    }

    /// Number of tasks that wait for a node.
    pub fn pending(&self) -> usize {
        self.waiting.pending
    }

    /// Number of classes with waiting tasks that fit no node.
    pub fn parked(&self) -> usize {
        self.waiting.parked.len()
    }

    /// The waiting tasks of a class, in the order in which they are placed.
    pub fn waiting_tasks(&self, class: ClassId) -> impl Iterator<Item = &Arc<Task>> {
        let queue = self.classes.get(class.0).map(|class| class.queue.iter());
        queue.into_iter().flatten().map(|queued| &self.tasks.at(queued.task.0).object)
    }

    fn upsert_task(&mut self, task: Arc<Task>) {
        let key = task.key();
        let id = self.task_ids.get(&key).copied();
        if let Some(id) = id {
            let entry = self.tasks.at_mut(id.0);
            let same_class = entry.is_same_class_with(&task);
            entry.replace(task);
            if !same_class {
                self.reclassify(id);
            }
            self.settle(id);
            return;
        }
        let class_key = ClassKey::of(&task);
        let key = Arc::new(key);
        let entry = TaskEntry::new(Arc::clone(&key), task);
        let id = TaskId(self.tasks.insert(entry));
        self.task_ids.insert(key, id);
        self.templates.entry(class_key.template.clone()).or_default().tasks.insert(id);
        self.tasks.at_mut(id.0).class = Some(self.acquire_class(class_key, id));
        self.settle(id);
    }

    fn remove_task(&mut self, key: &ObjectKey) {
        let Some(id) = self.task_ids.remove(key) else { return };
        self.set_use(id, TaskUse::Idle);
        if let Some(class) = self.tasks.at(id.0).class {
            let template = self.classes.at(class.0).facts.key.template.clone();
            self.forget_template_of(&template, id);
            self.release_class(class);
        }
        self.tasks.remove(id.0);
    }

    fn upsert_template(&mut self, template: Arc<TaskTemplate>) {
        let state = self.templates.entry(template.key()).or_default();
        let same = state.object.as_ref().is_some_and(|old| old.spec == template.spec);
        let known = same && !state.gone;
        state.object = Some(template);
        state.gone = false;
        if !known {
            let tasks = state.tasks.clone();
            self.reclassify_all(&tasks);
        }
    }

    fn remove_template(&mut self, key: &ObjectKey) {
        let Some(state) = self.templates.get_mut(key) else { return };
        if state.tasks.is_empty() {
            self.templates.remove(key);
        } else {
            state.gone = true;
            let tasks = state.tasks.clone();
            self.reclassify_all(&tasks);
        }
    }

    /// Computes the classes of these tasks again, because their template has changed.
    fn reclassify_all(&mut self, tasks: &BTreeSet<TaskId>) {
        // Release all tasks before adding any again: a class that kept one user would survive with
        // the old template.
        for id in tasks {
            self.set_use(*id, TaskUse::Idle);
            if let Some(class) = self.tasks.at_mut(id.0).class.take() {
                self.release_class(class);
            }
        }
        for id in tasks {
            let key = ClassKey::of(&self.tasks.at(id.0).object);
            self.tasks.at_mut(id.0).class = Some(self.acquire_class(key, *id));
            self.settle(*id);
        }
    }

    /// Moves a task whose overrides or template changed to its new class.
    fn reclassify(&mut self, id: TaskId) {
        self.set_use(id, TaskUse::Idle);
        let key = ClassKey::of(&self.tasks.at(id.0).object);
        let template = key.template.clone();
        self.templates.entry(template.clone()).or_default().tasks.insert(id);
        let class = self.acquire_class(key, id);
        if let Some(old) = self.tasks.at_mut(id.0).class.replace(class) {
            let old_template = self.classes.at(old.0).facts.key.template.clone();
            if old_template != template {
                self.forget_template_of(&old_template, id);
            }
            self.release_class(old);
        }
    }

    fn forget_template_of(&mut self, key: &ObjectKey, id: TaskId) {
        let Some(state) = self.templates.get_mut(key) else { return };
        state.tasks.remove(&id);
        if state.tasks.is_empty() && (state.gone || state.object.is_none()) {
            self.templates.remove(key);
        }
    }

    /// The class of a key, with one more task. It is created from that task if it does not exist.
    fn acquire_class(&mut self, key: ClassKey, task: TaskId) -> ClassId {
        if let Some(&id) = self.class_ids.get(&key) {
            self.classes.at_mut(id.0).tasks += 1;
            return id;
        }
        let (shape, blocked) = self.shape_of(&key, task);
        let near = shape.as_ref().map(|shape| shape.near.as_slice()).unwrap_or_default();
        let run = self.run_of(&key.template);
        let near: Vec<JobKey> =
            near.iter().filter_map(|near| Some(key.job.near(&run, near.job.as_ref()?))).collect();
        let mut acquire = |job: &JobKey| self.jobs.acquire(job);
        let job = acquire(&key.job);
        let near_jobs = near.iter().map(&mut acquire).collect();
        let (shape, shape_id) = shape.map(|shape| self.shapes.acquire(shape)).unzip();
        let facts = Facts { key: key.clone(), job, near_jobs, shape, shape_id, blocked };
        let class = Class {
            facts: Arc::new(facts),
            tasks: 1,
            queue: BTreeSet::new(),
            parked: None,
            has_own_index: false,
            served_at: 0,
        };
        let id = ClassId(self.classes.insert(class));
        self.class_ids.insert(key, id);
        self.link(id);
        id
    }

    fn shape_of(&mut self, key: &ClassKey, task: TaskId) -> (Option<Shape>, Option<Blocked>) {
        let name = || key.template.name.clone();
        let template = self.templates.get(&key.template);
        let Some((template, gone)) =
            template.and_then(|state| Some((state.object.as_ref()?, state.gone)))
        else {
            return (None, Some(Blocked::NoTemplate { template: name() }));
        };
        let overrides = &self.tasks.at(task.0).object.spec.overrides;
        match Shape::new(&template.spec, overrides, &mut self.resources) {
            Ok(shape) => {
                let blocked = gone.then(|| Blocked::NoTemplate { template: name() });
                (Some(shape), blocked)
            }
            Err(problem) => (None, Some(Blocked::Unreadable { problem })),
        }
    }

    /// The workflow run that a template was made for; empty outside of a run.
    fn run_of(&self, template: &ObjectKey) -> String {
        let template = self.templates.get(template).and_then(|state| state.object.as_ref());
        template.map(|template| template.spec.run.clone()).unwrap_or_default()
    }

    fn release_class(&mut self, id: ClassId) {
        let class = self.classes.at_mut(id.0);
        class.tasks -= 1;
        if class.tasks > 0 {
            return;
        }
        self.unlink(id);
        let facts = Arc::clone(&self.classes.at(id.0).facts);
        self.class_ids.remove(&facts.key);
        self.classes.remove(id.0);
        self.indexes.take(IndexOf::Class(id));
        if let Some(shape) = facts.shape_id
            && self.shapes.release(shape)
        {
            self.indexes.take(IndexOf::Shape(shape));
        }
        for job in &facts.near_jobs {
            self.jobs.release(*job);
        }
        self.jobs.release(facts.job);
    }

    /// The partition sets that a class refers to.
    fn sets_of(&self, id: ClassId) -> Vec<ObjectKey> {
        let facts = &self.classes.at(id.0).facts;
        let Some(shape) = &facts.shape else { return Vec::new() };
        let near = shape.near.iter().filter_map(|near| near.partition_set.as_ref());
        let target = shape.target.iter().map(|target| &target.partition_set);
        let namespace = &facts.key.template.namespace;
        near.chain(target).map(|set| ObjectKey::new(namespace, set)).collect()
    }

    /// Registers a class with the objects that it refers to, so that it is notified of changes.
    fn link(&mut self, id: ClassId) {
        for set in self.sets_of(id) {
            self.sets.entry(set).or_default().classes.insert(id);
        }
        for job in &self.classes.at(id.0).facts.near_jobs {
            self.jobs.at_mut(*job).near_classes.insert(id);
        }
    }

    fn unlink(&mut self, id: ClassId) {
        for key in self.sets_of(id) {
            let Some(set) = self.sets.get_mut(&key) else { continue };
            set.classes.remove(&id);
            if set.object.is_none() && set.classes.is_empty() {
                self.sets.remove(&key);
            }
        }
        for job in &self.classes.at(id.0).facts.near_jobs {
            self.jobs.at_mut(*job).near_classes.remove(&id);
        }
    }

    fn set_partition_set(&mut self, key: ObjectKey, object: Option<Arc<PartitionSet>>) {
        let state = self.sets.entry(key.clone()).or_default();
        let assignment =
            |set: &Option<Arc<PartitionSet>>| set.as_ref().map(|set| set.spec.assignment.clone());
        let same = assignment(&state.object) == assignment(&object);
        state.object = object;
        if same {
            return;
        }
        state.served_by.clear();
        let replicas = state.object.iter().flat_map(|set| set.spec.assignment.values()).flatten();
        for (node, replica) in replicas {
            state.served_by.entry(node.clone()).or_default().insert(replica.clone());
        }
        let classes = state.classes.clone();
        if state.object.is_none() && classes.is_empty() {
            self.sets.remove(&key);
        }
        self.look_again(&classes);
    }

    /// Data that these classes refer to has changed: drops what was computed for them.
    fn look_again(&mut self, classes: &BTreeSet<ClassId>) {
        for id in classes {
            let class = self.classes.at_mut(id.0);
            self.indexes.take(IndexOf::Class(*id));
            self.waiting.unpark(*id, class);
        }
    }

    /// Sets a task's task_use according to its object and its promise.
    fn settle(&mut self, id: TaskId) {
        let entry = self.tasks.at(id.0);
        let class = entry.class.map(|class| self.classes.at(class.0));
        let shape = class.and_then(|class| class.facts.shape.as_deref());
        let task_use = entry.use_now(id, shape, &mut self.nodes);
        self.set_use(id, task_use);
    }

    pub(crate) fn set_use(&mut self, id: TaskId, task_use: TaskUse) {
        let entry = self.tasks.at_mut(id.0);
        if entry.task_use == task_use {
            return;
        }
        let before = std::mem::replace(&mut entry.task_use, task_use);
        // Charge the new task_use before releasing the old one: a node's slot is deleted when its
        // count reaches 0.
        self.enter(id);
        self.leave(id, &before);
    }

    fn enter(&mut self, id: TaskId) {
        let entry = self.tasks.at(id.0);
        let Some(class_id) = entry.class else { return };
        let class = self.classes.at_mut(class_id.0);
        match &entry.task_use {
            TaskUse::Idle => (),
            TaskUse::Queued(queued) => {
                self.waiting.enqueue(class_id, class, queued.clone());
            }
            TaskUse::Delayed(until) => self.waiting.delay(*until, id),
            TaskUse::Taking { node, seen_ports } => {
                self.nodes.charge(*node, &class.facts, seen_ports);
            }
            TaskUse::Succeeded { node } => {
                let classes = self.jobs.succeeded(class.facts.job, node);
                self.look_again(&classes);
            }
        }
    }

    fn leave(&mut self, id: TaskId, task_use: &TaskUse) {
        let Some(class_id) = self.tasks.at(id.0).class else { return };
        let class = self.classes.at_mut(class_id.0);
        match task_use {
            TaskUse::Idle => (),
            TaskUse::Queued(queued) => self.waiting.dequeue(class_id, class, queued),
            TaskUse::Delayed(until) => self.waiting.undelay(*until, id),
            TaskUse::Taking { node, seen_ports } => {
                self.nodes.discharge(*node, &class.facts, seen_ports);
            }
            TaskUse::Succeeded { node } => {
                let classes = self.jobs.not_succeeded(class.facts.job, node);
                self.look_again(&classes);
            }
        }
    }
}
