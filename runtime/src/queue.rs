//! Keys that wait to be reconciled: each once, each not before its time.
//!
//! # Invariants
//!
//! * A key that a worker has is not handed out to another one. If it is added meanwhile, by an event
//!   or a timer, it is handed out again once the worker has given it back.
//! * Of several times for one key, the earliest counts.
//! * A time of the wall clock is kept to although somebody sets the clock: see [`CLOCK_CHECK`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::Timestamp;
use base::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

/// While a key waits for a time of the wall clock, that clock is read at least this often. A timer
/// alone would be wrong after the clock was set, or the machine slept: it measures what has passed,
/// not what time it is.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// When a key is to be handed out: at the earlier of its two times. Without any it waits to be added
/// by an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// A time of the clock that only runs forward.
    pub at: Option<Instant>,
    /// A time of the wall clock.
    pub wall: Option<Timestamp>,
}

impl Due {
    /// After so long.
    pub fn after(wait: Duration) -> Self {
        // A wait that is longer than the clock can say is one that never ends.
        Self { at: Instant::now().checked_add(wait), wall: None }
    }

    /// The same, or at a time of the wall clock, if that comes first.
    #[must_use]
    pub fn or_at(self, wall: Timestamp) -> Self {
        Self { wall: Some(wall), ..self }
    }

    /// The earlier one of each time.
    fn or(self, other: Self) -> Self {
        let earlier = |one: Option<Instant>, two| one.into_iter().chain(two).min();
        let wall = self.wall.into_iter().chain(other.wall).min();
        Self { at: earlier(self.at, other.at), wall }
    }
}

/// A queue of keys.
#[derive(Debug, Clone)]
pub struct Queue<K> {
    /// Guards the sets; held for one operation on them.
    state: Arc<Mutex<State<K>>>,
    news: Arc<Notify>,
    clock: Clock,
}

#[derive(Debug)]
struct State<K> {
    due: BTreeMap<K, Due>,
    by_time: BTreeSet<(Instant, K)>,
    by_wall: BTreeSet<(Timestamp, K)>,
    /// Keys that workers have.
    active: BTreeSet<K>,
    /// Keys added while a worker had them, and for when.
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

    /// Takes a key out of what waits.
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

    /// The first key whose time has come, which is active from now on; else how long to wait before
    /// the next look, nothing where no key waits for any time.
    fn pop(&mut self, now: Instant, wall: Timestamp) -> Result<K, Option<Duration>> {
        // A key whose wall time has come takes its turn among the others as of now: were either kind
        // preferred, the other could wait for ever behind it.
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
    /// An empty queue that keeps times of this clock.
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

    /// Adds a key, to be handed out as soon as possible.
    pub fn add(&self, key: K) {
        self.add_at(key, Due::after(Duration::ZERO));
    }

    /// Adds a key, to be handed out when it is due.
    pub fn add_at(&self, key: K, due: Due) {
        self.state().put(key, due);
        self.news.notify_one();
    }

    /// Waits for a key whose time has come. Nobody else gets it until it is given back with
    /// [`Queue::done`]. Cancel-safe.
    pub async fn next(&self) -> K {
        loop {
            // Bound to a name, so that the lock is not held while this waits.
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

    /// Gives a key back after it was reconciled.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.active.remove(key);
        if let Some(due) = state.again.remove(key) {
            state.put(key.clone(), due);
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

    /// Somebody sets the machine's clock forward by an hour, which no timer sees.
    #[test]
    fn a_wall_clock_that_is_set_is_seen_at_the_next_check() {
        let (queue, now) = (queue(), Instant::now());
        queue.add_at("a", Due::default().or_at(second(3600)));
        let mut state = queue.state();
        assert_eq!(state.pop(now, second(0)), Err(Some(CLOCK_CHECK)), "not after an hour");
        assert_eq!(state.pop(now, second(3599)), Err(Some(Duration::from_secs(1))));
        assert_eq!(state.pop(now, second(3600)), Ok("a"));
        // Set back: it waits on, and is not handed out early.
        state.active.clear();
        state.put("a", Due::default().or_at(second(3600)));
        assert_eq!(state.pop(now, second(0)), Err(Some(CLOCK_CHECK)));
    }
}
