//! Nodes and node leases: rules, tables and field selectors.

use jiff::Timestamp;

use super::{Node, NodeInfo, NodeLease, NodePhase, drain};
use crate::amounts::{self, Amounts, CPU, MEMORY, Unit};
use crate::kind::KindId;
use crate::metadata;
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column, wide};
use crate::table::{NOTHING, age, span, text_or_dash};
use crate::taint::{self, Taint};
use crate::violation::Violation;

impl Resource for Node {
    const SETTLES: bool = true;
    const SHOWN: &'static [&'static str] = &["/status/phase"];

    fn validate(&self) -> Vec<Violation> {
        let mut found = metadata::validate(KindId::Node, &self.metadata);
        found.extend(taint::validate(&self.spec.taints, "spec.taints"));
        found.extend(drain::validate(self));
        found
    }

    fn settle(&mut self, before: Option<&Self>, now: Timestamp) {
        let known = before.map_or(&[] as &[_], |before| &before.spec.taints);
        taint::settle(&mut self.spec.taints, known, now);
        drain::settle(&mut self.spec, before.map(|before| &before.spec));
        self.status.conditions = self.conditions(before, now);
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", self.phase().to_string()),
            ("spec.unschedulable", self.spec.unschedulable.to_string()),
        ]
    }

    fn show(&mut self) -> bool {
        if self.status.conditions.is_empty() {
            // Conditions that an earlier version did not store are computed when the object is
            // read.
            let since = self.created().unwrap_or_default();
            self.settle(None, since);
        }
        self.status.phase = Some(self.phase());
        true
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
                column("TASKS"),
                column("TAINTS"),
                wide("ADDRESS"),
                wide("OS"),
                wide("KERNEL"),
                wide("IMAGES"),
                wide("RUNTIME"),
                column("VERSION"),
                column("AGE"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        self.row_with(None, now)
    }
}

/// What the tasks on a node have reserved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Number of tasks that hold resources of the node.
    pub tasks: u32,
    /// Sum of what they request.
    pub requested: Amounts,
}

impl Usage {
    /// Counts one more task.
    pub fn add(&mut self, requests: Amounts) {
        self.tasks += 1;
        for (resource, amount) in requests {
            let sum = self.requested.entry(resource).or_default();
            *sum = sum.saturating_add(amount);
        }
    }
}

impl Node {
    /// The row in a table of nodes, with the reserved resources where they are known.
    pub fn row_with(&self, usage: Option<&Usage>, now: Timestamp) -> Vec<String> {
        let status = &self.status;
        let info = &status.info;
        let tasks = usage.map_or_else(|| NOTHING.to_owned(), |usage| usage.tasks.to_string());
        vec![
            self.name().to_owned(),
            self.phase().to_string(),
            text_or_dash(self.constraint_label("zone").unwrap_or_default()),
            self.resource_cell(CPU, usage),
            self.resource_cell(MEMORY, usage),
            self.resource_cell("gpu", usage),
            tasks,
            text_or_dash(&self.taints_cell()),
            text_or_dash(status.address.as_deref().unwrap_or_default()),
            text_or_dash([info.os.as_str(), &info.arch].join("/").trim_matches('/')),
            text_or_dash(&info.kernel),
            status.images.len().to_string(),
            text_or_dash(&info.runtime.replace(' ', "/")),
            text_or_dash(&version_cell(info)),
            age(self.created(), now),
            self.why(now),
        ]
    }

    /// `2/8(25%)`: requested, allocatable and the share; only the allocatable amount if the usage
    /// is not known.
    fn resource_cell(&self, resource: &str, usage: Option<&Usage>) -> String {
        let Some(quantity) = self.status.allocatable.get(resource) else {
            return NOTHING.to_owned();
        };
        let all = amounts::amount(resource, quantity);
        let Some(usage) = usage else { return amounts::shown(resource, all) };
        let taken = usage.requested.get(resource).copied().unwrap_or_default();
        let percent = amounts::percent(taken, all).unwrap_or_default();
        let unit = Unit::of(resource, all);
        format!("{}/{}{}({percent}%)", unit.number(taken), unit.number(all), unit.sign())
    }

    /// `dedicated=gpu:NoSch`, several separated by commas.
    fn taints_cell(&self) -> String {
        let taint = |taint: &Taint| format!("{}:{}", taint.pair(), taint.effect.short());
        self.spec.taints.iter().map(taint).collect::<Vec<_>>().join(",")
    }

    /// How long the agent has not been heard from.
    fn silence(&self, now: Timestamp) -> String {
        // An earlier version stored only when the node was declared lost.
        let since = self.status.silent_since.or(self.status.lost);
        since.map(|since| span(since, now)).unwrap_or_default()
    }

    /// Why it is in its phase; empty if there is nothing to say.
    pub fn why(&self, now: Timestamp) -> String {
        let status = &self.status;
        match self.phase() {
            NodePhase::Lost => format!("no heartbeat for {}", self.silence(now)),
            NodePhase::NotReady if self.is_silent() => {
                let held = status.held.as_deref().unwrap_or("the heartbeats are being checked");
                format!("no heartbeat for {}; not declared lost: {held}", self.silence(now))
            }
            NodePhase::NotReady => match &status.problem {
                Some(problem) => problem.clone(),
                None => "its agent has never connected".to_owned(),
            },
            NodePhase::Cordoned | NodePhase::Draining => {
                self.drain_words(now).unwrap_or_else(|| "marked unschedulable".to_owned())
            }
            NodePhase::Ready if self.is_deleting() => self.why_deleting(),
            NodePhase::Ready if !status.leftovers.is_empty() => {
                let number = status.leftovers.len();
                let (tasks, were) = if number == 1 { ("task", "was") } else { ("tasks", "were") };
                format!("still stopping {number} {tasks} that {were} replaced")
            }
            NodePhase::Ready => String::new(),
        }
    }
}

/// `0.3.1/d27.3`: the versions of the agent and of Docker; the name of another runtime, whose version
/// is the agent's.
fn version_cell(info: &NodeInfo) -> String {
    let runtime = match info.runtime.split_once(' ') {
        Some(("docker", version)) => {
            let parts: Vec<&str> = version.splitn(3, '.').take(2).collect();
            format!("d{}", parts.join("."))
        }
        Some((other, _)) => other.to_owned(),
        None => info.runtime.clone(),
    };
    let parts = [info.agent_version.as_str(), &runtime];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
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
