//! Workflows in tables and field selectors.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{NO_RUN, Workflow, validate};
use crate::conditions::stalled;
use crate::meaning;
use crate::object::{Kind as _, number_problem};
use crate::resource::{Column, Resource, column, wide};
use crate::table::{age, or_dash};
use crate::violation::Violation;

impl Resource for Workflow {
    fn validate(&self) -> Vec<Violation> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        let number = self.status.last_run_number;
        if number == old.status.last_run_number {
            return Vec::new();
        }
        number_problem("status.lastRunNumber", number).into_iter().collect()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let phase = self.status.phase.map(|phase| phase.to_string()).unwrap_or_default();
        vec![
            ("status.phase", phase),
            ("spec.suspend", self.spec.suspend.unwrap_or(false).to_string()),
        ]
    }

    fn simplify(spec: &mut Map<String, Value>) {
        meaning::workflow(spec);
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("STATUS"),
                column("JOBS"),
                column("ACTIVE"),
                column("RUN"),
                wide("REV"),
                column("AGE"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let status = &self.status;
        let why = if self.is_deleting() {
            self.why_deleting()
        } else if self.spec.suspend == Some(true) {
            "suspended: starts no run by itself".to_owned()
        } else {
            let no_run = || status.conditions.iter().find(|it| it.reason == NO_RUN);
            let why = stalled(&status.conditions).or_else(no_run);
            why.map(|it| it.message.clone()).unwrap_or_default()
        };
        vec![
            self.name().to_owned(),
            or_dash(status.phase),
            self.spec.jobs.len().to_string(),
            status.active.to_string(),
            or_dash(status.last_run.as_ref()),
            crate::table::text_or_dash(&status.revision),
            age(self.created(), now),
            why,
        ]
    }
}
