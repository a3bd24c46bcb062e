//! Services in tables and field selectors.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Service, ServicePhase, validate};
use crate::labels;
use crate::meaning;
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column, wide};
use crate::scale::Scale;
use crate::size;
use crate::table::age;
use crate::violation::Violation;

/// Most bytes that one revision takes in a status, besides its image.
const REVISION_BYTES: usize = 1024;

impl Resource for Service {
    fn validate(&self) -> Vec<Violation> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        validate::validate_update(self, old)
    }

    fn added_bytes(&self) -> usize {
        // The current revision and the one that is rolled out are kept besides the earlier ones.
        let revisions = self.spec.revision_history_limit() + 2;
        size::ADDED_BYTES + revisions * (REVISION_BYTES + self.spec.template.image.len())
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", self.status.phase.to_string()),
            ("spec.suspend", self.spec.is_suspended().to_string()),
        ]
    }

    fn scale(&self) -> Result<Scale, &'static str> {
        if self.spec.is_per_node() {
            return Err("the nodes determine how many tasks there are: perNode is true");
        }
        Ok(Scale {
            field: "replicas",
            wanted: self.spec.replicas(),
            there: self.status.replicas,
            selector: labels::selector(labels::SERVICE, self.name()),
        })
    }

    fn simplify(spec: &mut Map<String, Value>) {
        meaning::service(spec);
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("STATUS"),
                column("READY"),
                column("UPDATED"),
                column("REV"),
                wide("CURRENT"),
                column("IMAGE"),
                column("AGE"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let status = &self.status;
        vec![
            self.name().to_owned(),
            if self.is_deleting() { "Deleting".to_owned() } else { status.phase.to_string() },
            format!("{}/{}", status.ready, status.replicas),
            status.updated.to_string(),
            status.update_revision.to_string(),
            status.current_revision.to_string(),
            self.image().to_owned(),
            age(self.created(), now),
            self.why(),
        ]
    }
}

impl Service {
    /// The image of the revision that tasks should run: not the manifest's, if its rollout failed and
    /// the service went back.
    pub fn image(&self) -> &str {
        let wanted = self.status.wanted_revision().map(|it| it.image.as_str());
        wanted.unwrap_or(&self.spec.template.image)
    }

    /// The reason for its phase, as a line.
    fn why(&self) -> String {
        if self.is_deleting() {
            return self.why_deleting();
        }
        if let Some(message) = &self.status.message {
            return message.clone();
        }
        match self.status.phase {
            ServicePhase::RollingOut if self.status.observed_generation == 0 => {
                "waiting for the service controller".to_owned()
            }
            ServicePhase::RollingOut
            | ServicePhase::Running
            | ServicePhase::Paused
            | ServicePhase::Degraded
            | ServicePhase::Suspended
            | ServicePhase::Expired => String::new(),
        }
    }
}
