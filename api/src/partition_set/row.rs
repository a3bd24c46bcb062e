//! Partition sets in tables and field selectors.

use jiff::Timestamp;

use super::{PartitionSet, validate};
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column};
use crate::table::{age, text_or_dash};
use crate::violation::Violation;

impl Resource for PartitionSet {
    fn validate(&self) -> Vec<Violation> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        validate::validate_update(self, old)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", self.status.phase.clone().unwrap_or_default()),
            ("spec.stateModel", self.spec.state_model.clone()),
        ]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("STATUS"),
                column("MODEL"),
                column("MODE"),
                column("PARTITIONS"),
                column("REPLICAS"),
                column("STATES"),
                column("AGE"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let unserved = self.first_unserved();
        // The assignment is taken as given, so what is given is what is.
        let phase =
            self.status.phase.clone().unwrap_or_else(|| {
                if unserved.is_some() { "Degraded" } else { "Ready" }.to_owned()
            });
        let why = unserved.map(|(partition, state)| format!("{partition} has no {state}"));
        let states: Vec<String> =
            self.replicas_by_state().iter().map(|(it, count)| format!("{it}={count}")).collect();
        vec![
            self.name().to_owned(),
            phase,
            self.spec.state_model.clone(),
            format!("{:?}", self.spec.mode.unwrap_or_default()),
            self.partition_names().len().to_string(),
            self.spec.replicas.unwrap_or(1).to_string(),
            text_or_dash(&states.join(",")),
            age(self.created(), now),
            why.unwrap_or_default(),
        ]
    }
}
