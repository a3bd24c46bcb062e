//! How well a node fits.
//!
//! # Invariants
//!
//! * Without preferences only the spread counts: fewer tasks of the job first, then more free room.
//! * A preference that is not required gives a node a head start: it outweighs a bounded difference
//!   in the spread, and never decides however full the node is.
//! * A placement only lowers the score of its node and does not change its head start. So a score
//!   that was computed earlier is still an upper bound. The search for the best node depends on
//!   this.

use std::cmp::Reverse;
use std::sync::Arc;

use api::taint;

use super::wanted::Wanted;
use crate::class::JobId;
use crate::resources::{Requests, ResourceId};
use crate::snapshot::node::NodeState;

/// How evenly the tasks are spread with one more on a node; greater is better.
///
/// Compared field by field from the top, so the order of the fields is the policy. The name breaks
/// ties, so that equal inputs give equal placements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// Tasks of the same job on the node, promised ones included.
    pub(crate) same_job: Reverse<u32>,
    /// The most used resource of the node with the task on it, in thousandths.
    pub(crate) taken_per_mille: Reverse<u64>,
    /// Tasks on the node, promised ones included.
    pub(crate) tasks: Reverse<u32>,
    /// The rank of the node's name.
    pub(crate) name: Reverse<u64>,
}

/// The value of the preferences that a node satisfies, as a number of tasks of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeadStart(u32);

/// How many tasks it is worth that the image need not be pulled.
const IMAGE_TASKS: u32 = 2;
/// How many tasks it is worth to be near the data that `near` names.
const NEAR_TASKS: u32 = 10;
/// How much of a preference's weight (1 to 100) is worth one task.
const WEIGHT_OF_A_TASK: u32 = 10;
/// Largest sum of these, in tasks: an index has one heap for each value of a head start.
const HEAD_START_MAX: u32 = 20;
/// How many tasks it is worth that a node has no taint of effect PreferNoSchedule: such a node is
/// used as long as others are not full.
const NOT_AVOIDED_TASKS: u32 = HEAD_START_MAX;
/// How much of a node's use, in thousandths, one task of head start outweighs. The largest head
/// start outweighs a full node.
const PER_MILLE_OF_A_TASK: u64 = 50;
/// How many tasks of other jobs one task of head start outweighs, if tasks request nothing that
/// would show how full a node is.
const OTHERS_OF_A_TASK: u32 = 4;

/// The head start of a node for a class.
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
    let is_avoided =
        object.is_some_and(|it| taint::is_avoided(&it.spec.taints, &shape.tolerations));
    let not_avoided = if is_avoided { 0 } else { NOT_AVOIDED_TASKS };
    HeadStart(all.min(HEAD_START_MAX) + not_avoided)
}

/// The score of a node with one more task of the class.
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

/// The best candidate. The candidates are the best nodes of each head start; of those whose head
/// start is not used up, compared with the most even one, the greatest head start wins.
pub(crate) fn best<'a>(wanted: &Wanted<'_>, candidates: &[Candidate<'a>]) -> Option<Candidate<'a>> {
    let plain = candidates.iter().max_by_key(|candidate| candidate.score)?;
    let ahead = candidates.iter().filter(|candidate| is_ahead(wanted, candidate, plain));
    Some(*ahead.max_by_key(|candidate| candidate.head_start).unwrap_or(plain))
}

/// Whether the tasks on a node have not used up its head start.
fn is_ahead(wanted: &Wanted<'_>, one: &Candidate<'_>, plain: &Candidate<'_>) -> bool {
    let Some(worth) = one.head_start.0.checked_sub(plain.head_start.0).filter(|worth| *worth > 0)
    else {
        return false;
    };
    let within = |one: u64, plain: u64, allowed: u64| one <= plain.saturating_add(allowed);
    let of_job = |candidate: &Candidate<'_>| u64::from(candidate.node.tasks_of(wanted.job));
    // Without the new task: an empty node is not full, however small it is.
    let taken = |candidate: &Candidate<'_>| taken_per_mille(&[], candidate.node);
    let tasks = |candidate: &Candidate<'_>| u64::from(candidate.node.tasks);
    let others = u64::from(worth.saturating_mul(OTHERS_OF_A_TASK));
    within(of_job(one), of_job(plain), u64::from(worth))
        && within(taken(one), taken(plain), u64::from(worth).saturating_mul(PER_MILLE_OF_A_TASK))
        && (!wanted.shape.requests.is_empty() || within(tasks(one), tasks(plain), others))
}
