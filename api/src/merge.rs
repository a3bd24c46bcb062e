//! Merging one document over another: the one rule by which defaults, listed tasks and templates
//! are combined.
//!
//! Maps are merged; lists with a key (`env` and `ports` by name, `mounts` by path) are merged by
//! it; other lists and values are replaced. Of alternatives, of which a value has exactly one, the one
//! that is given replaces the other: the source of a mount, the action of a probe.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::job::{JobSpec, Partial};
use crate::path::{self, Step};
use crate::placement::Placement;
use crate::schema;
use crate::template::{ProbeKind, Template};
use crate::violation::{Violation, duplicates};
use crate::workflow::{JobDefaults, WorkflowJob};

/// Where the content of a mount comes from. Each mount has exactly one of these.
const MOUNT_SOURCES: [&str; 5] = ["hostPath", "tmpfs", "volume", "configMap", "secret"];

/// What a probe does. Each probe does exactly one of these.
const PROBE_ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "exec"];

/// `over` merged over `under`.
pub fn merge(under: &Value, over: &Value) -> Value {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => Value::Object(merge_maps(under, over)),
        _ => over.clone(),
    }
}

/// `over` merged over `under`.
pub fn merge_maps(under: &Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = under.clone();
    for (field, value) in over {
        let laid = match (under.get(field), key_of(field)) {
            (Some(Value::Array(under)), Some(key)) if value.is_array() => {
                let over = value.as_array().map(Vec::as_slice).unwrap_or_default();
                Value::Array(merge_lists(under, over, key))
            }
            (Some(under), _) if is_probe(field) => merge(&without_old_action(under, value), value),
            (Some(under), _) => merge(under, value),
            (None, _) => value.clone(),
        };
        merged.insert(field.clone(), laid);
    }
    merged
}

/// The field that identifies the entries of a list; nothing for lists that are replaced.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "env" | "ports" => Some("name"),
        "mounts" => Some("path"),
        _ => None,
    }
}

/// An entry of `over` replaces the one of `under` with the same key in place; new entries go to the
/// end.
fn merge_lists(under: &[Value], over: &[Value], key: &str) -> Vec<Value> {
    let mut merged = under.to_vec();
    for entry in over {
        let same = entry
            .get(key)
            .and_then(|wanted| merged.iter().position(|there| there.get(key) == Some(wanted)));
        match same {
            Some(place) => merged[place] = merge(&without_old_source(&merged[place], entry), entry),
            None => merged.push(entry.clone()),
        }
    }
    merged
}

fn is_probe(field: &str) -> bool {
    ProbeKind::ALL.into_iter().any(|kind| kind.field() == field)
}

/// A probe that is given another action loses its old one.
fn without_old_action(under: &Value, over: &Value) -> Value {
    let given = PROBE_ACTIONS.into_iter().find(|action| over.get(action).is_some());
    match (under, given) {
        (Value::Object(map), Some(given)) => {
            let stays = |field: &str| field == given || !PROBE_ACTIONS.contains(&field);
            let kept = map.iter().filter(|(field, _)| stays(field));
            Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect())
        }
        _ => under.clone(),
    }
}

/// A mount that is given another source loses its old one, with the fields that belong to that.
fn without_old_source(under: &Value, over: &Value) -> Value {
    let given = MOUNT_SOURCES.into_iter().find(|source| over.get(source).is_some());
    match (under, given) {
        (Value::Object(map), Some(given)) if map.contains_key("path") => {
            let goes = |field: &str| {
                MOUNT_SOURCES.contains(&field) || (field == "create" && given != "hostPath")
            };
            let kept = map.iter().filter(|(field, _)| !goes(field));
            Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect())
        }
        _ => under.clone(),
    }
}

/// Violations for entries of a partial template that have the same key: merged, they would silently
/// become one.
pub(crate) fn repeated(part: &Partial, path: &str, found: &mut Vec<Violation>) {
    for (list, entries) in part {
        let (Some(key), Some(entries)) = (key_of(list), entries.as_array()) else { continue };
        let names: Vec<String> = entries
            .iter()
            .map(|entry| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned())
            .collect();
        duplicates(&names, &format!("{path}.{list}"), key, found);
    }
}

/// Where a value of a merged document came from: a path in `over`, or (true) in `under`.
pub(crate) fn origin(
    steps: &[Step],
    merged: &Value,
    (under, over): (&Value, &Value),
) -> (bool, Vec<Step>) {
    let (mut at, mut below, mut above) = (Some(merged), Some(under), Some(over));
    let (mut way_below, mut way_above) = (Vec::new(), Vec::new());
    let mut list = "";
    for step in steps {
        let (next_below, next_above) = match step {
            Step::Field(field) => {
                list = field;
                (step.clone(), step.clone())
            }
            Step::Index(index) => {
                let key = key_of(list);
                let wanted = at.and_then(|at| at.get(index)).zip(key);
                let wanted = wanted.and_then(|(entry, key)| Some((key, entry.get(key)?)));
                // If several entries have one key, the n-th is the n-th: a violation is about the second.
                let before = |key: &str, wanted: &Value| {
                    let entries = at.and_then(Value::as_array).into_iter().flatten().take(*index);
                    entries.filter(|it| it.get(key) == Some(wanted)).count()
                };
                let place = |list: Option<&Value>| {
                    let (key, wanted) = wanted?;
                    let entries = list?.as_array()?.iter().enumerate();
                    let mut same = entries.filter(|(_, it)| it.get(key) == Some(wanted));
                    let first = same.next()?.0;
                    let nth = before(key, wanted)
                        .checked_sub(1)
                        .map_or(Some(first), |skip| same.nth(skip).map(|(place, _)| place));
                    Some(nth.unwrap_or(first))
                };
                let same = |list| Step::Index(place(list).unwrap_or(*index));
                (same(below), same(above))
            }
        };
        at = at.and_then(|at| path::find(at, std::slice::from_ref(step)));
        below = below.and_then(|it| path::find(it, std::slice::from_ref(&next_below)));
        above = above.and_then(|it| path::find(it, std::slice::from_ref(&next_above)));
        way_below.push(next_below);
        way_above.push(next_above);
    }
    if above.is_none() && below.is_some() { (true, way_below) } else { (false, way_above) }
}

/// A template with the task's own partial template merged over it.
///
/// # Errors
/// Fields of the partial template that do not belong in a template. Paths are relative to it.
pub fn template(under: &Template, over: Option<&Partial>) -> Result<Template, Vec<Violation>> {
    let Some(over) = over else { return Ok(under.clone()) };
    typed(Value::Object(merge_maps(&to_map(under), over)), schema::check_template)
}

/// A placement with the task's own partial placement merged over it.
///
/// # Errors
/// Fields of the partial placement that do not belong in a placement. Paths are relative to it.
pub fn placement(under: &Placement, over: Option<&Partial>) -> Result<Placement, Vec<Violation>> {
    let Some(over) = over else { return Ok(under.clone()) };
    typed(Value::Object(merge_maps(&to_map(under), over)), schema::check_placement)
}

/// A workflow's job as the document of a Job's spec: merged over the workflow's defaults, without
/// its name and dependencies. Substitution comes next, then [`typed_job`];
/// [`crate::substitute::job_in_run`] does all three.
pub fn job_document(defaults: Option<&JobDefaults>, job: &WorkflowJob) -> Value {
    let mut document = to_map(job);
    document.remove("name");
    document.remove("dependsOn");
    if let Some(defaults) = defaults {
        document = merge_maps(&to_map(defaults), &document);
    }
    Value::Object(document)
}

/// A Job's spec from its document.
///
/// # Errors
/// What does not belong in a Job's spec. Paths are relative to it.
pub fn typed_job(document: Value) -> Result<JobSpec, Vec<Violation>> {
    typed(document, schema::check_job_spec)
}

/// A workflow's job merged over the workflow's defaults, without substitution. See
/// [`crate::substitute::job_in_run`] for the job that a run makes.
///
/// # Errors
/// What does not belong in a Job's spec. Paths are relative to it.
pub fn job_spec(
    defaults: Option<&JobDefaults>,
    job: &WorkflowJob,
) -> Result<JobSpec, Vec<Violation>> {
    typed_job(job_document(defaults, job))
}

pub(crate) fn to_map<T: Serialize>(value: &T) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("our types are maps with text keys and finite numbers: {other:?}"),
    }
}

fn typed<T: DeserializeOwned>(
    value: Value,
    check: fn(&Value) -> Vec<Violation>,
) -> Result<T, Vec<Violation>> {
    let found = check(&value);
    if !found.is_empty() {
        return Err(found);
    }
    serde_json::from_value(value).map_err(|error| vec![Violation::new("", error.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn maps_merge_keyed_lists_merge_by_key_and_all_else_replaces() {
        let under = json!({
            "image": "a", "args": ["1", "2"], "labels": {"x": "1", "y": "1"},
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
            "ports": [{"name": "http", "containerPort": 80}],
            "mounts": [{"path": "/data", "hostPath": "/srv", "readOnly": true}],
        });
        let over = json!({
            "args": ["3"], "labels": {"y": "2"},
            "env": [{"name": "C", "value": "3"}, {"name": "A", "value": "2"}],
            "ports": [{"name": "http", "hostPort": 8080}],
            "mounts": [{"path": "/data", "tmpfs": {}}],
        });
        let merged = json!({
            "image": "a", "args": ["3"], "labels": {"x": "1", "y": "2"},
            "env": [
                {"name": "A", "value": "2"}, {"name": "B", "value": "1"},
                {"name": "C", "value": "3"},
            ],
            "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080}],
            "mounts": [{"path": "/data", "readOnly": true, "tmpfs": {}}],
        });
        assert_eq!(merge(&under, &over), merged);
    }

    #[test]
    fn a_probe_that_is_given_another_action_loses_its_own() {
        let under = json!({ "readinessProbe": { "httpGet": { "port": 80 }, "periodSeconds": 1 } });
        let over = json!({ "readinessProbe": { "exec": { "command": ["x"] } } });
        let merged =
            json!({ "readinessProbe": { "periodSeconds": 1, "exec": { "command": ["x"] } } });
        assert_eq!(merge(&under, &over), merged);
        let longer = json!({ "readinessProbe": { "httpGet": { "path": "/up" } } });
        let merged = json!({
            "readinessProbe": { "httpGet": { "port": 80, "path": "/up" }, "periodSeconds": 1 },
        });
        assert_eq!(merge(&under, &longer), merged);
    }

    fn document() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        // Entries of keyed lists have a key, as valid manifests do, and each once.
        let entries = proptest::collection::btree_map("[ab]", 0..3, 0..3).prop_map(|map| {
            map.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        });
        let leaf = prop_oneof![scalar, proptest::collection::vec(0..3, 0..3).prop_map(Value::from)];
        let leaf = leaf.prop_recursive(3, 12, 3, |inner| {
            proptest::collection::btree_map("[abc]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        (proptest::collection::btree_map("[abc]", leaf, 0..4), entries).prop_map(
            |(mut map, env): (_, Vec<Value>)| {
                map.insert("env".to_owned(), Value::from(env));
                Value::Object(map.into_iter().collect())
            },
        )
    }

    proptest! {
        #[test]
        fn laying_twice_is_laying_once(under in document(), over in document()) {
            let once = merge(&under, &over);
            prop_assert_eq!(merge(&once, &over), once);
        }

        #[test]
        fn an_empty_part_changes_nothing(under in document()) {
            prop_assert_eq!(merge(&under, &json!({})), under.clone());
            prop_assert_eq!(merge(&under, &under), under);
        }

        #[test]
        fn layers_may_be_grouped_either_way(a in document(), b in document(), c in document()) {
            let left = merge(&merge(&a, &b), &c);
            // A value in the middle may cut off what is under it: that is a replacement, not a
            // merge, and depends on the order.
            prop_assume!(same_shape(&a, &b) && same_shape(&b, &c) && same_shape(&a, &c));
            prop_assert_eq!(left, merge(&a, &merge(&b, &c)));
        }
    }

    fn same_shape(left: &Value, right: &Value) -> bool {
        match (left, right) {
            (Value::Object(left), Value::Object(right)) => left
                .iter()
                .all(|(key, value)| right.get(key).is_none_or(|other| same_shape(value, other))),
            (left, right) => left.is_object() == right.is_object(),
        }
    }
}
