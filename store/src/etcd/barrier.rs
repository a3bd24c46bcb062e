//! Brings a watch up to a revision that was handed out to a caller, even if nothing more happens
//! that the watch shows.
//! etcd has one revision for all of its keys, so the newest one may come from another program, or
//! from a store with another namespace. A watch is silent about those changes, and then we cannot
//! tell whether it is up to date or lags behind. If it does not reach the revision within [`LAG`],
//! we write a *barrier*: a key of our own in the range of every watch. etcd sends events in order,
//! so a watch that sees the barrier has seen everything before it.
//! etcd can also report the progress of a watch without a write. But before 3.4.25 and 3.5.8, such
//! a report may overtake events that are yet to be sent ([etcd 15220]), so that a reader would miss
//! changes that it was promised. Many systems have Debian's 3.4.23. An event is correct with every
//! etcd.
//!
//! # Invariants
//!
//! * Each watch has one barrier at a time, at least [`LAG`] apart, and only while it is behind. If
//!   nobody else writes, there are none. Barriers of other processes serve as well as our own.
//! * A full etcd refuses puts but not deletes, and a delete is an event, too. So barriers are put
//!   under many keys in turn, each of which can then be deleted.
//! * If no barrier can be made (no space and none to delete, or no permission), the watch ends with
//!   an error, so that nobody waits without knowing why.
//!
//! [etcd 15220]: https://github.com/etcd-io/etcd/issues/15220

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::Revision;
use crate::etcd::Remote;
use crate::etcd::members::{READ_PATIENCE, Trouble};

/// How long a watch may be behind before a barrier is made. An event takes a few milliseconds; a
/// watch that starts in the past takes about 100 ms.
const LAG: Duration = Duration::from_millis(200);
/// How many times we look for a key to delete: other processes delete them, too.
const DELETES_MAX: usize = 8;

/// Makes barriers for one watch.
pub(crate) struct Barrier {
    told: watch::Receiver<Revision>,
    state: State,
}

enum State {
    /// The watch was up to date when it was last checked.
    Reached,
    /// It should reach `wanted` on its own.
    Behind { wanted: Revision, until: Instant },
    /// It did not.
    Making { wanted: Revision, barrier: BoxFuture<'static, Result<(), Trouble>> },
    /// A barrier was made after `wanted`.
    Made { wanted: Revision, until: Instant },
}

/// Why a watch does not make progress.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// Its stream shows nothing, not even the barrier.
    Silent,
    /// No barrier can be made.
    NoBarrier(Trouble),
}

impl Barrier {
    pub(crate) fn new(etcd: &Remote) -> Self {
        Self { told: etcd.told.subscribe(), state: State::Reached }
    }

    /// The watch has reached this revision.
    pub(crate) fn reached(&mut self, reached: Revision) {
        match &mut self.state {
            State::Behind { wanted, .. }
            | State::Making { wanted, .. }
            | State::Made { wanted, .. }
                if *wanted <= reached =>
            {
                self.state = State::Reached;
            }
            // The stream works; a long history takes time.
            State::Made { until, .. } => *until = Instant::now() + READ_PATIENCE,
            State::Reached | State::Behind { .. } | State::Making { .. } => (),
        }
    }

    /// The stream starts anew.
    pub(crate) fn restart(&mut self) {
        self.state = State::Reached;
    }

    /// Makes sure that a watch at `reached` reaches what was handed out. Returns only if it does
    /// not. Cancel-safe.
    pub(crate) async fn stuck(&mut self, etcd: &Arc<Remote>, reached: Revision) -> Stuck {
        loop {
            match &mut self.state {
                State::Reached => {
                    let Ok(wanted) = self.told.wait_for(|told| *told > reached).await else {
                        // `etcd` owns the sender.
                        return std::future::pending().await;
                    };
                    let (wanted, until) = (*wanted, Instant::now() + LAG);
                    self.state = State::Behind { wanted, until };
                }
                State::Behind { wanted, until } => {
                    sleep_until(*until).await;
                    let (wanted, etcd) = (*wanted, Arc::clone(etcd));
                    debug!(%reached, %wanted, "a watch is behind: making a barrier");
                    let barrier = async move { etcd.make_barrier().await }.boxed();
                    self.state = State::Making { wanted, barrier };
                }
                State::Making { wanted, barrier } => match barrier.await {
                    Ok(()) => {
                        let (wanted, until) = (*wanted, Instant::now() + READ_PATIENCE);
                        self.state = State::Made { wanted, until };
                    }
                    Err(trouble) => {
                        self.state = State::Reached;
                        return Stuck::NoBarrier(trouble);
                    }
                },
                State::Made { until, .. } => {
                    sleep_until(*until).await;
                    self.state = State::Reached;
                    return Stuck::Silent;
                }
            }
        }
    }
}

impl Remote {
    /// Makes an event that every watch sees.
    async fn make_barrier(&self) -> Result<(), Trouble> {
        let key = self.keys.spare_barrier(self.barriers.fetch_add(1, Ordering::Relaxed));
        let put = |mut client: Client| {
            let key = key.clone();
            async move { client.put(key, "", None).await }
        };
        match self.members.call_patiently(put).await {
            Ok(answer) => {
                self.members.tell_full(false);
                self.members.learn(answer.header()).map(drop)
            }
            Err(Trouble::Full) => {
                self.members.tell_full(true);
                self.delete_barrier().await
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Makes such an event in a full etcd.
    async fn delete_barrier(&self) -> Result<(), Trouble> {
        let (start, end) = self.keys.barriers();
        for _ in 0..DELETES_MAX {
            let one = GetOptions::new().with_range(end.clone()).with_limit(1).with_keys_only();
            let ask = |client| first(client, start.clone(), one.clone());
            let Some(key) = self.members.call_patiently(ask).await? else { break };
            let delete = |mut client: Client| {
                let key = key.clone();
                async move { client.delete(key, None).await }
            };
            // If an answer was lost, the key is deleted twice, and the second delete makes no
            // event. The next key does.
            if self.members.call_patiently(delete).await?.deleted() > 0 {
                return Ok(());
            }
        }
        Err(Trouble::Full)
    }
}

/// The first key of a range.
async fn first(
    client: Client,
    start: Vec<u8>,
    options: GetOptions,
) -> Result<Option<Vec<u8>>, Error> {
    let found = client.kv_client().get(start, Some(options)).await?;
    Ok(found.kvs().first().map(|pair| pair.key().to_vec()))
}
