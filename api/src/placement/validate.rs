//! Rules of a placement.

use super::{Constraint, LossAction, Near, Placement, REPLACE_AFTER_MIN, possible};
use crate::partition_set::state_problem;
use crate::violation::{Violation, duplicates};
use crate::{metadata, names, taint};

/// Most entries of one list.
const ENTRIES_MAX: usize = 10_000;
/// Most constraints, and most preferences: each is checked for every node.
const CONSTRAINTS_MAX: usize = 100;

/// The violations of a placement. Paths begin with `path`.
pub(crate) fn validate(placement: &Placement, path: &str, found: &mut Vec<Violation>) {
    let lists = [
        ("nodes", placement.nodes.len(), ENTRIES_MAX),
        ("constraints", placement.constraints.len(), CONSTRAINTS_MAX),
        ("preferences", placement.preferences.len(), CONSTRAINTS_MAX),
        ("near", placement.near.len(), CONSTRAINTS_MAX),
    ];
    for (field, count, max) in lists.into_iter().filter(|(_, count, max)| count > max) {
        let why = format!("{count} entries; at most {max} are allowed");
        found.push(Violation::new(format!("{path}.{field}"), why));
    }
    for (index, node) in placement.nodes.iter().enumerate() {
        if let Some(problem) = names::problem(node) {
            found.push(Violation::new(format!("{path}.nodes[{index}]"), problem));
        }
    }
    duplicates(&placement.nodes, &format!("{path}.nodes"), "", found);
    metadata::labels_of(&placement.node_selector, &format!("{path}.nodeSelector"), found);
    for (index, text) in placement.constraints.iter().enumerate() {
        constraint(text, format!("{path}.constraints[{index}]"), found);
    }
    for (index, preference) in placement.preferences.iter().enumerate() {
        let at = format!("{path}.preferences[{index}]");
        constraint(&preference.constraint, format!("{at}.constraint"), found);
        if !(1..=100).contains(&preference.weight) {
            let why = format!("{} is not a whole number from 1 to 100", preference.weight);
            found.push(Violation::new(format!("{at}.weight"), why));
        }
    }
    for (index, wanted) in placement.near.iter().enumerate() {
        near(wanted, &format!("{path}.near[{index}]"), found);
    }
    let at = format!("{path}.tolerations");
    found.extend(taint::validate_tolerations(&placement.tolerations, &at));
    on_node_loss(placement, path, found);
    found.extend(possible::contradictions(placement, path));
}

fn constraint(text: &str, at: String, found: &mut Vec<Violation>) {
    match text.parse::<Constraint>() {
        Ok(constraint) => {
            found.extend(possible::no_order(&constraint).map(|why| Violation::new(at, why)));
        }
        Err(error) => {
            let whole = error.to_string();
            let (why, hint) = whole.split_once("; ").unwrap_or((&whole, ""));
            let violation = Violation::new(at, why);
            found.push(if hint.is_empty() { violation } else { violation.hint(hint) });
        }
    }
}

fn near(near: &Near, at: &str, found: &mut Vec<Violation>) {
    let (name, field) = match (&near.partition_set, &near.job) {
        (Some(set), None) => (set, "partitionSet"),
        (None, Some(job)) => {
            if !near.states.is_empty() {
                let why = "states apply to a partitionSet only, not to a job";
                found.push(Violation::new(format!("{at}.states"), why));
            }
            (job, "job")
        }
        (None, None) => {
            found.push(Violation::new(at, "one of partitionSet and job is required"));
            return;
        }
        (Some(_), Some(_)) => {
            found.push(Violation::new(at, "only one of partitionSet and job is allowed"));
            return;
        }
    };
    if let Some(problem) = names::problem(name) {
        found.push(Violation::new(format!("{at}.{field}"), problem));
    }
    states(&near.states, at, found);
}

/// The violations of a list of replica states. `at` is its path.
pub(crate) fn states(states: &[String], at: &str, found: &mut Vec<Violation>) {
    for (index, state) in states.iter().enumerate() {
        found.extend(state_problem(state, format!("{at}.states[{index}]")));
    }
    duplicates(states, &format!("{at}.states"), "", found);
}

fn on_node_loss(placement: &Placement, path: &str, found: &mut Vec<Violation>) {
    let Some(loss) = placement.on_node_loss else { return };
    let at = format!("{path}.onNodeLoss.after");
    match (loss.action, loss.after) {
        (LossAction::Replace, Some(after)) if after < REPLACE_AFTER_MIN => {
            let violation = Violation::new(at, format!("{after} is less than {REPLACE_AFTER_MIN}"));
            found.push(violation.hint("a node is not declared lost before that"));
        }
        (LossAction::Wait, Some(_)) => {
            let violation = Violation::new(
                at,
                "not allowed with action Wait, which lasts until the node is back",
            );
            found.push(violation.hint("leave it out, or write action: Replace"));
        }
        (LossAction::Replace, _) | (LossAction::Wait, None) => (),
    }
}
