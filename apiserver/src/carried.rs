//! Preserves fields of a stored object that this version does not know, when it writes the object.
//! While the servers of a cluster are upgraded one by one, an older and a newer server write the
//! same objects. The older one reads them into types without the newer fields. It must neither
//! remove these fields from the store nor hide them from clients. Its own components, and clients
//! with their own types, send objects back without those fields, which does not mean that they want
//! them removed. A patch does remove what it names.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads an object as a type of this version, and finds out whether it has fields that the type
/// lacks.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<(T, bool)> {
    let mut has_more = false;
    let mut source = serde_json::Deserializer::from_slice(json);
    let object = serde_ignored::deserialize(&mut source, |_| has_more = true)?;
    source.end()?;
    Ok((object, has_more))
}

/// Applies the change from `before` to `after` to the document `object`. `before` is what this
/// version reads from the document.
pub(crate) fn over<T: Serialize>(object: Value, before: &T, after: &T) -> Value {
    let value = |typed| {
        let mut document =
            serde_json::to_value(typed).expect("our objects have text keys and finite numbers");
        // An empty status is left out.
        if let Some(fields) = document.as_object_mut() {
            fields.entry("status").or_insert_with(|| Value::Object(Map::new()));
        }
        document
    };
    let mut changed = change(object, &value(before), &value(after));
    // Our serializers write the status last, and fields are added to it on the way out.
    let status = changed.as_object_mut().and_then(|fields| fields.shift_remove("status"));
    let says_something = |status: &Value| status.as_object().is_some_and(|it| !it.is_empty());
    if let (Some(fields), Some(status)) = (changed.as_object_mut(), status.filter(says_something)) {
        fields.insert("status".to_owned(), status);
    }
    changed
}

fn change(object: Value, before: &Value, after: &Value) -> Value {
    match (object, before, after) {
        (object, before, after) if before == after => object,
        (Value::Object(mut fields), Value::Object(before), Value::Object(after)) => {
            fields.retain(|name, _| after.contains_key(name) || !before.contains_key(name));
            for (name, next) in after {
                let known = before.get(name);
                match fields.get_mut(name) {
                    Some(place) => {
                        *place = change(place.take(), known.unwrap_or(&Value::Null), next);
                    }
                    // It has its default value, and stays left out.
                    None if known == Some(next) => (),
                    None => drop(fields.insert(name.clone(), next.clone())),
                }
            }
            Value::Object(fields)
        }
        (Value::Array(items), Value::Array(before), Value::Array(after))
            if items.len() == before.len() =>
        {
            Value::Array(changed_items(items, before, after))
        }
        (_, _, after) => after.clone(),
    }
}

/// The changed items of a list. Items move when others are added or removed, so they are matched by
/// identity.
fn changed_items(mut items: Vec<Value>, before: &[Value], after: &[Value]) -> Vec<Value> {
    let mut places: BTreeMap<String, VecDeque<usize>> = BTreeMap::new();
    for (place, item) in before.iter().enumerate() {
        places.entry(identity(item)).or_default().push_back(place);
    }
    let mut changed = |next: &Value| {
        let place = places.get_mut(&identity(next)).and_then(VecDeque::pop_front);
        // A list that is read as a set may be in a different order here.
        match place.filter(|place| next.is_object() && is_one(&items[*place], &before[*place])) {
            Some(place) => change(items[place].take(), &before[place], next),
            None => next.clone(),
        }
    };
    after.iter().map(&mut changed).collect()
}

/// What identifies an item of a list: its name if it has one, or else all of its content.
fn identity(item: &Value) -> String {
    name(item).map_or_else(|| item.to_string(), Value::to_string)
}

fn name(item: &Value) -> Option<&Value> {
    let field = |field: &&str| item.get(field).filter(|name| name.is_string() || name.is_u64());
    ["name", "type", "uid", "attempt", "reason"].iter().find_map(field)
}

fn is_one(item: &Value, known: &Value) -> bool {
    item.is_object() && name(item) == name(known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_are_noticed_at_every_depth() {
        #[derive(serde::Deserialize)]
        struct Known {
            #[serde(rename = "spec")]
            _spec: Spec,
        }
        #[derive(serde::Deserialize)]
        struct Spec {
            #[serde(rename = "container")]
            _container: String,
        }
        let read = |json: &str| read::<Known>(json.as_bytes()).map(|(_, has_more)| has_more);
        assert!(!read(r#"{"spec":{"container":"c"}}"#).unwrap());
        assert!(read(r#"{"spec":{"container":"c","pace":1}}"#).unwrap());
        assert!(read(r#"{"spec":{"container":"c"},"more":{}}"#).unwrap());
        assert!(read(r#"{"spec":{"container":"c"}} x"#).is_err());
    }

    #[test]
    fn a_change_of_what_is_known_leaves_the_rest() {
        for (object, before, after, expected) in [
            // Changed, removed and added.
            (
                json!({"a": 1, "x": 1, "b": {"c": 1, "y": 1}, "status": {"p": 1}, "z": 1}),
                json!({"a": 1, "b": {"c": 1}, "status": {"p": 1}}),
                json!({"b": {"c": 2, "d": 3}, "status": {"p": 2}, "e": {"f": 1}}),
                json!({"x": 1, "b": {"c": 2, "y": 1, "d": 3}, "z": 1, "e": {"f": 1}, "status": {"p": 2}}),
            ),
            // The oldest entry of a history is removed, and a new one is added.
            (
                json!({"h": [{"attempt": 1, "x": 1}, {"attempt": 2, "x": 2}]}),
                json!({"h": [{"attempt": 1}, {"attempt": 2}]}),
                json!({"h": [{"attempt": 2}, {"attempt": 3}]}),
                json!({"h": [{"attempt": 2, "x": 2}, {"attempt": 3}]}),
            ),
            // One is removed, and the other is changed at the same time.
            (
                json!({"h": [{"name": "a", "x": 1}, {"name": "b"}]}),
                json!({"h": [{"name": "a"}, {"name": "b"}]}),
                json!({"h": [{"name": "b", "image": "i"}, {"name": "c"}]}),
                json!({"h": [{"name": "b", "image": "i"}, {"name": "c"}]}),
            ),
            // They swap places, and one of them is changed.
            (
                json!({"h": [{"name": "a", "x": 1}, {"name": "b", "x": 2}]}),
                json!({"h": [{"name": "a"}, {"name": "b"}]}),
                json!({"h": [{"name": "b", "n": 5}, {"name": "a"}]}),
                json!({"h": [{"name": "b", "x": 2, "n": 5}, {"name": "a", "x": 1}]}),
            ),
            // Two of the same name, and items without names: equal ones keep their order.
            (
                json!({"h": [{"name": "a", "x": 1}, {"name": "a", "x": 2}, {"n": 1, "x": 3}, {"n": 1, "x": 4}]}),
                json!({"h": [{"name": "a"}, {"name": "a"}, {"n": 1}, {"n": 1}]}),
                json!({"h": [{"n": 2}, {"name": "a"}, {"n": 1}, {"name": "a"}, {"n": 1}]}),
                json!({"h": [{"n": 2}, {"name": "a", "x": 1}, {"n": 1, "x": 3}, {"name": "a", "x": 2}, {"n": 1, "x": 4}]}),
            ),
            // A set, in the order in which it is read.
            (
                json!({"h": ["b", "a"], "x": 1}),
                json!({"h": ["a", "b"]}),
                json!({"h": ["a"]}),
                json!({"h": ["a"], "x": 1}),
            ),
            // A default that was left out stays left out; another value is written.
            (
                json!({"x": 1}),
                json!({"a": 0, "b": 0}),
                json!({"a": 0, "b": 1}),
                json!({"x": 1, "b": 1}),
            ),
            // A status without known fields is left out by the type, but is still there.
            (
                json!({"a": 1, "status": {"x": 1}}),
                json!({"a": 1}),
                json!({"a": 1, "status": {"p": 1}}),
                json!({"a": 1, "status": {"x": 1, "p": 1}}),
            ),
            (
                json!({"a": 1, "status": {"p": 1, "x": 1}}),
                json!({"a": 1, "status": {"p": 1}}),
                json!({"a": 1}),
                json!({"a": 1, "status": {"x": 1}}),
            ),
            (json!({"a": 1}), json!({"a": 1}), json!({"a": 2}), json!({"a": 2})),
            // A value that changes its type is replaced.
            (json!({"a": {"x": 1}}), json!({"a": {}}), json!({"a": [1]}), json!({"a": [1]})),
        ] {
            let changed = over(object, &before, &after);
            assert_eq!(changed.to_string(), expected.to_string());
        }
    }
}
