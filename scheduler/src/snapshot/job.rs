//! Jobs by number, and where their tasks succeeded.

use std::collections::{BTreeMap, BTreeSet};

use super::node::decrement;
use crate::class::{ClassId, JobId, JobKey};
use crate::shared::Shared;

/// A job that classes belong to or refer to.
#[derive(Debug, Default)]
pub(crate) struct JobState {
    /// Tasks that succeeded, by node.
    pub(crate) succeeded: BTreeMap<String, u32>,
    /// Classes that are to be near it.
    pub(crate) near_classes: BTreeSet<ClassId>,
}

/// All jobs. The users of a job are the classes that belong to it or refer to it.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Shared<JobKey, JobState>);

impl Jobs {
    pub(crate) fn at(&self, id: JobId) -> &JobState {
        self.0.at(id.0)
    }

    pub(crate) fn at_mut(&mut self, id: JobId) -> &mut JobState {
        self.0.at_mut(id.0)
    }

    /// All jobs with their names.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (JobId, String, &JobState)> {
        let named = |key: &JobKey| key.owner.to_string();
        self.0.iter().map(move |(id, key, state)| (JobId(id), named(key), state))
    }

    /// The number of a job, with one more user.
    pub(crate) fn acquire(&mut self, key: &JobKey) -> JobId {
        JobId(self.0.acquire(key))
    }

    /// Removes one user.
    pub(crate) fn release(&mut self, id: JobId) {
        let _was_last = self.0.release(id.0);
    }

    /// A task succeeded on a node. Returns the classes for which that changes something.
    pub(crate) fn succeeded(&mut self, id: JobId, node: &str) -> BTreeSet<ClassId> {
        let state = self.at_mut(id);
        let count = state.succeeded.entry(node.to_owned()).or_default();
        *count += 1;
        if *count == 1 { state.near_classes.clone() } else { BTreeSet::new() }
    }

    /// A task that succeeded on a node was removed or runs again.
    pub(crate) fn not_succeeded(&mut self, id: JobId, node: &String) -> BTreeSet<ClassId> {
        let state = self.at_mut(id);
        decrement(&mut state.succeeded, node);
        let was_last = !state.succeeded.contains_key(node);
        if was_last { state.near_classes.clone() } else { BTreeSet::new() }
    }
}
