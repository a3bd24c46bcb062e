//! What probes have found out about a container: whether it has started, is ready, and still works.
//!
//! # Invariants
//!
//! * A container that is probed is not ready before its probes have succeeded as often as they have
//!   to. What is kept over a restart of the agent are decisions, never counts: a probe that was
//!   failing before has to succeed after it.
//! * Readiness and liveness probes are not made before the startup probe has succeeded.
//! * A container whose readiness keeps changing is taken as ready again only after a pause, which
//!   grows. So the number of its changes, of writes to the journal and of reports has a bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::task::report::shortened;
use api::template::{ProbeKind, Template};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::ProbeAction;

/// Longest text of what a probe found, in characters.
pub(crate) const FINDING_CHARS_MAX: usize = 200;
/// Longest pause before a container whose readiness keeps changing is ready again.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A container that was ready for this long has no pause when it is not ready.
const STEADY: Duration = Duration::from_secs(60);

/// What was decided about a container by its probes. The journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// It has no probes: it is ready while it runs.
    #[default]
    Unprobed,
    /// Whether it has probes is not known yet, because its template has not been read. Until then
    /// it is not ready.
    Unread,
    /// It has probes.
    Probed(Probed),
}

/// What probes have decided about a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probed {
    /// Whether it has started: its startup probe has succeeded, or it has none.
    pub is_started: bool,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Which probe has failed for good, as a sentence. The container is stopped for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Health {
    /// That of a container of this template which has just started.
    pub fn of(template: &Template) -> Self {
        if template.probes().next().is_none() {
            return Self::Unprobed;
        }
        let is_started = template.startup_probe.is_none();
        let is_ready = is_started && template.readiness_probe.is_none();
        Self::Probed(Probed { is_started, is_ready, failed: None })
    }

    /// That of the next container of the same attempt. Its template says how it begins.
    #[must_use]
    pub fn anew(&self) -> Self {
        match self {
            Self::Unprobed => Self::Unprobed,
            Self::Unread | Self::Probed(_) => Self::Unread,
        }
    }

    /// Whether the container is ready while it runs.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Unprobed => true,
            Self::Unread => false,
            Self::Probed(probed) => probed.is_ready && probed.failed.is_none(),
        }
    }

    /// Whether it has no probes.
    pub fn is_unprobed(&self) -> bool {
        *self == Self::Unprobed
    }

    /// Which probe has failed for good.
    pub fn failed(&self) -> Option<&str> {
        match self {
            Self::Unprobed | Self::Unread => None,
            Self::Probed(probed) => probed.failed.as_deref(),
        }
    }
}

/// A probe of one container, fully resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it does.
    pub action: ProbeAction,
    /// From the start of the container to the first one.
    pub initial_delay: Duration,
    /// From one to the next.
    pub period: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many in a row must succeed.
    pub successes: u32,
    /// How many in a row must fail.
    pub failures: u32,
}

/// The probes of one container.
pub type Checks = BTreeMap<ProbeKind, Check>;

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It succeeded.
    Passed,
    /// It failed, and why.
    Failed(String),
    /// It could not be made, and why. This says nothing about the container.
    Unknown(String),
}

/// How the probes of a container stand. A restart of the agent begins with nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probing {
    /// Its probes, once they are resolved.
    pub(crate) checks: Option<Arc<Checks>>,
    tallies: BTreeMap<ProbeKind, Tally>,
    /// Since when it has been ready.
    ready_since: Option<Timestamp>,
    /// How many times it has stopped being ready without having been ready for long.
    changes: u32,
    /// It is not ready before this time.
    pause_until: Option<Timestamp>,
}

/// The results of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Tally {
    /// How many in a row have succeeded.
    successes: u32,
    /// How many in a row have failed.
    failures: u32,
    /// When the next one is due; `None` before the first.
    due: Option<Timestamp>,
    /// What the last one found, if it did not succeed.
    found: Option<String>,
}

/// What follows from the results of probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) probed: Probed,
    pub(crate) probing: Probing,
    /// The probes to be made now.
    pub(crate) due: Vec<ProbeKind>,
    /// When to judge again even if no result comes.
    pub(crate) wake: Option<Timestamp>,
}

impl Probing {
    /// Whether a result leads to the same decisions and words as before it.
    pub(crate) fn is_no_news(&self, health: &Health, kind: ProbeKind, finding: &Finding) -> bool {
        let is_clear = |tally: &Tally| tally.failures == 0 && tally.found.is_none();
        let settled = match kind {
            ProbeKind::Startup => false,
            ProbeKind::Readiness => health.is_ready(),
            ProbeKind::Liveness => true,
        };
        *finding == Finding::Passed && settled && self.tallies.get(&kind).is_none_or(is_clear)
    }

    /// Takes in a result.
    pub(crate) fn hear(&mut self, kind: ProbeKind, finding: Finding) {
        let tally = self.tallies.entry(kind).or_default();
        match finding {
            Finding::Passed => {
                tally.successes = tally.successes.saturating_add(1);
                (tally.failures, tally.found) = (0, None);
            }
            Finding::Failed(why) => {
                tally.failures = tally.failures.saturating_add(1);
                tally.successes = 0;
                tally.found = Some(shortened(&why, FINDING_CHARS_MAX));
            }
            Finding::Unknown(why) => tally.found = Some(shortened(&why, FINDING_CHARS_MAX)),
        }
    }

    fn tally(&self, kind: ProbeKind) -> Tally {
        self.tallies.get(&kind).cloned().unwrap_or_default()
    }

    /// Why the container is not ready, or may soon be stopped; nothing if all is well.
    pub(crate) fn words(&self, probed: &Probed) -> Option<String> {
        let of = |kind: ProbeKind| (self.tally(kind), kind.word());
        let limit = |kind: ProbeKind| {
            self.checks.as_ref().and_then(|checks| checks.get(&kind)).map_or(0, |it| it.failures)
        };
        if probed.failed.is_some() {
            return probed.failed.clone();
        }
        if !probed.is_started {
            let (tally, word) = of(ProbeKind::Startup);
            let Some(found) = tally.found else { return Some(NOT_STARTED.to_owned()) };
            let limit = limit(ProbeKind::Startup);
            return Some(format!("{word} probe {} of {limit}: {found}", tally.failures));
        }
        if !probed.is_ready {
            let (tally, word) = of(ProbeKind::Readiness);
            return Some(match tally.found {
                Some(found) => format!("{word} probe fails: {found}"),
                None if self.changes > 1 => KEEPS_CHANGING.to_owned(),
                None => NOT_READY.to_owned(),
            });
        }
        let (tally, word) = of(ProbeKind::Liveness);
        let limit = limit(ProbeKind::Liveness);
        tally.found.map(|found| format!("{word} probe {} of {limit}: {found}", tally.failures))
    }

    /// It is not ready any more. It may be ready again after a pause, if it was not for long.
    fn stop_being_ready(&mut self, now: Timestamp) {
        let was = self.ready_since.take().map(|since| now.duration_since(since));
        let is_steady =
            was.and_then(|was| Duration::try_from(was).ok()).is_some_and(|was| was >= STEADY);
        self.changes = if is_steady { 1 } else { self.changes.saturating_add(1) };
        let doublings = self.changes.checked_sub(2);
        let pause = doublings.map(|doublings| Duration::from_secs(1 << doublings.min(10)));
        self.pause_until = pause.map(|pause| later(now, pause.min(PAUSE_MAX)));
    }
}

const NOT_STARTED: &str = "its startup probe has not succeeded yet";
const NOT_READY: &str = "its readiness probe has not succeeded yet";
const KEEPS_CHANGING: &str = "its readiness keeps changing; it is ready again after a pause";

/// Decides what follows from the results so far, for a container that was first seen running at
/// `seen`.
pub(crate) fn judge(
    (probed, probing): (&Probed, &Probing),
    checks: &Checks,
    seen: Timestamp,
    now: Timestamp,
) -> Judged {
    let mut judged =
        Judged { probed: probed.clone(), probing: probing.clone(), due: Vec::new(), wake: None };
    judged.start(checks);
    if judged.probed.failed.is_none() && judged.probed.is_started {
        judged.fail(checks, ProbeKind::Liveness);
    }
    if judged.probed.failed.is_some() {
        judged.probed.is_ready = false;
        return judged;
    }
    if judged.probed.is_started {
        judged.change_readiness(checks, now);
    }
    judged.ask(checks, seen, now);
    judged
}

impl Judged {
    fn start(&mut self, checks: &Checks) {
        if self.probed.is_started {
            return;
        }
        let has_succeeded = self.probing.tally(ProbeKind::Startup).successes > 0;
        if has_succeeded || !checks.contains_key(&ProbeKind::Startup) {
            self.probed.is_started = true;
        } else {
            self.fail(checks, ProbeKind::Startup);
        }
    }

    /// Sets that a probe has failed for good, if it has.
    fn fail(&mut self, checks: &Checks, kind: ProbeKind) {
        let Some(check) = checks.get(&kind) else { return };
        let Tally { failures, found, .. } = self.probing.tally(kind);
        if failures < check.failures {
            return;
        }
        let times = if failures == 1 { "once".to_owned() } else { format!("{failures} times") };
        let found = found.unwrap_or_default();
        self.probed.failed = Some(format!("{} probe failed {times}: {found}", kind.word()));
    }

    fn change_readiness(&mut self, checks: &Checks, now: Timestamp) {
        let tally = self.probing.tally(ProbeKind::Readiness);
        let wanted = match checks.get(&ProbeKind::Readiness) {
            None => true,
            Some(check) if self.probed.is_ready => tally.failures < check.failures,
            Some(check) => tally.successes >= check.successes,
        };
        if self.probed.is_ready && !wanted {
            self.probed.is_ready = false;
            self.probing.stop_being_ready(now);
        } else if !self.probed.is_ready && wanted {
            if let Some(until) = self.probing.pause_until.filter(|until| *until > now) {
                self.wake = Some(until);
                return;
            }
            self.probed.is_ready = true;
        }
        if self.probed.is_ready {
            self.probing.ready_since.get_or_insert(now);
        }
    }

    /// Finds the probes that are due, and when the next one is.
    fn ask(&mut self, checks: &Checks, seen: Timestamp, now: Timestamp) {
        for (kind, check) in checks {
            let is_its_turn = match kind {
                ProbeKind::Startup => !self.probed.is_started,
                ProbeKind::Readiness | ProbeKind::Liveness => self.probed.is_started,
            };
            if !is_its_turn {
                continue;
            }
            let tally = self.probing.tallies.entry(*kind).or_default();
            let mut due = tally.due.unwrap_or_else(|| later(seen, check.initial_delay));
            if due <= now {
                self.due.push(*kind);
                due = later(now, check.period);
                tally.due = Some(due);
            }
            self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
        }
    }
}

/// `time` plus `wait`, saturating.
fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
