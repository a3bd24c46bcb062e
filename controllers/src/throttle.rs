//! Limits how often a status is written in which only counts have changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Kind;
use tokio::time::Instant;

use crate::action::{Action, Group, Status};

/// The minimum time between two such writes of an object.
const PERIOD: Duration = Duration::from_millis(500);
/// When the status of each object was last written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttle(
    /// Guards the times. Locked for one look.
    Arc<Mutex<Times>>,
);

/// Times by uid. All times of a period are dropped together, two periods later. Searching for old
/// times at each write would cost as much as there are objects.
#[derive(Debug, Default)]
struct Times {
    /// The time since which `current` is filled.
    since: Option<Instant>,
    current: BTreeMap<String, Instant>,
    previous: BTreeMap<String, Instant>,
}

impl Throttle {
    /// Adds the write of a status in which only counts have changed to `groups`, or returns how long
    /// it has to wait.
    pub(crate) fn add<K: Kind>(
        &self,
        status: Option<Box<K>>,
        groups: &mut Vec<Group>,
    ) -> Option<Duration>
    where
        Status: From<K>,
    {
        let next = status?;
        let wait = self.ask(next.uid());
        if wait.is_none() {
            groups.push(Action::status(*next).into());
        }
        wait
    }

    /// Returns `None` if the status may be written now, and records this write. Otherwise returns
    /// how long to wait.
    fn ask(&self, uid: &str) -> Option<Duration> {
        let now = Instant::now();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            times.previous = std::mem::take(&mut times.current);
            times.since = Some(now);
        }
        if let Some(last) = times.current.get(uid).or_else(|| times.previous.get(uid)) {
            let since = now.saturating_duration_since(*last);
            if since < PERIOD {
                return Some(PERIOD - since);
            }
        }
        times.current.insert(uid.to_owned(), now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_object_is_written_once_in_a_period() {
        let throttle = Throttle::default();
        assert_eq!(throttle.ask("a"), None);
        assert_eq!(throttle.ask("b"), None);
        assert_eq!(throttle.ask("a"), Some(PERIOD));
        tokio::time::advance(PERIOD).await;
        assert_eq!(throttle.ask("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_remembered_for_a_period_and_no_longer_than_two() {
        let throttle = Throttle::default();
        for at in 0..100 {
            assert_eq!(throttle.ask(&at.to_string()), None);
            tokio::time::advance(PERIOD / 10).await;
            let told = throttle.ask(&at.to_string());
            assert_eq!(told, Some(PERIOD - PERIOD / 10), "{at}");
            let times = throttle.0.lock().unwrap();
            assert!(times.current.len() + times.previous.len() <= 20);
        }
    }
}
