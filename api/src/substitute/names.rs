//! Every name that may stand in `$(...)`, and every variable that Heliox sets in a program's
//! environment, with their meanings. The page `docs/substitution.md` is generated from this.

/// A name, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// As it is written, without `$(` and `)`: `task.item.FIELD`. Words in capitals are examples.
    pub name: &'static str,
    /// What it means, as a sentence.
    pub meaning: &'static str,
}

const fn name(name: &'static str, meaning: &'static str) -> Name {
    Name { name, meaning }
}

/// Names that are replaced when a run creates its jobs: only in jobs of a workflow.
pub const OF_RUN: [Name; 3] = [
    name("params.NAME", "Value of the run's parameter `NAME`."),
    name("run.name", "Name of the run."),
    name("run.date", "Date on which the run started, in UTC: `2026-01-02`."),
];

/// Names that are replaced on the node, when an attempt starts.
pub const OF_TASK: [Name; 9] = [
    name("task.name", "Name of the task."),
    name("task.index", "Index of the task in its job, from 0."),
    name("task.count", "Number of tasks in the job."),
    name(
        "task.attempt",
        "Number of the attempt, from 1. It continues to grow across runs of the job.",
    ),
    name("task.partition", "Partition of the task. Only in a job with a `target`."),
    name(
        "task.item",
        "Item of the task: text as it is, anything else as JSON. Only in a job with `items`.",
    ),
    name("task.item.FIELD", "Field `FIELD` of the task's item, if items are maps."),
    name("node.name", "Name of the node that the attempt runs on."),
    name("ports.NAME", "Port number to listen on for the port `NAME`."),
];

/// Variables in the environment of every program.
pub const ENVIRONMENT: [Name; 13] = [
    name("HELIOX_NAMESPACE", "Namespace of the task."),
    name("HELIOX_JOB", "Name of the job; empty in a service."),
    name("HELIOX_SERVICE", "Name of the service; empty in a job."),
    name("HELIOX_REVISION", "Number of the service's revision; empty in a job."),
    name("HELIOX_RUN", "Name of the workflow run; empty if the job does not belong to one."),
    name("HELIOX_TASK", "Same as `$(task.name)`."),
    name("HELIOX_INDEX", "Same as `$(task.index)`."),
    name("HELIOX_COUNT", "Same as `$(task.count)`."),
    name("HELIOX_ATTEMPT", "Same as `$(task.attempt)`."),
    name("HELIOX_PARTITION", "Same as `$(task.partition)`; empty in a job without a `target`."),
    name("HELIOX_NODE", "Same as `$(node.name)`."),
    name(
        "HELIOX_PORT_NAME",
        "Same as `$(ports.name)`. The name of the port is in capitals, with `_` for `-`.",
    ),
    name("HELIOX_ADDR_NAME", "Address at which others reach the port: `ADDRESS:PORT` of the node."),
];

/// Whether a name of the form `root.name` exists.
pub(super) fn is_known(name: &str) -> bool {
    OF_RUN.iter().chain(&OF_TASK).any(|known| known.name == name)
}

/// The names under a root: `name` and `date` under `run`.
pub(super) fn under(root: &str) -> Vec<&'static str> {
    let under = |known: &Name| known.name.strip_prefix(root)?.strip_prefix('.');
    let names = OF_RUN.iter().chain(&OF_TASK).filter_map(under);
    names.filter(|name| !name.contains('.')).collect()
}
