//! Makes room in an etcd whose database has reached its quota.
//!
//! etcd then refuses every put until somebody compacts it, defragments every member and disarms the
//! alarm; deletes it takes all the same. So whoever deletes enough is to find a cluster that works
//! again, without having to know any of that: every process that writes to etcd looks now and then
//! whether it would get something, and does it.
//!
//! # Invariants
//!
//! * Nothing is done to an etcd that takes puts.
//! * A member is defragmented, which stalls it, only where that gives back a worthwhile part of its
//!   database, one member after the other, and not again at once.
//! * The alarm is disarmed after every member was defragmented. If there is no room even so, the
//!   next put raises it again.

use std::sync::Arc;
use std::time::Duration;

use base::Stop;
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::etcd::Remote;
use crate::etcd::format::signed;
use crate::etcd::members::Trouble;

/// How often a full etcd is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Added to that, up to: so that not all apiservers do the same at once.
const JITTER_MS: u64 = 2_000;
/// Between two defragmentations of one process passes at least this.
const DEFRAGMENT_PERIOD: Duration = Duration::from_secs(30);
/// How long one member may take: about as long as writing its database anew.
const DEFRAGMENT_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// What a member must have free at least to be worth it, of a hundred parts of its database ...
const WORTHWHILE_PERCENT: i64 = 2;
/// ... and at least so many bytes. 128 KiB.
const WORTHWHILE_BYTES: i64 = 128 * 1024;

/// How large a member's database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    /// Its file, which the quota counts.
    bytes: i64,
    /// What of it is in use.
    in_use: i64,
}

/// Whether defragmenting gives enough back: pure.
fn is_worthwhile(sizes: &[Size], since_last: Option<Duration>) -> bool {
    let is_due = since_last.is_none_or(|since| since >= DEFRAGMENT_PERIOD);
    let gives_back = |size: &Size| {
        let free = size.bytes.saturating_sub(size.in_use);
        free >= WORTHWHILE_BYTES && free.saturating_mul(100) >= size.bytes * WORTHWHILE_PERCENT
    };
    is_due && sizes.iter().any(gives_back)
}

/// Makes room whenever etcd is full, until it is told to stop: a process that ends does not wait for
/// a defragmentation.
pub(crate) async fn keep(remote: Arc<Remote>, stop: Stop) {
    tokio::select! {
        biased;
        () = stop.requested() => (),
        () = make_room_when_full(remote) => (),
    }
}

async fn make_room_when_full(remote: Arc<Remote>) {
    let mut fullness = remote.members.fullness();
    let mut defragmented: Option<Instant> = None;
    // The sender lives in what this holds.
    while fullness.wait_for(|is_full| *is_full).await.is_ok() {
        let jitter = Duration::from_millis(remote.members.rng().below(JITTER_MS));
        tokio::time::sleep(LOOK + jitter).await;
        match remote.make_room(&mut defragmented).await {
            Ok(()) => (),
            Err(Trouble::Forbidden(why)) => {
                warn!(why, "this user may not make room in etcd: see docs/operations.md");
                tokio::time::sleep(DEFRAGMENT_PERIOD).await;
            }
            Err(trouble) => debug!(error = %trouble, "cannot make room in etcd"),
        }
    }
}

impl Remote {
    /// One look at a full etcd.
    async fn make_room(&self, defragmented: &mut Option<Instant>) -> Result<(), Trouble> {
        if self.takes_puts().await? {
            return Ok(());
        }
        self.forget_history().await?;
        let mut sizes = Vec::new();
        for member in 0..self.members.count() {
            sizes.push(self.size(member).await?);
        }
        if !is_worthwhile(&sizes, defragmented.map(|at| at.elapsed())) {
            return Ok(());
        }
        info!(?sizes, "etcd is full, and has room to give back: defragmenting its members");
        *defragmented = Some(Instant::now());
        for member in 0..self.members.count() {
            self.defragment(member).await?;
        }
        self.disarm().await?;
        self.takes_puts().await.map(drop)
    }

    /// Whether etcd takes a put; tells everybody.
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

    /// Forgets all history: what was deleted is free only then. Watches that are behind begin anew.
    async fn forget_history(&self) -> Result<(), Trouble> {
        let Some(newest) = signed(self.members.seen().0).filter(|newest| *newest > 1) else {
            return Ok(());
        };
        // Without "physical" it is answered before anything is free.
        let options = Some(CompactionOptions::new().with_physical());
        let forget = |mut client: Client| {
            let options = options.clone();
            async move { client.compact(newest, options).await }
        };
        match self.members.call_patiently(forget).await {
            Ok(_) | Err(Trouble::Compacted | Trouble::Future) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    async fn size(&self, member: usize) -> Result<Size, Trouble> {
        let mut client = self.members.own_client(member).await?;
        let status = client.status().await.map_err(|error| Trouble::of(&error))?;
        Ok(Size { bytes: status.db_size(), in_use: status.raft_used_db_size() })
    }

    async fn defragment(&self, member: usize) -> Result<(), Trouble> {
        let mut client = self.members.own_client(member).await?;
        match timeout(DEFRAGMENT_TIMEOUT, client.defragment()).await {
            Ok(done) => done.map(drop).map_err(|error| Trouble::of(&error)),
            Err(_) => Err(Trouble::Lost("a member is being defragmented for too long".to_owned())),
        }
    }

    async fn disarm(&self) -> Result<(), Trouble> {
        let mut client = self.members.own_client(self.members.turn().await).await?;
        let get = client.alarm(AlarmAction::Get, AlarmType::Nospace, None).await;
        let alarms = get.map_err(|error| Trouble::of(&error))?;
        for alarm in alarms.alarms().iter().filter(|alarm| alarm.alarm() == AlarmType::Nospace) {
            let mut of_member = AlarmOptions::new();
            of_member.with_member(alarm.member_id());
            let disarm = (AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member));
            let disarmed = client.alarm(disarm.0, disarm.1, disarm.2).await;
            disarmed.map_err(|error| Trouble::of(&error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_defragmented_where_it_gives_something_back_and_not_again_at_once() {
        const MIB: i64 = 1024 * 1024;
        let sizes = |bytes, in_use| [Size { bytes: MIB, in_use: MIB }, Size { bytes, in_use }];
        assert!(is_worthwhile(&sizes(10 * MIB, 9 * MIB), None));
        assert!(!is_worthwhile(&sizes(10 * MIB, 10 * MIB - 100), None), "nothing to speak of");
        assert!(!is_worthwhile(&sizes(1000 * MIB, 999 * MIB), None), "not for a thousandth");
        let (early, late) = (Duration::from_secs(1), DEFRAGMENT_PERIOD);
        assert!(!is_worthwhile(&sizes(10 * MIB, MIB), Some(early)));
        assert!(is_worthwhile(&sizes(10 * MIB, MIB), Some(late)));
    }
}
