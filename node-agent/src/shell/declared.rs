//! What the agent's flags declare about the Node object, merged three ways with what users change:
//! what the flags said last, what they say now, and what the object has.
//!
//! # Invariants
//!
//! * A flag that says what it said before changes nothing: what users have made of it stays.
//! * A flag that is new, or says something else, is carried out.
//! * A flag that was taken away takes along what it had set, unless a user has changed that.

use std::collections::BTreeMap;

use api::taint::Taint;
use api::{Kind as _, Node};
use serde_json::{Map, Value, json};

/// The merge patch that brings the flags' labels and taints into the object; nothing if they are
/// there.
pub(super) fn patch(
    node: &Node,
    labels: &BTreeMap<String, String>,
    taints: &[Taint],
) -> Option<Value> {
    let labels = changed_labels(node, labels);
    let merged = merged_taints(node, taints);
    let mut patch = json!({});
    if !labels.is_empty() {
        patch["metadata"]["labels"] = Value::Object(labels);
    }
    if merged != node.spec.taints {
        patch["spec"]["taints"] = json!(merged);
        // A list is replaced as a whole: a taint that somebody adds meanwhile must not get lost.
        patch["metadata"]["resourceVersion"] = json!(node.resource_version());
    }
    (patch != json!({})).then_some(patch)
}

/// The labels to change; null for one that goes.
fn changed_labels(node: &Node, wanted: &BTreeMap<String, String>) -> Map<String, Value> {
    let before = &node.status.agent_labels;
    let is_news = |(key, value): &(&String, &String)| {
        before.get(*key) != Some(*value) && node.label(key) != Some(value)
    };
    let set = wanted.iter().filter(is_news).map(|(key, value)| (key.clone(), json!(value)));
    let is_over = |(key, value): &(&String, &String)| {
        !wanted.contains_key(*key) && node.label(key) == Some(value)
    };
    let gone = before.iter().filter(is_over).map(|(key, _)| (key.clone(), Value::Null));
    set.chain(gone).collect()
}

/// The taints that the object should have.
fn merged_taints(node: &Node, wanted: &[Taint]) -> Vec<Taint> {
    let before = &node.status.agent_taints;
    let is_in = |taints: &[Taint], taint: &Taint| taints.iter().any(|it| it.is_same_as(taint));
    let is_place =
        |one: &Taint, other: &Taint| (&one.key, one.effect) == (&other.key, other.effect);
    let mut merged = node.spec.taints.clone();
    merged.retain(|taint| !is_in(before, taint) || wanted.iter().any(|it| is_place(it, taint)));
    for taint in wanted.iter().filter(|taint| !is_in(before, taint)) {
        match merged.iter_mut().find(|it| is_place(it, taint)) {
            Some(there) if there.is_same_as(taint) => (),
            Some(there) => *there = taint.clone(),
            None => merged.push(taint.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use api::node::NodeSpec;

    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn taints(text: &str) -> Vec<Taint> {
        text.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn users_keep_the_labels_that_they_change_and_flags_those_that_they_set() {
        for (before, wanted, there, expected) in [
            ("", "zone=a", "", "zone=\"a\""),
            ("", "zone=a", "zone=a", ""),
            ("zone=a", "zone=a", "zone=a mine=1", ""),
            // A user has changed it, or has taken it away.
            ("zone=a", "zone=a", "zone=b", ""),
            ("zone=a", "zone=a", "", ""),
            // The flag has changed.
            ("zone=a", "zone=c", "zone=b mine=1", "zone=\"c\""),
            ("zone=a", "", "zone=a mine=1", "zone=null"),
            ("zone=a", "", "zone=b", ""),
            ("zone=a", "disk=ssd", "zone=a", "disk=\"ssd\" zone=null"),
        ] {
            let mut node = Node::new("", "n", NodeSpec::default()).with_labels(labels(there));
            node.status.agent_labels = labels(before);
            let patch = patch(&node, &labels(wanted), &[]).unwrap_or_default();
            let changed = patch["metadata"]["labels"].as_object().cloned().unwrap_or_default();
            let shown: Vec<String> =
                changed.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(shown.join(" "), expected, "{before} -> {wanted}, there {there}");
        }
    }

    #[test]
    fn so_it_is_with_taints() {
        for (before, wanted, there, expected) in [
            ("", "gpu:NoSchedule", "mine:NoExecute", "mine:NoExecute gpu:NoSchedule"),
            ("gpu:NoSchedule", "gpu:NoSchedule", "", ""),
            ("gpu:NoSchedule", "gpu:NoSchedule", "gpu=x:NoSchedule", "gpu=x:NoSchedule"),
            ("gpu:NoSchedule", "gpu=y:NoSchedule", "gpu=x:NoSchedule", "gpu=y:NoSchedule"),
            ("gpu:NoSchedule", "", "gpu:NoSchedule mine:NoExecute", "mine:NoExecute"),
            ("gpu:NoSchedule", "", "gpu=x:NoSchedule", "gpu=x:NoSchedule"),
        ] {
            let spec = NodeSpec { taints: taints(there), ..NodeSpec::default() };
            let mut node = Node::new("", "n", spec);
            node.status.agent_taints = taints(before);
            let merged = merged_taints(&node, &taints(wanted));
            let shown: Vec<String> = merged.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(" "), expected, "{before} -> {wanted}, there {there}");
            let is_same = patch(&node, &BTreeMap::new(), &taints(wanted)).is_none();
            assert_eq!(is_same, there == expected, "{before} -> {wanted}, there {there}");
        }
    }
}
