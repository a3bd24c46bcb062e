//! Decides what to do next about an etcd that accepts no puts, from what its members show now.
//!
//! # Invariants
//!
//! * One member is defragmented at a time, whichever process does it: nothing is started while
//!   another member is stalled, unless for longer than a defragmentation can take.
//! * Defragmenting stalls a member, so it is done only if it frees a worthwhile part of the
//!   database. Within [`PERIOD`] of the last time, it is repeated only for a large part, which is
//!   there when somebody deletes a lot just after it. If it failed, it is not repeated within
//!   [`PERIOD`] at all: the disk may have no space for the copy, and each try is a burden on an
//!   etcd that already has trouble.
//! * In one look, each member is defragmented at most once. So a look ends, and every other member
//!   and the alarm get their turn.
//! * A member that is away does not delay the others.
//! * The alarm is disarmed once no member has anything to free, whoever freed it. If that did not
//!   help, it is tried again when a database has become smaller, when history was compacted
//!   recently, and from time to time.

use std::time::Duration;

/// The part of a database, in percent, that has to be free for a defragmentation to be worthwhile,
const WORTHWHILE_PERCENT: i64 = 2;
/// or that has to be free if the member was defragmented recently,
const WORTHWHILE_AGAIN_PERCENT: i64 = 20;
/// and the number of bytes, at least. 128 KiB.
const WORTHWHILE_BYTES: i64 = 128 * 1024;
/// For how long a defragmentation counts as recent. Also the wait between two tries to disarm the
/// alarm, unless there is more free space.
pub(super) const PERIOD: Duration = Duration::from_secs(30);

/// How long the defragmentation of a member may take: about as long as writing its database anew. A
/// member that is stalled for longer counts as away.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10 * 60);

/// The size of a member's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// The size of the file, to which the quota applies.
    pub(super) bytes: i64,
    /// The part that is in use.
    pub(super) in_use: i64,
}

/// What a member shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    /// It does not answer.
    Away,
    /// It answers, but reads from it have been waiting for this long: another process is
    /// defragmenting it, or its disk is slow.
    Stalled(Duration),
    /// It works.
    Well {
        size: Size,
        /// When this process last tried to defragment it.
        last: Last,
    },
}

/// The last try of this process to defragment a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// There was none.
    Never,
    /// It was during this look, whatever the result.
    InThisLook,
    /// It succeeded this long ago.
    Done(Duration),
    /// It failed this long ago.
    Failed(Duration),
}

/// The last time that the alarm was disarmed without success: etcd is still full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disarmed {
    /// How long ago.
    pub(super) since: Duration,
    /// The size of the largest database then.
    pub(super) bytes: i64,
    /// Whether history was compacted recently. The space that this frees shows only after a few
    /// more writes to etcd, and while it is full and nobody deletes, there are none. Disarming the
    /// alarm is such a write.
    pub(super) forgot_lately: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing, until the next look.
    Wait(Waiting),
    /// Let a member write its database anew.
    Defragment(usize),
    /// Let etcd accept puts again, and see whether it does.
    Disarm,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// No member answers.
    AllAway,
    /// This member is stalled.
    Stalled(usize),
    /// No member has anything to free: more has to be deleted, or the quota raised.
    NothingToGiveBack,
}

/// Decides what to do next about an etcd that accepts no puts.
pub(super) fn next(members: &[Member], disarmed: Option<Disarmed>) -> Action {
    let stalls = |member: &Member| matches!(member, Member::Stalled(since) if *since < STALL_MAX);
    if let Some(stalled) = members.iter().position(stalls) {
        return Action::Wait(Waiting::Stalled(stalled));
    }
    let Some(largest) = largest(members) else { return Action::Wait(Waiting::AllAway) };
    if let Some(member) = members.iter().position(gives_back) {
        return Action::Defragment(member);
    }
    let is_worth_a_try = disarmed
        .is_none_or(|last| largest < last.bytes || last.forgot_lately || last.since >= PERIOD);
    if is_worth_a_try { Action::Disarm } else { Action::Wait(Waiting::NothingToGiveBack) }
}

/// The size of the largest database; `None` if no member works.
pub(super) fn largest(members: &[Member]) -> Option<i64> {
    let bytes = |member: &Member| match member {
        Member::Well { size, .. } => Some(size.bytes),
        Member::Away | Member::Stalled(_) => None,
    };
    members.iter().filter_map(bytes).max()
}

fn gives_back(member: &Member) -> bool {
    let Member::Well { size, last } = member else { return false };
    let percent = match last {
        Last::InThisLook => return false,
        Last::Failed(since) if *since < PERIOD => return false,
        Last::Done(since) if *since < PERIOD => WORTHWHILE_AGAIN_PERCENT,
        Last::Never | Last::Failed(_) | Last::Done(_) => WORTHWHILE_PERCENT,
    };
    let free = size.bytes.saturating_sub(size.in_use);
    free >= WORTHWHILE_BYTES && free.saturating_mul(100) >= size.bytes.saturating_mul(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1024 * 1024;

    fn of(bytes: i64, in_use: i64) -> Member {
        with(Last::Never, bytes, in_use)
    }

    fn with(last: Last, bytes: i64, in_use: i64) -> Member {
        Member::Well { size: Size { bytes, in_use }, last }
    }

    fn defragmented(secs: u64, bytes: i64, in_use: i64) -> Member {
        with(Last::Done(Duration::from_secs(secs)), bytes, in_use)
    }

    const FULL: Member =
        Member::Well { size: Size { bytes: 10 * MIB, in_use: 10 * MIB }, last: Last::Never };

    #[test]
    fn a_member_is_defragmented_where_it_gives_something_back_and_not_again_at_once() {
        assert_eq!(next(&[FULL, of(10 * MIB, 9 * MIB)], None), Action::Defragment(1));
        assert_eq!(
            next(&[of(10 * MIB, 10 * MIB - 100)], None),
            Action::Disarm,
            "nothing to speak of"
        );
        assert_eq!(
            next(&[of(1000 * MIB, 999 * MIB)], None),
            Action::Disarm,
            "not for a thousandth"
        );
        assert_eq!(next(&[defragmented(1, 10 * MIB, 9 * MIB)], None), Action::Disarm);
        assert_eq!(next(&[defragmented(30, 10 * MIB, 9 * MIB)], None), Action::Defragment(0));
        // Half of it was deleted since.
        assert_eq!(next(&[defragmented(1, 10 * MIB, 5 * MIB)], None), Action::Defragment(0));
    }

    #[test]
    fn where_that_failed_it_is_not_repeated_at_once_and_others_have_their_turn() {
        let failed = |secs| with(Last::Failed(Duration::from_secs(secs)), 10 * MIB, MIB);
        assert_eq!(next(&[failed(0), of(10 * MIB, MIB)], None), Action::Defragment(1));
        assert_eq!(
            next(&[failed(29), FULL], None),
            Action::Disarm,
            "somebody else may have done it"
        );
        assert_eq!(next(&[failed(30), FULL], None), Action::Defragment(0));
        let in_this_look = with(Last::InThisLook, 10 * MIB, MIB);
        assert_eq!(next(&[in_this_look, of(10 * MIB, MIB)], None), Action::Defragment(1));
        assert_eq!(next(&[in_this_look], None), Action::Disarm);
    }

    #[test]
    fn members_are_defragmented_one_after_the_other_whoever_does_it() {
        let ripe = of(10 * MIB, MIB);
        assert_eq!(next(&[ripe, ripe, ripe], None), Action::Defragment(0));
        assert_eq!(next(&[defragmented(1, MIB, MIB), ripe, ripe], None), Action::Defragment(1));
        let stalled = |since| [ripe, ripe, Member::Stalled(since)];
        let waits = Action::Wait(Waiting::Stalled(2));
        assert_eq!(next(&stalled(Duration::ZERO), None), waits, "another process does it");
        assert_eq!(next(&stalled(STALL_MAX), None), Action::Defragment(0), "nobody does it");
    }

    #[test]
    fn a_member_that_is_away_holds_nobody_up() {
        let ripe = of(10 * MIB, MIB);
        assert_eq!(next(&[Member::Away, ripe, FULL], None), Action::Defragment(1));
        assert_eq!(next(&[Member::Away, of(MIB, MIB), of(MIB, MIB)], None), Action::Disarm);
        assert_eq!(next(&[Member::Away; 3], None), Action::Wait(Waiting::AllAway));
    }

    #[test]
    fn an_alarm_that_was_left_is_disarmed_and_a_vain_try_is_not_repeated_at_once() {
        // Another process defragmented it and then stopped.
        assert_eq!(next(&[of(MIB, MIB)], None), Action::Disarm);
        let disarmed = |secs, bytes, forgot_lately| {
            Some(Disarmed { since: Duration::from_secs(secs), bytes, forgot_lately })
        };
        let last = |secs, bytes| disarmed(secs, bytes, false);
        let waits = Action::Wait(Waiting::NothingToGiveBack);
        assert_eq!(next(&[FULL], last(5, 10 * MIB)), waits, "it is as full as it was");
        assert_eq!(next(&[FULL], last(30, 10 * MIB)), Action::Disarm);
        assert_eq!(next(&[FULL], disarmed(5, 10 * MIB, true)), Action::Disarm, "it may have room");
        assert_eq!(
            next(&[of(9 * MIB, 9 * MIB)], last(5, 10 * MIB)),
            Action::Disarm,
            "there is room"
        );
    }
}
