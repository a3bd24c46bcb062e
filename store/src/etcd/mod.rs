//! The store on etcd, for production: any number of processes, and any number of members.
//! Concurrent commits are combined into transactions, each of which takes many independent groups
//! through etcd's log at the cost of one. A conflict fails only its own group. No timers or guesses
//! are involved as in other clients of etcd: if a transaction gets no answer, the history shows
//! what happened to it, and a watch that breaks continues where it ended. So callers see every
//! transaction as a whole, in order and once, even as members fail and return. A store that has
//! replaced another continues its revisions: [`shift`] adds the difference here, and the code below
//! uses etcd's own revisions.

mod barrier;
mod config;
mod doubt;
mod format;
mod leases;
mod members;
mod plan;
mod read;
mod room;
mod send;
mod shift;
mod transaction;
mod watch;
mod writer;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::{Rng, Spawner};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

pub use self::config::{ConnectError, EtcdConfig, EtcdIdentity, EtcdTls, EtcdUser};
use self::format::Keyspace;
use self::members::{Members, Trouble};
use self::read::RecordBytes;
use self::shift::{Shift, ShiftedWatch};
use self::watch::EtcdWatch;
use self::writer::{QUEUE_CALLS_MAX, Request};
use crate::{
    BeginError, Group, Holds, LeaseId, List, Outcome, Page, ReadError, Record, Revision, Store,
    Watch,
};

/// The store on etcd. Its writer ends with the tasks given to [`Etcd::connect`], or when this is
/// dropped.
#[derive(Debug)]
pub struct Etcd {
    direct: Direct,
    /// Guards the shift. Locked to copy or replace it.
    shift: Arc<RwLock<Shift>>,
    holds: Holds,
}

/// The revisions that users of this store are reading at, as etcd counts.
#[derive(Debug)]
struct HeldRevisions {
    holds: Holds,
    shift: Arc<RwLock<Shift>>,
}

impl HeldRevisions {
    /// The oldest revision that has been held for less than `age`.
    fn oldest_within(&self, age: Duration) -> Option<Revision> {
        let shift = *self.shift.read().unwrap_or_else(PoisonError::into_inner);
        self.holds.oldest_within(age).and_then(|shown| shift.own(shown))
    }
}

/// The store with etcd's own revisions.
#[derive(Debug)]
struct Direct {
    remote: Arc<Remote>,
    queue: mpsc::Sender<Request>,
}

/// The connection to etcd.
#[derive(Debug)]
struct Remote {
    members: Members,
    keys: Arc<Keyspace>,
    record_bytes: RecordBytes,
    /// The newest revision that was handed out to callers. Every watch has to reach it.
    told: tokio::sync::watch::Sender<Revision>,
    /// The number of barriers that were put.
    barriers: AtomicU64,
}

impl Etcd {
    /// Connects, for which one member has to answer. `rng` identifies this writer among others, so
    /// it has to be seeded by the machine.
    pub async fn connect(
        config: EtcdConfig,
        rng: &Rng,
        tasks: &Spawner,
    ) -> Result<Self, ConnectError> {
        config.check()?;
        let options = config.options();
        let members = Members::new(config.endpoints, options, rng.fork("etcd"));
        let keys = Arc::new(Keyspace::new(config.namespace));
        let remote = Arc::new(Remote {
            members,
            keys,
            record_bytes: RecordBytes::default(),
            told: tokio::sync::watch::Sender::default(),
            barriers: AtomicU64::default(),
        });
        remote.reach().await?;
        let (queue, requests) = mpsc::channel(QUEUE_CALLS_MAX);
        let (writer, stop) = (rng.next_u64(), tasks.stop_signal());
        tasks.spawn_part("store writer", writer::run(Arc::clone(&remote), writer, requests, stop));
        let shift = remote
            .read_shift()
            .await
            .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        let (shift, holds) = (Arc::new(RwLock::new(shift)), Holds::default());
        let held = HeldRevisions { holds: holds.clone(), shift: Arc::clone(&shift) };
        tasks.spawn_part("store room", room::keep(Arc::clone(&remote), held, tasks.stop_signal()));
        Ok(Self { direct: Direct { remote, queue }, shift, holds })
    }

    fn shift(&self) -> Shift {
        *self.shift.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A revision as etcd counts, if it belongs to the history of this store.
    async fn kept(&self, asked: Revision) -> Result<Revision, ReadError> {
        match self.shift().own(asked) {
            Some(own) => Ok(own),
            None => Err(ReadError::Compacted { asked, oldest: self.oldest().await? }),
        }
    }

    /// etcd's own id of its cluster. A different id means another etcd, or one that was set up
    /// anew.
    pub fn cluster_id(&self) -> u64 {
        self.direct.remote.members.cluster()
    }
}

impl Remote {
    /// Notes that a revision is handed out to a caller.
    fn tell(&self, revision: Revision) -> Revision {
        base::raise(&self.told, revision);
        revision
    }

    /// The first call, which shows mistakes in the configuration.
    async fn reach(&self) -> Result<(), ConnectError> {
        let barrier = self.keys.barrier();
        let ask = |mut client: etcd_client::Client| {
            let barrier = barrier.clone();
            async move { client.get(barrier, None).await }
        };
        let answered = self.members.call_patiently(ask).await;
        let learnt = answered.and_then(|answer| self.members.learn(answer.header()));
        match learnt {
            Ok(_) => Ok(()),
            Err(Trouble::Forbidden(why) | Trouble::LoggedOut(why)) => {
                Err(ConnectError::Refused(why))
            }
            Err(
                trouble @ (Trouble::Lost(_)
                | Trouble::Compacted
                | Trouble::Future
                | Trouble::NoLease
                | Trouble::Full
                | Trouble::TooLong(_)),
            ) => Err(ConnectError::Unreachable(trouble.to_string())),
            Err(Trouble::Invalid(why)) => Err(ConnectError::Config(why)),
        }
    }
}

/// Uses etcd's own revisions.
impl Direct {
    async fn commit(&self, groups: Vec<Group>) -> Vec<Outcome> {
        let count = groups.len();
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Request { groups, answer }).await.is_err() {
            return vec![Outcome::Unknown; count];
        }
        answered.await.unwrap_or_else(|_| vec![Outcome::Unknown; count])
    }
}

impl Store for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, ReadError>> {
        async move {
            let shift = self.shift();
            let found = self.direct.remote.read_key(key).await;
            found
                .map(|found| found.map(|record| shift.record(record)))
                .map_err(|it| shift.error(it))
        }
        .boxed()
    }

    fn list(&self, list: List) -> BoxFuture<'_, Result<Page, ReadError>> {
        async move {
            let shift = self.shift();
            let at = match list.at {
                Some(at) => Some(self.kept(at).await?),
                None => None,
            };
            let page = self.direct.remote.read_list(List { at, ..list }).await;
            let page = page.map_err(|error| shift.error(error))?;
            self.direct.remote.tell(page.revision);
            Ok(shift.page(page))
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        async move {
            let shift = self.shift();
            let revision = self.direct.remote.read_revision().await?;
            Ok(shift.shown(self.direct.remote.tell(revision)))
        }
        .boxed()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        async move {
            let shift = self.shift();
            self.direct.remote.read_oldest().await.map(|at| shift.oldest(at))
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, ReadError>> {
        async move {
            let shift = self.shift();
            let from = self.kept(from).await?;
            let opening = Box::pin(EtcdWatch::open(&self.direct.remote, prefix, from));
            let watch = opening.await.map_err(|error| shift.error(error))?;
            let shared = Arc::clone(&self.shift);
            Ok(Box::new(ShiftedWatch::new(watch, shift, shared)) as Box<dyn Watch>)
        }
        .boxed()
    }

    fn commit(&self, mut groups: Vec<Group>) -> BoxFuture<'_, Vec<Outcome>> {
        async move {
            let shift = self.shift();
            groups.iter_mut().for_each(|group| shift.group(group));
            let outcomes = self.direct.commit(groups).await;
            outcomes.into_iter().map(|outcome| shift.outcome(outcome)).collect()
        }
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, ReadError>> {
        self.direct.remote.grant_lease(ttl).boxed()
    }

    fn renew(&self, leases: Vec<LeaseId>) -> BoxFuture<'_, Result<Vec<bool>, ReadError>> {
        self.direct.remote.renew_leases(leases).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), ReadError>> {
        self.direct.remote.revoke_lease(lease).boxed()
    }

    fn compact(&self, keep_from: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        let keep_from = self.shift().own(keep_from).unwrap_or_default();
        self.direct.remote.forget(keep_from).boxed()
    }

    fn holds(&self) -> Holds {
        self.holds.clone()
    }

    fn begin_after(&self, revision: Revision) -> BoxFuture<'_, Result<(), BeginError>> {
        async move {
            let shift = self.direct.remote.begin_after(revision).await?;
            *self.shift.write().unwrap_or_else(PoisonError::into_inner) = shift;
            Ok(())
        }
        .boxed()
    }
}
