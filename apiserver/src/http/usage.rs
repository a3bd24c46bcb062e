//! How much of each node is taken by tasks, for tables. This is not stored: it is the sum of what
//! is bound.

use std::collections::BTreeMap;

use api::node::Usage;
use api::{Kind as _, KindId, Node, ObjectKey, Task, TaskTemplate, Timestamp};

use crate::cache::{Cache, Entry};
use crate::keys;

/// How much of each of `nodes` is taken, according to the cache.
pub(super) fn of_nodes<'a>(
    cache: &Cache,
    nodes: impl Iterator<Item = &'a ObjectKey>,
) -> BTreeMap<String, Usage> {
    let mut usages: BTreeMap<String, Usage> =
        nodes.map(|node| (node.name.clone(), Usage::default())).collect();
    if usages.is_empty() {
        return usages;
    }
    let mut templates: BTreeMap<ObjectKey, Option<TaskTemplate>> = BTreeMap::new();
    let tasks = cache.cut(&[keys::prefix(KindId::Task, "")], |it| usages.contains_key(node_of(it)));
    for entry in tasks.entries {
        let Some(usage) = usages.get_mut(node_of(&entry)) else { continue };
        let Ok(task) = serde_json::from_slice::<Task>(&entry.wire) else { continue };
        if task.takes_resources_on().is_none() {
            continue;
        }
        let key = ObjectKey::new(task.namespace(), &*task.spec.template);
        let template = templates.entry(key).or_insert_with_key(|key| {
            let entry = cache.get(&keys::object(KindId::TaskTemplate, key))?;
            serde_json::from_slice(&entry.wire).ok()
        });
        let requests = template.as_ref().map(|it| it.spec.requests(&task.spec.overrides));
        usage.add(requests.unwrap_or_default());
    }
    usages
}

/// The node that a task is bound to; empty if there is none.
fn node_of(task: &Entry) -> &str {
    task.fields.get("spec.nodeName").unwrap_or_default()
}

/// The row of a node, with how much of it is taken.
pub(super) fn row(wire: &[u8], usage: &Usage, now: Timestamp) -> Vec<String> {
    serde_json::from_slice::<Node>(wire)
        .map(|node| node.row_with(Some(usage), now))
        .unwrap_or_default()
}
