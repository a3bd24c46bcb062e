//! The built-in state models.

/// A built-in state model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltInModel {
    /// Its name.
    pub name: &'static str,
    /// Its states in order of priority, each with the most replicas of a partition that may be in
    /// it.
    pub states: &'static [(&'static str, Option<u32>)],
}

/// The four models of Apache Helix. A state without a number has no limit. Source: Helix's
/// `LeaderStandbySMD`, `MasterSlaveSMD`, `OnlineOfflineSMD`, `OnlineOfflineWithBootstrapSMD`.
pub const BUILT_IN_MODELS: [BuiltInModel; 4] = [
    BuiltInModel {
        name: "LeaderStandby",
        states: &[("LEADER", Some(1)), ("STANDBY", None), ("OFFLINE", None), ("DROPPED", None)],
    },
    BuiltInModel {
        name: "MasterSlave",
        states: &[("MASTER", Some(1)), ("SLAVE", None), ("OFFLINE", None), ("DROPPED", None)],
    },
    BuiltInModel {
        name: "OnlineOffline",
        states: &[("ONLINE", None), ("OFFLINE", None), ("DROPPED", None)],
    },
    BuiltInModel {
        name: "OnlineOfflineWithBootstrap",
        states: &[("ONLINE", None), ("BOOTSTRAP", None), ("OFFLINE", None), ("DROPPED", None)],
    },
];
