//! Keys that wait to be looked at: each once, each not before its time.
//!
//! # Invariants
//!
//! * A key that is being looked at is not handed out again; if it is added meanwhile, it comes
//!   again when it was given back.
//! * Of several times for one key, the earliest counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A queue of keys.
#[derive(Debug, Clone)]
pub struct Queue<K> {
    /// Guards the sets; held for one operation on them.
    state: Arc<Mutex<State<K>>>,
    news: Arc<Notify>,
}

#[derive(Debug)]
struct State<K> {
    due: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
    active: BTreeSet<K>,
    /// Keys added while they were active, and for when.
    again: BTreeMap<K, Instant>,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone + Debug> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            due: BTreeMap::new(),
            by_time: BTreeSet::new(),
            active: BTreeSet::new(),
            again: BTreeMap::new(),
            failures: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), news: Arc::default() }
    }
}

impl<K: Ord> State<K> {
    fn put(&mut self, key: K, at: Instant)
    where
        K: Clone,
    {
        if self.active.contains(&key) {
            let again = self.again.entry(key).or_insert(at);
            *again = at.min(*again);
            return;
        }
        if let Some(before) = self.due.get(&key) {
            if *before <= at {
                return;
            }
            self.by_time.remove(&(*before, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }
}

impl<K: Ord + Clone + Debug> Queue<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key, to be looked at as soon as possible.
    pub fn add(&self, key: K) {
        self.add_after(key, Duration::ZERO);
    }

    /// Adds a key, to be looked at after `wait`.
    pub fn add_after(&self, key: K, wait: Duration) {
        self.state().put(key, Instant::now() + wait);
        self.news.notify_one();
    }

    /// Waits for a key whose time has come. It is active until it is given back with
    /// [`Queue::done`]. Cancel-safe.
    pub async fn next(&self) -> K {
        loop {
            let wait_until = {
                let mut state = self.state();
                let first = state.by_time.first().cloned();
                match first {
                    Some((at, key)) if at <= Instant::now() => {
                        state.by_time.pop_first();
                        state.due.remove(&key);
                        state.active.insert(key.clone());
                        return key;
                    }
                    Some((at, _)) => Some(at),
                    None => None,
                }
            };
            match wait_until {
                Some(at) => tokio::select! {
                    biased;
                    () = self.news.notified() => (),
                    () = tokio::time::sleep_until(at) => (),
                },
                None => self.news.notified().await,
            }
        }
    }

    /// Gives a key back after it was looked at.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.active.remove(key);
        if let Some(at) = state.again.remove(key) {
            state.put(key.clone(), at);
            drop(state);
            self.news.notify_one();
        }
    }

    /// Counts a failure of a key; how many in a row there were.
    pub fn failed(&self, key: &K) -> u32 {
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    /// Forgets a key's failures.
    pub fn succeeded(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// Forgets everything but what is active.
    pub fn clear(&self) {
        let mut state = self.state();
        state.due.clear();
        state.by_time.clear();
        state.again.clear();
        state.failures.clear();
    }

    /// Keys that wait.
    pub fn len(&self) -> usize {
        self.state().due.len()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_several_times_counts() {
        let queue = Queue::default();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(30));
        let start = Instant::now();
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_active_comes_again_only_when_it_was_given_back() {
        let queue = Queue::default();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        let early = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(early.is_err(), "it is still active");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }
}
