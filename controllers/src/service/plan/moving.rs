//! How tasks of a service leave nodes that are being drained.
//!
//! # Invariants
//!
//! * No ready task is stopped while fewer tasks would then be ready than `maxUnavailable` allows, as
//!   everywhere ([`Step::stop`]).
//! * With StartFirst, no task is stopped for a drain before the one in its place is available.
//! * The tasks of a service with one task on each node stay.

use api::task::StopReason;

use super::members::Member;
use super::steps::Step;

impl<'a, 'b> Step<'a, 'b> {
    /// Stops tasks whose node is being drained. They start again on other nodes; with StartFirst,
    /// others are made in their place before.
    pub(super) fn move_away(&mut self) {
        let leaving = self.leaving();
        let why = |member: &Member<'_>| {
            format!("node {} is being drained", member.leaves.unwrap_or_default())
        };
        if !self.starts_first() {
            for member in leaving {
                self.stop(member, StopReason::Drain, &why(member));
            }
            return;
        }
        let there = self.left.len().saturating_sub(self.total);
        self.surge += self.beside().saturating_sub(there);
        let is_elsewhere = |it: &&&Member<'_>| it.leaves.is_none() && it.is_available();
        let elsewhere = self.left.iter().filter(is_elsewhere).count();
        let may_go = (leaving.len() + elsewhere).saturating_sub(self.total);
        for member in leaving.into_iter().take(may_go) {
            self.stop(member, StopReason::ScaleDown, &why(member));
        }
    }

    /// The tasks that have to leave their node. With StartFirst, those of an earlier revision leave it
    /// with the rollout while that goes on.
    fn leaving(&self) -> Vec<&'a Member<'b>> {
        let follows_rollout = self.starts_first() && self.input.target.goes_on();
        let leaves = |it: &&Member<'_>| it.leaves.is_some() && (it.is_new || !follows_rollout);
        self.left.iter().copied().filter(leaves).collect()
    }

    /// How many tasks there may be beyond those that there should be, in the place of tasks that have
    /// to leave their node.
    pub(super) fn beside(&self) -> usize {
        if self.starts_first() { self.leaving().len().min(self.parallelism()) } else { 0 }
    }
}
