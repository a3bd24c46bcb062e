//! A queue of keys to reconcile. Each key is in it once, and is handed out no earlier than it is
//! due.
//!
//! # Invariants
//!
//! * A key that a worker is busy with is not handed out to another worker. If an event or a timer
//!   adds it meanwhile, it is handed out again once the worker is done.
//! * If several times are set for a key, the earliest one counts.
//! * A wall clock time is met even if somebody sets the clock: see [`CLOCK_CHECK`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::Timestamp;
use base::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

/// While a key waits for a wall clock time, the clock is read at least this often. A timer alone
/// would be wrong after the clock was set or the machine slept, since it measures only elapsed
/// time.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// When a key is to be handed out: at the earlier of the two times. Without either, it waits until
/// an event adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// A time of the monotonic clock.
    pub at: Option<Instant>,
    /// A time of the wall clock.
    pub wall: Option<Timestamp>,
}

impl Due {
    /// After this duration.
    pub fn after(wait: Duration) -> Self {
        // A duration that the clock cannot represent never ends.
        Self { at: Instant::now().checked_add(wait), wall: None }
    }

    /// The same, or at a time of the wall clock if that comes first.
    #[must_use]
    pub fn or_at(self, wall: Timestamp) -> Self {
        Self { wall: Some(wall), ..self }
    }

    /// Takes the earlier of each of the two times.
    fn or(self, other: Self) -> Self {
        let earlier = |one: Option<Instant>, two| one.into_iter().chain(two).min();
        let wall = self.wall.into_iter().chain(other.wall).min();
        Self { at: earlier(self.at, other.at), wall }
    }
}

/// A queue of keys.
#[derive(Debug, Clone)]
pub struct Queue<K> {
    /// Guards the sets. Locked for one operation on them.
    state: Arc<Mutex<State<K>>>,
    news: Arc<Notify>,
    clock: Clock,
}

#[derive(Debug)]
struct State<K> {
    due: BTreeMap<K, Due>,
    by_time: BTreeSet<(Instant, K)>,
    by_wall: BTreeSet<(Timestamp, K)>,
    /// The keys that workers are busy with.
    active: BTreeSet<K>,
    /// The keys that were added while a worker was busy with them, and when they are due.
    again: BTreeMap<K, Due>,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone> State<K> {
    fn put(&mut self, key: K, due: Due) {
        if self.active.contains(&key) {
            let again = self.again.entry(key).or_default();
            *again = again.or(due);
            return;
        }
        let before = self.take(&key);
        let due = before.or(due);
        if let Some(at) = due.at {
            self.by_time.insert((at, key.clone()));
        }
        if let Some(wall) = due.wall {
            self.by_wall.insert((wall, key.clone()));
        }
        if due != Due::default() {
            self.due.insert(key, due);
        }
    }

    /// Removes a key from those that wait.
    fn take(&mut self, key: &K) -> Due {
        let Some(due) = self.due.remove(key) else { return Due::default() };
        if let Some(at) = due.at {
            self.by_time.remove(&(at, key.clone()));
        }
        if let Some(wall) = due.wall {
            self.by_wall.remove(&(wall, key.clone()));
        }
        due
    }

    /// Returns the first key that is due, and marks it as active. Otherwise returns how long to
    /// wait before the next check, or `None` if no key waits for a time.
    fn pop(&mut self, now: Instant, wall: Timestamp) -> Result<K, Option<Duration>> {
        // A key that is due by the wall clock is queued behind those that are already due. If
        // either kind came first, the other could wait for ever.
        while let Some((_, key)) = self.by_wall.first().filter(|(at, _)| *at <= wall).cloned() {
            let due = self.take(&key);
            self.put(key, Due { wall: None, ..due }.or(Due { at: Some(now), wall: None }));
        }
        if let Some((_, key)) = self.by_time.first().filter(|(at, _)| *at <= now).cloned() {
            self.take(&key);
            self.active.insert(key.clone());
            return Ok(key);
        }
        let timer = self.by_time.first().map(|(at, _)| at.saturating_duration_since(now));
        let clock = self.by_wall.first().map(|(at, _)| {
            let wait = Duration::try_from(at.duration_since(wall)).unwrap_or_default();
            wait.min(CLOCK_CHECK)
        });
        Err(timer.into_iter().chain(clock).min())
    }
}

impl<K: Ord + Clone + Debug> Queue<K> {
    /// Makes an empty queue that uses this wall clock.
    pub fn new(clock: Clock) -> Self {
        let state = State {
            due: BTreeMap::new(),
            by_time: BTreeSet::new(),
            by_wall: BTreeSet::new(),
            active: BTreeSet::new(),
            again: BTreeMap::new(),
            failures: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), news: Arc::default(), clock }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key that is due now.
    pub fn add(&self, key: K) {
        self.add_at(key, Due::after(Duration::ZERO));
    }

    /// Adds a key that is due later.
    pub fn add_at(&self, key: K, due: Due) {
        self.state().put(key, due);
        self.news.notify_one();
    }

    /// Waits for a key that is due. No other worker gets it until [`Queue::done`] is called.
    /// Cancel-safe.
    pub async fn next(&self) -> K {
        loop {
            // Bound to a variable, so that the lock is released before the wait.
            let popped = self.state().pop(Instant::now(), self.clock.now());
            match popped {
                Ok(key) => return key,
                Err(Some(wait)) => tokio::select! {
                    biased;
                    () = self.news.notified() => (),
                    () = tokio::time::sleep(wait) => (),
                },
                Err(None) => self.news.notified().await,
            }
        }
    }

    /// Marks a key as no longer active.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.active.remove(key);
        if let Some(due) = state.again.remove(key) {
            state.put(key.clone(), due);
            drop(state);
            self.news.notify_one();
        }
    }

    /// Counts a failure of a key, and returns the number of failures in a row.
    pub fn failed(&self, key: &K) -> u32 {
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    /// Resets the failure count of a key.
    pub fn succeeded(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// The number of waiting keys.
    pub fn len(&self) -> usize {
        self.state().due.len()
    }

    /// Whether no key is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue<&'static str> {
        Queue::new(Clock::simulated(Timestamp::UNIX_EPOCH))
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_several_times_counts() {
        let queue = queue();
        let start = Instant::now();
        for wait in [60, 5, 30] {
            queue.add_at("a", Due::after(Duration::from_secs(wait)));
        }
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(queue.is_empty());
        queue.add_at("b", Due::after(Duration::from_secs(60)).or_at(second(45)));
        queue.add_at("b", Due::default().or_at(second(25)));
        assert_eq!(queue.next().await, "b");
        assert_eq!(start.elapsed().as_secs(), 25);
        assert!(queue.is_empty(), "its other times are void");
        queue.add_at("c", Due::default());
        assert!(queue.is_empty(), "it is never due by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_active_comes_again_only_when_it_was_given_back() {
        let queue = queue();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add_at("a", Due::default().or_at(second(0)));
        let early = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(early.is_err(), "it is still active");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    /// Somebody sets the clock of the machine forward by an hour, which no timer notices.
    #[test]
    fn a_wall_clock_that_is_set_is_seen_at_the_next_check() {
        let (queue, now) = (queue(), Instant::now());
        queue.add_at("a", Due::default().or_at(second(3600)));
        let mut state = queue.state();
        assert_eq!(state.pop(now, second(0)), Err(Some(CLOCK_CHECK)), "not after an hour");
        assert_eq!(state.pop(now, second(3599)), Err(Some(Duration::from_secs(1))));
        assert_eq!(state.pop(now, second(3600)), Ok("a"));
        // The clock is set back: the key keeps waiting, and is not handed out early.
        state.active.clear();
        state.put("a", Due::default().or_at(second(3600)));
        assert_eq!(state.pop(now, second(0)), Err(Some(CLOCK_CHECK)));
    }
}
