//! Which index of a run is of which listed task or item.
//!
//! # Invariants
//!
//! * What has an index keeps it for the run, wherever the list moves it.
//! * An index whose owner was removed is never used again in the run: its place stays, empty.

use std::collections::{BTreeMap, BTreeSet};

use super::JobSpec;
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
