//! Finds placements that no node can satisfy, as far as the placement alone shows.

use std::collections::BTreeMap;

use super::{Comparison, Constraint, Placement, Test, compare_versions};
use crate::violation::Violation;

/// The built-in label with a node's name.
const NAME: &str = "name";

/// A test of a label, with its path and its text.
struct Wanted {
    test: Test,
    at: String,
    text: String,
}

/// Reports labels for which no value satisfies all tests: such a task would wait for ever.
pub(super) fn contradictions(placement: &Placement, path: &str) -> Vec<Violation> {
    let mut labels: BTreeMap<String, Vec<Wanted>> = BTreeMap::new();
    if !placement.nodes.is_empty() {
        let text = "nodes".to_owned();
        let wanted =
            Wanted { test: Test::In(placement.nodes.clone()), at: format!("{path}.nodes"), text };
        labels.entry(NAME.to_owned()).or_default().push(wanted);
    }
    for (label, value) in &placement.node_selector {
        let at = format!("{path}.nodeSelector[{label:?}]");
        let text = format!("{label} = {value}");
        let wanted = Wanted { test: Test::In(vec![value.clone()]), at, text };
        labels.entry(label.clone()).or_default().push(wanted);
    }
    for (index, text) in placement.constraints.iter().enumerate() {
        let Ok(Constraint { label, test }) = text.parse::<Constraint>() else { continue };
        let at = format!("{path}.constraints[{index}]");
        labels.entry(label).or_default().push(Wanted { test, at, text: text.clone() });
    }
    labels.into_iter().filter_map(|(label, wanted)| contradiction(&label, &wanted)).collect()
}

/// The violation if no value of a label satisfies all of `wanted`, reported at the last of them.
fn contradiction(label: &str, wanted: &[Wanted]) -> Option<Violation> {
    let (last, before) = wanted.split_last()?;
    if before.is_empty() || is_possible(label, wanted) {
        return None;
    }
    let texts: Vec<String> = before.iter().map(|it| format!("{:?}", it.text)).collect();
    let why = format!("no {label} is both this and {}", texts.join(" and "));
    Some(Violation::new(&*last.at, why).hint("no node would ever match"))
}

fn is_possible(label: &str, wanted: &[Wanted]) -> bool {
    let absent = wanted.iter().filter(|it| it.test == Test::Absent).count();
    if absent > 0 {
        return absent == wanted.len();
    }
    let holds = |value: &String, it: &Wanted| {
        let constraint = Constraint { label: label.to_owned(), test: it.test.clone() };
        constraint.holds(Some(value))
    };
    let listed = wanted.iter().find_map(|it| match &it.test {
        Test::In(values) => Some(values),
        Test::NotIn(_) | Test::Exists | Test::Absent | Test::Compare(..) => None,
    });
    if let Some(values) = listed {
        return values.iter().any(|value| wanted.iter().all(|it| holds(value, it)));
    }
    let bounds = |lower: bool| {
        wanted.iter().filter_map(move |it| match &it.test {
            Test::Compare(by @ (Comparison::Greater | Comparison::GreaterOrEqual), value) => {
                lower.then_some((*by == Comparison::Greater, value))
            }
            Test::Compare(by @ (Comparison::Less | Comparison::LessOrEqual), value) => {
                (!lower).then_some((*by == Comparison::Less, value))
            }
            Test::In(_) | Test::NotIn(_) | Test::Exists | Test::Absent => None,
        })
    };
    bounds(true).all(|(above, least)| {
        bounds(false).all(|(below, most)| match compare_versions(least, most) {
            Some(order) => order.is_lt() || (order.is_eq() && !above && !below),
            // A value that is not a number has a violation of its own.
            None => true,
        })
    })
}

/// The violation of a comparison with something that has no order, which is never satisfied.
pub(super) fn no_order(constraint: &Constraint) -> Option<String> {
    let Test::Compare(_, value) = &constraint.test else { return None };
    compare_versions(value, value)
        .is_none()
        .then(|| format!("{value:?} is neither a number nor a version, so it cannot be compared"))
}
