//! Jobs in tables and field selectors.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{FailureCount, Job, JobPhase, JobStatus, change, is_of_earlier_run, validate};
use crate::labels;
use crate::meaning;
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column, wide};
use crate::scale::Scale;
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
        // A manifest that was written before a rerun has the old number. Applying it must not undo
        // the rerun.
        let is_older = self.spec.reruns < old.spec.reruns;
        self.spec.reruns = self.spec.reruns.max(old.spec.reruns);
        let is_stale = is_of_earlier_run(self, old);
        if is_stale {
            self.spec.cancel = false;
            self.spec.cancel_reason = None;
        }
        let is_idle = !self.spec.cancel && self.spec.cancel_reason.take().is_some();
        is_stale || is_older || is_idle
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

    fn scale(&self) -> Result<Scale, &'static str> {
        let is_listed = !self.spec.tasks.is_empty() || self.spec.items.is_some();
        if is_listed || self.spec.target.is_some() {
            return Err("its tasks, items or target determine how many tasks there are");
        }
        Ok(Scale {
            field: "count",
            wanted: self.spec.count(),
            there: self.status.total,
            selector: labels::selector(labels::JOB, self.name()),
        })
    }

    fn simplify(spec: &mut Map<String, Value>) {
        meaning::job_spec(spec);
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

impl JobStatus {
    /// The controller's message, or how the failed tasks ended; nothing if all is well.
    pub fn why(&self) -> Option<String> {
        let failures = (!self.failures.is_empty()).then(|| failures(&self.failures));
        self.message.clone().or(failures)
    }

    /// The sentence for a new run that replaces this unfinished one: `run 4 replaces run 3; 2
    /// running tasks are stopped`.
    pub fn replaced_by(&self, run: u32) -> String {
        let stopped = change::stopped(usize::try_from(self.active).unwrap_or(usize::MAX));
        format!("run {run} replaces run {}{stopped}", self.run)
    }
}

/// How many tasks failed for each reason: `exit 3 x2, CannotRun x1: sh: not found`.
pub fn failures(counts: &[FailureCount]) -> String {
    let said = |it: &FailureCount| {
        let message = it.message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        format!("{} x{}{message}", it.reason, it.count)
    };
    counts.iter().map(said).collect::<Vec<_>>().join(", ")
}

impl Job {
    /// The reason for its phase, as a line.
    fn why(&self) -> String {
        let status = &self.status;
        if self.is_deleting() {
            return self.why_deleting();
        }
        if let Some(why) = status.why() {
            return why;
        }
        match status.phase {
            JobPhase::Pending if status.observed_generation == 0 => {
                "waiting for the job controller".to_owned()
            }
            JobPhase::Pending | JobPhase::Running => {
                self.why_nothing_runs().unwrap_or_default().to_owned()
            }
            JobPhase::Suspended
            | JobPhase::Succeeded
            | JobPhase::Failed
            | JobPhase::TimedOut
            | JobPhase::Cancelled
            | JobPhase::Skipped => String::new(),
        }
    }
}
