//! The store on one machine: a database file, one writer, and a disk sync before each answer.
//!
//! Concurrent commits are combined: while one database transaction is on its way to the disk, the
//! next one fills with everything that waits. It usually makes one revision; a group that changes a
//! key which the revision has changed already begins the next revision, in the same database
//! transaction. So a thousand writers of one key cost only a handful of disk syncs, and each sees
//! the effects of those before it.

mod apply;
mod format;
mod leases;
mod open;
mod read;
mod recent;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base::Spawner;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::Database;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::apply::{Answer, Work};
use self::leases::Leases;
pub use self::open::OpenError;
use self::read::{Failure, Snapshot, in_thread};
use self::recent::Recent;
use self::watch::LogWatch;
use self::writer::{Progress, QUEUE_REQUESTS_MAX, Request, Shared, lock};
use crate::{
    BeginError, Group, LeaseId, List, Outcome, Page, ReadError, Record, Revision, Store, Watch,
};

/// The embedded store. Its writer ends with the tasks given to [`Embedded::open`], or when this is
/// dropped. When both are gone, the file can be opened again.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
}

impl Embedded {
    /// Whether a directory contains a store. [`open`](Self::open) would create one.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(open::FILE).is_file()
    }

    /// Opens the store in a directory, which is created if it does not exist. Only this process may
    /// use it. It reads the disk before it returns, longer after a crash. Needs a runtime.
    pub fn open(dir: &Path, tasks: &Spawner) -> Result<Self, OpenError> {
        let database = open::open(dir)?;
        Self::start(database, tasks).map_err(|error| open::broken(dir, error))
    }

    /// A store in memory.
    pub fn in_memory(tasks: &Spawner) -> Result<Self, OpenError> {
        let database = open::in_memory()?;
        Self::start(database, tasks).map_err(|error| open::broken(Path::new("(memory)"), error))
    }

    /// A store over a file, over memory, or over a disk that fails on demand.
    #[cfg(test)]
    fn over(backend: impl redb::StorageBackend, tasks: &Spawner) -> Result<Self, OpenError> {
        let database = open::over(backend)?;
        Self::start(database, tasks).map_err(|error| open::broken(Path::new("(test)"), error))
    }

    fn start(database: Database, tasks: &Spawner) -> Result<Self, redb::Error> {
        let snapshot = Snapshot::of(&database)?;
        let progress =
            Progress { revision: snapshot.revision()?, oldest: snapshot.oldest()?, ended: None };
        let mut leases = Leases::default();
        for (lease, ttl_ms) in snapshot.leases()? {
            leases.insert(lease, Duration::from_millis(ttl_ms), Instant::now());
        }
        drop(snapshot);
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let shared = Arc::new(Shared {
            database,
            progress: tokio::sync::watch::Sender::new(progress),
            recent: Mutex::new(Recent::default()),
            leases: Mutex::new(leases),
            failure: OnceLock::new(),
        });
        let stop = tasks.stop_signal();
        tasks.spawn_part("store writer", writer::run(Arc::clone(&shared), requests, stop));
        Ok(Self { shared, queue })
    }

    fn progress(&self) -> Result<Progress, ReadError> {
        let progress = *self.shared.progress.borrow();
        progress.check()?;
        Ok(progress)
    }

    /// Waits until watches have been notified of a revision that was read. The database shows a
    /// transaction slightly before it is published, and a reader must not be ahead of the watch
    /// that it opens next.
    async fn published(&self, revision: Revision) -> Result<(), ReadError> {
        let mut progress = self.shared.progress.subscribe();
        let reached =
            |progress: &Progress| progress.revision >= revision || progress.ended.is_some();
        progress.wait_for(reached).await.expect("the sender is held by this store").check()
    }

    fn read_failed(&self, failure: Failure) -> ReadError {
        match failure {
            Failure::Answer(error) => error,
            Failure::Database(cause) => self.shared.fail(&cause),
        }
    }

    /// Sends a request to the writer. After an error it may have been carried out or not.
    async fn ask(&self, work: Work) -> Result<Answer, ReadError> {
        let (answer, answered) = oneshot::channel();
        let closed = || ReadError::Unavailable("the store is closed".to_owned());
        self.queue.send(Request { work, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())
    }
}

impl Store for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, ReadError>> {
        async move {
            self.progress()?;
            // Only a few pages, most of them in memory: faster than using another thread.
            let read = Snapshot::of(&self.shared.database)
                .and_then(|snapshot| Ok((snapshot.get(key)?, snapshot.revision()?)));
            let (found, revision) =
                read.map_err(|cause| self.read_failed(Failure::Database(cause)))?;
            self.published(revision).await?;
            Ok(found)
        }
        .boxed()
    }

    fn list(&self, list: List) -> BoxFuture<'_, Result<Page, ReadError>> {
        async move {
            self.progress()?;
            let shared = Arc::clone(&self.shared);
            // Up to 16 MiB, which would block other tasks of this thread for too long.
            let read = in_thread(move || {
                Snapshot::of(&shared.database)
                    .map_err(Failure::Database)
                    .and_then(|snapshot| snapshot.list(&list))
            });
            let page = read.await.map_err(|failure| self.read_failed(failure))?;
            self.published(page.revision).await?;
            Ok(page)
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        async move { Ok(self.progress()?.revision) }.boxed()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        async move { Ok(self.progress()?.oldest) }.boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, ReadError>> {
        async move {
            let watch = LogWatch::open(&self.shared, prefix, from)?;
            Ok(Box::new(watch) as Box<dyn Watch>)
        }
        .boxed()
    }

    fn commit(&self, groups: Vec<Group>) -> BoxFuture<'_, Vec<Outcome>> {
        async move {
            let count = groups.len();
            match self.ask(Work::Commit(groups)).await {
                Ok(Answer::Committed(outcomes)) => outcomes,
                Ok(
                    Answer::Granted(..)
                    | Answer::Revoked(_)
                    | Answer::Compacted { .. }
                    | Answer::Begun(_),
                )
                | Err(_) => vec![Outcome::Unknown; count],
            }
        }
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, ReadError>> {
        async move {
            match self.ask(Work::Grant(ttl)).await? {
                Answer::Granted(lease, _) => Ok(lease),
                Answer::Committed(_)
                | Answer::Revoked(_)
                | Answer::Compacted { .. }
                | Answer::Begun(_) => unreachable!("a grant is answered by a grant"),
            }
        }
        .boxed()
    }

    fn renew(&self, leases: Vec<LeaseId>) -> BoxFuture<'_, Result<Vec<bool>, ReadError>> {
        async move {
            self.progress()?;
            let now = Instant::now();
            let mut deadlines = lock(&self.shared.leases);
            Ok(leases.into_iter().map(|lease| deadlines.renew(lease, now)).collect())
        }
        .boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            self.ask(Work::Revoke(vec![lease])).await?;
            Ok(())
        }
        .boxed()
    }

    fn compact(&self, keep_from: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            // In slices, between which other writers get their turn.
            while let Answer::Compacted { more: true, .. } =
                self.ask(Work::Compact(keep_from)).await?
            {}
            Ok(())
        }
        .boxed()
    }

    fn begin_after(&self, revision: Revision) -> BoxFuture<'_, Result<(), BeginError>> {
        async move {
            match self.ask(Work::BeginAfter(revision)).await? {
                Answer::Begun(None) => Err(BeginError::NotEmpty),
                Answer::Begun(Some(_))
                | Answer::Committed(_)
                | Answer::Granted(..)
                | Answer::Revoked(_)
                | Answer::Compacted { .. } => Ok(()),
            }
        }
        .boxed()
    }
}
