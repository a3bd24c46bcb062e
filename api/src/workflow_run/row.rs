//! Runs in tables and field selectors.

use jiff::Timestamp;

use super::{RunPhase, WorkflowRun, validate};
use crate::job::JobPhase;
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column, wide};
use crate::table::{NOTHING, age, text_or_dash, took};
use crate::violation::Violation;

/// Most jobs that one cell names.
const NAMED_MAX: usize = 3;

impl Resource for WorkflowRun {
    fn validate(&self) -> Vec<Violation> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        validate::validate_update(self, old)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", self.status.phase.to_string()),
            ("spec.workflow", self.spec.workflow.clone()),
            ("spec.suspend", self.spec.suspend.to_string()),
        ]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("STATUS"),
                column("JOBS"),
                column("TASKS"),
                column("FAILED"),
                wide("ACTIVE"),
                wide("PENDING"),
                column("NOW"),
                column("TOOK"),
                column("AGE"),
                wide("REV"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let status = &self.status;
        let begun = !status.jobs.is_empty();
        let of = |part: String| if begun { part } else { NOTHING.to_owned() };
        let succeeded = status.jobs.iter().filter(|job| job.phase == JobPhase::Succeeded).count();
        vec![
            self.name().to_owned(),
            status.phase.to_string(),
            of(format!("{succeeded}/{}", status.jobs.len())),
            of(format!("{}/{}", status.succeeded, status.total)),
            of(status.failed.to_string()),
            of(status.active.to_string()),
            of(status.pending.to_string()),
            self.running_jobs(),
            took(status.started_at, status.finished_at, now),
            age(self.created(), now),
            text_or_dash(&status.revision),
            self.why(),
        ]
    }
}

impl WorkflowRun {
    /// The order of a workflow's runs: the newest is the greatest. Of runs created in the same
    /// second, the one with the longer name has the greater number.
    pub fn place(&self) -> (Option<Timestamp>, usize, &str) {
        (self.created(), self.name().len(), self.name())
    }

    /// The jobs that are running.
    fn running_jobs(&self) -> String {
        let jobs = self.status.jobs.iter();
        let running: Vec<&str> = jobs
            .filter(|job| job.phase == JobPhase::Running)
            .map(|job| job.name.as_str())
            .collect();
        match running.len() {
            0 => NOTHING.to_owned(),
            count if count > NAMED_MAX => {
                format!("{} and {} more", running[..NAMED_MAX].join(","), count - NAMED_MAX)
            }
            _ => running.join(","),
        }
    }

    /// The reason for its phase as a line, as its controller says it: what failed, or what its jobs
    /// wait for. Empty if there is nothing to say.
    pub fn why(&self) -> String {
        let status = &self.status;
        if self.is_deleting() {
            return self.why_deleting();
        }
        if let Some(why) = status.message.as_ref().or(status.waiting.as_ref()) {
            return why.clone();
        }
        match status.phase {
            RunPhase::Pending if status.observed_generation == 0 => {
                "waiting for the workflow controller".to_owned()
            }
            RunPhase::Pending
            | RunPhase::Running
            | RunPhase::Suspended
            | RunPhase::Succeeded
            | RunPhase::Failed
            | RunPhase::TimedOut
            | RunPhase::Cancelled
            | RunPhase::Skipped => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_says_what_its_controller_says() {
        let why = |status: serde_json::Value| {
            let run = json!({ "metadata": { "name": "w-1" }, "spec": { "workflow": "w" }, "status": status });
            let run: WorkflowRun = serde_json::from_value(run).unwrap();
            run.row(Timestamp::UNIX_EPOCH).pop().unwrap()
        };
        assert_eq!(why(json!({})), "waiting for the workflow controller");
        let waits = json!({ "phase": "Running", "waiting": "c: 1 task is lost" });
        assert_eq!(why(waits.clone()), "c: 1 task is lost");
        let mut ends = waits;
        ends["message"] = "cancelled on request".into();
        assert_eq!(why(ends), "cancelled on request");
        let jobs = json!([{ "name": "c", "job": "w-1-c", "phase": "Failed", "message": "lost" }]);
        assert_eq!(why(json!({ "phase": "Running", "jobs": jobs })), "", "nothing is computed");
    }
}
