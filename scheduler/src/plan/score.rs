//! How well a node fits.
//!
//! # Invariants
//!
//! * Without wishes, evenness decides alone: fewer tasks of the job, then more room.
//! * A wish that is not required is a head start: it outweighs a bounded difference in evenness, and
//!   never decides however full its node is.
//! * A promise only ever lowers the score of its node, and leaves its head start: a score that was
//!   computed before it is still an upper bound. The search for the best node rests on that.

use std::cmp::Reverse;
use std::sync::Arc;

use super::wanted::Wanted;
use crate::class::JobId;
use crate::resources::{Requests, ResourceId};
use crate::snapshot::node::NodeState;

/// How even the tasks are spread once one more is on a node; greater is better.
///
/// Compared field by field from the top, so the order of the fields is the policy: the name breaks
/// ties so that equal inputs give equal placements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// Tasks of the same job that are here or promised.
    pub(crate) same_job: Reverse<u32>,
    /// The resource most taken once the task is here, in thousandths.
    pub(crate) taken_per_mille: Reverse<u64>,
    /// Tasks that are here or promised.
    pub(crate) tasks: Reverse<u32>,
    /// Ordered as the names are.
    pub(crate) name: Reverse<u64>,
}

/// What wishes are worth that hold on a node, in tasks of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeadStart(u32);

/// That the image need not be pulled is worth so many tasks.
const IMAGE_TASKS: u32 = 2;
/// So many is it worth to be near something that the task wants to be near.
const NEAR_TASKS: u32 = 10;
/// A preference is worth one task for each so much of its weight of 1 to 100.
const WEIGHT_OF_A_TASK: u32 = 10;
/// All wishes together are worth so many tasks at most: an index keeps a heap for each number.
const HEAD_START_MAX: u32 = 20;
/// A task of a head start outweighs so much of a node that is taken, in thousandths: at most, all.
const PER_MILLE_OF_A_TASK: u64 = 50;
/// A task of a head start outweighs so many tasks of other jobs, where tasks request nothing that
/// would tell how full a node is.
const OTHERS_OF_A_TASK: u32 = 4;

/// What the wishes of a class are worth on a node.
pub(crate) fn head_start(wanted: &Wanted<'_>, node: &NodeState) -> HeadStart {
    let shape = wanted.shape;
    let object = node.object.as_ref();
    let holds = |label: &str| object.and_then(|object| object.constraint_label(label));
    let preferences = shape.preferences.iter();
    let preferences = preferences.filter(|(_, wish)| wish.holds(holds(&wish.label)));
    let preferences = preferences.map(|(weight, _)| weight.div_ceil(WEIGHT_OF_A_TASK));
    let has_image = object.is_some_and(|object| object.status.images.contains(&shape.image));
    let near = wanted.near.iter().filter(|near| near.holds(&node.name)).map(|_| NEAR_TASKS);
    let image = has_image.then_some(IMAGE_TASKS);
    let all = preferences.chain(near).chain(image).fold(0, u32::saturating_add);
    HeadStart(all.min(HEAD_START_MAX))
}

/// How even the tasks are once one more of the class is on a node.
pub(crate) fn score(requests: &Requests, job: JobId, node: &NodeState) -> Score {
    Score {
        same_job: Reverse(node.tasks_of(job)),
        taken_per_mille: Reverse(taken_per_mille(requests, node)),
        tasks: Reverse(node.tasks),
        name: Reverse(node.rank),
    }
}

fn taken_per_mille(requests: &[(Arc<str>, ResourceId, u64)], node: &NodeState) -> u64 {
    let share = |(id, offered): (_, u64)| {
        let wanted = requests.iter().find(|(_, wanted, _)| *wanted == id);
        let taken = node.taken.get(id).saturating_add(wanted.map_or(0, |(_, _, amount)| *amount));
        taken.saturating_mul(1000).checked_div(offered).unwrap_or(0)
    };
    node.allocatable.iter().map(share).max().unwrap_or(0)
}

/// A node that may be chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) head_start: HeadStart,
    pub(crate) score: Score,
    pub(crate) node: &'a NodeState,
}

/// The best of the candidates, which are the most even of each head start: the one with the greatest
/// head start that is not used up, measured against the most even of all.
pub(crate) fn best<'a>(wanted: &Wanted<'_>, candidates: &[Candidate<'a>]) -> Option<Candidate<'a>> {
    let plain = candidates.iter().max_by_key(|candidate| candidate.score)?;
    let ahead = candidates.iter().filter(|candidate| is_ahead(wanted, candidate, plain));
    Some(*ahead.max_by_key(|candidate| candidate.head_start).unwrap_or(plain))
}

/// Whether what is on a node has not used up its head start.
fn is_ahead(wanted: &Wanted<'_>, one: &Candidate<'_>, plain: &Candidate<'_>) -> bool {
    let Some(worth) = one.head_start.0.checked_sub(plain.head_start.0).filter(|worth| *worth > 0)
    else {
        return false;
    };
    let within = |one: u64, plain: u64, allowed: u64| one <= plain.saturating_add(allowed);
    let of_job = |candidate: &Candidate<'_>| u64::from(candidate.node.tasks_of(wanted.job));
    // Without the task itself: an empty node is not full, however small it is.
    let taken = |candidate: &Candidate<'_>| taken_per_mille(&[], candidate.node);
    let tasks = |candidate: &Candidate<'_>| u64::from(candidate.node.tasks);
    let others = u64::from(worth.saturating_mul(OTHERS_OF_A_TASK));
    within(of_job(one), of_job(plain), u64::from(worth))
        && within(taken(one), taken(plain), u64::from(worth).saturating_mul(PER_MILLE_OF_A_TASK))
        && (!wanted.shape.requests.is_empty() || within(tasks(one), tasks(plain), others))
}
