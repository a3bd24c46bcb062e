//! Which index of a run is of which listed task or item.
//!
//! # Invariants
//!
//! * What has an index keeps it for the run, wherever the list moves it.
//! * An index whose owner was removed is never used again in the run: its place stays, empty.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{changed_tasks, part};
use super::{JobSpec, JobStatus, OnChange};
use crate::names;

/// What each of a job's tasks is known by within a run: a listed task's name, an item's hash.
/// Nothing where tasks are alike, or come from a partition set.
pub fn keys(spec: &JobSpec) -> Option<Vec<String>> {
    if let Some(items) = &spec.items {
        return Some(item_keys(items));
    }
    let names = || spec.tasks.iter().map(|task| task.name.clone()).collect();
    (!spec.tasks.is_empty()).then(names)
}

/// The indexes of a run of a job with a list, and what its listed tasks are, where the job's status
/// was `before` and its spec has changed since.
pub fn next(spec: &JobSpec, before: &JobStatus) -> Option<(Vec<String>, Vec<String>)> {
    let keys = keys(spec)?;
    let changed = changed_tasks(spec, before);
    let retired = if spec.on_change() == OnChange::Rerun { &changed } else { &BTreeSet::new() };
    let known = without(&before.indexes, retired);
    let indexes = assign(&known, keys.iter().map(String::as_str));
    let parts = parts(spec, (&before.indexes, &before.parts), retired, &indexes);
    Some((indexes, parts))
}

/// A run's indexes without these, which get others.
pub fn without(indexes: &[String], retired: &BTreeSet<&str>) -> Vec<String> {
    let keep = |key: &String| {
        if retired.contains(key.as_str()) { String::new() } else { key.clone() }
    };
    indexes.iter().map(keep).collect()
}

/// What each listed task of a run is, in the order of its indexes: what it was before, unless it runs
/// `again`, else what it is now. Nothing where no tasks are listed. Places of removed tasks have none.
pub fn parts(
    spec: &JobSpec,
    (known, before): (&[String], &[String]),
    again: &BTreeSet<&str>,
    indexes: &[String],
) -> Vec<String> {
    if spec.tasks.is_empty() {
        return Vec::new();
    }
    let listed: BTreeMap<&str, &super::ListedTask> =
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

/// Of these indexes, what those are of that were not removed.
pub fn named(indexes: &[String]) -> impl Iterator<Item = &str> {
    indexes.iter().map(String::as_str).filter(|name| !name.is_empty())
}

/// An item is known by its hash; equal items are told apart by how many came before.
fn item_keys(items: &[serde_json::Value]) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let key = |item: &serde_json::Value| {
        let hash = names::hash(item.to_string().as_bytes());
        let before = seen.entry(hash.clone()).or_default();
        *before += 1;
        if *before == 1 { hash } else { format!("{hash}.{before}") }
    };
    items.iter().map(key).collect()
}

/// A run's indexes once its tasks are `wanted`, where they were `before`.
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
