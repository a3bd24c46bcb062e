//! Every name that may stand in `$(...)`, and every variable that a program finds in its environment,
//! with what they mean: what the page `docs/substitution.md` is made of.

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

/// Names that get their values when a run makes its jobs: in jobs of a workflow alone.
pub const OF_RUN: [Name; 3] = [
    name("params.NAME", "The value of the run's parameter `NAME`."),
    name("run.name", "The name of the run."),
    name("run.date", "The date when the run began, in UTC: `2026-01-02`."),
];

/// Names that get their values on the node, when an attempt starts.
pub const OF_TASK: [Name; 9] = [
    name("task.name", "The name of the task."),
    name("task.index", "The task's index in its job, from 0."),
    name("task.count", "How many tasks the job has."),
    name("task.attempt", "The number of the attempt, from 1. It goes on over runs of the job."),
    name("task.partition", "The partition that the task targets; only in a job with a `target`."),
    name(
        "task.item",
        "The task's item as text, or as JSON where it is no text; only in a job with `items`.",
    ),
    name("task.item.FIELD", "The field `FIELD` of the task's item."),
    name("node.name", "The name of the node that the attempt runs on."),
    name("ports.NAME", "The number that the program is to listen on for the port `NAME`."),
];

/// Variables in the environment of every program.
pub const ENVIRONMENT: [Name; 11] = [
    name("HELIOX_NAMESPACE", "The task's namespace."),
    name("HELIOX_JOB", "The name of its job."),
    name("HELIOX_RUN", "The name of the workflow run that made the job; empty for any other job."),
    name("HELIOX_TASK", "As `$(task.name)`."),
    name("HELIOX_INDEX", "As `$(task.index)`."),
    name("HELIOX_COUNT", "As `$(task.count)`."),
    name("HELIOX_ATTEMPT", "As `$(task.attempt)`."),
    name("HELIOX_PARTITION", "As `$(task.partition)`; empty for a job without a `target`."),
    name("HELIOX_NODE", "As `$(node.name)`."),
    name("HELIOX_PORT_NAME", "As `$(ports.name)`: the port's name in capitals, `-` as `_`."),
    name("HELIOX_ADDR_NAME", "Where others reach that port: `ADDRESS:PORT` of the node."),
];

/// Whether a name of two words is one.
pub(super) fn is_known(name: &str) -> bool {
    OF_RUN.iter().chain(&OF_TASK).any(|known| known.name == name)
}

/// The names that stand under a root: `name` and `date` under `run`.
pub(super) fn under(root: &str) -> Vec<&'static str> {
    let under = |known: &Name| known.name.strip_prefix(root)?.strip_prefix('.');
    let names = OF_RUN.iter().chain(&OF_TASK).filter_map(under);
    names.filter(|name| !name.contains('.')).collect()
}
