//! The one task that writes: gathers what waits, makes it durable, tells watchers, answers.
//!
//! # Invariants
//!
//! * Nobody is answered, and no watcher told, before the disk has it.
//! * After a database error nothing more is written or read: what is on disk is known again only
//!   when the store is opened anew. The writer ends with that error, and so does the process, which
//!   its next start answers with what is on disk.
//! * However the task ends, waiting callers and watchers learn of it.

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

/// Callers that wait in the queue; more wait to enter it. Also the most that one gathering takes.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 1024;

/// A piece of work, and who waits for it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// How far the store is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// The last durable revision.
    pub(crate) revision: Revision,
    pub(crate) oldest: Revision,
    /// Why there will be no more, if so.
    pub(crate) ended: Option<&'static str>,
}

impl Progress {
    /// An error if the store no longer works.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        match self.ended {
            None => Ok(()),
            Some(why) => Err(ReadError::Unavailable(why.to_owned())),
        }
    }
}

/// What the writer shares with readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) progress: watch::Sender<Progress>,
    /// Guards the window on the end of the log; held to add to it or to clone from it.
    pub(crate) recent: Mutex<Recent>,
    /// Guards the deadlines of node leases; held for one look or change.
    pub(crate) leases: Mutex<Leases>,
    /// Why the database failed, if it did.
    pub(crate) failure: OnceLock<String>,
}

/// The database failed: nothing is known of what is on disk until it is opened anew.
#[derive(Debug, thiserror::Error)]
#[error(
    "the embedded store cannot continue: {0}. Every acknowledged write is kept. If its disk is \
     full, free some space; then start the process again"
)]
pub(crate) struct DatabaseFailed(String);

impl Shared {
    /// Nothing more will happen.
    pub(crate) fn end(&self, why: &'static str) {
        self.progress.send_modify(|progress| progress.ended = progress.ended.or(Some(why)));
    }

    /// Logs why the database failed, and ends the store.
    pub(crate) fn fail(&self, cause: &redb::Error) -> ReadError {
        let why = ErrorChain(cause).to_string();
        if self.failure.set(why.clone()).is_ok() {
            error!(error = why, "the store's database failed");
        }
        self.end("the database failed; see the server's log");
        ReadError::Unavailable(why)
    }
}

/// Tells everybody that the writer is gone, even if its task was aborted.
struct EndsWithWriter(Arc<Shared>);

impl Drop for EndsWithWriter {
    fn drop(&mut self) {
        self.0.end("the store is closed");
    }
}

/// Runs until it is told to stop, every handle is gone, or the database fails. What is in the
/// queue by then is still done.
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
            // A reader met an error of the database.
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
        // Waiting for the disk blocks: that is for a thread of the pool. It is awaited at once, so
        // there is one at a time, and virtual time stands still meanwhile.
        let applied =
            tokio::task::spawn_blocking(move || apply(&writer.database, revision, work)).await;
        let applied = match applied {
            Ok(applied) => applied,
            // The runtime is going down, and took the thread away before it began: the waiting are
            // dropped, which they read as Unknown.
            Err(stopped) if stopped.is_cancelled() => return,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        match applied {
            Ok(applied) => revision = publish(shared, applied, waiting, revision),
            // The waiting are dropped, which they read as Unknown.
            Err(cause) => drop(shared.fail(&cause)),
        }
    }
}

/// Ends when the next node lease may have expired.
async fn next_expiry(shared: &Shared) {
    let wake_at = lock(&shared.leases).wake_at();
    match wake_at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Watchers first, then answers: who was answered may ask for the revision and must see it.
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
        // Who no longer waits does not want to know.
        let _ = waiting.send(answer);
    }
    revision
}

/// A poisoned lock guards plain data, which stays consistent between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
