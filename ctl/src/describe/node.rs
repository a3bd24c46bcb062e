//! The description of a node: its resources, what is reserved, and by which tasks.

use std::collections::BTreeMap;

use api::amounts::{self, Amounts, Quantity};
use api::node::{Node, NodeInfo, Usage};
use api::resource::Resource as _;
use api::table::age;
use api::{Kind as _, ObjectKey, Task, TaskTemplate, Timestamp};

use super::{ROWS_MAX, Sheet, TASK_HEADINGS, labels};
use crate::silence::{self, Straggler};

/// The description of a node. `tasks` are (at least) those bound to it and, if it is silent, those
/// that may still run there; `templates` are (at least) theirs.
pub fn text(node: &Node, tasks: &[Task], templates: &[TaskTemplate], now: Timestamp) -> Sheet {
    let (status, info) = (&node.status, &node.status.info);
    let mut sheet = Sheet::default();
    let deleting = if node.is_deleting() { ", being deleted" } else { "" };
    let age = age(node.created(), now);
    sheet.line(&format!("Node {}: {}, {age} old{deleting}", node.name(), node.phase()));
    let why = node.row(now).pop().unwrap_or_default();
    sheet.field("Why", &why);
    if let Some(waits_for) = node.drain().and_then(|drain| drain.waits_for.as_deref()) {
        let what = if node.is_draining() { "Waiting" } else { "Left" };
        sheet.field(what, waits_for);
    }
    let taints: Vec<String> = node.spec.taints.iter().map(ToString::to_string).collect();
    sheet.field("Taints", &taints.join(", "));
    let machine = [&info.os, &info.arch, &info.kernel];
    let machine: Vec<&str> =
        machine.into_iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
    sheet.field("Machine", &machine.join(" "));
    sheet.field("Host", &host(info));
    sheet.field("Boot", &info.host_boot_id);
    sheet.field("Runtime", &info.runtime);
    sheet.field("Agent", &info.agent_version);
    sheet.field("Address", status.address.as_deref().unwrap_or_default());
    if let Some((first, last)) = status.port_range {
        sheet.field("Ports", &format!("{first}-{last} (assigned to tasks)"));
    }
    sheet.field("Labels", &labels(node));
    sheet.field("Images", &status.images.join(", "));
    if !status.leftovers.is_empty() {
        sheet.field("Stopping", &format!("{} tasks that were replaced", status.leftovers.len()));
    }
    let holding: Vec<&Task> =
        tasks.iter().filter(|task| task.takes_resources_on() == Some(node.name())).collect();
    let requested = requested(&holding, templates);
    let rows = node
        .allocatable()
        .iter()
        .map(|(resource, all)| {
            let taken = requested.get(resource).copied().unwrap_or_default();
            let share = amounts::percent(taken, *all).unwrap_or_default();
            let amount = |amount| amounts::shown(resource, amount);
            let row = [amount(taken), amount(*all), format!("{share}%")];
            std::iter::once(resource.clone()).chain(row).collect()
        })
        .collect();
    sheet.table("Capacity", &["RESOURCE", "REQUESTED", "ALLOCATABLE", "SHARE"], rows);
    let rows = holding.into_iter().map(|task| super::task_row(task, now)).collect();
    let all = format!("hctl get tasks -A --field-selector spec.nodeName={}", node.name());
    sheet.list("Tasks", &TASK_HEADINGS, rows, (ROWS_MAX, &all));
    let stragglers = silence::stragglers(tasks, std::slice::from_ref(node));
    let rows = stragglers.iter().map(|it| straggler_row(it, tasks, now)).collect();
    sheet.list(
        "May still run here, until the node is back",
        &STRAGGLER_HEADINGS,
        rows,
        (ROWS_MAX, ""),
    );
    sheet
}

/// The machine: `Debian GNU/Linux 12, 8 processors, 32Gi memory, 100Gi disk`.
fn host(info: &NodeInfo) -> String {
    let of = |resource: &str, quantity: &Quantity| {
        format!("{} {resource}", amounts::shown("memory", amounts::amount("memory", quantity)))
    };
    let os = Some(info.os_image.clone()).filter(|os| !os.is_empty());
    let cpus = info.cpus.map(|cpus| match cpus {
        1 => "1 processor".to_owned(),
        _ => format!("{cpus} processors"),
    });
    let memory = info.memory.as_ref().map(|it| of("memory", it));
    let disk = info.disk.as_ref().map(|it| of("disk", it));
    [os, cpus, memory, disk].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

const STRAGGLER_HEADINGS: [&str; 4] = ["TASK", "ATTEMPT", "TASK IS NOW", "WHY"];

fn straggler_row(straggler: &Straggler, tasks: &[Task], now: Timestamp) -> Vec<String> {
    let (namespace, name) = &straggler.task;
    let is_it = |task: &&Task| task.namespace() == namespace && task.name() == name;
    let task = tasks.iter().find(is_it);
    let stands = task.map(|task| match task.node().filter(|_| !straggler.is_current) {
        Some(node) => format!("{} on {node}", task.phase()),
        None => task.phase().to_string(),
    });
    vec![
        ObjectKey::new(namespace.as_str(), name.as_str()).to_string(),
        straggler.attempt.to_string(),
        stands.unwrap_or_default(),
        task.map(|task| task.why(now)).unwrap_or_default(),
    ]
}

/// What tasks request, by resource.
fn requested(tasks: &[&Task], templates: &[TaskTemplate]) -> Amounts {
    let by_key: BTreeMap<_, _> = templates.iter().map(|it| (it.key(), it)).collect();
    let mut usage = Usage::default();
    for task in tasks {
        let key = ObjectKey::new(task.namespace(), &*task.spec.template);
        if let Some(template) = by_key.get(&key) {
            usage.add(template.spec.requests(&task.spec.overrides));
        }
    }
    usage.requested
}
