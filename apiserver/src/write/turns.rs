//! Single requests that change the same object take turns within an apiserver, in the order in
//! which they arrive.
//! If they were decided at the same time, the store would refuse all but one of them, and they
//! would be decided again and again. With many requests, the last ones would run out of tries and
//! get a conflict, although they named no version. Turns are not needed for safety, which the
//! guards provide: other apiservers and batches take no turns.
//!
//! # Invariants
//!
//! * Nobody waits for ever: after [`WAIT_MAX`], for example if the store does not answer, a request
//!   is tried without its turn.
//! * The data about an object is dropped with the last request that waits for it or has its turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::Key;
use tokio::sync::OwnedMutexGuard;

/// The longest wait for a turn.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The turns of all objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(
    /// Guards the queues. Locked to join or leave one.
    Arc<Mutex<BTreeMap<Key, Queue>>>,
);

/// The requests for one object.
#[derive(Debug, Default)]
struct Queue {
    /// Held by the request that has the turn. Waiting requests get it in order.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many requests have the turn or wait for it.
    requests: usize,
}

/// A turn, or a request whose time to wait is over. The turn ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Dropped before the slot, so that the queue exists for as long as anybody has its turn.
    _held: Option<OwnedMutexGuard<()>>,
    _slot: QueueSlot,
}

/// A place in a queue.
#[derive(Debug)]
struct QueueSlot {
    turns: Turns,
    key: Key,
}

impl Turns {
    /// Waits for the turn to change the object at `key`. Cancel-safe.
    pub(crate) async fn take(&self, key: Key) -> Turn {
        let (slot, turn) = self.join(key);
        let held = tokio::time::timeout(WAIT_MAX, turn.lock_owned()).await.ok();
        Turn { _held: held, _slot: slot }
    }

    fn join(&self, key: Key) -> (QueueSlot, Arc<tokio::sync::Mutex<()>>) {
        let mut queues = self.queues();
        let queue = queues.entry(Arc::clone(&key)).or_default();
        queue.requests += 1;
        let turn = Arc::clone(&queue.turn);
        drop(queues);
        (QueueSlot { turns: self.clone(), key }, turn)
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<Key, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QueueSlot {
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
        // A request that is given up leaves its place.
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
