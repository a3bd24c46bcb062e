//! Jobs in tables and field selectors.

use jiff::Timestamp;

use super::{Job, JobPhase, is_of_earlier_run, validate};
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column, wide};
use crate::size;
use crate::table::{age, took};
use crate::violation::Violation;

impl Resource for Job {
    fn validate(&self) -> Vec<Violation> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        validate::validate_update(self, old)
    }

    fn let_go(&mut self, old: &Self) -> bool {
        let is_stale = is_of_earlier_run(self, old);
        if is_stale {
            self.spec.cancel = false;
        }
        is_stale
    }

    fn added_bytes(&self) -> usize {
        size::ADDED_BYTES + size::index_bytes(&self.spec)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", self.status.phase.to_string()),
            ("spec.suspend", self.spec.is_suspended().to_string()),
        ]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("STATUS"),
                column("TASKS"),
                column("ACTIVE"),
                column("FAILED"),
                wide("PENDING"),
                wide("CANCELLED"),
                wide("RETRIES"),
                wide("RUN"),
                column("TOOK"),
                column("AGE"),
                wide("IMAGE"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let status = &self.status;
        vec![
            self.name().to_owned(),
            status.phase.to_string(),
            format!("{}/{}", status.succeeded, status.total),
            status.active.to_string(),
            status.failed.to_string(),
            status.pending.to_string(),
            status.cancelled.to_string(),
            status.retries.to_string(),
            status.run.to_string(),
            took(status.started_at, status.finished_at, now),
            age(self.created(), now),
            self.spec.template.image.clone(),
            self.why(),
        ]
    }
}

impl Job {
    /// Why it is in its phase, in a line.
    fn why(&self) -> String {
        let status = &self.status;
        if self.is_deleting() {
            return "being deleted".to_owned();
        }
        if let Some(message) = &status.message {
            return message.clone();
        }
        let failures: Vec<String> =
            status.failures.iter().map(|it| format!("{} x{}", it.reason, it.count)).collect();
        if !failures.is_empty() {
            return failures.join(", ");
        }
        match status.phase {
            JobPhase::Pending if status.observed_generation == 0 => "not looked at yet".to_owned(),
            JobPhase::Running if self.spec.parallelism == Some(0) => "parallelism is 0".to_owned(),
            JobPhase::Pending
            | JobPhase::Running
            | JobPhase::Suspended
            | JobPhase::Succeeded
            | JobPhase::Failed
            | JobPhase::TimedOut
            | JobPhase::Cancelled
            | JobPhase::Skipped => String::new(),
        }
    }
}
