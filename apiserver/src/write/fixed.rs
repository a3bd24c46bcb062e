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
use api::{KindId, ObjectKey, labels};
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
