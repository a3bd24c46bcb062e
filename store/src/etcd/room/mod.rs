//! Frees space in an etcd whose database has reached its quota.
//! Such an etcd refuses every put until somebody compacts it, defragments every member and disarms
//! the alarm. Deletes still work. Users should only have to delete enough to get a working cluster
//! again, without knowing about the rest. So every process that writes to etcd regularly checks
//! whether those steps would gain something ([`plan`]), and carries them out.
//!
//! # Invariants
//!
//! * Nothing is done to an etcd that accepts puts.
//! * What to do is decided from what the members show now, and never from what this process did
//!   before: a process may have died halfway, and an operator may have acted meanwhile.
//! * Every call has its own time-out: a dead or hanging member costs seconds.
//! * The history since the last look is kept, which is at least a second long: watches that follow
//!   closely miss nothing. Watches further behind have to start anew. That is the price, since the
//!   space of what was deleted is only free once its history is compacted. If somebody in this
//!   process reads at an old revision ([`Holds`](crate::Holds)), the history since then is kept,
//!   too, but not for long: a client that stops reading must not keep etcd full.

mod plan;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use base::Stop;
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, Error, GetOptions,
};
use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::{debug, info};

use self::plan::{Action, Member, PERIOD, STALL_MAX, Size, largest, next};
use self::tries::{Tries, What};
use crate::etcd::format::signed;
use crate::etcd::members::{CALL_TIMEOUT, Trouble};
use crate::etcd::{HeldRevisions, Remote};

/// How often a full etcd is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The maximum random delay that is added, so that the apiservers do not all act at once.
const JITTER_MS: u64 = 1_000;
/// How long history is kept for somebody who reads at an old revision: as long as it is kept
/// otherwise.
const HELD_MAX: Duration = Duration::from_secs(5 * 60);
/// How long to wait for a compaction. If it takes longer, it continues, and a later look shows that
/// it is done.
const COMPACT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a member shows.
#[derive(Debug)]
enum MemberState {
    Size(Size),
    /// Reads from it do not get an answer.
    Stalls,
}

/// Frees space whenever etcd is full, until it is told to stop. A process that ends does not wait
/// for a defragmentation.
pub(crate) async fn keep(remote: Arc<Remote>, held: HeldRevisions, stop: Stop) {
    tokio::select! {
        biased;
        () = stop.requested() => (),
        () = make_room_when_full(remote, held) => (),
    }
}

async fn make_room_when_full(remote: Arc<Remote>, held: HeldRevisions) {
    let mut fullness = remote.members.fullness();
    let mut tries = Tries::default();
    loop {
        // `self` owns the sender.
        if fullness.wait_for(|is_full| *is_full).await.is_err() {
            return;
        }
        tries.begin(remote.members.seen());
        while remote.members.is_full() {
            let jitter = Duration::from_millis(remote.members.rng().below(JITTER_MS));
            tokio::time::sleep(LOOK + jitter).await;
            match remote.make_room(&mut tries, &held).await {
                Ok(()) => {
                    tries.tell_or_pass(What::Look, Ok(()));
                    tries.tell_or_pass(What::Permission, Ok(()));
                }
                Err(trouble @ Trouble::Forbidden(_)) => {
                    tries.tell_or_pass(What::Permission, Err(&trouble));
                    tokio::time::sleep(PERIOD).await;
                }
                Err(trouble) => tries.tell_or_pass(What::Look, Err(&trouble)),
            }
        }
    }
}

impl Remote {
    /// Looks at a full etcd once, and acts.
    async fn make_room(&self, tries: &mut Tries, held: &HeldRevisions) -> Result<(), Trouble> {
        if self.takes_puts().await? {
            return Ok(());
        }
        self.forget_history(tries, held).await?;
        tries.look();
        // Each member at most once, and the alarm: the plan ensures this.
        for _ in 0..=self.members.count() {
            let members = self.look(tries).await?;
            tries.seen(self.members.seen());
            match next(&members, tries.last_disarmed()) {
                Action::Wait(why) => {
                    debug!(?why, ?members, "no room can be made in etcd now");
                    return Ok(());
                }
                Action::Defragment(member) => {
                    info!(member, ?members, "etcd is full: defragmenting a member");
                    let done = self.defragment(member).await;
                    if let Err(trouble @ Trouble::Forbidden(_)) = done {
                        return Err(trouble);
                    }
                    tries.defragmented(member, done.as_ref().copied());
                }
                Action::Disarm => {
                    self.disarm().await?;
                    tries.disarmed(largest(&members).unwrap_or_default());
                    return self.takes_puts().await.map(drop);
                }
            }
        }
        Ok(())
    }

    /// Whether etcd accepts a put. Updates what the rest of the process knows about it.
    async fn takes_puts(&self) -> Result<bool, Trouble> {
        let barrier = self.keys.barrier();
        let put = |mut client: Client| {
            let barrier = barrier.clone();
            async move { client.put(barrier, "", None).await }
        };
        match self.members.call_patiently(put).await {
            Ok(answer) => {
                self.members.learn(answer.header())?;
                self.members.tell_full(false);
                Ok(true)
            }
            Err(Trouble::Full) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// Compacts the history up to the last look. Only then is the space of deleted values free.
    async fn forget_history(&self, tries: &mut Tries, held: &HeldRevisions) -> Result<(), Trouble> {
        let Some(upto) = tries.to_forget(held.oldest_within(HELD_MAX)) else { return Ok(()) };
        let Some(revision) = signed(upto.0) else { return Ok(()) };
        let mut client = self.members.own_client(self.members.turn().await).await?;
        // Otherwise etcd would answer before anything is free.
        let physical = Some(CompactionOptions::new().with_physical());
        match within(COMPACT_TIMEOUT, client.compact(revision, physical)).await {
            Ok(_) | Err(Trouble::Compacted | Trouble::Future) => {
                tries.forgot(upto);
                Ok(())
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// What the members show.
    async fn look(&self, tries: &mut Tries) -> Result<Vec<Member>, Trouble> {
        let looks = (0..self.members.count()).map(|member| self.look_at(member));
        let mut members = Vec::new();
        for (member, look) in join_all(looks).await.into_iter().enumerate() {
            members.push(match look {
                Ok(MemberState::Size(size)) => tries.well(member, size),
                Ok(MemberState::Stalls) => tries.stalls(member),
                Err(refused @ Trouble::Forbidden(_)) => return Err(refused),
                Err(trouble) => tries.away(member, &trouble),
            });
        }
        Ok(members)
    }

    /// Asks a member for its size, and whether it can be read. A member that tells its size but
    /// cannot be read is stalled, like any member that is being defragmented.
    async fn look_at(&self, member: usize) -> Result<MemberState, Trouble> {
        let mut client = self.members.own_client(member).await?;
        let status = within(CALL_TIMEOUT, client.status()).await?;
        // A read from this member itself, not through the leader.
        let alone = Some(GetOptions::new().with_count_only().with_serializable());
        match timeout(CALL_TIMEOUT, client.get(self.keys.barrier(), alone)).await {
            Ok(Ok(answer)) => {
                self.members.learn(answer.header())?;
                let size = Size { bytes: status.db_size(), in_use: status.raft_used_db_size() };
                Ok(MemberState::Size(size))
            }
            Ok(Err(error)) => Err(Trouble::of(&error)),
            Err(_elapsed) => Ok(MemberState::Stalls),
        }
    }

    async fn defragment(&self, member: usize) -> Result<(), Trouble> {
        let mut client = self.members.own_client(member).await?;
        within(STALL_MAX, client.defragment()).await.map(drop)
    }

    async fn disarm(&self) -> Result<(), Trouble> {
        let mut client = self.members.own_client(self.members.turn().await).await?;
        let get = client.alarm(AlarmAction::Get, AlarmType::Nospace, None);
        let alarms = within(CALL_TIMEOUT, get).await?;
        for alarm in alarms.alarms().iter().filter(|alarm| alarm.alarm() == AlarmType::Nospace) {
            let mut of_member = AlarmOptions::new();
            of_member.with_member(alarm.member_id());
            let disarm = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member));
            within(CALL_TIMEOUT, disarm).await?;
        }
        Ok(())
    }
}

/// The answer of a call, within its time limit.
async fn within<T>(
    time: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Trouble> {
    match timeout(time, answer).await {
        Ok(answer) => answer.map_err(|error| Trouble::of(&error)),
        Err(_) => Err(Trouble::Lost(format!("no answer within {} s", time.as_secs()))),
    }
}
