//! Changes of the parts of a task, with guards on other objects.

use api::status::Refusal;
use api::task::TaskState;
use api::task::transition::{self, Applied, TaskChange};
use api::{Kind as _, KindId, ObjectKey, Task, Timestamp};
use store::Guard;

use super::facts::{Current, Facts, absent};
use super::record::bit_guard;
use super::refusals::{conflict, not_found, other_uid};
use super::{Answer, Document, Prepared};
use crate::keys;

/// Applies `change`, which was decided for `attempt` (the current one, if `None`).
pub(super) fn change(
    key: &ObjectKey,
    uid: Option<&str>,
    attempt: Option<u32>,
    change: &TaskChange,
    facts: &mut Facts<'_>,
    now: Timestamp,
) -> Result<Prepared, Refusal> {
    let (task, current) = facts.task(key)?;
    if uid.is_some_and(|uid| uid != task.uid()) {
        return Err(other_uid(KindId::Task, &key.name));
    }
    let attempt = attempt.unwrap_or(task.spec.attempt);
    let Some(next) = applied(&task, attempt, change, now)? else {
        return Ok(unchanged(key, current));
    };
    let mut prepared = put(key, &current, &task, &next);
    guard(&task, &next, change, facts, &mut prepared)?;
    Ok(prepared)
}

/// The task after the change; `None` if the change is already in effect.
pub(super) fn applied(
    task: &Task,
    attempt: u32,
    change: &TaskChange,
    now: Timestamp,
) -> Result<Option<Task>, Refusal> {
    match transition::apply(task, attempt, change, now) {
        Ok(Applied::Changed(next)) => Ok(Some(*next)),
        Ok(Applied::Already) => Ok(None),
        Err(refusal) => Err(conflict(KindId::Task, task.name(), refusal)),
    }
}

/// Guards on facts outside of the task.
fn guard(
    task: &Task,
    next: &Task,
    change: &TaskChange,
    facts: &mut Facts<'_>,
    prepared: &mut Prepared,
) -> Result<(), Refusal> {
    match change {
        // While the node has a lease, its agent may be about to report.
        TaskChange::Lose | TaskChange::LoseNode { .. } | TaskChange::Replaceable => {
            prepared.guards.extend(lease_is_gone(task, facts)?);
        }
        TaskChange::Retry(_) if matches!(task.state(), TaskState::Lost { .. }) => {
            prepared.guards.extend(lease_is_gone(task, facts)?);
        }
        TaskChange::Rerun(_) => {
            if let Some(owner) = task.controller() {
                let (run, index) = (next.spec.run, next.spec.index);
                prepared.guards.push(bit_guard(&owner.uid, run, index, facts)?);
            }
        }
        TaskChange::Bind { node } => {
            let key = keys::object(KindId::Node, &ObjectKey::new("", &**node));
            let Some(current) = facts.at(&key) else {
                return Err(not_found(KindId::Node, node));
            };
            prepared.guards.push(current.alive(key));
        }
        TaskChange::Retry(_)
        | TaskChange::Unschedulable { .. }
        | TaskChange::Refuse { .. }
        | TaskChange::Report(_)
        | TaskChange::Evict { .. }
        | TaskChange::Recover
        | TaskChange::Amend(_)
        | TaskChange::Record => (),
    }
    Ok(())
}

/// A guard: the lease of the task's node is gone. If the lease is there, this is reported here,
/// since a failed guard would only say that something has changed.
fn lease_is_gone(task: &Task, facts: &mut Facts<'_>) -> Result<Option<Guard>, Refusal> {
    let Some(node) = task.node() else { return Ok(None) };
    let key = keys::node_lease(node);
    if facts.at(&key).is_some() {
        let why = format!("node {node:?} has its lease: its agent may be about to report");
        return Err(conflict(KindId::Task, task.name(), why));
    }
    Ok(Some(absent(key)))
}

/// Stores the changed task.
pub(super) fn put(key: &ObjectKey, current: &Current, task: &Task, next: &Task) -> Prepared {
    let store_key = keys::object(KindId::Task, key);
    let mut next = next.clone().to_stored();
    if next.spec != task.spec {
        next.metadata.generation = Some(task.generation().saturating_add(1));
    }
    // Nothing is written if nothing has changed.
    let is_changed = next != *task;
    let stored = current.changed(task, &next);
    let mut prepared = Prepared::default();
    if is_changed {
        prepared.writes.push(current.put(store_key.clone(), stored.clone()));
    }
    prepared.answer = Some(Answer {
        kind: KindId::Task,
        key: store_key,
        object: Document::Stored(stored),
        version: current.version,
    });
    prepared
}

fn unchanged(key: &ObjectKey, current: Current) -> Prepared {
    let answer = Answer {
        kind: KindId::Task,
        key: keys::object(KindId::Task, key),
        version: current.version,
        object: Document::AsItWas(current),
    };
    Prepared { answer: Some(answer), ..Prepared::default() }
}
