//! What prevents a process from doing its work at present, for `/readyz` and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The state of all activities of a process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// A prefix for the names of activities, such as the node's name in a process with several
    /// nodes.
    scope: Option<Arc<str>>,
    /// Guards the activities for one read or change.
    activities: Arc<Mutex<BTreeMap<String, Activity>>>,
    /// Counts the actors.
    actors: Arc<AtomicU64>,
}

/// Identifies who performs an activity, if several do under one name: the success of one says
/// nothing about the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Actor(u64);

impl Actor {
    /// The actor of activities that are reported by name only.
    const ANY: Self = Self(0);
}

/// The state of one activity, for example renewing the node lease.
#[derive(Debug, Clone, Default)]
struct Activity {
    failures: u64,
    /// The actors for whom it fails at present.
    failing: BTreeMap<Actor, Failing>,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    why: String,
    /// Whether the process cannot do its work while it fails.
    is_needed: bool,
}

/// A failing activity without which the process cannot do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The activity.
    pub what: String,
    /// The reason.
    pub why: String,
    /// For how long it has been failing.
    pub lasts: Duration,
}

/// Figures of an activity, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The activity.
    pub what: String,
    /// Number of failures so far.
    pub failures: u64,
    /// Whether it fails at present.
    pub is_failing: bool,
}

impl Health {
    /// The same health, with a prefix for the names of activities.
    pub fn scoped(&self, scope: &str) -> Self {
        Self { scope: Some(scope.into()), ..self.clone() }
    }

    fn name(&self, what: &str) -> String {
        match &self.scope {
            Some(scope) => format!("{scope}: {what}"),
            None => what.to_owned(),
        }
    }

    fn activities(&self) -> MutexGuard<'_, BTreeMap<String, Activity>> {
        self.activities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new actor, distinct from all others.
    pub(crate) fn actor(&self) -> Actor {
        Actor(self.actors.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Reports the failure of an activity without which the process cannot do its work.
    pub fn failed(&self, what: &str, why: &str) {
        self.fail((Actor::ANY, what), why, true);
    }

    /// Reports that an activity works.
    pub fn works(&self, what: &str) {
        self.succeed((Actor::ANY, what));
    }

    /// Reports a failure of one actor's activity. `is_needed`: the process cannot do its work
    /// without it.
    pub(crate) fn fail(&self, (actor, what): (Actor, &str), why: &str, is_needed: bool) {
        let mut activities = self.activities();
        let activity = activities.entry(self.name(what)).or_default();
        activity.failures += 1;
        let since = activity.failing.get(&actor).map_or_else(Instant::now, |failing| failing.since);
        activity.failing.insert(actor, Failing { since, why: why.to_owned(), is_needed });
    }

    /// Reports that one actor's activity works, or was given up.
    pub(crate) fn succeed(&self, (actor, what): (Actor, &str)) {
        self.activities().entry(self.name(what)).or_default().failing.remove(&actor);
    }

    /// What prevents the process from doing its work at present.
    pub fn problems(&self) -> Vec<Problem> {
        let problem = |(what, activity): (&String, &Activity)| {
            let needed = activity.failing.values().filter(|failing| failing.is_needed);
            // If it fails for several actors, one of them is shown.
            let failing = needed.min_by_key(|failing| failing.since)?;
            let (why, lasts) = (failing.why.clone(), failing.since.elapsed());
            Some(Problem { what: what.clone(), why, lasts })
        };
        self.activities().iter().filter_map(problem).collect()
    }

    /// What prevents the process from doing its work, as text with one line for each problem;
    /// nothing if it is ready.
    pub fn not_ready(&self) -> Option<String> {
        let line = |Problem { what, why, lasts }| {
            format!("not ready for {} s: {what}: {why}\n", lasts.as_secs())
        };
        let text: String = self.problems().into_iter().map(line).collect();
        (!text.is_empty()).then_some(text)
    }

    /// The figures of every activity.
    pub fn tallies(&self) -> Vec<Tally> {
        let tally = |(what, activity): (&String, &Activity)| Tally {
            what: what.clone(),
            failures: activity.failures,
            is_failing: !activity.failing.is_empty(),
        };
        self.activities().iter().map(tally).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_problem_lasts_until_the_activity_works() {
        let health = Health::default();
        let node = health.scoped("n1");
        node.failed("journal", "no space");
        tokio::time::advance(Duration::from_secs(3)).await;
        node.failed("journal", "still no space");
        node.fail((node.actor(), "images"), "no engine", false);
        let problem = |lasts| Problem {
            what: "n1: journal".to_owned(),
            why: "still no space".to_owned(),
            lasts,
        };
        assert_eq!(health.problems(), [problem(Duration::from_secs(3))]);
        let text = health.not_ready();
        assert_eq!(text.as_deref(), Some("not ready for 3 s: n1: journal: still no space\n"));
        node.works("journal");
        assert_eq!(health.problems(), []);
        let tally = |what: &str, failures, is_failing| Tally {
            what: what.to_owned(),
            failures,
            is_failing,
        };
        let expected = [tally("n1: images", 1, true), tally("n1: journal", 2, false)];
        assert_eq!(health.tallies(), expected);
    }
}
