//! Why a class waits, as data and as people read it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use super::filter::{Rejection, admits};
use super::wanted::Wanted;
use crate::class::{Blocked, ClassId};
use crate::snapshot::Snapshot;

/// Why a class waits. Its text: `0 of 3 nodes: 2 have cpu < 500m, 1 cordoned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// No node was considered.
    Blocked(Blocked),
    /// All nodes were considered.
    Nodes {
        /// Number of nodes.
        nodes: u32,
        /// Number of nodes that fit.
        fit: u32,
        /// For the others, each reason with its number of nodes, the most frequent first.
        rejected: Vec<(u32, String)>,
    },
}

impl Explanation {
    /// Whether some node fits.
    pub fn fits(&self) -> bool {
        match self {
            Explanation::Blocked(_) => false,
            Explanation::Nodes { fit, .. } => *fit > 0,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explanation::Blocked(blocked) => blocked.fmt(f),
            Explanation::Nodes { nodes: 0, .. } => {
                f.write_str("no node has joined: start one with heliox agent --server URL")
            }
            Explanation::Nodes { nodes, fit, rejected } => {
                let noun = if *nodes == 1 { "node" } else { "nodes" };
                write!(f, "{fit} of {nodes} {noun}")?;
                for (number, (_, text)) in rejected.iter().enumerate() {
                    let separator = if number == 0 { ":" } else { "," };
                    write!(f, "{separator} {text}")?;
                }
                Ok(())
            }
        }
    }
}

/// Why a class waits; nothing if there is no such class. It examines every node, so it is not
/// called for each placement.
pub fn explain(snapshot: &Snapshot, class: ClassId) -> Option<Explanation> {
    let facts = &snapshot.classes.get(class.0)?.facts;
    let wanted = match Wanted::new(facts, &snapshot.sets, &snapshot.jobs) {
        Ok(wanted) => wanted,
        Err(blocked) => return Some(Explanation::Blocked(blocked)),
    };
    let (mut nodes, mut fit) = (0, 0);
    let mut rejections = BTreeMap::<Rejection<'_>, u32>::new();
    for (_, node) in snapshot.nodes.iter() {
        nodes += 1;
        match admits(&wanted, node) {
            Ok(()) => fit += 1,
            Err(rejection) => *rejections.entry(rejection).or_default() += 1,
        }
    }
    let mut rejected: Vec<_> = rejections.into_iter().collect();
    rejected.sort_by_key(|(_, count)| Reverse(*count));
    let rejected = rejected.iter().map(|(rejection, count)| (*count, rejection.of(*count)));
    Some(Explanation::Nodes { nodes, fit, rejected: rejected.collect() })
}
