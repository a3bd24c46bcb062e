//! What happened on a simulated machine, for those who check it. Kept on request only: it grows.

use crate::engine::{ContainerSpec, Identity, Scope};

/// A container among those of all nodes on the machine.
pub(super) type ContainerKey = (Scope, Identity);

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEvent {
    /// Whose container.
    pub scope: Scope,
    /// Which.
    pub identity: Identity,
    /// What.
    pub what: HistoryKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryKind {
    /// It was made, and runs.
    Started {
        /// Its share of the processors, in thousandths of one.
        cpu_millis: u64,
        /// Ports of the machine that it holds.
        host_ports: Vec<u16>,
    },
    /// It ended by itself.
    Ended {
        /// Its exit code.
        code: i32,
    },
    /// It was ended from outside: by a signal, or by its removal while it ran.
    Stopped,
    /// It went with its machine, whether it still ran or had ended.
    Lost,
}

impl HistoryKind {
    pub(super) fn started(spec: &ContainerSpec) -> Self {
        Self::Started {
            cpu_millis: spec.resources.cpu_request_millis.unwrap_or_default(),
            host_ports: spec.ports.iter().filter_map(|port| port.host_port).collect(),
        }
    }
}

/// What happened since it was taken last; nothing where it is not kept.
#[derive(Debug, Default)]
pub(super) struct History(Option<Vec<HistoryEvent>>);

impl History {
    pub(super) fn keep(&mut self) {
        self.0.get_or_insert_default();
    }

    pub(super) fn take(&mut self) -> Vec<HistoryEvent> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn add(&mut self, (scope, identity): &ContainerKey, what: HistoryKind) {
        if let Some(kept) = &mut self.0 {
            kept.push(HistoryEvent { scope: scope.clone(), identity: identity.clone(), what });
        }
    }
}
