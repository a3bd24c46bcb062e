//! Exponential back-off: how long to wait before the next try.

use std::time::Duration;

use crate::Rng;

/// Exponential back-off with jitter: the n-th wait is a random time between half of `initial * 2^n`
/// and all of it, at most `max`.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
    rng: Rng,
}

impl Backoff {
    /// A back-off before its first failure.
    pub fn new(initial: Duration, max: Duration, rng: Rng) -> Self {
        Self { initial, max, failures: 0, rng }
    }

    /// Counts a failure and returns how long to wait.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self
            .initial
            .saturating_mul(1_u32.checked_shl(self.failures.min(31)).unwrap_or(u32::MAX))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        let jitter = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.rng.below(jitter.saturating_add(1)))
    }

    /// Number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a success: the next failure waits `initial` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_start_over() {
        let mut backoff =
            Backoff::new(Duration::from_millis(100), Duration::from_secs(1), Rng::seeded(1));
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100));
        assert!(waits[39] >= Duration::from_millis(500) && waits[39] <= Duration::from_secs(1));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
