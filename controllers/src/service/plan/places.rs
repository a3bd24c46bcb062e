//! Where tasks should be: anywhere, as many as `replicas` says, or one on each node.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use api::Node;
use api::node::NodePhase;
use api::object::Kind as _;

use super::View;

/// Where the tasks of a service should be.
#[derive(Debug)]
pub(super) enum Places<'a> {
    /// So many, wherever the scheduler puts them.
    Anywhere(u32),
    /// One on each node that `placement` allows.
    OnNodes {
        /// The nodes that can start a task now.
        ready: BTreeSet<&'a str>,
        /// Those that are allowed and cannot: they are lost, not ready or cordoned. A task that is
        /// there stays there, and nothing waits for them.
        others: BTreeSet<&'a str>,
        /// Those with a taint that is not tolerated. A task that runs there stays until it ends, or is
        /// evicted for the taint, and none comes.
        closed: BTreeSet<&'a str>,
    },
}

impl<'a> Places<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let spec = &view.service.spec;
        if !spec.is_per_node() {
            return Places::Anywhere(spec.replicas());
        }
        let placement = spec.placement();
        let allowed = view.nodes.iter().copied().filter(|node| {
            let label = |label: &str| node.constraint_label(label);
            !node.is_deleting() && placement.allows(node.name(), label)
        });
        let tolerations = &placement.tolerations;
        let (closed, open): (Vec<&Node>, Vec<&Node>) =
            allowed.partition(|node| node.repelling(tolerations).is_some());
        let (ready, others): (Vec<&Node>, Vec<&Node>) =
            open.into_iter().partition(|node| node.phase() == NodePhase::Ready);
        let names = |nodes: Vec<&'a Node>| nodes.into_iter().map(Node::name).collect();
        Places::OnNodes { ready: names(ready), others: names(others), closed: names(closed) }
    }

    /// The number of tasks that there should be, without nodes that cannot start one.
    pub(super) fn total(&self) -> u32 {
        match self {
            Places::Anywhere(count) => *count,
            Places::OnNodes { ready, .. } => u32::try_from(ready.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether there may be a task on this node. Always if tasks may be anywhere.
    pub(super) fn may_stay_on(&self, node: &str) -> bool {
        match self {
            Places::Anywhere(_) => true,
            Places::OnNodes { ready, others, closed } => {
                [ready, others, closed].iter().any(|nodes| nodes.contains(node))
            }
        }
    }

    /// Whether a task on this node that has ended may start there again, now or later.
    pub(super) fn may_return_to(&self, node: &str) -> bool {
        match self {
            Places::Anywhere(_) => true,
            Places::OnNodes { ready, others, .. } => ready.contains(node) || others.contains(node),
        }
    }

    /// Whether a task that is pinned to this node, or to none, is where one should be.
    pub(super) fn fits(&self, pin: Option<&str>) -> bool {
        match (self, pin) {
            (Places::Anywhere(_), None) => true,
            (Places::OnNodes { .. }, Some(node)) => self.may_stay_on(node),
            (Places::Anywhere(_), Some(_)) | (Places::OnNodes { .. }, None) => false,
        }
    }

    /// Whether a task on this node can be replaced now.
    pub(super) fn can_start_on(&self, node: &str) -> bool {
        match self {
            Places::Anywhere(_) => true,
            Places::OnNodes { ready, .. } => ready.contains(node),
        }
    }
}

/// Compares names as people do: `node-9` comes before `node-10`.
pub(super) fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (parts(left), parts(right));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) => {
                let order = match (number(one), number(other)) {
                    (Some(one), Some(other)) => one.cmp(&other),
                    (Some(_), None) | (None, Some(_)) | (None, None) => one.cmp(other),
                };
                if order.is_ne() {
                    return order;
                }
            }
        }
    }
}

/// A text cut where digits begin and end.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.as_bytes()
        .chunk_by(|one, other| one.is_ascii_digit() == other.is_ascii_digit())
        .filter_map(|part| std::str::from_utf8(part).ok())
}

/// A part that is a number, as its length without leading zeros and its digits.
fn number(part: &str) -> Option<(usize, &str)> {
    let digits = part.trim_start_matches('0');
    part.starts_with(|c: char| c.is_ascii_digit()).then_some((digits.len(), digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        let mut names = ["n10", "n9", "a2b10", "a2b9", "n", "n010", "n1000000000000000000000000"];
        names.sort_by(|one, other| natural(one, other));
        assert_eq!(
            names,
            ["a2b9", "a2b10", "n", "n9", "n10", "n010", "n1000000000000000000000000"]
        );
    }
}
