//! Whether a node may run tasks of a class: one function for each constraint.

use std::fmt;

use api::amounts::written;
use api::node::{NodePhase, Trouble};
use api::placement::{Constraint, Test};
use api::room::{self, HostPort, Misfit};

use super::wanted::{NearPlace, Wanted};
use crate::class::{JobId, Shape};
use crate::snapshot::node::NodeState;

/// Why a node may not run tasks of a class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection<'a> {
    /// Its agent is not heard from.
    Lost,
    /// Its agent has a problem, or was never heard from.
    NotReady,
    /// Something keeps it from taking tasks.
    Trouble(Trouble),
    /// A user has cordoned it.
    Cordoned,
    /// Its tasks are being moved to other nodes.
    Draining,
    /// Its object is being deleted.
    Deleting,
    /// `placement.nodes` does not name it.
    NotInNodes,
    /// A label does not have the value in `placement.nodeSelector`.
    Selector {
        /// The label.
        label: &'a str,
        /// The required value.
        value: &'a str,
    },
    /// A constraint is not satisfied.
    Constraint(&'a Constraint),
    /// It has a taint that is not tolerated.
    Taint {
        /// Its key.
        key: &'a str,
        /// Its value; may be empty.
        value: &'a str,
    },
    /// It holds no matching replica of the set, which `near` requires.
    NotNearSet {
        /// The set.
        set: &'a str,
        /// The states that match; any serving state if empty.
        states: &'a [String],
    },
    /// No task of the job succeeded there, which `near` requires.
    NotNearJob {
        /// The job.
        job: &'a str,
    },
    /// It holds no matching replica of the task's partition.
    NotAtTarget {
        /// The set.
        set: &'a str,
        /// The partition.
        partition: &'a str,
        /// The states that match; any serving state if empty.
        states: &'a [String],
    },
    /// Too little of a resource is free.
    Insufficient {
        /// The resource.
        resource: &'a str,
        /// The requested amount, in the units of `api::amounts`.
        wanted: u64,
    },
    /// Another task holds the port.
    PortTaken(HostPort),
    /// Too few ports of its range are free.
    RangeExhausted {
        /// The number of requested ports.
        wanted: u32,
    },
    /// It runs the maximum number of tasks of this job.
    AtMaxPerNode(u32),
}

impl Rejection<'_> {
    /// Whether the end of another task may remove this reason.
    pub fn is_for_room(&self) -> bool {
        match self {
            Rejection::Insufficient { .. }
            | Rejection::PortTaken(_)
            | Rejection::RangeExhausted { .. }
            | Rejection::AtMaxPerNode(_) => true,
            Rejection::Lost
            | Rejection::NotReady
            | Rejection::Trouble(_)
            | Rejection::Cordoned
            | Rejection::Draining
            | Rejection::Deleting
            | Rejection::NotInNodes
            | Rejection::Selector { .. }
            | Rejection::Constraint(_)
            | Rejection::Taint { .. }
            | Rejection::NotNearSet { .. }
            | Rejection::NotNearJob { .. }
            | Rejection::NotAtTarget { .. } => false,
        }
    }

    /// The text for a number of nodes: `2 have cpu < 500m`.
    pub fn of(&self, nodes: u32) -> String {
        let one = nodes == 1;
        let have = if one { "has" } else { "have" };
        let do_not = if one { "does not" } else { "do not" };
        let why = match self {
            Rejection::Lost => "lost".to_owned(),
            Rejection::NotReady => "not ready".to_owned(),
            Rejection::Trouble(trouble) => format!("{have} {trouble}"),
            Rejection::Cordoned => "cordoned".to_owned(),
            Rejection::Draining => "being drained".to_owned(),
            Rejection::Deleting => "being deleted".to_owned(),
            Rejection::NotInNodes => "not listed in placement.nodes".to_owned(),
            Rejection::Selector { label, value } => format!("not {label} = {value}"),
            Rejection::Constraint(Constraint { label, test: Test::Absent }) => label.clone(),
            Rejection::Constraint(Constraint { label, test: Test::Exists }) => {
                format!("without {label}")
            }
            Rejection::Constraint(constraint) => format!("not {constraint}"),
            Rejection::Taint { key, value: "" } => format!("taint {key}"),
            Rejection::Taint { key, value } => format!("taint {key}={value}"),
            Rejection::NotNearSet { set, states } => {
                format!("{do_not} {}", Replica { states, of: set })
            }
            Rejection::NotNearJob { job } => format!("{have} no succeeded task of {job}"),
            Rejection::NotAtTarget { set, partition, states } => {
                let of = if partition.starts_with(set) {
                    (*partition).to_owned()
                } else {
                    format!("{partition} of {set}")
                };
                format!("{do_not} {}", Replica { states, of: &of })
            }
            Rejection::Insufficient { resource, wanted } => {
                format!("{have} {resource} < {}", written(resource, *wanted))
            }
            Rejection::PortTaken(port) => format!("{have} port {port} taken"),
            Rejection::RangeExhausted { wanted } => {
                format!("{have} host ports in range < {wanted}")
            }
            Rejection::AtMaxPerNode(max) => format!("at maxPerNode {max}"),
        };
        format!("{nodes} {why}")
    }
}

/// `hold LEADER of mydb`, `serve mydb`.
struct Replica<'a> {
    states: &'a [String],
    of: &'a str,
}

impl fmt::Display for Replica<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.states.is_empty() {
            write!(f, "serve {}", self.of)
        } else {
            write!(f, "hold {} of {}", self.states.join(" or "), self.of)
        }
    }
}

/// All checks: whether the node may run one more task of the class.
pub(crate) fn admits<'a>(wanted: &Wanted<'a>, node: &'a NodeState) -> Result<(), Rejection<'a>> {
    is_right(wanted, node)?;
    has_room(wanted.shape, wanted.job, node)
}

/// The checks that do not depend on the tasks on the node.
fn is_right<'a>(wanted: &Wanted<'a>, node: &'a NodeState) -> Result<(), Rejection<'a>> {
    is_schedulable(node)?;
    is_named(wanted.shape, node)?;
    is_selected(wanted.shape, node)?;
    holds_constraints(wanted.shape, node)?;
    tolerates_taints(wanted.shape, node)?;
    is_near(wanted, node)?;
    is_at_target(wanted, node)
}

/// The checks that depend on the tasks on the node.
pub(crate) fn has_room<'a>(
    shape: &'a Shape,
    job: JobId,
    node: &NodeState,
) -> Result<(), Rejection<'a>> {
    has_resources_and_ports(shape, node)?;
    is_below_max_per_node(shape, job, node)
}

fn is_schedulable<'a>(node: &NodeState) -> Result<(), Rejection<'a>> {
    let Some(object) = &node.object else {
        return Err(Rejection::Lost);
    };
    match object.phase() {
        NodePhase::Lost => Err(Rejection::Lost),
        NodePhase::NotReady => {
            let trouble = object.status.trouble.filter(|_| !object.is_silent());
            Err(trouble.map_or(Rejection::NotReady, Rejection::Trouble))
        }
        NodePhase::Cordoned => Err(Rejection::Cordoned),
        NodePhase::Draining => Err(Rejection::Draining),
        NodePhase::Ready if object.is_schedulable() => Ok(()),
        NodePhase::Ready => Err(Rejection::Deleting),
    }
}

fn is_named<'a>(shape: &'a Shape, node: &NodeState) -> Result<(), Rejection<'a>> {
    let named = shape.nodes.is_empty() || shape.nodes.contains(&*node.name);
    if named { Ok(()) } else { Err(Rejection::NotInNodes) }
}

fn label<'a>(node: &'a NodeState, label: &str) -> Option<&'a str> {
    node.object.as_ref()?.constraint_label(label)
}

fn is_selected<'a>(shape: &'a Shape, node: &NodeState) -> Result<(), Rejection<'a>> {
    let mut selector = shape.node_selector.iter();
    match selector.find(|(key, value)| label(node, key) != Some(value)) {
        Some((label, value)) => Err(Rejection::Selector { label, value }),
        None => Ok(()),
    }
}

fn holds_constraints<'a>(shape: &'a Shape, node: &NodeState) -> Result<(), Rejection<'a>> {
    let mut constraints = shape.constraints.iter();
    match constraints.find(|constraint| !constraint.holds(label(node, &constraint.label))) {
        Some(constraint) => Err(Rejection::Constraint(constraint)),
        None => Ok(()),
    }
}

fn tolerates_taints<'a>(shape: &Shape, node: &'a NodeState) -> Result<(), Rejection<'a>> {
    let object = node.object.as_ref();
    match object.and_then(|object| object.repelling(&shape.tolerations)) {
        Some(taint) => Err(Rejection::Taint { key: &taint.key, value: &taint.value }),
        None => Ok(()),
    }
}

fn is_near<'a>(wanted: &Wanted<'a>, node: &NodeState) -> Result<(), Rejection<'a>> {
    let mut required = wanted.near.iter().filter(|near| near.required);
    match required.find(|near| !near.holds(&node.name)).map(|near| &near.place) {
        Some(NearPlace::Set { name, states, .. }) => {
            Err(Rejection::NotNearSet { set: name, states })
        }
        Some(NearPlace::Job { name, .. }) => Err(Rejection::NotNearJob { job: name }),
        None => Ok(()),
    }
}

fn is_at_target<'a>(wanted: &Wanted<'a>, node: &NodeState) -> Result<(), Rejection<'a>> {
    let Some(at) = &wanted.target else { return Ok(()) };
    if at.nodes().any(|name| name == &*node.name) {
        return Ok(());
    }
    let (set, states) = (at.target.partition_set.as_str(), at.target.states.as_slice());
    Err(Rejection::NotAtTarget { set, partition: at.partition, states })
}

/// Uses the same rule as the node's agent.
fn has_resources_and_ports<'a>(shape: &'a Shape, node: &NodeState) -> Result<(), Rejection<'a>> {
    let requests = shape.requests.iter();
    let requests = requests.map(|(resource, id, wanted)| ((&**resource, *id), *wanted));
    room::fits(requests, &shape.ports, node).map_err(|misfit| match misfit {
        Misfit::Resource { resource: (resource, _), wanted, .. } => {
            Rejection::Insufficient { resource, wanted }
        }
        Misfit::Port(port) => Rejection::PortTaken(port),
        Misfit::Range { wanted, .. } => Rejection::RangeExhausted { wanted },
    })
}

fn is_below_max_per_node<'a>(
    shape: &'a Shape,
    job: JobId,
    node: &NodeState,
) -> Result<(), Rejection<'a>> {
    match shape.max_per_node {
        Some(max) if node.tasks_of(job) >= max => Err(Rejection::AtMaxPerNode(max)),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next example in a list of all variants, so that a new variant is not forgotten in this
    /// test.
    fn after<'a>(rejection: &Rejection<'_>, constraint: &'a Constraint) -> Option<Rejection<'a>> {
        Some(match rejection {
            Rejection::Lost => Rejection::NotReady,
            Rejection::NotReady => Rejection::Trouble(Trouble::DiskPressure),
            Rejection::Trouble(Trouble::DiskPressure) => {
                Rejection::Trouble(Trouble::MemoryPressure)
            }
            Rejection::Trouble(Trouble::MemoryPressure) => Rejection::Trouble(Trouble::EngineDown),
            Rejection::Trouble(Trouble::EngineDown) => Rejection::Cordoned,
            Rejection::Cordoned => Rejection::Draining,
            Rejection::Draining => Rejection::Deleting,
            Rejection::Deleting => Rejection::NotInNodes,
            Rejection::NotInNodes => Rejection::Selector { label: "role", value: "batch" },
            Rejection::Selector { .. } => Rejection::Constraint(constraint),
            Rejection::Constraint(_) => Rejection::Taint { key: "dedicated", value: "gpu" },
            Rejection::Taint { .. } => Rejection::NotNearSet { set: "mydb", states: &[] },
            Rejection::NotNearSet { .. } => Rejection::NotNearJob { job: "extract" },
            Rejection::NotNearJob { .. } => {
                Rejection::NotAtTarget { set: "mydb", partition: "mydb-0", states: &[] }
            }
            Rejection::NotAtTarget { .. } => {
                Rejection::Insufficient { resource: "cpu", wanted: 500 }
            }
            Rejection::Insufficient { .. } => Rejection::PortTaken(HostPort::whole(9000)),
            Rejection::PortTaken(_) => Rejection::RangeExhausted { wanted: 2 },
            Rejection::RangeExhausted { .. } => Rejection::AtMaxPerNode(2),
            Rejection::AtMaxPerNode(_) => return None,
        })
    }

    #[test]
    fn docs_explain_every_part_of_why_no_node_fits() {
        let page = include_str!("../../../docs/troubleshooting.md");
        for constraint in ["role = batch", "gpu", "!spot"] {
            let constraint: Constraint = constraint.parse().unwrap();
            let all = std::iter::successors(Some(Rejection::Lost), |it| after(it, &constraint));
            for rejection in all {
                let words = rejection.of(2);
                let words = words.strip_prefix("2 ").unwrap();
                assert!(page.contains(&format!("`{words}`")), "{words} is not explained");
            }
        }
    }
}
