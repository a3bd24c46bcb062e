//! The values of fields that have few: field selectors are checked against them, and shell
//! completion offers them. A test compares the phases with the enums of the types.

use crate::partition_set::models::BUILT_IN_MODELS;

/// Values of a boolean field.
pub(crate) const SWITCH: &[&str] = &["true", "false"];
/// Names of the built-in state models.
pub(crate) const MODELS: [&str; BUILT_IN_MODELS.len()] = {
    let mut names = [""; BUILT_IN_MODELS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = BUILT_IN_MODELS[index].name;
        index += 1;
    }
    names
};

/// Phases of a task.
pub(crate) const TASK: &[&str] = &[
    "Pending",
    "Bound",
    "Starting",
    "Running",
    "Stopping",
    "Succeeded",
    "Failed",
    "TimedOut",
    "Cancelled",
    "Lost",
];
/// Phases of a job.
pub(crate) const JOB: &[&str] =
    &["Pending", "Running", "Suspended", "Succeeded", "Failed", "TimedOut", "Cancelled", "Skipped"];
/// Phases of a run, and of a workflow, which shows that of its newest run.
pub(crate) const RUN: &[&str] = JOB;
/// Phases of a service.
pub(crate) const SERVICE: &[&str] =
    &["RollingOut", "Running", "Paused", "Degraded", "Suspended", "Expired"];
/// Phases of a node.
pub(crate) const NODE: &[&str] = &["Ready", "NotReady", "Lost", "Cordoned", "Draining"];
