//! The parts of an object that never change, and those that only the apiserver writes.
//!
//! # Invariants
//!
//! * Every write that replaces one document by another goes through [`hold`]: PUT and each form of
//!   PATCH, of the object and of its subresources, also in batches. (Changes of the parts of a task
//!   are typed and cannot name any of this.)
//! * The answers are those of Kubernetes. A change that would make it a different object is an
//!   error (400, or 409 for the uid, which says which object is meant). The fields of the apiserver
//!   are restored silently, because clients send back what they have read.

use api::status::{Mistake, Refusal, Why};
use api::violation::Violation;
use api::{KindId, ObjectKey, labels, names};
use serde_json::{Map, Value};

use super::facts::Current;
use super::refusals::conflict;

/// Metadata that only the apiserver writes.
const SERVER_FIELDS: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// Metadata that is not stored.
const PASSING_FIELDS: [&str; 2] = ["managedFields", "selfLink"];

/// Checks that `object`, which is to replace `current`, does not change what must not change. What
/// it leaves out of that, or must not set, is restored.
pub(super) fn hold(
    (kind, key): (KindId, &ObjectKey),
    (current, before): (&Current, &Value),
    object: &mut Value,
) -> Result<(), Refusal> {
    let bad = |message: String| {
        Refusal::new(Why::Mistaken(Mistake::Request), message).about(kind, &key.name)
    };
    let Some(fields) = object.as_object_mut() else {
        return Err(bad("the object must be a JSON object".to_owned()));
    };
    for (field, ours) in [("apiVersion", kind.api_version()), ("kind", kind.info().kind.to_owned())]
    {
        same(fields, field, &ours).map_err(bad)?;
    }
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(bad("metadata: required".to_owned()));
    };
    if !metadata.get("name").is_some_and(Value::is_string) {
        let why = format!("metadata.name: required; it is {:?} in the path", key.name);
        return Err(bad(why));
    }
    same(metadata, "name", &key.name).map_err(|why| bad(format!("metadata.{why}")))?;
    same(metadata, "namespace", &key.namespace).map_err(|why| bad(format!("metadata.{why}")))?;
    let uid = metadata.get("uid").and_then(Value::as_str).unwrap_or_default();
    if !uid.is_empty() && uid != current.uid() {
        let why = format!(
            "uid {uid} does not match {}, the uid of the object that has this name now",
            current.uid()
        );
        return Err(conflict(kind, &key.name, why));
    }
    for field in SERVER_FIELDS {
        metadata.shift_remove(field);
        if let Some(value) = before["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    for field in PASSING_FIELDS {
        metadata.shift_remove(field);
    }
    hold_labels(&before["metadata"]["labels"], metadata).map_err(bad)
}

/// Keeps the labels by which controllers find what they have made, so that nobody can change what
/// belongs to what by editing them.
fn hold_labels(before: &Value, metadata: &mut Map<String, Value>) -> Result<(), String> {
    for label in labels::OF_OWNER {
        let (ours, now) =
            (before.get(label), metadata.get("labels").and_then(|all| all.get(label)));
        match (ours, now) {
            (ours, now) if ours == now => (),
            (Some(ours), None | Some(Value::Null)) => {
                let all = metadata.entry("labels").or_insert(Value::Null);
                if !all.is_object() {
                    *all = Value::Object(Map::new());
                }
                all[label] = ours.clone();
            }
            (_, Some(now)) => {
                let now: String = now.to_string().chars().take(100).collect();
                return Err(format!(
                    "metadata.labels[{label:?}]: cannot be changed to {now}: Heliox finds by it what it made"
                ));
            }
            (None, None) => (),
        }
    }
    Ok(())
}

/// Refuses a value of a field other than `ours`, and sets it if there is none.
fn same(fields: &mut Map<String, Value>, field: &str, ours: &str) -> Result<(), String> {
    match fields.get(field) {
        Some(Value::String(there)) if there == ours => Ok(()),
        None | Some(Value::Null) if ours.is_empty() => {
            fields.shift_remove(field);
            Ok(())
        }
        None | Some(Value::Null) => {
            fields.insert(field.to_owned(), ours.into());
            Ok(())
        }
        Some(other) => {
            let other: String = other.to_string().chars().take(100).collect();
            Err(format!("{field}: cannot be changed from {ours:?} to {other}"))
        }
    }
}

/// Refuses the labels by which controllers find what they have made, on an object that somebody
/// creates by a request of its own: with them, a run could pass for one that its workflow started.
/// Components create in batches. A run of a workflow may say what its spec and name say as well,
/// as those of `hctl run` do.
pub(crate) fn check_labels(kind: KindId, object: &Value) -> Result<(), Refusal> {
    let (metadata, workflow) = (&object["metadata"], &object["spec"]["workflow"]);
    let (name, of) = (&metadata["name"], workflow.as_str().unwrap_or_default());
    let is_true = |label: &str, value: &Value| match (kind, label) {
        (KindId::WorkflowRun, labels::WORKFLOW) => value == workflow,
        (KindId::WorkflowRun, labels::RUN_NUMBER) => {
            let number = value.as_str().and_then(|number| number.parse::<u32>().ok());
            number.is_some_and(|number| *name == names::job_in_run(of, &number.to_string()))
        }
        _ => false,
    };
    let invented = labels::OF_OWNER
        .into_iter()
        .filter(|label| metadata["labels"].get(*label).is_some_and(|value| !is_true(label, value)));
    let violation = |label: &str| {
        let path = format!("metadata.labels[{label:?}]");
        Violation::new(path, "only Heliox sets this label, on what it makes").hint("remove it")
    };
    let violations: Vec<Violation> = invented.map(violation).collect();
    if violations.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(kind, name.as_str().unwrap_or_default(), &violations))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_create_does_not_pass_for_what_heliox_made() {
        let refused = |kind, labels: Value, name: &str| {
            let object = json!({
                "metadata": {"name": name, "labels": labels}, "spec": {"workflow": "load"},
            });
            check_labels(kind, &object).err().map(|refusal| refusal.to_string())
        };
        let run = KindId::WorkflowRun;
        assert_eq!(refused(run, json!({"app": "web"}), "load-7"), None);
        let own = json!({"heliox.dev/workflow": "load", "heliox.dev/run-number": "7"});
        assert_eq!(refused(run, own.clone(), "load-7"), None);
        for (kind, labels, name, wrong) in [
            (run, own.clone(), "load-8", "heliox.dev/run-number"),
            (run, json!({"heliox.dev/workflow": "other"}), "load-7", "heliox.dev/workflow"),
            (run, json!({"heliox.dev/revision": "a1"}), "load-7", "heliox.dev/revision"),
            (KindId::Job, json!({"heliox.dev/run": "load-7"}), "a", "heliox.dev/run"),
            (KindId::Job, own, "load-7", "heliox.dev/workflow"),
        ] {
            let why = refused(kind, labels, name).unwrap_or_default();
            assert!(why.contains(wrong) && why.contains("remove it"), "{why}");
        }
    }
}
