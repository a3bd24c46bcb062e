//! Which index of a run belongs to which listed task or item.
//!
//! # Invariants
//!
//! * A task or item keeps its index for the whole run, wherever it moves in the list.
//! * The index of a removed one is never used again in the run: its entry stays, empty.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{JobSpec, JobStatus, ListedTask, OnChange};
use crate::{meaning, names};

/// The key of each of a job's tasks within a run: a listed task's name, or an item's hash. Nothing
/// if tasks are identical or come from a partition set.
pub fn keys(spec: &JobSpec) -> Option<Vec<String>> {
    if let Some(items) = &spec.items {
        return Some(item_keys(items));
    }
    let names = || spec.tasks.iter().map(|task| task.name.clone()).collect();
    (!spec.tasks.is_empty()).then(names)
}

/// The new `status.indexes` and `status.parts` of a job with a list, whose status was `before` and
/// whose spec has changed since.
pub fn next(spec: &JobSpec, before: &JobStatus) -> Option<(Vec<String>, Vec<String>)> {
    let keys = keys(spec)?;
    let changed = changed_tasks(spec, before);
    let retired = if spec.on_change() == OnChange::Rerun { &changed } else { &BTreeSet::new() };
    let known = without(&before.indexes, retired);
    let indexes = assign(&known, keys.iter().map(String::as_str));
    let parts = parts(spec, (&before.indexes, &before.parts), retired, &indexes);
    Some((indexes, parts))
}

/// A run's indexes without those of `retired`, whose tasks get new ones.
pub fn without(indexes: &[String], retired: &BTreeSet<&str>) -> Vec<String> {
    let keep = |key: &String| {
        if retired.contains(key.as_str()) { String::new() } else { key.clone() }
    };
    indexes.iter().map(keep).collect()
}

/// A hash of what a listed task changes in the template; empty if it changes nothing. Its placement
/// is not part of it, because a placement is changed in place, as for the whole job.
pub fn part(task: &ListedTask) -> String {
    match &task.template {
        Some(part) if !part.is_empty() => {
            let mut part = part.clone();
            meaning::template_part(&mut part);
            names::hash(Value::Object(part).to_string().as_bytes())
        }
        Some(_) | None => String::new(),
    }
}

/// The run's listed tasks whose template has changed since they joined the run. Tasks for which an
/// earlier version stored no hash are left out: nobody knows whether they have changed.
pub fn changed_tasks<'a>(spec: &'a JobSpec, status: &JobStatus) -> BTreeSet<&'a str> {
    let known: BTreeMap<&str, &String> = named(&status.indexes).zip(&status.parts).collect();
    let is_changed =
        |task: &&ListedTask| known.get(task.name.as_str()).is_some_and(|it| **it != part(task));
    spec.tasks.iter().filter(is_changed).map(|task| task.name.as_str()).collect()
}

/// The hash of each listed task of a run, by index: the stored one, or the current one for a task
/// that is new or runs `again`. Empty if no tasks are listed. Removed tasks have an empty entry.
pub fn parts(
    spec: &JobSpec,
    (known, before): (&[String], &[String]),
    again: &BTreeSet<&str>,
    indexes: &[String],
) -> Vec<String> {
    if spec.tasks.is_empty() {
        return Vec::new();
    }
    let listed: BTreeMap<&str, &ListedTask> =
        spec.tasks.iter().map(|task| (task.name.as_str(), task)).collect();
    let before: BTreeMap<&str, &String> =
        named(known).zip(before).filter(|(name, _)| !again.contains(name)).collect();
    let part = |name: &str| match (before.get(name), listed.get(name)) {
        (Some(before), _) => (*before).clone(),
        (None, Some(task)) => part(task),
        (None, None) => String::new(),
    };
    named(indexes).map(part).collect()
}

/// Those of these indexes that were not removed.
pub fn named(indexes: &[String]) -> impl Iterator<Item = &str> {
    indexes.iter().map(String::as_str).filter(|name| !name.is_empty())
}

/// The key of an item is its hash. Equal items are told apart by a counter.
fn item_keys(items: &[Value]) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let key = |item: &Value| {
        let hash = names::hash(item.to_string().as_bytes());
        let before = seen.entry(hash.clone()).or_default();
        *before += 1;
        if *before == 1 { hash } else { format!("{hash}.{before}") }
    };
    items.iter().map(key).collect()
}

/// A run's indexes after its tasks have become `wanted`, where they were `before`.
pub fn assign<'a>(before: &[String], wanted: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let is_wanted: BTreeSet<&str> = wanted.clone().collect();
    let keep = |key: &String| {
        if is_wanted.contains(key.as_str()) { key.clone() } else { String::new() }
    };
    let known: BTreeSet<&str> = before.iter().map(String::as_str).collect();
    let mut new = BTreeSet::new();
    let added = wanted.filter(|key| !known.contains(key) && new.insert(*key));
    let added: Vec<String> = added.map(str::to_owned).collect();
    before.iter().map(keep).chain(added).collect()
}
