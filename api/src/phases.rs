//! The values that a field of a kind can have, where those are few: selectors are checked against
//! them, and `hctl` offers them.

use crate::kind::KindId;
use crate::partition_set::BUILT_IN_MODELS;

/// Values of a switch.
const SWITCH: &[&str] = &["true", "false"];
/// Names of the built-in state models.
const MODELS: [&str; BUILT_IN_MODELS.len()] = {
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
/// Phases of a node.
pub(crate) const NODE: &[&str] = &["Ready", "NotReady", "Lost", "Cordoned"];

/// Every phase that objects of a kind can be in.
pub const fn phases(kind: KindId) -> &'static [&'static str] {
    kind.info().phases
}

/// Every value that a selectable field of a kind can have; nothing where it may be any text.
pub fn values(kind: KindId, field: &str) -> Option<&'static [&'static str]> {
    match field {
        "status.phase" => Some(phases(kind)),
        "spec.suspend" | "spec.unschedulable" => Some(SWITCH),
        "spec.stateModel" => Some(&MODELS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of an enum, from its schema.
    fn words<T: schemars::JsonSchema>() -> Vec<String> {
        let schema = schemars::schema_for!(T).to_value();
        let word = |of: &serde_json::Value| of["const"].as_str().map(str::to_owned);
        let described = schema["oneOf"].as_array().into_iter().flatten().filter_map(word);
        described.collect()
    }

    #[test]
    fn phases_are_those_of_the_types() {
        assert_eq!(phases(KindId::Task), words::<crate::task::TaskPhase>());
        assert_eq!(phases(KindId::Job), words::<crate::job::JobPhase>());
        assert_eq!(phases(KindId::WorkflowRun), words::<crate::workflow_run::RunPhase>());
        assert_eq!(phases(KindId::Node), words::<crate::node::NodePhase>());
    }

    #[test]
    fn a_field_with_phases_has_values() {
        for kind in KindId::ALL {
            let has = kind.selectable_fields().contains(&"status.phase");
            assert_eq!(has, !phases(kind).is_empty(), "{kind}");
        }
        let models =
            ["LeaderStandby", "MasterSlave", "OnlineOffline", "OnlineOfflineWithBootstrap"];
        assert_eq!(values(KindId::PartitionSet, "spec.stateModel"), Some(&models[..]));
    }
}
