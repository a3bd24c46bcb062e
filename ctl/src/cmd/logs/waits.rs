//! What followed logs wait for while nothing can be printed: reported once it has lasted for a
//! while, and again when it changes. Pure except for the time.
//!
//! # Invariants
//!
//! * What lasts only a moment, as each start of a task does, is not reported.
//! * However often the reasons change, at most one line is printed in each [`PERIOD`].

use std::collections::BTreeMap;
use std::time::Duration;

use api::task::TaskPhase;
use api::{Kind as _, Task, Timestamp};
use tokio::time::Instant;

use crate::not_running;

/// How long nothing could be printed before the reason is reported.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// Least time between two lines.
const PERIOD: Duration = Duration::from_secs(10);

/// The waiting tasks, and what was reported of them.
#[derive(Debug)]
pub(super) struct Waits {
    /// Tasks that wait for their next attempt, by name.
    tasks: BTreeMap<String, Task>,
    /// Why there are no tasks, if there are none.
    owner: Option<String>,
    /// The current reason, without its times, and since when it holds.
    reason: Option<(String, Instant)>,
    /// The last report and its time.
    told: Option<(String, Instant)>,
}

impl Waits {
    /// With what was reported already of an owner without tasks.
    pub(super) fn new(told: Option<String>) -> Self {
        let told = told.map(|told| (told, Instant::now()));
        Self { tasks: BTreeMap::new(), owner: None, reason: None, told }
    }

    /// Updates why the owner has no tasks, if so.
    pub(super) fn see_owner(&mut self, why_without_tasks: Option<String>) {
        self.owner = why_without_tasks;
        self.note();
    }

    /// Updates a task.
    pub(super) fn see(&mut self, task: &Task) {
        if task.phase() == TaskPhase::Pending {
            self.tasks.insert(task.name().to_owned(), task.clone());
        } else {
            self.tasks.remove(task.name());
        }
        self.note();
    }

    /// A task was deleted.
    pub(super) fn forget(&mut self, name: &str) {
        self.tasks.remove(name);
        self.note();
    }

    fn note(&mut self) {
        // At a constant time, so that a retry that comes closer does not count as another reason.
        let reason = self.line(Timestamp::UNIX_EPOCH);
        let known = self.reason.take();
        self.reason = reason.map(|reason| match known {
            Some((before, since)) if before == reason => (before, since),
            _ => (reason, Instant::now()),
        });
    }

    /// When there will be something to report if nothing changes or is printed until then.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let (reason, since) = self.reason.as_ref()?;
        match &self.told {
            Some((told, _)) if told == reason => None,
            Some((_, at)) => Some((*at + PERIOD).max(*since + TOLD_AFTER)),
            None => Some(*since + TOLD_AFTER),
        }
    }

    /// The report that is due now.
    pub(super) fn tell(&mut self, now: Timestamp) -> Option<String> {
        let (reason, _) = self.reason.clone()?;
        self.told = Some((reason, Instant::now()));
        self.line(now)
    }

    fn line(&self, now: Timestamp) -> Option<String> {
        let Some((name, task)) = self.tasks.first_key_value() else { return self.owner.clone() };
        let state = not_running::state(task, now)?;
        let attempt = match task.spec.attempt {
            0 | 1 => String::new(),
            attempt => format!(" attempt {attempt}"),
        };
        let others = match self.tasks.len() - 1 {
            0 => String::new(),
            1 => " (and 1 other task waits)".to_owned(),
            others => format!(" (and {others} other tasks wait)"),
        };
        Some(format!("{name}{attempt} {state}{others}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn task(name: &str, spec: Value) -> Task {
        let mut whole = json!({ "template": "a", "attempt": 1, "index": 0, "count": 1 });
        json_patch::merge(&mut whole, &spec);
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": whole })).unwrap()
    }

    fn full(name: &str, why: &str) -> Task {
        task(name, json!({ "unschedulable": { "attempt": 1, "message": why } }))
    }

    /// The reports within this many seconds, each with its second.
    async fn told(waits: &mut Waits, seconds: u64) -> Vec<(u64, String)> {
        let (began, mut lines) = (Instant::now(), Vec::new());
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        let end = began + Duration::from_secs(seconds);
        while let Some(due) = waits.due_at().filter(|due| *due <= end) {
            tokio::time::sleep_until(due).await;
            lines.push((began.elapsed().as_secs(), waits.tell(now).unwrap()));
        }
        tokio::time::sleep_until(end).await;
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_that_lasts_is_told_once_and_again_when_it_changes() {
        let mut waits = Waits::new(None);
        waits.see(&full("a-0", "0 of 3 nodes: 3 full"));
        let first = "a-0 is Pending: 0 of 3 nodes: 3 full";
        assert_eq!(told(&mut waits, 60).await, [(2, first.to_owned())]);
        waits.see(&full("a-0", "0 of 3 nodes: 3 full"));
        assert_eq!(told(&mut waits, 60).await, [], "it is the same");
        // It changes every second and is reported rarely.
        let mut count = 0;
        for second in 0..60 {
            waits.see(&full("a-0", &format!("0 of {second} nodes")));
            count += told(&mut waits, 1).await.len();
        }
        assert!(count <= 6, "{count} lines in a minute");
        waits.see(&full("a-1", "no"));
        waits.see(&full("a-2", "no"));
        let many = "a-0 is Pending: 0 of 59 nodes (and 2 other tasks wait)";
        assert_eq!(told(&mut waits, 60).await.pop().unwrap().1, many);
        ["a-0", "a-1", "a-2"].into_iter().for_each(|name| waits.forget(name));
        assert_eq!(told(&mut waits, 60).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_that_waits_is_told_once_although_it_comes_closer() {
        let mut waits = Waits::new(None);
        let retry = || {
            task("a-0", json!({ "attempt": 2, "failures": 1, "notBefore": "2026-01-02T12:00:40Z" }))
        };
        for _ in 0..30 {
            waits.see(&retry());
        }
        let line = "a-0 attempt 2 is Pending: retries in 40s".to_owned();
        assert_eq!(told(&mut waits, 60).await, [(2, line)]);
    }

    #[tokio::test(start_paused = true)]
    async fn why_there_are_no_tasks_is_not_told_twice() {
        let why = || Some("job/a has no tasks yet: it is Pending: no such set".to_owned());
        let mut waits = Waits::new(why());
        waits.see_owner(why());
        assert_eq!(told(&mut waits, 60).await, []);
        waits.see_owner(Some("job/a has no tasks yet: it is suspended".to_owned()));
        assert_eq!(told(&mut waits, 60).await.len(), 1);
    }
}
