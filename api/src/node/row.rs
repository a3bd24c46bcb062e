//! Nodes and node leases: rules, tables and field selectors.

use jiff::Timestamp;

use super::{Node, NodeLease, NodePhase};
use crate::amounts::{CPU, MEMORY, Quantity};
use crate::kind::KindId;
use crate::metadata;
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column, wide};
use crate::table::{NOTHING, age, span, text_or_dash};
use crate::violation::Violation;

impl Resource for Node {
    fn validate(&self) -> Vec<Violation> {
        metadata::validate(KindId::Node, &self.metadata)
    }

    fn field(&self, path: &str) -> Option<String> {
        match path {
            "status.phase" => Some(self.phase().to_string()),
            "spec.unschedulable" => Some(self.spec.unschedulable.to_string()),
            _ => None,
        }
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("STATUS"),
                column("ZONE"),
                column("CPU"),
                column("MEMORY"),
                column("GPU"),
                wide("ADDRESS"),
                wide("OS"),
                wide("KERNEL"),
                wide("IMAGES"),
                column("RUNTIME"),
                column("VERSION"),
                column("AGE"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let status = &self.status;
        let info = &status.info;
        vec![
            self.name().to_owned(),
            self.phase().to_string(),
            text_or_dash(self.constraint_label("zone").unwrap_or_default()),
            self.allocatable_cell(CPU),
            self.allocatable_cell(MEMORY),
            self.allocatable_cell("gpu"),
            text_or_dash(status.address.as_deref().unwrap_or_default()),
            text_or_dash([info.os.as_str(), &info.arch].join("/").trim_matches('/')),
            text_or_dash(&info.kernel),
            status.images.len().to_string(),
            text_or_dash(&info.runtime),
            text_or_dash(&info.agent_version),
            age(self.created(), now),
            self.why(now),
        ]
    }
}

impl Node {
    fn allocatable_cell(&self, resource: &str) -> String {
        let Some(quantity) = self.status.allocatable.get(resource) else {
            return NOTHING.to_owned();
        };
        if resource == MEMORY { in_binary_units(quantity) } else { quantity.to_string() }
    }

    /// Why it is in its phase, in a line.
    fn why(&self, now: Timestamp) -> String {
        let status = &self.status;
        match self.phase() {
            NodePhase::Lost => {
                let since = status.lost.map(|since| span(since, now)).unwrap_or_default();
                format!("not heard for {since}")
            }
            NodePhase::NotReady => match &status.problem {
                Some(problem) => problem.clone(),
                None => "its agent was never heard".to_owned(),
            },
            NodePhase::Cordoned => "nothing new is bound to it".to_owned(),
            NodePhase::Ready if self.is_deleting() => "being deleted".to_owned(),
            NodePhase::Ready if !status.leftovers.is_empty() => {
                format!("still stopping {} tasks of an earlier time", status.leftovers.len())
            }
            NodePhase::Ready => String::new(),
        }
    }
}

/// Bytes in the largest unit that leaves at least two digits, rounded down.
fn in_binary_units(quantity: &Quantity) -> String {
    let mut amount = quantity.whole();
    let mut unit = "";
    for larger in ["Ki", "Mi", "Gi", "Ti"] {
        if amount < 10 * 1024 {
            break;
        }
        amount /= 1024;
        unit = larger;
    }
    format!("{amount}{unit}")
}

impl Resource for NodeLease {
    fn validate(&self) -> Vec<Violation> {
        metadata::validate(KindId::NodeLease, &self.metadata)
    }

    fn columns() -> &'static [Column] {
        const { &[column("NAME"), column("AGENT"), column("APISERVER"), column("AGE")] }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name().to_owned(),
            self.spec.agent.clone(),
            text_or_dash(&self.spec.apiserver),
            age(self.created(), now),
        ]
    }
}
