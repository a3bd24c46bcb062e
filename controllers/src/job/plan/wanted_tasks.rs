//! Determines the tasks that a run should have: their indexes, names and own parts.
//!
//! # Invariants
//!
//! * A listed task, item or partition keeps its index during the run, wherever it moves in its
//!   list. The index of a removed one is never used again.
//! * No two indexes have the same object name.

use std::collections::{BTreeMap, BTreeSet};

use api::job::change::Run;
use api::job::indexes::changed_tasks;
use api::job::{OnChange, indexes};
use api::object::Kind as _;
use api::task::{Overrides, Task};
use api::{Job, PartitionSet, names};

use super::Waiting;

/// The tasks that a run should have.
#[derive(Debug)]
pub(super) struct WantedTasks {
    /// For the job's status: what each index stands for; empty if an index is just a number.
    pub(super) indexes: Vec<String>,
    /// For the job's status: what each listed task changes in the template.
    pub(super) parts: Vec<String>,
    /// The listed tasks that run again because their template has changed.
    pub(super) again: Vec<String>,
    /// The indexes of listed tasks that keep their old template.
    pub(super) held: BTreeSet<u32>,
    /// The listed tasks whose object name is already used by another one.
    pub(super) clashes: Vec<String>,
    tasks: Tasks,
}

/// What a run knows about its indexes.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// What each index stands for.
    pub(super) indexes: &'a [String],
    parts: &'a [String],
    /// Whether the run accepts no new indexes.
    ends: bool,
    /// The listed tasks of the run whose template has changed.
    changed: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(super) fn of(job: &'a Job, run: &Run) -> Self {
        let (spec, status) = (&job.spec, &job.status);
        if run.opens {
            return Self { indexes: &[], parts: &[], ends: false, changed: BTreeSet::new() };
        }
        // Compared only if it can make a difference, since a long list has to be hashed for it.
        let is_compared =
            spec.on_change() != OnChange::Rerun || job.generation() > status.observed_generation;
        let changed = if is_compared { changed_tasks(spec, status) } else { BTreeSet::new() };
        let ends = status.ending.is_some();
        Self { indexes: &status.indexes, parts: &status.parts, ends, changed }
    }
}

#[derive(Debug)]
enum Tasks {
    /// All indexes below this number, all alike.
    Alike(u32),
    /// Indexes that each have a part of their own.
    Listed { parts: BTreeMap<u32, Part>, by_name: BTreeMap<String, u32> },
}

/// What differs between the tasks.
#[derive(Debug, Clone)]
struct Part {
    /// The name of its object.
    object: String,
    overrides: Overrides,
}

impl WantedTasks {
    /// The tasks of a run that already has the `known` indexes. A run that ends gets no new ones.
    /// If something in its partition set is missing, the run keeps the tasks that it has.
    pub(super) fn of(
        job: &Job,
        set: Option<&PartitionSet>,
        known: &Known<'_>,
    ) -> (Self, Option<Waiting>) {
        let (spec, before) = (&job.spec, known.indexes);
        let mut missing = None;
        // (what the index stands for, the last part of the object's name if not the index, own
        // part)
        let wanted: Vec<(String, Option<String>, Overrides)> = if let Some(target) = &spec.target {
            let names = partitions(target, set, before).unwrap_or_else(|waiting| {
                missing = Some(waiting);
                begun_with(before)
            });
            names.into_iter().map(of_partition).collect()
        } else if let Some(items) = &spec.items {
            items_of(items, indexes::keys(spec).unwrap_or_default())
        } else if spec.tasks.is_empty() {
            let tasks = Tasks::Alike(spec.count());
            return (Self::new(tasks), None);
        } else {
            let listed = spec.tasks.iter().map(|task| {
                let overrides = Overrides {
                    name: Some(task.name.clone()),
                    template: task.template.clone().map(Box::new),
                    placement: task.placement.clone().map(Box::new),
                    ..Overrides::default()
                };
                (task.name.clone(), Some(task.name.clone()), overrides)
            });
            listed.collect()
        };
        let there: BTreeSet<&String> = before.iter().collect();
        let stays = |(key, ..): &(String, _, _)| !known.ends || there.contains(key);
        (Self::listed(job, known, wanted.into_iter().filter(stays).collect()), missing)
    }

    fn new(tasks: Tasks) -> Self {
        let (indexes, parts, again) = (Vec::new(), Vec::new(), Vec::new());
        Self { indexes, parts, again, held: BTreeSet::new(), clashes: Vec::new(), tasks }
    }

    fn listed(
        job: &Job,
        before: &Known<'_>,
        wanted: Vec<(String, Option<String>, Overrides)>,
    ) -> Self {
        let none = BTreeSet::new();
        let runs_again = job.spec.on_change() == OnChange::Rerun && !before.ends;
        let again = if runs_again { &before.changed } else { &none };
        let places = indexes::without(before.indexes, again);
        let keys = wanted.iter().map(|(key, ..)| key.as_str());
        let indexes = indexes::assign(&places, keys);
        let own = indexes::parts(&job.spec, (before.indexes, before.parts), again, &indexes);
        let known: BTreeMap<&str, u32> =
            (0..).zip(&indexes).map(|(index, key)| (key.as_str(), index)).collect();
        let held = before.changed.difference(again).filter_map(|key| known.get(key).copied());
        let held = held.collect();
        let (mut parts, mut by_name, mut clashes) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (key, name, overrides) in wanted {
            let Some(index) = known.get(key.as_str()).copied() else { continue };
            let object = names::task(job.name(), &name.unwrap_or_else(|| index.to_string()));
            if by_name.contains_key(&object) {
                clashes.push(object);
                continue;
            }
            by_name.insert(object.clone(), index);
            parts.insert(index, Part { object, overrides });
        }
        let again = again.iter().map(|name| (*name).to_owned()).collect();
        Self { parts: own, again, held, indexes, clashes, tasks: Tasks::Listed { parts, by_name } }
    }

    /// The number of tasks of the run.
    pub(super) fn total(&self) -> u32 {
        match &self.tasks {
            Tasks::Alike(count) => *count,
            Tasks::Listed { parts, .. } => u32::try_from(parts.len()).unwrap_or(u32::MAX),
        }
    }

    /// All indexes are below this number.
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

    /// The name of the object of an index.
    pub(super) fn object_name(&self, job: &str, index: u32) -> String {
        match &self.tasks {
            Tasks::Alike(_) => names::task(job, &index.to_string()),
            Tasks::Listed { parts, .. } => {
                parts.get(&index).map(|part| part.object.clone()).unwrap_or_default()
            }
        }
    }

    /// How an index differs from the template.
    pub(super) fn overrides(&self, index: u32) -> Overrides {
        match &self.tasks {
            Tasks::Alike(_) => Overrides::default(),
            Tasks::Listed { parts, .. } => {
                parts.get(&index).map(|part| part.overrides.clone()).unwrap_or_default()
            }
        }
    }

    /// How an index whose task already exists differs from the template. The task keeps its
    /// template if the job's change does not apply to existing tasks.
    pub(super) fn overrides_of(&self, index: u32, there: &Overrides) -> Overrides {
        let mut overrides = self.overrides(index);
        if self.held.contains(&index) {
            overrides.template.clone_from(&there.template);
        }
        overrides
    }

    /// Whether an index differs from the template in exactly this way.
    pub(super) fn has_overrides(&self, index: u32, overrides: &Overrides) -> bool {
        match &self.tasks {
            Tasks::Alike(_) => overrides.is_empty(),
            Tasks::Listed { .. } if self.held.contains(&index) => {
                self.overrides_of(index, overrides) == *overrides
            }
            Tasks::Listed { parts, .. } => {
                parts.get(&index).is_some_and(|part| part.overrides == *overrides)
            }
        }
    }

    /// The index whose object has the name of this task.
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

/// The partitions that a run has tasks for. If the set is gone, these are the ones that the run
/// began with.
fn partitions(
    target: &api::job::Target,
    set: Option<&PartitionSet>,
    before: &[String],
) -> Result<Vec<String>, Waiting> {
    let all = match set.filter(|set| !set.is_deleting()) {
        Some(set) => set.partition_names(),
        None => begun_with(before),
    };
    if set.is_none_or(|set| set.is_deleting()) && all.is_empty() {
        return Err(Waiting::NoPartitionSet { name: target.partition_set.clone() });
    }
    let there: BTreeSet<&String> = all.iter().collect();
    if let Some(unknown) = target.partitions.iter().find(|name| !there.contains(name)) {
        let set = target.partition_set.clone();
        return Err(Waiting::NoPartition { set, partition: unknown.clone() });
    }
    let only: BTreeSet<&String> = target.partitions.iter().collect();
    Ok(all.iter().filter(|name| only.is_empty() || only.contains(name)).cloned().collect())
}

/// The partitions that a run already has tasks for.
fn begun_with(before: &[String]) -> Vec<String> {
    indexes::named(before).map(str::to_owned).collect()
}

fn of_partition(name: String) -> (String, Option<String>, Overrides) {
    let overrides = Overrides { partition: Some(name.clone()), ..Overrides::default() };
    (name, None, overrides)
}

fn items_of(
    items: &[serde_json::Value],
    keys: Vec<String>,
) -> Vec<(String, Option<String>, Overrides)> {
    let part = |(key, item): (String, &serde_json::Value)| {
        let overrides = Overrides { item: Some(Box::new(item.clone())), ..Overrides::default() };
        (key, None, overrides)
    };
    keys.into_iter().zip(items).map(part).collect()
}
