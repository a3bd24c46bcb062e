//! The three-way merge of `apply`: of what was applied last, the manifest, and the live object.
//!
//! # Invariants
//!
//! * After the patch, every field of the manifest has its value.
//! * A field that was applied last and is no longer in the manifest is removed.
//! * Every other field stays: it may belong to others.
//! * Lists are values and are replaced as a whole.

use api::labels::{self, LAST_APPLIED};
use api::{KindId, meaning};
use k8s_openapi::ByteString;
use serde_json::{Map, Value};

/// Metadata that the server sets. In a manifest from `get -o yaml` it is ignored.
const SERVER_METADATA: [&str; 7] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// What a manifest specifies: without status and other fields that users do not set.
pub fn wish(mut manifest: Value) -> Value {
    if let Some(fields) = manifest.as_object_mut() {
        fields.shift_remove("status");
    }
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in SERVER_METADATA {
            metadata.shift_remove(field);
        }
        if let Some(notes) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            notes.shift_remove(LAST_APPLIED);
        }
    }
    without_string_data(&mut manifest);
    manifest
}

/// Removes controllers that the live object does not have from the manifest, with the corresponding
/// labels. Returns whether there were any. Only a controller makes an object its own; in a manifest
/// they come from `get -o yaml` of an object that a controller made, and a copy of it under another
/// name would be deleted with the original's owner.
pub fn without_controllers(wish: &mut Value, live: Option<&Value>) -> bool {
    let nothing = Vec::new();
    let of_live = live.and_then(|live| live["metadata"]["ownerReferences"].as_array());
    let of_live = of_live.unwrap_or(&nothing);
    let is_theirs = |owner: &Value| of_live.iter().any(|live| live["uid"] == owner["uid"]);
    let Some(metadata) = wish.get_mut("metadata").and_then(Value::as_object_mut) else {
        return false;
    };
    let Some(owners) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) else {
        return false;
    };
    let before = owners.len();
    owners.retain(|owner| owner["controller"] != Value::Bool(true) || is_theirs(owner));
    let (has_gone, is_empty) = (owners.len() < before, owners.is_empty());
    if has_gone && is_empty {
        metadata.shift_remove("ownerReferences");
    }
    let given = metadata.get_mut("labels").and_then(Value::as_object_mut).filter(|_| has_gone);
    if let Some(given) = given {
        given.retain(|label, _| !labels::OF_OWNER.contains(&label.as_str()));
    }
    has_gone
}

/// Moves the `stringData` of a Secret into `data`, as the server does. Then a text that is removed
/// from the manifest is removed from the stored data, and the annotation contains no text.
fn without_string_data(manifest: &mut Value) {
    if manifest["kind"] != KindId::Secret.info().kind {
        return;
    }
    let Some(fields) = manifest.as_object_mut() else { return };
    let Some(Value::Object(texts)) = fields.shift_remove("stringData") else { return };
    let data = map_at(fields, "data");
    for (key, text) in texts {
        let kept = match text.as_str() {
            Some(text) => serde_json::json!(ByteString(text.as_bytes().to_vec())),
            None => text,
        };
        data.insert(key, kept);
    }
}

/// The manifest with an annotation that lists its fields, from which the next `apply` knows what it
/// may remove. It does not contain values: they are not needed, would double the object's size, and
/// would show Secrets.
pub fn with_note(wish: &Value) -> Value {
    let mut noted = wish.clone();
    let note = fields_of(wish).to_string();
    if let Some(fields) = noted.as_object_mut() {
        let metadata = map_at(fields, "metadata");
        map_at(metadata, "annotations").insert(LAST_APPLIED.to_owned(), note.into());
    }
    noted
}

/// What was applied last, according to the object's annotation.
pub fn last_applied(live: &Value) -> Option<Value> {
    let note = live["metadata"]["annotations"].get(LAST_APPLIED)?.as_str()?;
    let mut last: Value = serde_json::from_str(note).ok()?;
    without_string_data(&mut last);
    Some(last)
}

/// Whether spec, labels and everything else of an object mean the same as before.
pub fn means_the_same(kind: KindId, before: &Value, after: &Value) -> bool {
    let meaning = |object: &Value| {
        let mut wish = wish(object.clone());
        if let Some(metadata) = wish.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|_, value| !is_empty_map(value));
        }
        if let Some(spec) = wish.get_mut("spec") {
            *spec = meaning::spec(kind, spec);
        }
        wish
    };
    meaning(before) == meaning(after)
}

/// The JSON merge patch that turns `live` into `wanted`; nothing if that is so already.
pub fn patch(last: Option<&Value>, wanted: &Value, live: &Value) -> Option<Value> {
    let nothing = Map::new();
    let map = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let last = map(last).unwrap_or_default();
    let (wanted, live) = (wanted.as_object().unwrap_or(&nothing), live.as_object());
    let patch = merge(&last, wanted, live.unwrap_or(&nothing));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn merge(
    last: &Map<String, Value>,
    wanted: &Map<String, Value>,
    live: &Map<String, Value>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, was) in last.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
        if let Some(gone) = live.get(key).and_then(|is| removal(was, is)) {
            patch.insert(key.clone(), gone);
        }
    }
    for (key, wish) in wanted {
        if let Some(change) = change(last.get(key), wish, live.get(key)) {
            patch.insert(key.clone(), change);
        }
    }
    patch
}

/// The patch of one field; nothing if it is as wanted.
fn change(was: Option<&Value>, wish: &Value, is: Option<&Value>) -> Option<Value> {
    let Some(is) = is else {
        // A null means that the field has to be absent. An empty map that was applied before and
        // does not exist is one that the server does not store.
        let said_nothing = is_empty_map(wish) && was == Some(wish);
        return (!wish.is_null() && !said_nothing).then(|| without_nulls(wish));
    };
    match (wish, is) {
        (Value::Object(wish), Value::Object(is)) => {
            let nothing = Map::new();
            let was = was.and_then(Value::as_object).unwrap_or(&nothing);
            let patch = merge(was, wish, is);
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ if wish == is => None,
        _ => Some(without_nulls(wish)),
    }
}

/// The patch that removes the fields of `was` and keeps others in the same map; nothing if there is
/// nothing to remove.
fn removal(was: &Value, is: &Value) -> Option<Value> {
    let (Value::Object(was), Value::Object(is)) = (was, is) else {
        return Some(Value::Null);
    };
    let gone = was.iter().filter_map(|(key, was)| Some((key.clone(), removal(was, is.get(key)?)?)));
    let gone: Map<String, Value> = gone.collect();
    let nothing_stays = gone.len() == is.len() && gone.values().all(Value::is_null);
    if nothing_stays {
        return Some(Value::Null);
    }
    (!gone.is_empty()).then_some(Value::Object(gone))
}

fn is_empty_map(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// In a merge patch, null in a map means "remove"; in a new object it must be left out.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            value.clone()
        }
    }
}

/// The fields of a document without values, sorted, so that a manifest whose lines were moved gives
/// the same. Lists are values: their content is never merged.
fn fields_of(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            let inner = |key: &String| (key.clone(), fields_of(&fields[key]));
            Value::Object(keys.into_iter().map(inner).collect())
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Value::Null
        }
    }
}

/// The map at a key, created if it does not exist.
fn map_at<'a>(fields: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made a map")
}

#[cfg(test)]
#[path = "three_way_tests.rs"]
mod tests;
