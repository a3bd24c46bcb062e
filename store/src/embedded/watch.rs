//! A watch is a position in the log. It reads recent transactions from memory and older ones from
//! disk. So a slow watcher loses nothing, gets nothing twice, and needs no memory.

use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::embedded::read::{Failure, Snapshot, in_thread};
use crate::embedded::writer::{Progress, Shared, lock};
use crate::{Event, Key, ReadError, Revision, Watch, WatchProgress};

/// Most changes that one step reads from disk: a few milliseconds.
const CHANGES_MAX: usize = 500;

/// One watcher.
pub(crate) struct LogWatch {
    /// Weak, so that a forgotten watch does not keep the file locked after the store is closed.
    shared: Weak<Shared>,
    progress: watch::Receiver<Progress>,
    prefix: Key,
    /// The first revision that was not returned yet.
    next: Revision,
}

impl LogWatch {
    /// Fails if `from` was compacted or is in the future.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        prefix: &str,
        from: Revision,
    ) -> Result<Self, ReadError> {
        let progress = shared.progress.subscribe();
        let Progress { revision, oldest, .. } = *progress.borrow();
        progress.borrow().check()?;
        if from < oldest {
            return Err(ReadError::Compacted { asked: from, oldest });
        }
        if from.0 > revision.0 + 1 {
            return Err(ReadError::Future { asked: from, current: revision });
        }
        Ok(Self { shared: Arc::downgrade(shared), progress, prefix: prefix.into(), next: from })
    }

    async fn advance(&mut self) -> Result<WatchProgress, ReadError> {
        loop {
            let progress = *self.progress.borrow_and_update();
            progress.check()?;
            if self.next > progress.revision {
                // An error means that the store is closed, which the next check reports.
                if self.progress.changed().await.is_err() {
                    return Err(closed());
                }
                continue;
            }
            let before = self.next;
            let events = match self.read_recent(progress.revision)? {
                Some(events) => events,
                None => self.read_log(progress.revision).await?,
            };
            if self.next > before {
                let reached = Revision(self.next.0.saturating_sub(1));
                return Ok(WatchProgress { events, reached });
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads on in memory, at most up to `to`; `None` if the next revision is only on disk. What
    /// was read counts as returned, so nothing may be awaited afterwards.
    fn read_recent(&mut self, to: Revision) -> Result<Option<Vec<Event>>, ReadError> {
        let shared = self.shared.upgrade().ok_or_else(closed)?;
        let Some(recent) = lock(&shared.recent).since(self.next) else { return Ok(None) };
        let mut events = Vec::new();
        for transaction in recent.iter().filter(|transaction| transaction.revision <= to) {
            self.next = Revision(transaction.revision.0 + 1);
            events.extend(
                transaction
                    .events
                    .iter()
                    .filter(|event| event.key.starts_with(&*self.prefix))
                    .cloned(),
            );
            if events.len() >= CHANGES_MAX {
                break;
            }
        }
        Ok(Some(events))
    }

    /// Reads on from disk, at most up to `to`. The read has a thread of its own, so that a starting
    /// apiserver can parse the last events meanwhile. What was read counts as returned once this
    /// returns, so nothing may be awaited afterwards; a watch that is dropped before reads it again.
    async fn read_log(&mut self, to: Revision) -> Result<Vec<Event>, ReadError> {
        let shared = self.shared.upgrade().ok_or_else(closed)?;
        let (prefix, from) = (Arc::clone(&self.prefix), self.next);
        let read = in_thread(move || {
            let read = Snapshot::of(&shared.database)
                .map_err(Failure::Database)
                .and_then(|snapshot| snapshot.events(&prefix, (from, to), CHANGES_MAX));
            read.map_err(|failure| match failure {
                Failure::Answer(error) => error,
                Failure::Database(cause) => shared.fail(&cause),
            })
        });
        let (events, next) = read.await?;
        self.next = next;
        Ok(events)
    }
}

impl Watch for LogWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchProgress, ReadError>> {
        self.advance().boxed()
    }
}

fn closed() -> ReadError {
    ReadError::Unavailable("the store is closed".to_owned())
}
