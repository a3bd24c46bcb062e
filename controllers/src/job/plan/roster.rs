//! Which tasks a run is to have: their indexes, names and own parts.
//!
//! # Invariants
//!
//! * A listed task, item or partition keeps its index for the run, wherever its list moves it; an
//!   index whose owner was removed is never used again.
//! * No two indexes have one object name.

use std::collections::{BTreeMap, BTreeSet};

use api::job::indexes;
use api::object::Kind as _;
use api::task::{Overrides, Task};
use api::{Job, PartitionSet, names};

use super::Waiting;

/// Which tasks a run is to have.
#[derive(Debug)]
pub(super) struct Roster {
    /// For the job's status: what each index is of; empty where an index is just a number.
    pub(super) indexes: Vec<String>,
    /// Listed tasks whose object name another one has already.
    pub(super) clashes: Vec<String>,
    tasks: Tasks,
}

#[derive(Debug)]
enum Tasks {
    /// Indexes before this, alike.
    Alike(u32),
    /// Each with its own part.
    Listed { parts: BTreeMap<u32, Part>, by_name: BTreeMap<String, u32> },
}

/// What is a task's own.
#[derive(Debug, Clone)]
struct Part {
    /// Its object's name.
    object: String,
    overrides: Overrides,
}

impl Roster {
    /// The tasks of a run whose indexes were given as `before`. A run that ends takes in no others.
    pub(super) fn of(
        job: &Job,
        set: Option<&PartitionSet>,
        (before, ends): (&[String], bool),
    ) -> Result<Self, Waiting> {
        let spec = &job.spec;
        // (what the index is of, the last part of the object's name if not the index, own part)
        let wanted: Vec<(String, Option<String>, Overrides)> = if let Some(target) = &spec.target {
            partitions(target, set, before)?
        } else if let Some(items) = &spec.items {
            items_of(items, indexes::keys(spec).unwrap_or_default())
        } else if spec.tasks.is_empty() {
            let tasks = Tasks::Alike(spec.count.unwrap_or(1));
            return Ok(Self { indexes: Vec::new(), clashes: Vec::new(), tasks });
        } else {
            let listed = spec.tasks.iter().map(|task| {
                let overrides = Overrides {
                    name: Some(task.name.clone()),
                    template: task.template.clone(),
                    placement: task.placement.clone(),
                    ..Overrides::default()
                };
                (task.name.clone(), Some(task.name.clone()), overrides)
            });
            listed.collect()
        };
        let known: BTreeSet<&String> = before.iter().collect();
        let stays = |(key, ..): &(String, _, _)| !ends || known.contains(key);
        Ok(Self::listed(job.name(), before, wanted.into_iter().filter(stays).collect()))
    }

    fn listed(
        job: &str,
        before: &[String],
        wanted: Vec<(String, Option<String>, Overrides)>,
    ) -> Self {
        let keys = wanted.iter().map(|(key, ..)| key.as_str());
        let indexes = indexes::assign(before, keys);
        let known: BTreeMap<&str, u32> =
            (0..).zip(&indexes).map(|(index, key)| (key.as_str(), index)).collect();
        let (mut parts, mut by_name, mut clashes) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (key, name, overrides) in wanted {
            let Some(index) = known.get(key.as_str()).copied() else { continue };
            let object = names::task(job, &name.unwrap_or_else(|| index.to_string()));
            if by_name.contains_key(&object) {
                clashes.push(object);
                continue;
            }
            by_name.insert(object.clone(), index);
            parts.insert(index, Part { object, overrides });
        }
        Self { indexes, clashes, tasks: Tasks::Listed { parts, by_name } }
    }

    /// How many tasks the run has.
    pub(super) fn total(&self) -> u32 {
        match &self.tasks {
            Tasks::Alike(count) => *count,
            Tasks::Listed { parts, .. } => u32::try_from(parts.len()).unwrap_or(u32::MAX),
        }
    }

    /// No index is as great as this.
    pub(super) fn limit(&self) -> u32 {
        match &self.tasks {
            Tasks::Alike(count) => *count,
            Tasks::Listed { .. } => u32::try_from(self.indexes.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether every number below the limit is an index.
    pub(super) fn is_dense(&self) -> bool {
        self.total() == self.limit()
    }

    /// Whether the run has a task with this index.
    pub(super) fn has(&self, index: u32) -> bool {
        match &self.tasks {
            Tasks::Alike(count) => index < *count,
            Tasks::Listed { parts, .. } => parts.contains_key(&index),
        }
    }

    /// The name of an index's object.
    pub(super) fn object_name(&self, job: &str, index: u32) -> String {
        match &self.tasks {
            Tasks::Alike(_) => names::task(job, &index.to_string()),
            Tasks::Listed { parts, .. } => {
                parts.get(&index).map(|part| part.object.clone()).unwrap_or_default()
            }
        }
    }

    /// What of the template is an index's own.
    pub(super) fn overrides(&self, index: u32) -> Overrides {
        match &self.tasks {
            Tasks::Alike(_) => Overrides::default(),
            Tasks::Listed { parts, .. } => {
                parts.get(&index).map(|part| part.overrides.clone()).unwrap_or_default()
            }
        }
    }

    /// Whether an index's own part is exactly this.
    pub(super) fn has_overrides(&self, index: u32, overrides: &Overrides) -> bool {
        match &self.tasks {
            Tasks::Alike(_) => overrides.is_empty(),
            Tasks::Listed { parts, .. } => {
                parts.get(&index).is_some_and(|part| part.overrides == *overrides)
            }
        }
    }

    /// The index whose object has this task's name.
    pub(super) fn index_named_as(&self, job: &str, task: &Task) -> Option<u32> {
        match &self.tasks {
            Tasks::Alike(count) => {
                let index = task.name().rsplit('-').next()?.parse().unwrap_or(task.spec.index);
                let same = names::task(job, &index.to_string()) == task.name();
                (same && index < *count).then_some(index)
            }
            Tasks::Listed { by_name, .. } => by_name.get(task.name()).copied(),
        }
    }
}

/// A run whose set has gone keeps the partitions that it began with.
fn partitions(
    target: &api::job::Target,
    set: Option<&PartitionSet>,
    before: &[String],
) -> Result<Vec<(String, Option<String>, Overrides)>, Waiting> {
    let known = before.iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>();
    let all = match set.filter(|set| !set.is_deleting()) {
        Some(set) => set.partition_names(),
        None if known.is_empty() => {
            return Err(Waiting::NoPartitionSet { name: target.partition_set.clone() });
        }
        None => known,
    };
    let there: BTreeSet<&String> = all.iter().collect();
    if let Some(unknown) = target.partitions.iter().find(|name| !there.contains(name)) {
        let set = target.partition_set.clone();
        return Err(Waiting::NoPartition { set, partition: unknown.clone() });
    }
    let only: BTreeSet<&String> = target.partitions.iter().collect();
    let wanted = all.iter().filter(|name| only.is_empty() || only.contains(name)).cloned();
    let part = |name: String| {
        let overrides = Overrides { partition: Some(name.clone()), ..Overrides::default() };
        (name, None, overrides)
    };
    Ok(wanted.map(part).collect())
}

fn items_of(
    items: &[serde_json::Value],
    keys: Vec<String>,
) -> Vec<(String, Option<String>, Overrides)> {
    let part = |(key, item): (String, &serde_json::Value)| {
        let overrides = Overrides { item: Some(item.clone()), ..Overrides::default() };
        (key, None, overrides)
    };
    keys.into_iter().zip(items).map(part).collect()
}
