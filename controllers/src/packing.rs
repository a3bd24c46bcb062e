//! Packs actions into groups that can be written. It has no side effects.
//! A group is one transaction of the store, which limits its operations and its bytes. A group over
//! either limit could never be written, and a controller that asks for it would be stuck.

use api::Task;
use api::object::Kind as _;
use api::size::{GROUP_BYTES_MAX, json_bytes};
use api::task::Overrides;
use runtime::UNHELD_LABELS_BYTES_MAX;

use crate::action::{Action, Group, New, NewTask, NewTasks, Status};

/// A generous estimate of a task object's size without its own part of the template and the labels
/// that are held: names, owner, binding, the report of an agent, labels that are not held.
const TASK_BYTES: usize = 4 * 1024 + UNHELD_LABELS_BYTES_MAX;

/// An action, and about how many bytes the store writes for it. (Actions that create many tasks can
/// be split, so their tasks are measured one by one when they are packed.)
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parcel {
    pub(crate) action: Action,
    pub(crate) bytes: usize,
}

impl From<Action> for Parcel {
    fn from(action: Action) -> Self {
        let bytes = bytes_of(&action);
        Self { action, bytes }
    }
}

impl Parcel {
    /// A change of a task, or the making of a new attempt: the store writes the whole task.
    pub(crate) fn of_task(action: Action, task: &Task) -> Self {
        Self { action, bytes: task_bytes(task) }
    }

    /// A change of some fields of an object: the store writes the whole object, and the new values.
    pub(crate) fn of_patch(action: Action, object: &impl serde::Serialize) -> Self {
        let bytes = json_bytes(object) + bytes_of(&action);
        Self { action, bytes }
    }
}

/// The number of bytes that the store writes for an action that contains its object. A change of a
/// task does not contain the task: see [`Parcel::of_task`].
fn bytes_of(action: &Action) -> usize {
    match action {
        Action::Create(New::TaskTemplate(object)) => json_bytes(object),
        Action::Create(New::Job(object)) | Action::Status(Status::Job(object)) => {
            json_bytes(object)
        }
        Action::Create(New::WorkflowRun(object)) | Action::Status(Status::WorkflowRun(object)) => {
            json_bytes(object)
        }
        Action::Status(Status::Service(object)) => json_bytes(object),
        Action::Status(Status::Workflow(object)) => json_bytes(object),
        Action::Status(Status::PartitionSet(object)) => json_bytes(object),
        Action::Status(Status::Node(object)) => json_bytes(object),
        Action::Status(Status::Namespace(object)) => json_bytes(object),
        Action::CreateTasks(tasks) => {
            let alike = json_bytes(&tasks.alike);
            tasks.each.iter().map(|task| alike + own_bytes(task)).sum()
        }
        // The size of the object is not known here: see [`Parcel::of_patch`].
        Action::Patch(patch) => patch.bytes(),
        Action::Delete { .. } | Action::Remove { .. } | Action::Emptied { .. } => 0,
        Action::Task { .. } | Action::Record { .. } => TASK_BYTES,
    }
}

/// About how many bytes the store writes for a task.
pub(crate) fn task_bytes(task: &Task) -> usize {
    let labels = task.meta().labels.iter().flatten();
    let labels = labels.map(|(key, value)| key.len() + value.len() + 6).sum::<usize>();
    TASK_BYTES + overrides_bytes(&task.spec.overrides) + labels
}

fn overrides_bytes(overrides: &Overrides) -> usize {
    if overrides.is_empty() { 0 } else { json_bytes(overrides) + ",\"overrides\":".len() }
}

/// The size of what differs between new tasks; a number has at most ten digits.
fn own_bytes(task: &NewTask) -> usize {
    task.name.len() + 10 + overrides_bytes(&task.overrides)
}

/// Packs actions into groups of at most `ops_max` operations that each fit a transaction (unless a
/// single operation does not fit). Tasks that are created together are split over as many groups as
/// they need.
pub(crate) fn groups(parcels: impl IntoIterator<Item = Parcel>, ops_max: usize) -> Vec<Group> {
    let mut packer = Packer { groups: Vec::new(), ops_max, ops_left: 0, bytes_left: 0 };
    for Parcel { action, bytes } in parcels {
        match action {
            Action::CreateTasks(tasks) => packer.add_tasks(tasks),
            Action::Create(_)
            | Action::Patch(_)
            | Action::Status(_)
            | Action::Task { .. }
            | Action::Record { .. }
            | Action::Remove { .. }
            | Action::Delete { .. }
            | Action::Emptied { .. } => {
                packer.make_room(bytes);
                packer.put(action, 1, bytes);
            }
        }
    }
    packer.groups
}

/// A group that starts with `first` and takes as much of `rest`, in order, as fits, with at most
/// `ops_max` operations.
pub(crate) fn beside(
    first: Parcel,
    rest: impl IntoIterator<Item = Parcel>,
    ops_max: usize,
) -> Group {
    let all = std::iter::once(first).chain(rest.into_iter().take(ops_max));
    groups(all, ops_max + 1).into_iter().next().unwrap_or_default()
}

/// Groups, and how much room is left in the last one.
struct Packer {
    groups: Vec<Group>,
    ops_max: usize,
    ops_left: usize,
    bytes_left: usize,
}

impl Packer {
    /// Starts a new group unless the last one has room for an operation of this size.
    fn make_room(&mut self, bytes: usize) {
        if self.ops_left == 0 || bytes > self.bytes_left {
            self.groups.push(Group::default());
            (self.ops_left, self.bytes_left) = (self.ops_max, GROUP_BYTES_MAX);
        }
    }

    fn put(&mut self, action: Action, ops: usize, bytes: usize) {
        self.ops_left = self.ops_left.saturating_sub(ops);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        if let Some(group) = self.groups.last_mut() {
            group.actions.push(action);
        }
    }

    fn add_tasks(&mut self, mut tasks: NewTasks) {
        let alike = json_bytes(&tasks.alike);
        while let Some(first) = tasks.each.first() {
            self.make_room(alike + own_bytes(first));
            // The first one is added whatever its size: no group has more room than this one.
            let (mut count, mut bytes) = (1, alike + own_bytes(first));
            for task in tasks.each.iter().take(self.ops_left).skip(1) {
                let next = bytes + alike + own_bytes(task);
                if next > self.bytes_left {
                    break;
                }
                (count, bytes) = (count + 1, next);
            }
            let rest = tasks.split_off(count);
            self.put(Action::CreateTasks(tasks), count, bytes);
            tasks = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use api::ObjectKey;
    use api::task::TaskSpec;

    use super::*;
    use crate::action::ObjectRef;

    fn parcels(bytes: &[usize]) -> Vec<Parcel> {
        let task = ObjectRef { key: ObjectKey::new("default", "a"), uid: String::new() };
        let action = Action::Remove { task };
        bytes.iter().map(|bytes| Parcel { action: action.clone(), bytes: *bytes }).collect()
    }

    fn lengths(groups: &[Group]) -> Vec<usize> {
        groups.iter().map(Group::ops).collect()
    }

    #[test]
    fn groups_are_cut_by_operations_and_by_bytes() {
        let most = GROUP_BYTES_MAX;
        assert_eq!(lengths(&groups(parcels(&[1; 7]), 3)), [3, 3, 1]);
        assert_eq!(lengths(&groups(parcels(&[most / 2, most / 2, 1, most, 1]), 99)), [2, 1, 1, 1]);
        assert_eq!(lengths(&groups(parcels(&[most + 1, 1]), 99)), [1, 1]);
        let [first, rest @ ..] = &parcels(&[most - 2, 1, 1, 1])[..] else {
            panic!("there are four")
        };
        assert_eq!(beside(first.clone(), rest.to_vec(), 99).ops(), 3);
        assert_eq!(beside(first.clone(), rest.to_vec(), 1).ops(), 2);
        assert_eq!(groups(parcels(&[]), 3), []);
    }

    /// New tasks, of which the first has an item of this size.
    fn new_tasks(count: u32, item_bytes: usize) -> NewTasks {
        let item = |index| (index == 0).then(|| Box::new("x".repeat(item_bytes).into()));
        let task = |index| NewTask {
            index,
            name: format!("j-{index}"),
            overrides: Overrides { item: item(index), ..Overrides::default() },
        };
        let alike = Task::new("default", "", TaskSpec::default());
        NewTasks { alike: Box::new(alike), each: (0..count).map(task).collect() }
    }

    fn indexes(group: &Group) -> Vec<u32> {
        let Some(Action::CreateTasks(tasks)) = group.actions.last() else { panic!("{group:?}") };
        tasks.each.iter().map(|task| task.index).collect()
    }

    #[test]
    fn tasks_that_are_made_together_are_cut_where_a_group_is_full() {
        let tasks = |item_bytes| Parcel::from(Action::CreateTasks(new_tasks(5, item_bytes)));
        let other = || parcels(&[1]).into_iter();
        let cut = groups(other().chain([tasks(0)]), 3);
        assert_eq!(cut.iter().map(indexes).collect::<Vec<_>>(), [vec![0, 1], vec![2, 3, 4]]);
        assert_eq!(indexes(&beside(other().next().unwrap(), [tasks(0)], 3)), [0, 1, 2]);
        // An action that fits into no group gets one of its own.
        let cut = groups([tasks(GROUP_BYTES_MAX)], 3);
        assert_eq!(cut.iter().map(indexes).collect::<Vec<_>>(), [vec![0], vec![1, 2, 3], vec![4]]);
        let cut = groups(other().chain([tasks(GROUP_BYTES_MAX)]), 3);
        assert_eq!(lengths(&cut), [1, 1, 3, 1]);
        let cut = groups([tasks(GROUP_BYTES_MAX / 2)], 99);
        assert_eq!(lengths(&cut), [5]);
    }

    /// The estimated size of a task is never less than its real size.
    #[test]
    fn new_tasks_are_measured_generously() {
        let tasks = new_tasks(3, 1000);
        let written: usize = tasks.objects().map(|task| json_bytes(&task)).sum();
        let measured = bytes_of(&Action::CreateTasks(tasks));
        assert!(measured >= written && measured < written + 200, "{measured} for {written}");
    }
}
