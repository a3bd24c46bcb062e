//! Promise 3: what is recorded is final, was true, and nothing of it runs again in its run.

use std::collections::BTreeMap;

use api::completion::End;
use api::{CompletionChunk, Kind as _, Task};
use runtime::{Any, Snapshot};

use super::machines::Machines;
use crate::history::Moment;

/// A job's uid, a run of it, an index in that.
type Place = (String, u32, u32);

/// What is recorded.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// How each place ended, and with which attempt where its task was still there.
    ends: BTreeMap<Place, (End, Option<u32>)>,
}

impl Record {
    /// Checks every chunk and task that this revision changed.
    pub(super) fn check(&mut self, moment: &Moment<'_>, machines: &Machines) {
        for change in moment.changes {
            if let Some(Any::CompletionChunk(now)) = &change.now {
                let before = match &change.before {
                    Some(Any::CompletionChunk(before)) => Some(&**before),
                    _ => None,
                };
                self.grows(before, now, moment.seen, machines);
            }
        }
        for change in moment.changes {
            if let Some(Any::Task(task)) = &change.now {
                self.is_final(task, change.before.is_none());
            }
        }
    }

    fn grows(
        &mut self,
        before: Option<&CompletionChunk>,
        now: &CompletionChunk,
        seen: &Snapshot,
        machines: &Machines,
    ) {
        let ends: BTreeMap<u32, End> = now.ends().collect();
        for (index, was) in before.into_iter().flat_map(CompletionChunk::ends) {
            let is = ends.get(&index);
            let name = now.name();
            assert_eq!(is, Some(&was), "promise 3: {index} of {name} was {was:?}");
        }
        for (index, end) in ends {
            let place = (now.spec.job.clone(), now.spec.run, index);
            if self.ends.contains_key(&place) {
                continue;
            }
            let task = seen.tasks.iter().find(|task| place_of(task).as_ref() == Some(&place));
            if let (End::Succeeded, Some(task)) = (end, task) {
                let did = machines.ran_well(task.uid(), task.spec.attempt);
                assert!(did, "promise 3: {} is recorded as what it never did", task.name());
            }
            self.ends.insert(place, (end, task.map(|task| task.spec.attempt)));
        }
    }

    fn is_final(&self, task: &Task, is_new: bool) {
        let Some(place) = place_of(task) else { return };
        if let Some((end, attempt)) = self.ends.get(&place) {
            let same = *attempt == Some(task.spec.attempt) && !is_new;
            assert!(same, "promise 3: {} is recorded as {end:?}, and runs again", task.name());
        }
    }
}

fn place_of(task: &Task) -> Option<Place> {
    Some((task.controller()?.uid.clone(), task.spec.run, task.spec.index))
}
