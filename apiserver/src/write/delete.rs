//! Deletes objects: owners, finalizers, running tasks, and namespaces that are not empty.

use api::batch::Propagation;
use api::completion::End;
use api::labels::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, SYSTEM_NAMESPACE};
use api::object::DEFAULT_NAMESPACE;
use api::resource_version::ResourceVersion;
use api::status::{Refusal, Why};
use api::task::StopReason;
use api::task::TaskState;
use api::task::transition::TaskChange;
use api::{Kind as _, KindId, ObjectKey, Task, Timestamp};
use serde_json::{Value, json};
use store::Guard;

use super::facts::{Current, Facts, absent};
use super::object::finalizers;
use super::owner::Owner;
use super::refusals::{conflict, not_found, other_uid};
use super::{Answer, Document, Prepared, record, task};
use crate::{encoding, keys};

/// How to delete an object, and what has to be true for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) propagation: Propagation,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<ResourceVersion>,
    /// How long the container of a task may take to end, in seconds. If this is `None`, the task's
    /// template says.
    pub(crate) grace_seconds: Option<u32>,
}

/// Who wants to delete a task's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A user: how the task ended has to be recorded first.
    Person,
    /// The controller that owns the task, which knows how it ended.
    Controller,
}

pub(super) fn delete(
    (kind, key): (KindId, &ObjectKey),
    options: &DeleteOptions,
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    let Some(current) = facts.object(kind, key) else {
        return Err(not_found(kind, &key.name));
    };
    if options.uid.as_deref().is_some_and(|uid| uid != current.uid()) {
        return Err(other_uid(kind, &key.name));
    }
    if options.version.is_some_and(|version| version.revision() != current.modified().0) {
        return Err(conflict(
            kind,
            &key.name,
            "the object has changed since it was read; read it again",
        ));
    }
    let finalizer = match options.propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FINALIZER_FOREGROUND),
        Propagation::Orphan => Some(FINALIZER_ORPHAN),
    };
    if kind == KindId::Task {
        return delete_task(key, &current, (finalizer, options.grace_seconds), facts, now);
    }
    if kind == KindId::Namespace && [DEFAULT_NAMESPACE, SYSTEM_NAMESPACE].contains(&&*key.name) {
        let message = format!("namespace {:?} cannot be deleted: Heliox needs it", key.name);
        return Err(Refusal::new(Why::Forbidden, message).about(kind, &key.name));
    }
    Ok(mark((kind, key), &current, finalizer, now))
}

/// Deletes the object at once, or marks it so that its finalizers can do their work. A namespace is
/// always marked: from then on nothing is created in it, and its controller empties it.
fn mark(
    (kind, key): (KindId, &ObjectKey),
    current: &Current,
    finalizer: Option<&str>,
    now: Timestamp,
) -> Prepared {
    let store_key = keys::object(kind, key);
    let mut object = current.object();
    let mut wanted: Vec<&str> = finalizers(&object);
    if let Some(finalizer) = finalizer
        && !current.is_deleting()
        && !wanted.contains(&finalizer)
    {
        wanted.push(finalizer);
    }
    let mut prepared = Prepared::default();
    let stays = !wanted.is_empty() || kind == KindId::Namespace;
    let marks = stays && !current.is_deleting();
    if marks {
        if !wanted.is_empty() {
            let finalizers = json!(wanted);
            object["metadata"]["finalizers"] = finalizers;
        }
        set_deleting(&mut object, now);
    }
    let stored = encoding::encode(&object);
    if marks {
        prepared.writes.push(current.put(store_key.clone(), stored.clone()));
    } else if !stays {
        prepared.writes.push(current.delete(store_key.clone()));
    }
    let object = Document::Stored(stored);
    prepared.answer = Some(Answer { kind, key: store_key, object, version: current.version });
    prepared
}

fn set_deleting(object: &mut Value, now: Timestamp) {
    object["metadata"]["deletionTimestamp"] = json!(api::Time(now));
}

/// Removes an empty namespace that is being deleted.
/// A create is guarded on its namespace being unchanged since the create was decided, and is
/// refused in a namespace that is being deleted. So every object in the namespace was created
/// before the mark. A cache that shows the mark shows all of them, and a namespace that is then
/// empty stays empty.
pub(super) fn emptied(
    key: &ObjectKey,
    uid: &str,
    facts: &mut Facts<'_>,
) -> Result<Prepared, Refusal> {
    let kind = KindId::Namespace;
    let Some(current) = facts.object(kind, key).filter(|current| current.uid() == uid) else {
        // It was already removed by an earlier request.
        return Ok(Prepared::default());
    };
    let refuse = |why: &str| Err(conflict(kind, &key.name, why));
    if !current.is_deleting() {
        return refuse("the namespace is not being deleted");
    }
    if !finalizers(&current.object()).is_empty() {
        return refuse("the namespace still has finalizers");
    }
    if !facts.shows(current.modified()) {
        return refuse("this apiserver has not seen its deletion yet");
    }
    let held = KindId::ALL
        .into_iter()
        .filter(|kind| kind.is_namespaced() && !kind.info().internal)
        .find(|kind| facts.any_in(*kind, &key.name));
    if let Some(held) = held {
        return refuse(&format!("it still contains {}", held.info().plural));
    }
    let store_key = keys::object(kind, key);
    let mut prepared = Prepared::default();
    prepared.writes.push(current.delete(store_key.clone()));
    let version = current.version;
    let object = Document::AsItWas(current);
    prepared.answer = Some(Answer { kind, key: store_key, object, version });
    Ok(prepared)
}

/// A running task has to be stopped first, an existing job has to record how it ended, and a task
/// that owns something may have to wait for that. So it is marked here, and removed by the
/// controller of its job or, if it has none, by the garbage collector.
fn delete_task(
    key: &ObjectKey,
    current: &Current,
    (finalizer, grace_seconds): (Option<&str>, Option<u32>),
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    let task = current.task()?;
    if finalizer.is_none()
        && let Ok(removed) = remove((key, By::Person), &task, current, facts)
    {
        return Ok(removed);
    }
    let mut next = if task.has_ended() {
        task.clone()
    } else {
        let change = TaskChange::evict(StopReason::Delete);
        task::applied(&task, task.spec.attempt, &change, now)?.unwrap_or_else(|| task.clone())
    };
    if next.metadata.deletion_timestamp.is_none() {
        next.metadata.deletion_timestamp = Some(api::Time(now));
        let held = next.metadata.finalizers.get_or_insert_default();
        held.extend(finalizer.filter(|it| !held.iter().any(|held| held == it)).map(str::to_owned));
        next.metadata.finalizers = next.metadata.finalizers.filter(|held| !held.is_empty());
    }
    // As in Kubernetes, a client that cannot wait any longer deletes again: a grace period only
    // ever gets shorter.
    let asked = grace_seconds.map(i64::from);
    let before = next.metadata.deletion_grace_period_seconds;
    next.metadata.deletion_grace_period_seconds = before.into_iter().chain(asked).min();
    Ok(task::put(key, current, &task, &next))
}

/// Removes a task's object for the controller that owns it.
pub(super) fn remove_task(
    key: &ObjectKey,
    uid: &str,
    facts: &mut Facts<'_>,
) -> Result<Prepared, Refusal> {
    let Some(current) = facts.object(KindId::Task, key) else {
        // It was already removed by an earlier request.
        return Ok(Prepared::default());
    };
    if current.uid() != uid {
        return Ok(Prepared::default());
    }
    let task = current.task()?;
    remove((key, By::Controller), &task, &current, facts)
}

/// Removes a task that does not run anywhere, and that is recorded, has done no work or has no
/// existing job. Only jobs record how their tasks end.
fn remove(
    (key, by): (&ObjectKey, By),
    task: &Task,
    current: &Current,
    facts: &mut Facts<'_>,
) -> Result<Prepared, Refusal> {
    if task.meta().finalizers.as_ref().is_some_and(|list| !list.is_empty()) {
        let why = "its finalizers are still there";
        return Err(conflict(KindId::Task, &key.name, why));
    }
    let mut prepared = Prepared::default();
    if let Some(node) = runs_on(task) {
        let node_key = ObjectKey::new("", node);
        if facts.object(KindId::Node, &node_key).is_some() {
            let why = format!("the task is {} on {node}", task.phase());
            return Err(conflict(KindId::Task, &key.name, why));
        }
        prepared.guards.push(absent(keys::object(KindId::Node, &node_key)));
    }
    if !task.is_recorded()
        && let Some(owner) = task.controller()
    {
        let refuse = |why: String| Err(conflict(KindId::Task, &key.name, why));
        match Owner::named(owner, &key.namespace) {
            Some(owner) => match owner.living(facts) {
                Some(living)
                    if owner.rules.keeps_record && !may_go_unrecorded(task, by, &living) =>
                {
                    let Some(guard) = success_guard(task, owner.uid, facts)? else {
                        let (kind, name) = (owner.kind, owner.name);
                        return refuse(format!(
                            "{kind} {name:?} has not recorded how it ended yet"
                        ));
                    };
                    prepared.guards.push(guard);
                }
                Some(_) => (),
                None => prepared.guards.push(match facts.at(&owner.store_key) {
                    Some(other) => other.unchanged(owner.store_key),
                    None => absent(owner.store_key),
                }),
            },
            // Owners of this kind record nothing.
            None if KindId::from_manifest(&owner.api_version, &owner.kind).is_some() => (),
            // A newer version of the program made the task, and knows who records how it ended.
            None => {
                let kind = &owner.kind;
                return refuse(format!(
                    "this apiserver does not know what a {kind:?} records of it"
                ));
            }
        }
    }
    let store_key = keys::object(KindId::Task, key);
    prepared.writes.push(current.delete(store_key.clone()));
    let object = Document::AsItWas(current.clone());
    prepared.answer =
        Some(Answer { kind: KindId::Task, key: store_key, object, version: current.version });
    Ok(prepared)
}

/// If a task has succeeded and the record of its job says so, a guard that the record is there. It
/// never takes an end back, so it may change otherwise. Then the task need not bear the mark that its
/// end is recorded.
fn success_guard(
    task: &Task,
    job_uid: &str,
    facts: &mut Facts<'_>,
) -> Result<Option<Guard>, Refusal> {
    if !matches!(task.state(), TaskState::Succeeded) {
        return Ok(None);
    }
    let recorded = record::end_guard(job_uid, task.spec.run, task.spec.index, facts)?;
    Ok(recorded.and_then(|(end, guard)| (end == End::Succeeded).then_some(guard)))
}

/// Whether a task of an existing job may be removed although the job has not recorded how it ended.
/// A new task will then run its index.
fn may_go_unrecorded(task: &Task, by: By, job: &Current) -> bool {
    // The job no longer needs the result of a task of an earlier run.
    let is_past = || {
        let run = job.object()["status"]["run"].as_u64().unwrap_or_default();
        u64::from(task.spec.run) < run
    };
    match (task.state(), by) {
        (TaskState::Pending | TaskState::Cancelled { reason: StopReason::Delete }, By::Person) => {
            true
        }
        (_, By::Person) => false,
        // A success has to be recorded first: a task that has succeeded never runs again in its
        // run.
        (TaskState::Succeeded, By::Controller) => task.is_deleting() && is_past(),
        (_, By::Controller) => task.is_deleting(),
    }
}

/// The node where the attempt may still be running.
fn runs_on(task: &Task) -> Option<&str> {
    match task.state() {
        TaskState::Bound { node }
        | TaskState::Starting { node }
        | TaskState::Running { node }
        | TaskState::Stopping { node, .. }
        | TaskState::Lost { node, replaceable: false, .. } => Some(node),
        TaskState::Pending
        | TaskState::Succeeded
        | TaskState::Failed { .. }
        | TaskState::TimedOut
        | TaskState::Cancelled { .. }
        | TaskState::Lost { replaceable: true, .. } => None,
    }
}
