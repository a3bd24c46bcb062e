//! What the tasks of a job's run wait for, with counts. `describe` and the column WHY show it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Job;
use crate::object::Kind as _;
use crate::table::span;
use crate::task::PAST_MESSAGE_CHARS_MAX;
use crate::task::report::shortened;

/// The reason of tasks whose last attempt ended and that will be retried.
pub const RETRYING: &str = "Retrying";
/// The reason of tasks with less frequent reasons, which are not counted separately.
pub const OTHER: &str = "Other";

/// A reason why tasks do not run yet, and how many tasks have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingCount {
    /// Reason in one word: `Unschedulable` (no node takes these tasks), `Retrying` (their last
    /// attempt ended; they are tried again), `Parallelism` (as many tasks as `parallelism` allows
    /// have not ended), `Window` (as many tasks exist as Heliox keeps of a large job), or `Other`
    /// (for the tasks with less frequent reasons).
    pub reason: String,
    /// Number of tasks that wait for this reason.
    pub count: u32,
    /// The reason in a sentence. At most 256 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// One of these tasks, where they exist already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// When the first of these tasks may start, if they wait for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl WaitingCount {
    /// Why these tasks wait, such as `0 of 3 nodes: 3 full` or `retries in 8s: attempt 1 on node-1:
    /// exit 3`. Empty if they waited for a time that has come.
    pub fn words(&self, now: Timestamp) -> String {
        match (self.until.filter(|until| *until > now), self.message.as_str()) {
            (Some(until), "") => format!("retries in {}", span(now, until)),
            (Some(until), message) => format!("retries in {}: {message}", span(now, until)),
            (None, message) => message.to_owned(),
        }
    }

    /// Whether the message of the job already says this.
    fn is_said(&self, message: &str) -> bool {
        let retried = |task| message == retrying(task, &self.message);
        shortened(message, PAST_MESSAGE_CHARS_MAX) == self.message
            || self.task.as_deref().is_some_and(retried)
    }
}

/// What a job says about a task that will be retried later: `retrying task a-0: attempt 1: exit 3`.
pub fn retrying(task: &str, last_attempt: &str) -> String {
    format!("retrying task {task}: {last_attempt}")
}

impl Job {
    /// Why the job is in its state, a line for each reason: its own message, and then what its
    /// tasks wait for, with their number.
    pub fn whys(&self, now: Timestamp) -> Vec<String> {
        let waiting = &self.status.waiting;
        let is_said = |message: &&String| waiting.iter().any(|it| it.is_said(message));
        let own = self.status.message.iter().filter(|message| !is_said(message)).cloned();
        own.chain(waiting.iter().filter_map(|waiting| self.why_they_wait(waiting, now))).collect()
    }

    fn why_they_wait(&self, waiting: &WaitingCount, now: Timestamp) -> Option<String> {
        let count = waiting.count;
        if waiting.reason == OTHER {
            let wait = if count == 1 { "task waits" } else { "tasks wait" };
            let all = format!("hctl get tasks --job {} --phase Pending", self.name());
            return Some(format!("{count} more {wait} for other reasons: {all}"));
        }
        let why = Some(waiting.words(now)).filter(|why| !why.is_empty())?;
        Some(if count == 1 {
            format!("1 task waits: {why}")
        } else {
            format!("{count} tasks wait: {why}")
        })
    }

    /// Why nothing of the job runs although it has tasks that have not ended.
    pub(super) fn why_nothing_runs(&self) -> Option<&str> {
        let status = &self.status;
        let first = status.waiting.first().filter(|_| status.active == 0)?;
        Some(first.message.as_str()).filter(|message| !message.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::resource::Resource as _;

    fn now() -> Timestamp {
        "2026-01-02T12:00:00Z".parse().unwrap()
    }

    fn job(message: Option<&str>, active: u32, waiting: &serde_json::Value) -> Job {
        let status = json!({
            "phase": "Running", "observedGeneration": 1, "active": active, "message": message,
            "waiting": waiting,
        });
        let job = json!({
            "metadata": { "name": "j" }, "spec": { "template": { "image": "a" } }, "status": status,
        });
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_job_says_what_its_tasks_wait_for_and_nothing_twice() {
        let waiting = json!([
            { "reason": "Unschedulable", "count": 7, "message": "0 of 3 nodes: 3 full", "task": "j-0" },
            { "reason": "Parallelism", "count": 5, "message": "parallelism is 2" },
            { "reason": "Retrying", "count": 2, "message": "attempt 1 on n1: exit 3", "task": "j-7",
              "until": "2026-01-02T12:00:08Z" },
            { "reason": "Retrying", "count": 1, "message": "attempt 2 on n1: exit 4", "task": "j-9",
              "until": "2026-01-02T11:00:00Z" },
            { "reason": "Retrying", "count": 1, "task": "j-10", "until": "2026-01-02T11:00:00Z" },
            { "reason": "Other", "count": 4 },
        ]);
        let said = |message| job(message, 0, &waiting).whys(now()).join("\n");
        expect![[r#"
            1 task is lost: n2 is silent
            7 tasks wait: 0 of 3 nodes: 3 full
            5 tasks wait: parallelism is 2
            2 tasks wait: retries in 8s: attempt 1 on n1: exit 3
            1 task waits: attempt 2 on n1: exit 4
            4 more tasks wait for other reasons: hctl get tasks --job j --phase Pending"#]]
        .assert_eq(&said(Some("1 task is lost: n2 is silent")));
        let waits_alone = said(None);
        assert_eq!(said(Some("0 of 3 nodes: 3 full")), waits_alone);
        assert_eq!(said(Some("retrying task j-7: attempt 1 on n1: exit 3")), waits_alone);
    }

    #[test]
    fn the_table_says_why_nothing_runs_and_nothing_of_what_waits_beside_what_runs() {
        let waiting =
            json!([{ "reason": "Parallelism", "count": 5, "message": "parallelism is 0" }]);
        let why = |message, active| job(message, active, &waiting).row(now()).pop().unwrap();
        assert_eq!(why(None, 0), "parallelism is 0");
        assert_eq!(why(None, 1), "");
        assert_eq!(why(Some("no such set"), 0), "no such set");
    }
}
