//! Promise 8, as the store has it: what is bound to a node fits it, on every resource and port.

use std::collections::{BTreeMap, BTreeSet};

use api::amounts::Amounts;
use api::template::Template;
use api::{Kind as _, Task, merge};
use runtime::{Any, Snapshot};

use super::raw;
use crate::history::Moment;

/// Checks the nodes on which this revision takes something.
pub(super) fn check(moment: &Moment<'_>) {
    let mut nodes = BTreeSet::new();
    for change in moment.changes {
        let Some(Any::Task(now)) = &change.now else { continue };
        let before = match &change.before {
            Some(Any::Task(before)) => raw::takes(before),
            _ => None,
        };
        nodes.extend(raw::takes(now).filter(|node| before != Some(node)));
    }
    nodes.into_iter().for_each(|node| fits(moment.seen, node));
}

fn fits(seen: &Snapshot, name: &str) {
    let Some(node) = seen.nodes.get(&api::ObjectKey::new("", name)) else { return };
    let (mut taken, mut ports) = (Amounts::new(), BTreeMap::new());
    for task in seen.tasks.iter().filter(|task| raw::takes(task) == Some(name)) {
        let template = template(seen, task);
        for (resource, amount) in template.requests() {
            *taken.entry(resource).or_default() += amount;
        }
        for port in template.ports.iter().filter_map(|port| port.host_port) {
            let other = ports.insert(port, task.name());
            assert_eq!(other, None, "promise 8: {} takes it, too: {port} of {name}", task.name());
        }
    }
    let has = node.allocatable();
    for (resource, amount) in taken {
        let room = has.get(&resource).copied().unwrap_or_default();
        assert!(amount <= room, "promise 8: {name} has {room} {resource}, {amount} is taken");
    }
}

fn template(seen: &Snapshot, task: &Task) -> Template {
    let key = api::ObjectKey::new(task.namespace(), &*task.spec.template);
    let template = seen.task_templates.get(&key).expect("a bound task has a template");
    merge::template(&template.spec.template, task.spec.overrides.template.as_deref()).unwrap()
}
