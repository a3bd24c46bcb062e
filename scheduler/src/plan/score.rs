//! How well a node fits.

use std::cmp::Reverse;

use super::wanted::Wanted;
use crate::class::JobId;
use crate::resources::Requests;
use crate::snapshot::NodeState;

/// How well a node fits; greater is better.
///
/// Compared field by field from the top, so the order of the fields is the policy: data beats
/// wishes, wishes beat room, and the name breaks ties so that equal inputs give equal placements.
///
/// A promise only ever lowers the score of its node: a score that was computed before it is still
/// an upper bound. The search for the best node rests on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// How many of the things that the task wants to be near are here.
    pub near: u32,
    /// No attempt of the task failed here.
    pub not_avoided: bool,
    /// The weights of the preferences that hold here.
    pub preferences: u32,
    /// The image need not be pulled.
    pub has_image: bool,
    /// Tasks of the same job that are here or promised.
    pub same_job: Reverse<u32>,
    /// The resource most taken once the task is here, in thousandths.
    pub taken_per_mille: Reverse<u64>,
    /// Tasks that are here or promised.
    pub tasks: Reverse<u32>,
    /// Ordered as the names are.
    pub name: Reverse<u64>,
}

/// How well a node fits that admits the class.
pub(crate) fn score(wanted: &Wanted<'_>, node: &NodeState) -> Score {
    let shape = wanted.shape;
    let object = node.object.as_ref();
    let holds = |label: &str| object.and_then(|object| object.constraint_label(label));
    let preferences = shape.preferences.iter();
    let preferences = preferences.filter(|(_, wish)| wish.holds(holds(&wish.label)));
    let has_image = object.is_some_and(|object| object.status.images.contains(&shape.image));
    let near = wanted.near.iter().filter(|near| near.holds(&node.name)).count();
    let score = Score {
        near: u32::try_from(near).unwrap_or(u32::MAX),
        not_avoided: true,
        preferences: preferences.map(|(weight, _)| weight).sum(),
        has_image,
        same_job: Reverse(0),
        taken_per_mille: Reverse(0),
        tasks: Reverse(0),
        name: Reverse(node.rank),
    };
    score.with_room(&shape.requests, wanted.job, node)
}

impl Score {
    /// The same score with what tasks take of the node counted anew.
    pub(crate) fn with_room(self, requests: &Requests, job: JobId, node: &NodeState) -> Self {
        Self {
            same_job: Reverse(node.tasks_of(job)),
            taken_per_mille: Reverse(taken_per_mille(requests, node)),
            tasks: Reverse(node.tasks),
            ..self
        }
    }
}

fn taken_per_mille(requests: &Requests, node: &NodeState) -> u64 {
    let share = |(id, offered): (_, u64)| {
        let wanted = requests.iter().find(|(_, wanted, _)| *wanted == id);
        let taken = node.taken.get(id) + wanted.map_or(0, |(_, _, amount)| *amount);
        taken.saturating_mul(1000).checked_div(offered).unwrap_or(0)
    };
    node.allocatable.iter().map(share).max().unwrap_or(0)
}
