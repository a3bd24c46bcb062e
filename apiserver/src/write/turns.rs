//! Single requests that change the same object take turns within an apiserver, in the order in which
//! they came.
//!
//! Decided at once, all but one of them would be refused by the store and decided anew, again and
//! again: of many, the last ones would use up their tries and be told of a conflict, although they
//! named no version. Guards are what makes a write safe, with or without a turn: those of other
//! apiservers and of batches take none.
//!
//! # Invariants
//!
//! * Nobody waits for ever: after [`WAIT_MAX`], such as behind a store that does not answer, a request
//!   is tried without its turn.
//! * What is kept of an object goes with the last request that waits for it or has its turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::Key;
use tokio::sync::OwnedMutexGuard;

/// Longest wait for a turn.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The turns of all objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(
    /// Guards the queues; locked to join or leave one.
    Arc<Mutex<BTreeMap<Key, Queue>>>,
);

/// Who waits for an object.
#[derive(Debug, Default)]
struct Queue {
    /// Held by whoever has the turn; those who wait are served in order.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many have the turn or wait for it.
    requests: usize,
}

/// A turn, or the time to wait for one is over. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Goes before the place: the queue is there as long as somebody has its turn.
    _held: Option<OwnedMutexGuard<()>>,
    _place: Place,
}

/// A place in a queue.
#[derive(Debug)]
struct Place {
    turns: Turns,
    key: Key,
}

impl Turns {
    /// Waits for the turn to change what is at `key`. Cancel-safe.
    pub(crate) async fn take(&self, key: Key) -> Turn {
        let (place, turn) = self.join(key);
        let held = tokio::time::timeout(WAIT_MAX, turn.lock_owned()).await.ok();
        Turn { _held: held, _place: place }
    }

    fn join(&self, key: Key) -> (Place, Arc<tokio::sync::Mutex<()>>) {
        let mut queues = self.queues();
        let queue = queues.entry(Arc::clone(&key)).or_default();
        queue.requests += 1;
        let turn = Arc::clone(&queue.turn);
        drop(queues);
        (Place { turns: self.clone(), key }, turn)
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<Key, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        if let Some(queue) = queues.get_mut(&self.key) {
            queue.requests -= 1;
            if queue.requests == 0 {
                queues.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_and_leave_nothing() {
        let turns = Turns::default();
        let first = turns.take("/a".into()).await;
        let mut second = Box::pin(turns.take("/a".into()));
        let mut third = Box::pin(turns.take("/a".into()));
        assert!(
            second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none()
        );
        assert!(turns.take("/b".into()).now_or_never().is_some(), "another object");
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "it came later");
        let second = second.await;
        // A request that was given up leaves its place.
        drop(third);
        let fourth = turns.take("/a".into());
        drop(second);
        drop(fourth.await);
        assert!(turns.queues().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let turns = Turns::default();
        let first = turns.take("/a".into()).await;
        let start = Instant::now();
        let second = turns.take("/a".into()).await;
        assert_eq!(start.elapsed(), WAIT_MAX);
        drop(first);
        assert!(turns.take("/a".into()).now_or_never().is_some(), "the second one has no turn");
        drop(second);
        assert!(turns.queues().is_empty());
    }
}
