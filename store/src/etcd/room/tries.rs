//! Remembers what this process tried while etcd was full.
//!
//! # Invariants
//!
//! * This is remembered even when etcd has space for a while: an etcd that is full again after a
//!   few puts is not defragmented more often than one that stays full.
//! * Each problem is logged once while it lasts, even if its message changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::plan::{Disarmed, Last, Member, Size};
use crate::Revision;
use crate::etcd::members::Trouble;

/// The time within which the space freed by a compaction shows: a few looks, with a write to etcd
/// in each.
const SETTLE: Duration = Duration::from_secs(15);

/// What this process tried.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// The newest revision at the last look. History up to there can be compacted.
    newest: Revision,
    /// Up to where history was compacted, and when.
    forgotten: Option<(Revision, Instant)>,
    /// The last try to defragment each member.
    defragmented: BTreeMap<usize, Defragmented>,
    /// The members that were tried in this look.
    in_this_look: BTreeSet<usize>,
    /// Since when each stalled member has been stalled.
    stalled: BTreeMap<usize, Instant>,
    /// When the alarm was last disarmed, and the size of the largest database then.
    disarmed: Option<(Instant, i64)>,
    /// The current problems that were logged.
    told: BTreeSet<What>,
}

/// A try to defragment a member.
#[derive(Debug, Clone, Copy)]
struct Defragmented {
    at: Instant,
    has_failed: bool,
}

/// What a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A look as a whole.
    Look,
    /// The permissions of this user.
    Permission,
    /// A member that shows nothing.
    Away(usize),
    /// A member that cannot be defragmented.
    Defragment(usize),
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Look => f.write_str("cannot free space in etcd; trying again"),
            Self::Permission => f.write_str(
                "this user is not permitted to free space in etcd: see docs/operations.md",
            ),
            Self::Away(member) => {
                write!(f, "etcd member {member} is skipped while space is freed")
            }
            Self::Defragment(member) => {
                write!(
                    f,
                    "cannot defragment etcd member {member}, trying again later: its disk needs \
                     space for a second copy of the data in use"
                )
            }
        }
    }
}

impl Tries {
    /// etcd has become full (again), at the revision `newest`.
    pub(super) fn begin(&mut self, newest: Revision) {
        self.newest = newest;
        // Nobody looked at the members meanwhile.
        self.stalled.clear();
    }

    /// A look begins.
    pub(super) fn look(&mut self) {
        self.in_this_look.clear();
    }

    /// etcd has reached the revision `newest`.
    pub(super) fn seen(&mut self, newest: Revision) {
        self.newest = newest;
    }

    /// Up to where history should be compacted now, if at all. `held` is the oldest revision that
    /// somebody is reading at.
    pub(super) fn to_forget(&self, held: Option<Revision>) -> Option<Revision> {
        // The revision of a compaction can still be read.
        let upto = held.map_or(self.newest, |held| held.min(self.newest));
        let forgotten = self.forgotten.map(|(upto, _)| upto).unwrap_or_default();
        (upto > forgotten && upto.0 > 1).then_some(upto)
    }

    /// History was compacted up to `upto`.
    pub(super) fn forgot(&mut self, upto: Revision) {
        self.forgotten = Some((upto, Instant::now()));
    }

    /// A member was defragmented, with this result.
    pub(super) fn defragmented(&mut self, member: usize, outcome: Result<(), &Trouble>) {
        let has_failed = outcome.is_err();
        self.defragmented.insert(member, Defragmented { at: Instant::now(), has_failed });
        self.in_this_look.insert(member);
        self.tell_or_pass(What::Defragment(member), outcome);
    }

    /// The alarm was disarmed, while the largest database had this size.
    pub(super) fn disarmed(&mut self, bytes: i64) {
        self.disarmed = Some((Instant::now(), bytes));
    }

    /// The last time that the alarm was disarmed.
    pub(super) fn last_disarmed(&self) -> Option<Disarmed> {
        let is_lately = |(_, at): (Revision, Instant)| at.elapsed() < SETTLE;
        let forgot_lately = self.forgotten.is_some_and(is_lately);
        self.disarmed.map(|(at, bytes)| Disarmed { since: at.elapsed(), bytes, forgot_lately })
    }

    /// A member that works, with this size and what was tried.
    pub(super) fn well(&mut self, member: usize, size: Size) -> Member {
        self.stalled.remove(&member);
        self.told.remove(&What::Away(member));
        let last = match self.defragmented.get(&member) {
            None => Last::Never,
            Some(_) if self.in_this_look.contains(&member) => Last::InThisLook,
            Some(Defragmented { at, has_failed: true }) => Last::Failed(at.elapsed()),
            Some(Defragmented { at, has_failed: false }) => Last::Done(at.elapsed()),
        };
        Member::Well { size, last }
    }

    /// A member that is stalled.
    pub(super) fn stalls(&mut self, member: usize) -> Member {
        self.told.remove(&What::Away(member));
        Member::Stalled(self.stalled.entry(member).or_insert_with(Instant::now).elapsed())
    }

    /// A member that is away.
    pub(super) fn away(&mut self, member: usize, trouble: &Trouble) -> Member {
        self.stalled.remove(&member);
        self.tell_or_pass(What::Away(member), Err(trouble));
        Member::Away
    }

    /// Logs a problem once, until it is over.
    pub(super) fn tell_or_pass(&mut self, what: What, outcome: Result<(), &Trouble>) {
        match outcome {
            Ok(()) => drop(self.told.remove(&what)),
            Err(trouble) if self.told.insert(what) => warn!(error = %trouble, "{what}"),
            Err(trouble) => debug!(error = %trouble, "{what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Action, PERIOD, largest, next};
    use super::*;

    const MIB: i64 = 1024 * 1024;

    /// What is done in one look at members of these sizes. `given` is the effect of a
    /// defragmentation.
    fn look(
        tries: &mut Tries,
        sizes: &mut [Size],
        given: impl Fn(&mut Size) -> bool,
    ) -> Vec<Action> {
        tries.look();
        let mut steps = Vec::new();
        loop {
            let shown: Vec<Member> =
                sizes.iter().enumerate().map(|(member, size)| tries.well(member, *size)).collect();
            let step = next(&shown, tries.last_disarmed());
            steps.push(step);
            assert!(steps.len() <= sizes.len() + 1, "it ends: {steps:?}");
            match step {
                Action::Wait(_) => return steps,
                Action::Disarm => {
                    tries.disarmed(largest(&shown).unwrap());
                    return steps;
                }
                Action::Defragment(member) => {
                    let is_done = given(&mut sizes[member]);
                    let failed = Trouble::Lost("no space left on device".to_owned());
                    tries.defragmented(member, if is_done { Ok(()) } else { Err(&failed) });
                }
            }
        }
    }

    fn count(steps: &[Action]) -> usize {
        steps.iter().filter(|step| matches!(step, Action::Defragment(_))).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_whose_disk_has_no_room_is_tried_once_in_a_while_and_holds_nobody_up() {
        let mut tries = Tries::default();
        let mut sizes = [Size { bytes: 10 * MIB, in_use: 2 * MIB }; 2];
        let fails = |_: &mut Size| false;
        let all = vec![Action::Defragment(0), Action::Defragment(1), Action::Disarm];
        assert_eq!(look(&mut tries, &mut sizes, fails), all);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(count(&look(&mut tries, &mut sizes, fails)), 0, "not so soon");
        tokio::time::advance(PERIOD).await;
        assert_eq!(look(&mut tries, &mut sizes, fails), all, "its disk may have room by now");
    }

    /// etcd may answer that it is done, and still show the same size.
    #[tokio::test(start_paused = true)]
    async fn a_member_that_gives_nothing_back_holds_nobody_up() {
        let mut sizes = [Size { bytes: 10 * MIB, in_use: 2 * MIB }; 2];
        let steps = look(&mut Tries::default(), &mut sizes, |_| true);
        assert_eq!(steps, [Action::Defragment(0), Action::Defragment(1), Action::Disarm]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_etcd_that_is_full_again_soon_is_not_defragmented_for_a_little_again() {
        let mut tries = Tries::default();
        let mut done = 0;
        // For a minute, it can free a twentieth every second.
        for revision in 0..60 {
            tries.begin(Revision(revision));
            let mut sizes = [Size { bytes: 100 * MIB, in_use: 95 * MIB }];
            done += count(&look(&mut tries, &mut sizes, |size| {
                size.bytes = size.in_use;
                true
            }));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(done, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_stalls_anew_is_not_taken_for_one_that_stalls_for_long() {
        let mut tries = Tries::default();
        tries.begin(Revision(1));
        assert_eq!(tries.stalls(0), Member::Stalled(Duration::ZERO));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(tries.stalls(0), Member::Stalled(Duration::from_secs(60)));
        tries.begin(Revision(2));
        assert_eq!(tries.stalls(0), Member::Stalled(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_reads_at_is_not_forgotten() {
        let mut tries = Tries::default();
        tries.begin(Revision(10));
        assert_eq!(tries.to_forget(None), Some(Revision(10)));
        assert_eq!(tries.to_forget(Some(Revision(7))), Some(Revision(7)), "it can be read at");
        assert_eq!(tries.to_forget(Some(Revision(20))), Some(Revision(10)));
        tries.forgot(Revision(7));
        assert_eq!(tries.to_forget(Some(Revision(7))), None, "nothing more");
        assert_eq!(tries.to_forget(None), Some(Revision(10)));
        tries.seen(Revision(7));
        assert_eq!(tries.to_forget(None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_is_told_once_until_it_has_passed() {
        let mut tries = Tries::default();
        let trouble = |n: u32| Trouble::Lost(format!("open db.tmp.{n}: no space left on device"));
        for n in 0..3 {
            tries.defragmented(0, Err(&trouble(n)));
        }
        tries.defragmented(1, Err(&trouble(3)));
        assert_eq!(tries.told, BTreeSet::from([What::Defragment(0), What::Defragment(1)]));
        tries.defragmented(0, Ok(()));
        assert_eq!(tries.told, BTreeSet::from([What::Defragment(1)]));
    }
}
