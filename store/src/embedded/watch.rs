//! A watch is a position in the log. It reads recent transactions from memory and older ones from
//! disk. So a slow watcher loses nothing, gets nothing twice, and needs no memory.

use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::embedded::read::{Failure, Snapshot};
use crate::embedded::writer::{Progress, Shared, lock};
use crate::{Event, Key, ReadError, Revision, Watch, WatchProgress};

/// Most changes that one step reads from disk: a few milliseconds, so that others get their turn.
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
            let events = self.read(progress.revision)?;
            if self.next > before {
                let reached = Revision(self.next.0.saturating_sub(1));
                return Ok(WatchProgress { events, reached });
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads on, at most up to `to`. What was read counts as returned, so nothing may be awaited
    /// afterwards.
    fn read(&mut self, to: Revision) -> Result<Vec<Event>, ReadError> {
        let shared = self.shared.upgrade().ok_or_else(closed)?;
        let recent = lock(&shared.recent).since(self.next);
        if let Some(recent) = recent {
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
            return Ok(events);
        }
        let read = Snapshot::of(&shared.database)
            .map_err(Failure::Database)
            .and_then(|snapshot| snapshot.events(&self.prefix, (self.next, to), CHANGES_MAX));
        match read {
            Ok((events, next)) => {
                self.next = next;
                Ok(events)
            }
            Err(Failure::Answer(error)) => Err(error),
            Err(Failure::Database(cause)) => Err(shared.fail(&cause)),
        }
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
