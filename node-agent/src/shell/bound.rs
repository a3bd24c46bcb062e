//! The tasks that are bound to this node and their templates, kept up to date by a watch.
//!
//! # Invariants
//!
//! * Only tasks that have not ended are assignments. When a task ends it is just removed.
//! * A template is kept while an assignment uses it, and is read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Kind as _, ObjectKey, Task};
use runtime::{Any, Change, Update};
use tracing::warn;

use crate::engine::Identity;
use crate::plan::{Assignment, Template};

/// The tasks that are bound to this node, and their templates.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// Whether the list of tasks is complete as of some moment in this session.
    pub(super) is_complete: bool,
    assignments: BTreeMap<Identity, Assignment>,
    /// The identity of each task's assignment.
    identities: BTreeMap<ObjectKey, Identity>,
    templates: BTreeMap<ObjectKey, Known>,
    /// Templates that have to be read.
    missing: Vec<ObjectKey>,
    /// Assignments that were added, removed or changed since [`Bound::take_changed`].
    changed: BTreeSet<Identity>,
}

#[derive(Debug, Default)]
struct Known {
    /// `None` while it is being read.
    template: Option<Template>,
    users: BTreeSet<Identity>,
}

impl Bound {
    /// The current assignments.
    pub(super) fn assignments(&self) -> &BTreeMap<Identity, Assignment> {
        &self.assignments
    }

    /// Applies an update of the watch.
    pub(super) fn apply(&mut self, update: Update) {
        match update {
            Update::Reset { objects, .. } => {
                let tasks: BTreeMap<_, _> =
                    objects.into_iter().filter_map(task).map(|task| (task.key(), task)).collect();
                let gone = self.identities.keys().filter(|key| !tasks.contains_key(key));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.replace(key, None);
                }
                tasks.into_iter().for_each(|(key, task)| self.replace(key, Some(task)));
                self.is_complete = true;
            }
            Update::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Upsert(object) => {
                            if let Some(task) = task(object) {
                                self.replace(task.key(), Some(task));
                            }
                        }
                        Change::Remove(_, key) => self.replace(key, None),
                    }
                }
            }
        }
    }

    /// Stores a template that was read.
    pub(super) fn learn(&mut self, key: &ObjectKey, template: &Template) {
        let Some(known) = self.templates.get_mut(key) else { return };
        known.template = Some(template.clone());
        for identity in &known.users {
            if let Some(assignment) = self.assignments.get_mut(identity) {
                assignment.template = Some(template.clone());
                self.changed.insert(identity.clone());
            }
        }
    }

    /// Templates that have to be read, each returned once.
    pub(super) fn take_missing(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.missing)
    }

    /// Assignments that were added, removed or changed since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<Identity> {
        std::mem::take(&mut self.changed)
    }

    /// Replaces or removes a task.
    fn replace(&mut self, key: ObjectKey, task: Option<Arc<Task>>) {
        let before = self.identities.remove(&key);
        let before = before.and_then(|identity| self.assignments.remove_entry(&identity));
        if let Some((identity, task)) = task.and_then(identified) {
            let template = self.use_template(template_of(&task), &identity);
            self.changed.insert(identity.clone());
            self.identities.insert(key, identity.clone());
            self.assignments.insert(identity, Assignment { task, template });
        }
        if let Some((identity, before)) = before {
            // Only after the new task was added: a template that both use must not be dropped in
            // between.
            let used = template_of(&before.task);
            let now = self.assignments.get(&identity);
            if now.is_none_or(|now| template_of(&now.task) != used) {
                self.leave_template(&used, &identity);
            }
            self.changed.insert(identity);
        }
    }

    fn use_template(&mut self, key: ObjectKey, identity: &Identity) -> Option<Template> {
        let known = self.templates.entry(key).or_insert_with_key(|key| {
            self.missing.push(key.clone());
            Known::default()
        });
        known.users.insert(identity.clone());
        known.template.clone()
    }

    fn leave_template(&mut self, key: &ObjectKey, identity: &Identity) {
        let Some(known) = self.templates.get_mut(key) else { return };
        known.users.remove(identity);
        if known.users.is_empty() {
            self.templates.remove(key);
        }
    }
}

fn task(object: Any) -> Option<Arc<Task>> {
    if let Any::Task(task) = object { Some(task) } else { None }
}

/// A task that has not ended, with the identity of its container.
fn identified(task: Arc<Task>) -> Option<(Identity, Arc<Task>)> {
    if task.has_ended() {
        return None;
    }
    match Identity::new(task.namespace(), task.name(), task.uid(), task.spec.attempt) {
        Ok(identity) => Some((identity, task)),
        Err(error) => {
            warn!(%error, "a task has no usable identity");
            None
        }
    }
}

fn template_of(task: &Task) -> ObjectKey {
    ObjectKey::new(task.namespace(), &*task.spec.template)
}

#[cfg(test)]
mod tests {
    use api::Timestamp;
    use api::resource_version::ResourceVersion;
    use api::task::transition::{Applied, TaskChange, apply};
    use api::task::{StopReason, TaskSpec};

    use super::*;

    fn bound_task(index: u32, attempt: u32, template: &str) -> Task {
        let spec =
            TaskSpec { template: template.to_owned(), attempt, run: 1, ..TaskSpec::default() };
        let mut task = Task::new("default", &format!("t-{index}"), spec);
        task.metadata.uid = Some(format!("{index:x}"));
        changed(&task, &TaskChange::Bind { node: "n1".to_owned() })
    }

    fn changed(task: &Task, change: &TaskChange) -> Task {
        match apply(task, task.spec.attempt, change, Timestamp::UNIX_EPOCH).unwrap() {
            Applied::Changed(next) => *next,
            Applied::Already => task.clone(),
        }
    }

    fn upsert(task: Task) -> Change {
        Change::Upsert(Any::Task(Arc::new(task)))
    }

    fn changes(bound: &mut Bound, changes: Vec<Change>) {
        bound.apply(Update::Changes { changes, version: ResourceVersion::default() });
    }

    fn reset(bound: &mut Bound, tasks: Vec<Task>) {
        let objects = tasks.into_iter().map(|task| Any::Task(Arc::new(task))).collect();
        bound.apply(Update::Reset { objects, version: ResourceVersion::default() });
    }

    fn shown(identities: impl IntoIterator<Item = Identity>) -> Vec<String> {
        identities.into_iter().map(|it| format!("{}/{}", it.task(), it.attempt())).collect()
    }

    fn key(template: &str) -> ObjectKey {
        ObjectKey::new("default", template)
    }

    #[test]
    fn only_what_changed_is_named() {
        let mut bound = Bound::default();
        reset(&mut bound, (0..3).map(|index| bound_task(index, 1, "j")).collect());
        assert_eq!(shown(bound.take_changed()), ["t-0/1", "t-1/1", "t-2/1"]);
        let cancel = TaskChange::evict(StopReason::Cancel);
        changes(&mut bound, vec![upsert(changed(&bound_task(1, 1, "j"), &cancel))]);
        assert_eq!(shown(bound.take_changed()), ["t-1/1"]);
        assert!(bound.take_changed().is_empty());
        changes(&mut bound, vec![upsert(bound_task(1, 2, "j"))]);
        assert_eq!(shown(bound.take_changed()), ["t-1/1", "t-1/2"], "one went and one came");
        let kind = api::KindId::Task;
        changes(&mut bound, vec![Change::Remove(kind, ObjectKey::new("default", "t-0"))]);
        assert_eq!(shown(bound.take_changed()), ["t-0/1"]);
        reset(&mut bound, vec![bound_task(2, 1, "j")]);
        assert_eq!(shown(bound.take_changed()), ["t-1/2", "t-2/1"]);
        assert_eq!(shown(bound.assignments().keys().cloned()), ["t-2/1"]);
    }

    #[test]
    fn what_has_ended_is_not_wanted_any_more() {
        let mut bound = Bound::default();
        let task = bound_task(0, 1, "j");
        reset(&mut bound, vec![task.clone()]);
        bound.take_changed();
        let mut lost = changed(&task, &TaskChange::evict(StopReason::Cancel));
        lost.status.loss = serde_json::from_value(serde_json::json!({
            "attempt": 1, "since": Timestamp::UNIX_EPOCH, "replaceable": true,
        }))
        .unwrap();
        changes(&mut bound, vec![upsert(lost.clone())]);
        assert_eq!(shown(bound.take_changed()), ["t-0/1"]);
        assert!(bound.assignments().is_empty());
        changes(&mut bound, vec![upsert(lost)]);
        assert!(bound.take_changed().is_empty(), "it is no news that it has ended");
    }

    #[test]
    fn a_template_is_asked_for_once_and_forgotten_with_its_last_task() {
        let mut bound = Bound::default();
        reset(&mut bound, (0..2).map(|index| bound_task(index, 1, "j")).collect());
        assert_eq!(bound.take_missing(), [key("j")]);
        bound.take_changed();
        bound.learn(&key("j"), &Template::Missing);
        assert_eq!(shown(bound.take_changed()), ["t-0/1", "t-1/1"]);
        changes(&mut bound, vec![upsert(bound_task(2, 1, "j")), upsert(bound_task(0, 2, "k"))]);
        assert_eq!(bound.take_missing(), [key("k")]);
        let of = |bound: &Bound, index: u32, attempt| {
            let name = format!("t-{index}");
            let identity = Identity::new("default", &name, &format!("{index:x}"), attempt);
            bound.assignments()[&identity.unwrap()].template.is_some()
        };
        assert!(of(&bound, 2, 1) && !of(&bound, 0, 2));
        // If the only task of a template is replaced, the template is not read again.
        changes(&mut bound, vec![upsert(bound_task(0, 2, "k"))]);
        assert!(bound.take_missing().is_empty());
        reset(&mut bound, vec![bound_task(0, 2, "k")]);
        reset(&mut bound, vec![bound_task(1, 1, "j")]);
        assert_eq!(bound.take_missing(), [key("j")]);
    }
}
