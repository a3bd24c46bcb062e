//! Jobs by number, and where their tasks succeeded.

use std::collections::{BTreeMap, BTreeSet};

use super::node::decrement;
use crate::class::{ClassId, JobId, JobKey};
use crate::slab::Slab;

/// A job that classes belong to or speak of.
#[derive(Debug)]
pub(crate) struct JobState {
    key: JobKey,
    /// How many classes belong to it or speak of it.
    users: u32,
    /// Tasks that succeeded, by node.
    pub(crate) succeeded: BTreeMap<String, u32>,
    /// Classes that want to be near it.
    pub(crate) near_classes: BTreeSet<ClassId>,
}

#[cfg(test)]
impl JobState {
    pub(crate) fn name(&self) -> String {
        format!("{} of {:?}", self.key.job, self.key.run)
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    slots: Slab<JobState>,
    ids: BTreeMap<JobKey, JobId>,
}

impl Jobs {
    pub(crate) fn at(&self, id: JobId) -> &JobState {
        self.slots.at(id.0)
    }

    pub(crate) fn at_mut(&mut self, id: JobId) -> &mut JobState {
        self.slots.at_mut(id.0)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (JobId, &JobState)> {
        self.slots.iter().map(|(id, state)| (JobId(id), state))
    }

    /// The number of a job, for one user more.
    pub(crate) fn acquire(&mut self, key: &JobKey) -> JobId {
        if let Some(id) = self.ids.get(key) {
            self.slots.at_mut(id.0).users += 1;
            return *id;
        }
        let state = JobState {
            key: key.clone(),
            users: 1,
            succeeded: BTreeMap::new(),
            near_classes: BTreeSet::new(),
        };
        let id = JobId(self.slots.insert(state));
        self.ids.insert(key.clone(), id);
        id
    }

    /// One user less.
    pub(crate) fn release(&mut self, id: JobId) {
        let state = self.slots.at_mut(id.0);
        state.users -= 1;
        if state.users == 0 {
            self.ids.remove(&self.slots.at(id.0).key);
            self.slots.remove(id.0);
        }
    }

    /// A task succeeded on a node. Answers with the classes to which that is news.
    pub(crate) fn succeeded(&mut self, id: JobId, node: &str) -> BTreeSet<ClassId> {
        let state = self.slots.at_mut(id.0);
        let count = state.succeeded.entry(node.to_owned()).or_default();
        *count += 1;
        if *count == 1 { state.near_classes.clone() } else { BTreeSet::new() }
    }

    /// A task that succeeded on a node is gone, or runs again.
    pub(crate) fn not_succeeded(&mut self, id: JobId, node: &String) -> BTreeSet<ClassId> {
        let state = self.slots.at_mut(id.0);
        decrement(&mut state.succeeded, node);
        let was_last = !state.succeeded.contains_key(node);
        if was_last { state.near_classes.clone() } else { BTreeSet::new() }
    }
}
