//! How the containers of tasks that stay up are started again in place.

use std::time::Duration as StdDuration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backoff::{self, Growth};
use crate::duration::Duration;
use crate::violation::Violation;

/// Shortest first delay: less would keep a node busy with a container that ends at once.
const INITIAL_MIN: StdDuration = StdDuration::from_millis(100);
/// Longest delay: a day.
const MAX_MAX: StdDuration = StdDuration::from_secs(24 * 3600);
/// Most runs that are remembered of a task.
pub const FLAPPING_RUNS_MAX: u32 = 100;
/// Shortest time after which a task is given up on its node.
const RESCHEDULE_MIN: StdDuration = StdDuration::from_secs(1);

/// How the container of a task is started again after it has ended, whatever its exit code. It is
/// started on the same node, within the same attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// Delay before the container is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// When to use the longest delay at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping: Option<Flapping>,
    /// How long a task may go without a run that lasts `backoff.max`, counted from the end of its
    /// last such run or from its first failure to start. The attempt then fails, so that the task
    /// can get another node. Default 5m, at least 1s. It has no effect on a task that can only run
    /// on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reschedule_after: Option<Duration>,
}

/// Delay between restarts. It starts at `initial` and is multiplied by `factor` after each restart,
/// up to `max`. A run that lasts at least `max` resets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Delay before the first restart. Default 1s, at least 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,
    /// Multiplier of the delay after each restart, a whole number of at least 1. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub factor: Option<u32>,
    /// Longest delay before a restart. Default 5m, at most 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// A container is flapping if its last `runs` runs took less than `within` together. Delays between
/// them are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flapping {
    /// Number of runs, from 1 to 100. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub runs: Option<u32>,
    /// Time that these runs take together if the container is not flapping. Default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
}

impl Restart {
    /// The delay before the n-th restart in a row; `restarts` counts from 1.
    pub fn wait_after(&self, restarts: u32) -> Duration {
        self.growth().wait_after(restarts)
    }

    /// The longest delay, which is also how long a run lasts that resets the delay.
    pub fn longest_wait(&self) -> Duration {
        self.growth().max
    }

    /// How many runs are looked at to tell whether a container is flapping.
    pub fn flapping_runs(&self) -> u32 {
        let runs = self.flapping.unwrap_or_default().runs;
        runs.unwrap_or(10).clamp(1, FLAPPING_RUNS_MAX)
    }

    /// How long that many runs take together if the container is not flapping.
    pub fn flapping_within(&self) -> Duration {
        self.flapping.unwrap_or_default().within.unwrap_or(Duration::from_secs(60))
    }

    /// How long the container may fail to stay up before its attempt fails.
    pub fn reschedule_after(&self) -> Duration {
        self.reschedule_after.unwrap_or(Duration::from_secs(300))
    }

    fn growth(&self) -> Growth {
        let Backoff { initial, factor, max } = self.backoff.unwrap_or_default();
        Growth {
            initial: initial.unwrap_or(Duration::from_secs(1)),
            factor: factor.unwrap_or(2),
            max: max.unwrap_or(Duration::from_secs(300)),
        }
    }
}

/// What is wrong with a restart policy that stands at `path`.
pub(crate) fn validate(restart: &Restart, path: &str, found: &mut Vec<Violation>) {
    let mut bound = |field: &str, value: Option<Duration>, is_right: bool, why: &str| {
        if let Some(value) = value.filter(|_| !is_right) {
            found.push(Violation::new(format!("{path}.{field}"), format!("{value}: {why}")));
        }
    };
    let Backoff { initial, factor, max } = restart.backoff.unwrap_or_default();
    let within = restart.flapping.unwrap_or_default().within;
    let after = restart.reschedule_after;
    let at_least = |value: Option<Duration>, least| value.is_none_or(|value| value.get() >= least);
    let is_short = max.is_none_or(|max| max.get() <= MAX_MAX);
    bound("backoff.initial", initial, at_least(initial, INITIAL_MIN), "at least 100ms is required");
    bound("backoff.max", max, is_short, "at most 24h is allowed");
    let is_some_time = at_least(within, StdDuration::from_nanos(1));
    bound("flapping.within", within, is_some_time, "no run is shorter");
    bound("rescheduleAfter", after, at_least(after, RESCHEDULE_MIN), "at least 1s is required");
    if let Some(runs) = restart.flapping.and_then(|flapping| flapping.runs)
        && !(1..=FLAPPING_RUNS_MAX).contains(&runs)
    {
        let why = format!("{runs} is not a number from 1 to {FLAPPING_RUNS_MAX}");
        found.push(Violation::new(format!("{path}.flapping.runs"), why));
    }
    // What is not given counts with its default: a first delay beyond it would silently be cut.
    let growth = restart.growth();
    let ends = (Some(growth.initial), Some(growth.max));
    backoff::validate(ends, factor, &format!("{path}.backoff"), found);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(restart: Value) -> Restart {
        serde_json::from_value(restart).unwrap()
    }

    #[test]
    fn delays_grow_to_the_longest() {
        let waits = |restart: Value| {
            let restart = read(restart);
            let waits = [1, 2, 3, 9, 10, 11, u32::MAX].map(|it| restart.wait_after(it).to_string());
            waits.join(" ")
        };
        assert_eq!(waits(json!({})), "1s 2s 4s 4m16s 5m 5m 5m");
        let backoff = json!({ "initial": "200ms", "factor": 1, "max": "1s" });
        assert_eq!(
            waits(json!({ "backoff": backoff })),
            "200ms 200ms 200ms 200ms 200ms 200ms 200ms"
        );
        let backoff = json!({ "initial": "3s", "factor": 10, "max": "20s" });
        assert_eq!(waits(json!({ "backoff": backoff })), "3s 20s 20s 20s 20s 20s 20s");
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        let restart = Restart::default();
        assert_eq!(
            (restart.flapping_runs(), restart.flapping_within().to_string()),
            (10, "1m".to_owned())
        );
        assert_eq!(restart.reschedule_after().to_string(), "5m");
        assert_eq!(restart.longest_wait().to_string(), "5m");
    }

    #[test]
    fn what_would_never_rest_or_never_apply_is_refused() {
        let said = |restart: Value| {
            let mut found = Vec::new();
            validate(&read(restart), "restart", &mut found);
            found.iter().map(|it| format!("{}: {}", it.path, it.message)).collect::<Vec<_>>()
        };
        assert_eq!(said(json!({})), [""; 0]);
        let wrong = json!({
            "backoff": { "initial": "0s", "factor": 0, "max": "25h" },
            "flapping": { "runs": 101, "within": "0s" }, "rescheduleAfter": "0s",
        });
        let expected = [
            "restart.backoff.initial: 0s: at least 100ms is required",
            "restart.backoff.max: 25h: at most 24h is allowed",
            "restart.flapping.within: 0s: no run is shorter",
            "restart.rescheduleAfter: 0s: at least 1s is required",
            "restart.flapping.runs: 101 is not a number from 1 to 100",
            "restart.backoff.factor: 0 is not allowed",
        ];
        assert_eq!(said(wrong), expected);
        let beyond = json!({ "backoff": { "initial": "10m" } });
        assert_eq!(said(beyond), ["restart.backoff.initial: 10m is more than max, 5m"]);
    }
}
