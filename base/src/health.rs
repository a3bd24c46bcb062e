//! What keeps a process from doing its work at this moment: for `/readyz` and for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What works and what does not. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Stands before the name of each activity, such as a node's name where a process has several.
    scope: Option<Arc<str>>,
    /// Guards the activities; held for one look or change.
    activities: Arc<Mutex<BTreeMap<String, Activity>>>,
    /// Counts those who asked to be told apart.
    actors: Arc<AtomicU64>,
}

/// Who does an activity, where several do activities of one name: that one of them works says nothing
/// about the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Actor(u64);

impl Actor {
    /// Whoever tells of an activity by its name alone.
    const ANY: Self = Self(0);
}

/// How one activity fares, such as renewing the node lease.
#[derive(Debug, Clone, Default)]
struct Activity {
    failures: u64,
    /// Those for whom it fails now.
    failing: BTreeMap<Actor, Failing>,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    why: String,
    /// Whether the process cannot do its work meanwhile.
    is_needed: bool,
}

/// Something that does not work at this moment, and that the process needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What does not work.
    pub what: String,
    /// Why not.
    pub why: String,
    /// Since when.
    pub lasts: Duration,
}

/// How an activity fared so far, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The activity.
    pub what: String,
    /// How often it failed.
    pub failures: u64,
    /// Whether it fails now.
    pub is_failing: bool,
}

impl Health {
    /// The same, with names that begin with `scope`.
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

    /// Somebody new who does activities, and is told apart from all others.
    pub(crate) fn actor(&self) -> Actor {
        Actor(self.actors.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// An activity failed. Without it the process cannot do its work.
    pub fn failed(&self, what: &str, why: &str) {
        self.fail((Actor::ANY, what), why, true);
    }

    /// An activity works.
    pub fn works(&self, what: &str) {
        self.succeed((Actor::ANY, what));
    }

    /// An activity of somebody's failed. `is_needed`: without it the process cannot do its work.
    pub(crate) fn fail(&self, (actor, what): (Actor, &str), why: &str, is_needed: bool) {
        let mut activities = self.activities();
        let activity = activities.entry(self.name(what)).or_default();
        activity.failures += 1;
        let since = activity.failing.get(&actor).map_or_else(Instant::now, |failing| failing.since);
        activity.failing.insert(actor, Failing { since, why: why.to_owned(), is_needed });
    }

    /// An activity of somebody's works, or is given up.
    pub(crate) fn succeed(&self, (actor, what): (Actor, &str)) {
        self.activities().entry(self.name(what)).or_default().failing.remove(&actor);
    }

    /// What keeps the process from doing its work now.
    pub fn problems(&self) -> Vec<Problem> {
        let problem = |(what, activity): (&String, &Activity)| {
            let needed = activity.failing.values().filter(|failing| failing.is_needed);
            // Of several for whom it fails, one stands for all.
            let failing = needed.min_by_key(|failing| failing.since)?;
            let (why, lasts) = (failing.why.clone(), failing.since.elapsed());
            Some(Problem { what: what.clone(), why, lasts })
        };
        self.activities().iter().filter_map(problem).collect()
    }

    /// What keeps the process from doing its work now, in words, one line for each problem; nothing
    /// where it can do it.
    pub fn not_ready(&self) -> Option<String> {
        let line = |Problem { what, why, lasts }| {
            format!("not ready for {} s: {what}: {why}\n", lasts.as_secs())
        };
        let text: String = self.problems().into_iter().map(line).collect();
        (!text.is_empty()).then_some(text)
    }

    /// How every activity fared so far.
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
