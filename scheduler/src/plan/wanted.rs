//! The requirements of a class, with the data that they refer to.

use std::collections::BTreeMap;

use api::PartitionSet;
use api::job::Target;
use api::object::ObjectKey;
use api::partition_set::matches;

use crate::class::{Blocked, Facts, JobId, Shape};
use crate::snapshot::job::Jobs;
use crate::snapshot::set::{ServedBy, SetState};

/// The requirements of a class, with the data that they refer to.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) job: JobId,
    pub(crate) near: Vec<NearData<'a>>,
    pub(crate) target: Option<AtTarget<'a>>,
}

/// Data that tasks are to be near.
#[derive(Debug)]
pub(crate) struct NearData<'a> {
    pub(crate) required: bool,
    pub(crate) place: NearPlace<'a>,
}

/// Where that data is.
#[derive(Debug)]
pub(crate) enum NearPlace<'a> {
    /// On nodes with replicas of a set; on none if the set does not exist.
    Set { name: &'a str, states: &'a [String], served_by: Option<&'a ServedBy> },
    /// On nodes where tasks of a job succeeded.
    Job { name: &'a str, succeeded: &'a BTreeMap<String, u32> },
}

/// The partition whose replica a task must be beside.
#[derive(Debug)]
pub(crate) struct AtTarget<'a> {
    pub(crate) target: &'a Target,
    pub(crate) set: &'a PartitionSet,
    pub(crate) partition: &'a str,
}

impl<'a> Wanted<'a> {
    /// Looks up the data that a class refers to.
    pub(crate) fn new(
        facts: &'a Facts,
        sets: &'a BTreeMap<ObjectKey, SetState>,
        jobs: &'a Jobs,
    ) -> Result<Self, Blocked> {
        if let Some(blocked) = &facts.blocked {
            return Err(blocked.clone());
        }
        let shape = facts.shape.as_deref().expect("a class without a shape is blocked");
        let set = |name: &str| sets.get(&ObjectKey::new(&facts.key.template.namespace, name));
        let object = |name: &str| set(name).and_then(|set| set.object.as_deref());
        let missing = |name: &str| Blocked::NoPartitionSet { set: name.to_owned() };
        let required = shape.near.iter().filter(|near| near.required);
        let mut near_sets = required.filter_map(|near| near.partition_set.as_deref());
        if let Some(name) = near_sets.find(|name| object(name).is_none()) {
            return Err(missing(name));
        }
        let mut near_jobs = facts.near_jobs.iter();
        let near = shape.near.iter().filter_map(|near| {
            let place = match (&near.partition_set, &near.job) {
                (Some(name), _) => {
                    let served_by = set(name).map(|set| &set.served_by);
                    NearPlace::Set { name, states: &near.states, served_by }
                }
                (None, Some(name)) => {
                    NearPlace::Job { name, succeeded: &jobs.at(*near_jobs.next()?).succeeded }
                }
                (None, None) => return None,
            };
            Some(NearData { required: near.required, place })
        });
        let near = near.collect();
        let target = match (&shape.target, &facts.key.partition) {
            (Some(target), Some(partition)) => {
                let name = &target.partition_set;
                let set = object(name).ok_or_else(|| missing(name))?;
                Some(AtTarget { target, set, partition })
            }
            (Some(_), None) | (None, _) => None,
        };
        Ok(Self { shape, job: facts.job, near, target })
    }

    /// The requirements of a job of the same shape without tasks, for shapes that are the same for
    /// all jobs.
    pub(crate) fn of_no_job(&self) -> Self {
        Self { shape: self.shape, job: JobId::NONE, near: Vec::new(), target: None }
    }
}

impl NearData<'_> {
    /// Whether this node has the data.
    pub(crate) fn holds(&self, node: &str) -> bool {
        match &self.place {
            NearPlace::Set { states, served_by, .. } => {
                let held = served_by.and_then(|served_by| served_by.get(node));
                held.is_some_and(|held| held.iter().any(|state| matches(states, state)))
            }
            NearPlace::Job { succeeded, .. } => succeeded.contains_key(node),
        }
    }
}

impl<'a> AtTarget<'a> {
    /// The nodes with a matching replica.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let states = self.target.states.as_slice();
        let replicas = self.set.replicas(self.partition);
        replicas.filter(move |(_, state)| matches(states, state)).map(|(node, _)| node)
    }
}
