//! Partition sets in tables and field selectors.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{PartitionSet, PartitionSetStatus, missing_words, validate};
use crate::conditions::{Condition, Standing, conditions};
use crate::meaning;
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column};
use crate::table::{age, text_or_dash};
use crate::violation::Violation;

impl Resource for PartitionSet {
    const SETTLES: bool = true;

    fn validate(&self) -> Vec<Violation> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        validate::validate_update(self, old)
    }

    fn settle(&mut self, before: Option<&Self>, now: Timestamp) {
        // Nodes that the new assignment does not name are dropped at once. The controller, which
        // checks the rest, may run later.
        let mut missing_nodes = std::mem::take(&mut self.status.missing_nodes);
        let named: BTreeSet<&str> = self.nodes_serving(&[]).collect();
        missing_nodes.retain(|node| named.contains(node.as_str()));
        self.status.missing_nodes = missing_nodes;
        let phase = self.phase();
        let unserved = self.why_degraded();
        let standing = if unserved.is_some() { Standing::Reconciling } else { Standing::Ready };
        let message = unserved.unwrap_or_default();
        let before = before.map_or(&[] as &[Condition], |before| &before.status.conditions);
        let generation = self.generation();
        let conditions = conditions(before, standing, phase, &message, (generation, now));
        let phase = Some(phase.to_owned());
        let missing_nodes = std::mem::take(&mut self.status.missing_nodes);
        self.status = PartitionSetStatus {
            phase,
            observed_generation: generation,
            missing_nodes,
            conditions,
        };
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", self.phase().to_owned()),
            ("spec.stateModel", self.spec.state_model.clone()),
        ]
    }

    fn simplify(spec: &mut Map<String, Value>) {
        meaning::partition_set(spec);
    }

    fn show(&mut self) -> bool {
        // Objects that an earlier version stored have no phase and no conditions.
        let lacks = self.status.conditions.is_empty();
        if lacks {
            let since = self.created().unwrap_or_default();
            self.settle(None, since);
        }
        lacks
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
        let states: Vec<String> =
            self.replicas_by_state().iter().map(|(it, count)| format!("{it}={count}")).collect();
        vec![
            self.name().to_owned(),
            self.phase().to_owned(),
            self.spec.state_model.clone(),
            format!("{:?}", self.spec.mode.unwrap_or_default()),
            self.partition_names().len().to_string(),
            self.spec.replicas.unwrap_or(1).to_string(),
            text_or_dash(&states.join(",")),
            age(self.created(), now),
            self.why_degraded().unwrap_or_default(),
        ]
    }
}

impl PartitionSet {
    /// `Ready` or `Degraded`. In mode Manual the assignment is taken as the actual state, so all
    /// that can be missing is a node.
    fn phase(&self) -> &'static str {
        if self.why_degraded().is_some() { "Degraded" } else { "Ready" }
    }

    /// Why the set is degraded, as a sentence.
    fn why_degraded(&self) -> Option<String> {
        let unserved = self.first_unserved();
        let unserved = unserved.map(|(partition, state)| format!("{partition} has no {state}"));
        let missing = missing_words(&self.status.missing_nodes);
        let why: Vec<String> = missing.into_iter().chain(unserved).collect();
        (!why.is_empty()).then(|| why.join("; "))
    }
}
