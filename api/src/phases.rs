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

/// Every phase that objects of a kind can be in.
pub const fn phases(kind: KindId) -> &'static [&'static str] {
    match kind {
        KindId::Task => &[
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
        ],
        KindId::Job | KindId::Workflow | KindId::WorkflowRun => &[
            "Pending",
            "Running",
            "Suspended",
            "Succeeded",
            "Failed",
            "TimedOut",
            "Cancelled",
            "Skipped",
        ],
        KindId::Node => &["Ready", "NotReady", "Lost", "Cordoned"],
        KindId::Namespace => &["Active", "Terminating"],
        KindId::PartitionSet => &["Ready", "Degraded"],
        KindId::ConfigMap
        | KindId::Secret
        | KindId::Event
        | KindId::Lease
        | KindId::NodeLease
        | KindId::CompletionChunk
        | KindId::TaskTemplate => &[],
    }
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
    use serde_json::json;

    use super::*;

    #[test]
    fn phases_are_those_of_the_types() {
        for word in phases(KindId::Task) {
            assert!(
                serde_json::from_value::<crate::task::TaskPhase>(json!(word)).is_ok(),
                "{word}"
            );
        }
        for word in phases(KindId::Job) {
            assert!(serde_json::from_value::<crate::job::JobPhase>(json!(word)).is_ok(), "{word}");
            let of_run = serde_json::from_value::<crate::workflow_run::RunPhase>(json!(word));
            assert!(of_run.is_ok(), "{word}");
        }
        for word in phases(KindId::Node) {
            assert!(
                serde_json::from_value::<crate::node::NodePhase>(json!(word)).is_ok(),
                "{word}"
            );
        }
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
