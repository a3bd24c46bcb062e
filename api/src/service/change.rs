//! What a change of a service's spec does, in words: what `hctl apply` tells.

use serde_json::Value;

use super::Service;
use crate::kind::KindId;
use crate::{meaning, merge};

/// What makes a revision.
const OF_REVISION: [&str; 3] = ["template", "placement", "restart"];

/// What a change does to the tasks of a service; nothing if only its metadata, or the words for the same,
/// have changed.
pub fn consequence(before: &Service, after: &Service) -> Option<String> {
    let (old, new) = (meant(before), meant(after));
    let changed: Vec<&str> = fields(&old, &new);
    if changed.is_empty() {
        return None;
    }
    let mut told = Vec::new();
    let of_revision: Vec<&str> =
        OF_REVISION.into_iter().filter(|field| changed.contains(field)).collect();
    if !of_revision.is_empty() && after.status.observed_generation > 0 {
        let newest = before.status.revisions.iter().map(|it| it.number).max().unwrap_or_default();
        told.push(format!("rolls out revision {}", newest.saturating_add(1)));
    }
    let (from, to) = (before.spec.replicas(), after.spec.replicas());
    if from != to && !before.spec.is_per_node() && !after.spec.is_per_node() {
        let tasks = if to == 1 { "task" } else { "tasks" };
        told.push(format!("scaled from {from} to {to} {tasks}"));
    }
    match (before.spec.is_suspended(), after.spec.is_suspended()) {
        (false, true) => told.push("stops all tasks".to_owned()),
        (true, false) => told.push("starts its tasks again".to_owned()),
        (true, true) | (false, false) => (),
    }
    if told.is_empty() {
        told.push("changed in place, no task is replaced".to_owned());
    }
    Some(told.join("; "))
}

/// The spec as it is meant.
fn meant(service: &Service) -> Value {
    meaning::spec(KindId::Service, &Value::Object(merge::to_map(&service.spec)))
}

/// The fields of a spec that differ.
fn fields<'a>(old: &'a Value, new: &'a Value) -> Vec<&'a str> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return Vec::new() };
    let differs = |field: &&str| old.get(*field) != new.get(*field);
    let mut all: Vec<&str> = Vec::new();
    let names = old.iter().chain(new).map(|(field, _)| field.as_str());
    names.for_each(|field| {
        if !all.contains(&field) {
            all.push(field)
        }
    });
    all.retain(differs);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::service::ServiceSpec;

    #[test]
    fn a_change_says_what_it_does() {
        let service = |spec: Value| {
            let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
            let mut service = Service::new("default", "web", spec);
            service.status = serde_json::from_value(json!({
                "observedGeneration": 1, "updateRevision": 3,
                "revisions": [{ "number": 3, "template": "t", "at": "2026-01-02T00:00:00Z" }],
            }))
            .unwrap();
            service
        };
        let before = service(json!({ "template": { "image": "a" }, "replicas": 2 }));
        let told = |spec: Value| consequence(&before, &service(spec)).unwrap_or_default();
        let template = json!({ "image": "a" });
        for (spec, expected) in [
            (json!({ "template": { "image": "b" }, "replicas": 2 }), "rolls out revision 4"),
            (
                json!({ "template": { "image": "b" }, "replicas": 1 }),
                "rolls out revision 4; scaled from 2 to 1 task",
            ),
            (json!({ "template": template, "replicas": 5 }), "scaled from 2 to 5 tasks"),
            (json!({ "template": template, "replicas": 2, "suspend": true }), "stops all tasks"),
            (
                json!({ "template": template, "replicas": 2, "maxUnavailable": 2 }),
                "changed in place, no task is replaced",
            ),
            (json!({ "template": template, "replicas": 2, "priority": 0, "suspend": false }), ""),
        ] {
            assert_eq!(told(spec.clone()), expected, "{spec}");
        }
    }
}
