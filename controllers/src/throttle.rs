//! Statuses that differ in their counts only are written now and then, not with every event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two such writes of one object passes at least this.
const PERIOD: Duration = Duration::from_millis(500);
/// Objects that are remembered at most; beyond them the oldest are forgotten.
const OBJECTS_MAX: usize = 10_000;

/// When each object's status was written last, by uid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttle(
    /// Guards the times; held for one look.
    Arc<Mutex<BTreeMap<String, Instant>>>,
);

impl Throttle {
    /// Nothing if the status may be written now, which then counts as done; else how long to wait.
    pub(crate) fn ask(&self, uid: &str) -> Option<Duration> {
        let now = Instant::now();
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = written.get(uid) {
            let since = now.saturating_duration_since(*last);
            if since < PERIOD {
                return Some(PERIOD - since);
            }
        }
        if written.len() >= OBJECTS_MAX {
            written.retain(|_, last| now.saturating_duration_since(*last) < PERIOD);
        }
        written.insert(uid.to_owned(), now);
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
}
