//! The description of a partition set: its replicas and the tasks beside them.

use api::partition_set::PartitionSet;
use api::resource::Resource as _;
use api::table::text_or_dash;
use api::{Kind as _, Task, Timestamp};

use super::{Sheet, labels, place};

/// The description of a partition set. Of `tasks`, those that target one of its partitions are
/// shown.
pub fn text(set: &PartitionSet, tasks: &[Task], now: Timestamp) -> Sheet {
    let mut sheet = Sheet::default();
    let cells = set.row(now);
    let cell = |heading: &str| {
        let index = PartitionSet::columns().iter().position(|column| column.name == heading);
        index.and_then(|index| cells.get(index)).cloned().unwrap_or_default()
    };
    let deleting = if set.is_deleting() { ", being deleted" } else { "" };
    sheet.line(&format!("PartitionSet {}: {}{deleting}", place(set), cell("STATUS")));
    sheet.field("Why", &cell("WHY"));
    let replicas = set.spec.replicas.unwrap_or(1);
    let many = |count: usize, word: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {word}{plural}")
    };
    let partitions = many(set.partition_names().len(), "partition");
    let replicas = many(usize::try_from(replicas).unwrap_or(usize::MAX), "replica");
    let (model, mode) = (&set.spec.state_model, cell("MODE"));
    sheet.field("Model", &format!("{model}, mode {mode}, {partitions} of {replicas}"));
    sheet.field("Labels", &labels(set));
    sheet.conditions(&set.status.conditions);
    let rows = set.partition_names().iter().map(|name| row(set, name, tasks)).collect();
    sheet.table("Partitions", &["NAME", "REPLICAS", "TASKS"], rows);
    sheet
}

fn row(set: &PartitionSet, partition: &str, tasks: &[Task]) -> Vec<String> {
    let replicas: Vec<String> =
        set.replicas(partition).map(|(node, state)| format!("{node} {state}")).collect();
    let beside = |task: &&Task| {
        task.namespace() == set.namespace()
            && !task.has_ended()
            && task.spec.overrides.partition.as_deref() == Some(partition)
    };
    let tasks: Vec<String> = tasks
        .iter()
        .filter(beside)
        .map(|task| {
            let node = task.node().map(|node| format!(" on {node}")).unwrap_or_default();
            format!("{} {}{node}", task.name(), task.phase())
        })
        .collect();
    vec![partition.to_owned(), text_or_dash(&replicas.join(", ")), text_or_dash(&tasks.join(", "))]
}
