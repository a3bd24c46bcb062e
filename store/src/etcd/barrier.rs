//! Brings a watch to a revision that callers were told of, though nothing happens any more that it shows.
//!
//! etcd has one revision for all of its keys, so the newest one may be somebody else's: of another
//! program, or of a store with another namespace. A watch is silent about those, and so says neither
//! that it has seen all nor that it lags behind. Where it does not come to what was told within
//! [`LAG`], a *barrier* is put: a key of the store's own, in the range of every watch. etcd sends a watch
//! its events in order, so whoever sees the barrier has seen all that came before.
//!
//! etcd can be asked for a watch's progress without writing, too. Before 3.4.25 and 3.5.8 such an
//! answer may overtake events that are still to be sent ([etcd 15220]), which would show a reader less than
//! he was promised; and Debian's 3.4.23 is what many have. An event is right with every etcd.
//!
//! # Invariants
//!
//! * One barrier at a time for each watch, [`LAG`] apart at least, and only while it is behind: none
//!   where nobody else writes. The barriers of other processes do as well as one's own.
//! * An etcd that is full refuses puts, but not deletes, and a delete is an event, too: barriers are
//!   put under many keys in turn, each of which can be deleted then.
//! * Where no barrier can be made (no room and none to delete, no permission), the watch ends with an
//!   error that says so, for nobody to wait in silence.
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

/// How long a watch may be behind what was told before a barrier is made. An event takes a few
/// milliseconds; a watch that begins in the past, some 100 ms.
const LAG: Duration = Duration::from_millis(200);
/// How often a key is looked for that can be deleted: others delete them, too.
const DELETES_MAX: usize = 8;

/// What brings one watch further.
pub(crate) struct Barrier {
    told: watch::Receiver<Revision>,
    state: State,
}

enum State {
    /// The watch has come to all that was told when it was last looked at.
    Reached,
    /// It is to come to `wanted` by itself.
    Behind { wanted: Revision, until: Instant },
    /// It did not.
    Making { wanted: Revision, barrier: BoxFuture<'static, Result<(), Trouble>> },
    /// There is a barrier after `wanted`.
    Made { wanted: Revision, until: Instant },
}

/// Why a watch does not go on.
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

    /// The watch has come so far.
    pub(crate) fn reached(&mut self, reached: Revision) {
        match &mut self.state {
            State::Behind { wanted, .. }
            | State::Making { wanted, .. }
            | State::Made { wanted, .. }
                if *wanted <= reached =>
            {
                self.state = State::Reached;
            }
            // Its stream lives: a long history takes its time.
            State::Made { until, .. } => *until = Instant::now() + READ_PATIENCE,
            State::Reached | State::Behind { .. } | State::Making { .. } => (),
        }
    }

    /// The stream begins anew.
    pub(crate) fn restart(&mut self) {
        self.state = State::Reached;
    }

    /// Sees to it that a watch which has reached `reached` comes to what is told. Ends only when
    /// it does not. Cancel-safe.
    pub(crate) async fn stuck(&mut self, etcd: &Arc<Remote>, reached: Revision) -> Stuck {
        loop {
            match &mut self.state {
                State::Reached => {
                    let Ok(wanted) = self.told.wait_for(|told| *told > reached).await else {
                        // The sender lives in `etcd`.
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

    /// Makes such an event in an etcd that is full.
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
            // Where an answer is lost it is deleted twice, and the second time makes no event: the
            // next key does.
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
