//! Cuts operations into groups that can be written: pure.
//!
//! A group is one transaction of the store, which has a bound on its operations and on its bytes. A
//! group over either can never be written, and whoever asks for it again and again gets nowhere.

use api::Task;
use api::batch::{Group, Op};
use api::object::Kind as _;
use api::size::{GROUP_BYTES_MAX, json_bytes};

/// What a task object takes beside its own part of the template and its labels, generously: names,
/// owner, binding, an agent's report.
const TASK_BYTES: usize = 4 * 1024;

/// An operation, and about how many bytes the store writes for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parcel {
    pub(crate) op: Op,
    pub(crate) bytes: usize,
}

impl From<Op> for Parcel {
    fn from(op: Op) -> Self {
        let bytes = bytes_of(&op);
        Self { op, bytes }
    }
}

impl Parcel {
    /// A change of a task, or its making anew: the whole task is written.
    pub(crate) fn of_task(op: Op, task: &Task) -> Self {
        Self { op, bytes: task_bytes(task) }
    }
}

/// What the store writes for an operation that holds its object. A change of a task does not hold
/// the task: see [`Parcel::of_task`].
fn bytes_of(op: &Op) -> usize {
    match op {
        Op::Create { object } | Op::Replace { object } | Op::Status { object } => {
            json_bytes(object)
        }
        Op::Delete { .. } | Op::Remove { .. } | Op::Emptied { .. } => 0,
        // It is of an object whose size is not known here: such a patch has a group for itself.
        Op::Patch { patch, .. } => json_bytes(patch),
        Op::Task { .. } | Op::Record { .. } => TASK_BYTES,
    }
}

/// About what the store writes for a task.
pub(crate) fn task_bytes(task: &Task) -> usize {
    let overrides = &task.spec.overrides;
    let own = if overrides.is_empty() { 0 } else { json_bytes(overrides) };
    let labels = task.meta().labels.iter().flatten();
    TASK_BYTES + own + labels.map(|(key, value)| key.len() + value.len() + 6).sum::<usize>()
}

/// Cuts operations into groups of at most `ops_max` operations, each of which fits a transaction
/// (but for one operation that alone does not).
pub(crate) fn groups(ops: impl IntoIterator<Item = Parcel>, ops_max: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut room = 0;
    for Parcel { op, bytes } in ops {
        match groups.last_mut().filter(|group| group.ops.len() < ops_max && bytes <= room) {
            Some(group) => {
                group.ops.push(op);
                room -= bytes;
            }
            None => {
                groups.push(op.into());
                room = GROUP_BYTES_MAX.saturating_sub(bytes);
            }
        }
    }
    groups
}

/// One group that begins with `first` and takes in as many of `rest`, in order, as fit beside it.
pub(crate) fn beside(
    first: Parcel,
    rest: impl IntoIterator<Item = Parcel>,
    ops_max: usize,
) -> Group {
    let all = std::iter::once(first).chain(rest.into_iter().take(ops_max));
    groups(all, ops_max + 1).into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(bytes: &[usize]) -> Vec<Parcel> {
        let op = Op::Remove { key: api::ObjectKey::new("default", "a"), uid: String::new() };
        bytes.iter().map(|bytes| Parcel { op: op.clone(), bytes: *bytes }).collect()
    }

    fn lengths(groups: &[Group]) -> Vec<usize> {
        groups.iter().map(|group| group.ops.len()).collect()
    }

    #[test]
    fn groups_are_cut_by_operations_and_by_bytes() {
        let most = GROUP_BYTES_MAX;
        assert_eq!(lengths(&groups(ops(&[1; 7]), 3)), [3, 3, 1]);
        assert_eq!(lengths(&groups(ops(&[most / 2, most / 2, 1, most, 1]), 99)), [2, 1, 1, 1]);
        assert_eq!(lengths(&groups(ops(&[most + 1, 1]), 99)), [1, 1]);
        let [first, rest @ ..] = &ops(&[most - 2, 1, 1, 1])[..] else { panic!("there are four") };
        assert_eq!(beside(first.clone(), rest.to_vec(), 99).ops.len(), 3);
        assert_eq!(beside(first.clone(), rest.to_vec(), 1).ops.len(), 2);
        assert_eq!(groups(ops(&[]), 3), []);
    }
}
