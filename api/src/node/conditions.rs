//! The conditions of a node: Ready, Reconciling and Stalled as every kind has them, and what keeps a
//! node from taking new tasks.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Node, NodePhase};
use crate::conditions::{Condition, Standing, conditions};
use crate::object::Kind as _;

/// What keeps a node from taking new tasks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Trouble {
    /// The disk with the agent's state is nearly full.
    DiskPressure,
    /// The host has hardly any memory left.
    MemoryPressure,
    /// The container engine does not answer.
    EngineDown,
}

impl Trouble {
    const ALL: [Self; 3] = [Self::DiskPressure, Self::MemoryPressure, Self::EngineDown];
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Node {
    /// The conditions. `before` is the status that they were computed from last, for their
    /// transition times. As in Kubernetes a cordoned node is Ready: it works, and only accepts
    /// nothing new.
    pub(super) fn conditions(&self, before: Option<&Self>, now: Timestamp) -> Vec<Condition> {
        let phase = self.phase();
        let (standing, message) = match phase {
            NodePhase::Ready => (Standing::Ready, "the agent is ready to run tasks"),
            NodePhase::Cordoned => {
                (Standing::Ready, "the node is cordoned: no new tasks are bound to it")
            }
            NodePhase::Draining => {
                (Standing::Ready, "the node is being drained: its tasks are moved to other nodes")
            }
            NodePhase::Lost => (Standing::Reconciling, "no heartbeat from the agent"),
            NodePhase::NotReady if self.is_silent() => {
                (Standing::Reconciling, "no heartbeat from the agent, and not declared lost")
            }
            NodePhase::NotReady => {
                let problem = self.status.problem.as_deref();
                (Standing::Reconciling, problem.unwrap_or("the agent has never sent a heartbeat"))
            }
        };
        let before = before.map_or(&[] as &[Condition], |before| &before.status.conditions);
        let at = (self.generation(), now);
        let mut all = conditions(before, standing, &phase.to_string(), message, at);
        all.extend(Trouble::ALL.map(|trouble| self.trouble_condition(before, trouble, at)));
        all
    }

    fn trouble_condition(
        &self,
        before: &[Condition],
        trouble: Trouble,
        (generation, now): (i64, Timestamp),
    ) -> Condition {
        let is_so = self.status.trouble == Some(trouble);
        let (kind, status) = (trouble.to_string(), if is_so { "True" } else { "False" });
        let same = before.iter().find(|old| old.kind == kind && old.status == status);
        let problem = self.status.problem.clone().filter(|_| is_so);
        Condition {
            reason: if is_so { kind.clone() } else { format!("No{kind}") },
            kind,
            status: status.to_owned(),
            message: problem.unwrap_or_default(),
            last_transition_time: same.map_or(now, |old| old.last_transition_time),
            observed_generation: generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeSpec;

    #[test]
    fn what_keeps_a_node_from_taking_tasks_is_a_condition_with_its_own_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut node = Node::new("", "n", NodeSpec::default());
        node.status.ready_since = Some(at(0));
        node.status.conditions = node.conditions(None, at(1));
        node.status.problem = Some("the disk is full".to_owned());
        node.status.trouble = Some(Trouble::DiskPressure);
        node.status.conditions = node.conditions(Some(&node), at(2));
        let shown = |node: &Node| -> String {
            let line = |it: &Condition| {
                let at = it.last_transition_time.as_second();
                format!("{} {} {at}s {}: {}\n", it.kind, it.status, it.reason, it.message)
            };
            node.status.conditions.iter().map(line).collect()
        };
        expect_test::expect![[r#"
            Ready False 2s NotReady: the disk is full
            Reconciling True 2s NotReady: the disk is full
            Stalled False 1s NotReady: the disk is full
            DiskPressure True 2s DiskPressure: the disk is full
            MemoryPressure False 1s NoMemoryPressure: 
            EngineDown False 1s NoEngineDown: 
        "#]]
        .assert_eq(&shown(&node));
    }
}
