//! What the models of a job's and of a service's store have in common: how tasks change.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::Kind as _;
use api::task::StopReason;
use api::task::transition::{Applied, TaskChange, apply};
use api::{Task, Timestamp};

use crate::action::ObjectRef;

/// Tasks by name.
pub(crate) type Tasks = BTreeMap<String, Arc<Task>>;

/// The task that an action is about.
pub(crate) fn found<'a>(tasks: &'a Tasks, of: &ObjectRef) -> Result<&'a Task, String> {
    let task = tasks.get(&of.key.name).filter(|task| task.uid() == of.uid);
    task.map(Arc::as_ref).ok_or_else(|| "no such task".to_owned())
}

/// Changes one part of a task, as its writer would; whether it was accepted.
pub(crate) fn change(tasks: &mut Tasks, name: &str, change: &TaskChange, now: Timestamp) -> bool {
    let Some(task) = tasks.get(name) else { return false };
    match apply(task, task.spec.attempt, change, now) {
        Ok(Applied::Changed(task)) => {
            tasks.insert(name.to_owned(), Arc::from(task));
            true
        }
        Ok(Applied::Already) => true,
        Err(_) => false,
    }
}

/// Does what a plan asks for with one part of a task.
pub(crate) fn commit_change(
    tasks: &mut Tasks,
    (of, attempt, change): (&ObjectRef, u32, &TaskChange),
    now: Timestamp,
) -> Result<(), String> {
    let step = apply(found(tasks, of)?, attempt, change, now);
    if let Applied::Changed(task) = step.map_err(|refusal| refusal.to_string())? {
        tasks.insert(of.key.name.clone(), Arc::from(task));
    }
    Ok(())
}

/// A person's deletion of a task, as the apiserver marks it.
pub(crate) fn delete(tasks: &mut Tasks, name: &str, now: Timestamp) {
    let Some(task) = tasks.get_mut(name) else { return };
    Arc::make_mut(task).metadata.deletion_timestamp.get_or_insert(api::Time(now));
    // One that has ended is not stopped.
    change(tasks, name, &TaskChange::evict(StopReason::Delete), now);
}
