//! Delays that grow from one failure to the next, as manifests describe them.

use crate::duration::Duration;
use crate::violation::Violation;

/// A delay that starts at `initial` and is multiplied by `factor` after each failure, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) initial: Duration,
    pub(crate) factor: u32,
    pub(crate) max: Duration,
}

impl Growth {
    /// The delay after the n-th failure in a row; `failures` counts from 1.
    pub(crate) fn wait_after(self, failures: u32) -> Duration {
        let growth = self.factor.max(1).saturating_pow(failures.saturating_sub(1));
        self.initial.get().saturating_mul(growth).min(self.max.get()).into()
    }
}

/// What is wrong with a delay at `path`, as far as a manifest gives it.
pub(crate) fn validate(
    (initial, max): (Option<Duration>, Option<Duration>),
    factor: Option<u32>,
    path: &str,
    found: &mut Vec<Violation>,
) {
    if factor == Some(0) {
        let violation = Violation::new(format!("{path}.factor"), "0 is not allowed");
        found.push(violation.hint("write 1 for equal waits"));
    }
    if let (Some(initial), Some(max)) = (initial, max)
        && initial > max
    {
        let why = format!("{initial} is more than max, {max}");
        found.push(Violation::new(format!("{path}.initial"), why));
    }
}
