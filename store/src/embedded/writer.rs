//! The one task that writes: it collects what waits, makes it durable, notifies watches, and
//! answers.
//!
//! # Invariants
//!
//! * Nobody is answered and no watch is notified before the data is on disk.
//! * After a database error nothing more is written or read, because what is on disk is only known
//!   after the store was opened again. The writer ends with that error, and so does the process;
//!   its next start reads what is on disk.
//! * However the task ends, waiting callers and watches are notified.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base::{ErrorChain, Stop};
use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::error;

use crate::embedded::apply::{Answer, Applied, Work, apply};
use crate::embedded::leases::Leases;
use crate::embedded::recent::Recent;
use crate::{ReadError, Revision};

/// Most requests in the queue; further callers wait to enter it. Also the most that one batch
/// takes.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 1024;

/// A request with its caller.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// The state of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// The last durable revision.
    pub(crate) revision: Revision,
    pub(crate) oldest: Revision,
    /// Why the store has ended, if it has.
    pub(crate) ended: Option<&'static str>,
}

impl Progress {
    /// An error if the store does not work any more.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        match self.ended {
            None => Ok(()),
            Some(why) => Err(ReadError::Unavailable(why.to_owned())),
        }
    }
}

/// What the writer and readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) progress: watch::Sender<Progress>,
    /// Guards the last part of the log for one addition or copy.
    pub(crate) recent: Mutex<Recent>,
    /// Guards the deadlines of node leases for one read or change.
    pub(crate) leases: Mutex<Leases>,
    /// Why the database failed, if it did.
    pub(crate) failure: OnceLock<String>,
}

/// The database failed, so what is on disk is not known until it is opened again.
#[derive(Debug, thiserror::Error)]
#[error(
    "the embedded store cannot continue: {0}. Every acknowledged write is kept. If its disk is \
     full, free some space; then start the process again"
)]
pub(crate) struct DatabaseFailed(String);

impl Shared {
    /// Ends the store.
    pub(crate) fn end(&self, why: &'static str) {
        self.progress.send_modify(|progress| progress.ended = progress.ended.or(Some(why)));
    }

    /// Logs why the database failed and ends the store.
    pub(crate) fn fail(&self, cause: &redb::Error) -> ReadError {
        let why = ErrorChain(cause).to_string();
        if self.failure.set(why.clone()).is_ok() {
            error!(error = why, "the store's database failed");
        }
        self.end("the database failed; see the server's log");
        ReadError::Unavailable(why)
    }
}

/// Notifies everybody that the writer is gone, even if its task was aborted.
struct EndsWithWriter(Arc<Shared>);

impl Drop for EndsWithWriter {
    fn drop(&mut self) {
        self.0.end("the store is closed");
    }
}

/// Runs until it is asked to stop, every handle is dropped, or the database fails. Requests in the
/// queue are still carried out.
pub(crate) async fn run(
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    stop: Stop,
) -> Result<(), DatabaseFailed> {
    let _ends = EndsWithWriter(Arc::clone(&shared));
    write(&shared, queue, stop).await;
    shared.failure.get().map_or(Ok(()), |why| Err(DatabaseFailed(why.clone())))
}

async fn write(shared: &Arc<Shared>, mut queue: mpsc::Receiver<Request>, stop: Stop) {
    let mut progress = shared.progress.subscribe();
    let mut revision = shared.progress.borrow().revision;
    let mut requests = Vec::new();
    while shared.progress.borrow().ended.is_none() {
        tokio::select! {
            biased;
            () = stop.requested(), if !queue.is_closed() => queue.close(),
            received = queue.recv_many(&mut requests, QUEUE_REQUESTS_MAX) => {
                if received == 0 {
                    return;
                }
            }
            () = next_expiry(shared) => (),
            // A reader had a database error.
            _ended = progress.wait_for(|progress| progress.ended.is_some()) => continue,
        }
        let (mut work, waiting): (Vec<_>, Vec<_>) =
            requests.drain(..).map(|request| (request.work, request.answer)).unzip();
        let expired = lock(&shared.leases).take_expired(Instant::now());
        if !expired.is_empty() {
            work.push(Work::Revoke(expired));
        }
        if work.is_empty() {
            continue;
        }
        let writer = Arc::clone(shared);
        // Disk I/O blocks, so it runs in a thread of the blocking pool. It is awaited at once, so
        // there is only one at a time, and virtual time stands still meanwhile.
        let applied =
            tokio::task::spawn_blocking(move || apply(&writer.database, revision, work)).await;
        let applied = match applied {
            Ok(applied) => applied,
            // The runtime is shutting down and dropped the work before it began. Callers are
            // dropped, which they take as Unknown.
            Err(stopped) if stopped.is_cancelled() => return,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        match applied {
            Ok(applied) => revision = publish(shared, applied, waiting, revision),
            // Callers are dropped, which they take as Unknown.
            Err(cause) => drop(shared.fail(&cause)),
        }
    }
}

/// Resolves when the next node lease may have expired.
async fn next_expiry(shared: &Shared) {
    let wake_at = lock(&shared.leases).wake_at();
    match wake_at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Watches first, then answers: a caller may then ask for its revision and must see it.
fn publish(
    shared: &Shared,
    applied: Applied,
    waiting: Vec<oneshot::Sender<Answer>>,
    revision: Revision,
) -> Revision {
    let mut revision = applied.transactions.last().map_or(revision, |last| last.revision);
    {
        let mut recent = lock(&shared.recent);
        applied.transactions.into_iter().for_each(|transaction| recent.push(transaction));
        if applied.answers.iter().any(|answer| matches!(answer, Answer::Begun(Some(_)))) {
            recent.clear();
        }
    }
    let mut oldest = shared.progress.borrow().oldest;
    let mut leases = lock(&shared.leases);
    for answer in &applied.answers {
        match answer {
            Answer::Granted(lease, ttl) => leases.insert(*lease, *ttl, Instant::now()),
            Answer::Revoked(ended) => ended.iter().for_each(|lease| leases.remove(*lease)),
            Answer::Compacted { oldest: now, .. } => oldest = *now,
            Answer::Begun(Some(begun)) => {
                revision = revision.max(*begun);
                oldest = *begun;
            }
            Answer::Committed(_) | Answer::Begun(None) => (),
        }
    }
    drop(leases);
    shared.progress.send_modify(|progress| {
        progress.revision = revision;
        progress.oldest = oldest;
    });
    for (waiting, answer) in waiting.into_iter().zip(applied.answers) {
        // The caller may have stopped waiting.
        let _ = waiting.send(answer);
    }
    revision
}

/// A poisoned lock can be used: it guards plain data that is consistent between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
