//! The drain of a node: who asks for it, and how it stands.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Node, NodeSpec};
use crate::table::span;
use crate::violation::Violation;

/// Longest name of who asks for a drain, in characters.
const BY_CHARS_MAX: usize = 100;

/// A request that all tasks leave the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// When the drain gives up, or with `force` evicts the tasks that are left. Default: it goes on
    /// until all tasks have left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Whether the tasks that are left at the deadline are evicted, although fewer tasks of a service
    /// are then ready than its `maxUnavailable` allows. Requires `deadline`. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Who asked for it, at most 100 characters. Set by `hctl drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// How a drain stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// The request that this is about.
    pub request: Drain,
    /// Whether the drain goes on.
    pub state: DrainState,
    /// When the drain began.
    pub started_at: Timestamp,
    /// When all tasks had left, or the drain gave up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Number of tasks that had to leave, without those of services with `perNode`, which stay.
    #[serde(default)]
    pub total: u32,
    /// Number of those that are still there.
    #[serde(default)]
    pub remaining: u32,
    /// What the drain waits for; absent if for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Whether a drain goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrainState {
    /// Tasks are being moved.
    Progressing,
    /// All tasks have left.
    Complete,
    /// The deadline has passed, and tasks are left. They stay.
    GaveUp,
}

impl fmt::Display for DrainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Node {
    /// How the drain that is asked for stands; nothing if none is asked for, or if nobody has looked
    /// at it yet.
    pub fn drain(&self) -> Option<&DrainStatus> {
        let status = self.status.drain.as_ref()?;
        self.spec.drain.as_ref().filter(|asked| **asked == status.request).map(|_| status)
    }

    /// Whether tasks have to leave the node: it is to be drained, and the drain has not ended.
    pub fn is_draining(&self) -> bool {
        self.spec.drain.is_some()
            && self.drain().is_none_or(|drain| drain.state == DrainState::Progressing)
    }

    /// How the drain stands, for people: `40 of 64 moved; deadline in 8m; by ops`. Nothing if none is
    /// asked for.
    pub fn drain_words(&self, now: Timestamp) -> Option<String> {
        let asked = self.spec.drain.as_ref()?;
        let by = asked.by.as_ref().map(|by| format!("; by {by}")).unwrap_or_default();
        let Some(drain) = self.drain() else {
            return Some(format!("the drain begins{by}"));
        };
        let moved = drain.total.saturating_sub(drain.remaining);
        let ended = drain.finished_at.unwrap_or(now);
        Some(match drain.state {
            DrainState::Progressing => {
                let deadline = asked.deadline.map(|at| match at <= now {
                    true => "; deadline has passed".to_owned(),
                    false => format!("; deadline in {}", span(now, at)),
                });
                let deadline = deadline.unwrap_or_default();
                format!("{moved} of {} moved{deadline}{by}", drain.total)
            }
            DrainState::Complete => format!("drained {} ago{by}", span(ended, now)),
            DrainState::GaveUp => {
                let left = drain.remaining;
                format!(
                    "drain gave up {} ago: {left} of {} not moved{by}",
                    span(ended, now),
                    drain.total
                )
            }
        })
    }
}

/// A drained node accepts no new tasks, and a node that accepts tasks again is not drained any more:
/// `kubectl uncordon`, which knows nothing of drains, ends one.
pub(super) fn settle(spec: &mut NodeSpec, before: Option<&NodeSpec>) {
    let is_uncordoned = before.is_some_and(|before| {
        before.unschedulable && !spec.unschedulable && before.drain == spec.drain
    });
    if is_uncordoned {
        spec.drain = None;
    }
    spec.unschedulable |= spec.drain.is_some();
}

/// The violations of a node's request for a drain.
pub(super) fn validate(node: &Node) -> Vec<Violation> {
    let Some(drain) = &node.spec.drain else { return Vec::new() };
    let mut found = Vec::new();
    if drain.force && drain.deadline.is_none() {
        let violation = Violation::new("spec.drain.force", "requires a deadline");
        found.push(violation.hint("until the deadline, no task is evicted by force"));
    }
    if drain.by.as_ref().is_some_and(|by| by.chars().count() > BY_CHARS_MAX) {
        let why = format!("longer than {BY_CHARS_MAX} characters");
        found.push(Violation::new("spec.drain.by", why));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodePhase;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_drain_says_how_it_stands() {
        let by = Some("ops".to_owned());
        let asked = Drain { deadline: Some(at(600)), force: false, by };
        let spec =
            NodeSpec { unschedulable: true, drain: Some(asked.clone()), ..NodeSpec::default() };
        let mut node = Node::new("", "n", spec);
        node.status.ready_since = Some(at(0));
        let said = |node: &Node, now| {
            format!("{} {}", node.phase(), node.drain_words(at(now)).unwrap_or_default())
        };
        assert_eq!(said(&node, 1), "Draining the drain begins; by ops");
        let mut drain = DrainStatus {
            request: asked,
            state: DrainState::Progressing,
            started_at: at(0),
            finished_at: None,
            total: 64,
            remaining: 24,
            waits_for: None,
        };
        node.status.drain = Some(drain.clone());
        assert_eq!(said(&node, 120), "Draining 40 of 64 moved; deadline in 8m; by ops");
        drain.finished_at = Some(at(600));
        node.status.drain = Some(DrainStatus { state: DrainState::GaveUp, ..drain.clone() });
        assert_eq!(said(&node, 660), "Cordoned drain gave up 60s ago: 24 of 64 not moved; by ops");
        node.status.drain = Some(DrainStatus { state: DrainState::Complete, ..drain });
        assert_eq!(said(&node, 660), "Cordoned drained 60s ago; by ops");
        // Another request begins anew.
        node.spec.drain.as_mut().unwrap().force = true;
        assert_eq!(said(&node, 660), "Draining the drain begins; by ops");
        node.status.lost = Some(at(1));
        assert_eq!(node.phase(), NodePhase::Lost);
    }

    #[test]
    fn a_drain_closes_the_node_and_ends_when_it_is_opened() {
        let drain = || Some(Drain::default());
        let spec = |unschedulable, drain| NodeSpec { unschedulable, drain, ..NodeSpec::default() };
        for (before, now, expected) in [
            (None, spec(false, drain()), spec(true, drain())),
            (Some(spec(false, None)), spec(false, drain()), spec(true, drain())),
            (Some(spec(true, None)), spec(true, drain()), spec(true, drain())),
            (Some(spec(true, drain())), spec(true, drain()), spec(true, drain())),
            (Some(spec(true, drain())), spec(false, drain()), spec(false, None)),
            (Some(spec(true, drain())), spec(true, None), spec(true, None)),
        ] {
            let mut settled = now.clone();
            settle(&mut settled, before.as_ref());
            assert_eq!(settled, expected, "{before:?} -> {now:?}");
        }
        let forced =
            Node::new("", "n", spec(true, Some(Drain { force: true, ..Drain::default() })));
        let said: Vec<String> = validate(&forced).iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("spec.drain.force: requires a deadline"), "{said:?}");
    }
}
