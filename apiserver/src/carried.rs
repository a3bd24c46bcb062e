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

/// Fields by which an item of a list is identified, the first one that it has. The other items have
/// no name; a test has the list of our lists that hold such items.
const NAMES: [&str; 10] =
    ["name", "type", "uid", "attempt", "number", "reason", "path", "job", "node", "ip"];

/// The changed items of a list. Items move when others are added or removed, so each one has to be
/// found again in the list before the change (see [`origins`]), whose unknown fields it keeps.
fn changed_items(mut items: Vec<Value>, before: &[Value], after: &[Value]) -> Vec<Value> {
    let changed = |(next, origin): (&Value, Option<usize>)| {
        // A list that is read as a set may be in a different order here.
        match origin.filter(|at| next.is_object() && is_one(&items[*at], &before[*at])) {
            Some(at) => change(items[at].take(), &before[at], next),
            None => next.clone(),
        }
    };
    after.iter().zip(origins(before, after)).map(changed).collect()
}

/// For each item of `after`, which item of `before` it was. Items are matched in these steps, each
/// among those that are left:
///
/// 1. those at the beginning and at the end of the list that are equal, in all that this version
///    knows;
/// 2. those that are equal elsewhere: they have moved;
/// 3. those with the same name: they have changed;
/// 4. those without a name, in their order, if as many are left on both sides;
/// 5. or else those that follow the same item as before, if as many do on both sides.
///
/// What is impossible is to find an item without a name that has changed where another such item
/// was added or removed beside it at the same time, and to tell two that were changed and have
/// changed places. The former loses its unknown fields, since those of another item are worse than
/// none; the latter get each other's.
fn origins(before: &[Value], after: &[Value]) -> Vec<Option<usize>> {
    let same = |(one, other): &(&Value, &Value)| one == other;
    let first = before.iter().zip(after).take_while(same).count();
    let (rest_before, rest_after) = (&before[first..], &after[first..]);
    let last = rest_before.iter().rev().zip(rest_after.iter().rev()).take_while(same).count();
    let mut matched = Matched::new(before, after);
    (0..first).for_each(|at| matched.set(at, at));
    (0..last).for_each(|n| matched.set(before.len() - 1 - n, after.len() - 1 - n));
    matched.by(|item| Some(item.to_string()));
    matched.by(|item| name(item).map(Value::to_string));
    matched.the_rest();
    matched.origins
}

/// Items of a list before and after a change, and which ones are known to be the same.
struct Matched<'a> {
    before: &'a [Value],
    after: &'a [Value],
    /// Places in `before` that were matched.
    taken: Vec<bool>,
    /// Places in `before` by places in `after`.
    origins: Vec<Option<usize>>,
}

impl<'a> Matched<'a> {
    fn new(before: &'a [Value], after: &'a [Value]) -> Self {
        let (taken, origins) = (vec![false; before.len()], vec![None; after.len()]);
        Self { before, after, taken, origins }
    }

    fn set(&mut self, origin: usize, at: usize) {
        self.taken[origin] = true;
        self.origins[at] = Some(origin);
    }

    /// Matches items with the same key, in their order.
    fn by(&mut self, key: impl Fn(&Value) -> Option<String>) {
        let mut places: BTreeMap<String, VecDeque<usize>> = BTreeMap::new();
        for (place, item) in self.before.iter().enumerate().filter(|(at, _)| !self.taken[*at]) {
            if let Some(key) = key(item) {
                places.entry(key).or_default().push_back(place);
            }
        }
        for (at, item) in self.after.iter().enumerate() {
            let mut origin = || places.get_mut(&key(item)?).and_then(VecDeque::pop_front);
            if self.origins[at].is_none()
                && let Some(origin) = origin()
            {
                self.set(origin, at);
            }
        }
    }

    /// Matches items without a name by their order.
    fn the_rest(&mut self) {
        let is_nameless = |item: &Value| item.is_object() && name(item).is_none();
        let before: Vec<usize> = (0..self.before.len())
            .filter(|at| !self.taken[*at] && is_nameless(&self.before[*at]))
            .collect();
        let after: Vec<usize> = (0..self.after.len())
            .filter(|at| self.origins[*at].is_none() && is_nameless(&self.after[*at]))
            .collect();
        if before.len() == after.len() {
            before.into_iter().zip(after).for_each(|(origin, at)| self.set(origin, at));
            return;
        }
        let mut groups: BTreeMap<Option<usize>, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for origin in before {
            let previous = (0..origin).rev().find(|at| self.taken[*at]);
            groups.entry(previous).or_default().0.push(origin);
        }
        for at in after {
            let previous = self.origins[..at].iter().rev().find_map(|origin| *origin);
            groups.entry(previous).or_default().1.push(at);
        }
        for (before, after) in groups.into_values().filter(|(one, other)| one.len() == other.len())
        {
            before.into_iter().zip(after).for_each(|(origin, at)| self.set(origin, at));
        }
    }
}

fn name(item: &Value) -> Option<&Value> {
    let field = |field: &&str| item.get(field).filter(|name| name.is_string() || name.is_u64());
    NAMES.iter().find_map(field)
}

fn is_one(item: &Value, known: &Value) -> bool {
    item.is_object() && name(item) == name(known)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    /// The rules of a retry policy, which have no name, each with an unknown field.
    fn rules(of: &str) -> Value {
        of.split_whitespace()
            .map(|item| {
                let (rule, unknown) = item.split_once('+').unwrap_or((item, ""));
                let mut rule = json!({ "action": rule });
                if !unknown.is_empty() {
                    rule["x"] = unknown.into();
                }
                rule
            })
            .collect()
    }

    #[test]
    fn items_without_a_name_keep_what_is_unknown_where_it_can_be_told_which_they_were() {
        for (object, after, expected) in [
            // Moved without change, in every way.
            ("a+1 b+2 c+3", "c a b", "c+3 a+1 b+2"),
            ("a+1 b+2 c+3", "b a c", "b+2 a+1 c+3"),
            // Inserted before, between and behind.
            ("a+1 b+2", "n a b", "n a+1 b+2"),
            ("a+1 b+2", "a n b m", "a+1 n b+2 m"),
            // Removed.
            ("a+1 b+2 c+3", "b c", "b+2 c+3"),
            ("a+1 b+2 c+3", "c a", "c+3 a+1"),
            // Changed where they are; all of them.
            ("a+1 b+2 c+3", "a B c", "a+1 B+2 c+3"),
            ("a+1 b+2", "A B", "A+1 B+2"),
            // One has changed, and others have moved.
            ("a+1 b+2 c+3", "c B a", "c+3 B+2 a+1"),
            // One has moved and changed at once.
            ("a+1 b+2 c+3", "b c A", "b+2 c+3 A+1"),
            // One has changed, and another one was added or removed elsewhere.
            ("a+1 b+2", "A b n", "A+1 b+2 n"),
            ("a+1 b+2 c+3", "A b", "A+1 b+2"),
            // Equal ones: the one that stayed is the one that has not changed.
            ("a+1 a+2", "A a", "A+1 a+2"),
            ("a+1 a+2", "a A", "a+1 A+2"),
            // Impossible: changed beside one that was added, or removed.
            ("a+1", "n A", "n A"),
            ("a+1 b+2", "B", "B"),
            // Impossible: both changed and swapped.
            ("a+1 b+2", "B A", "B+1 A+2"),
        ] {
            let known = |of: &str| {
                let items = of.split_whitespace().map(|item| item.split('+').next().unwrap());
                json!({ "rules": rules(&items.collect::<Vec<_>>().join(" ")) })
            };
            let changed = over(json!({ "rules": rules(object) }), &known(object), &known(after));
            let expected = json!({ "rules": rules(expected) });
            assert_eq!(changed.to_string(), expected.to_string(), "{object} to {after}");
        }
    }

    /// Two attempts of one task on a node have the same uid: which of them goes is not told by it.
    #[test]
    fn of_items_with_the_same_name_the_one_that_is_equal_is_kept() {
        let object = json!({ "h": [{"uid": "u", "n": 1, "x": 1}, {"uid": "u", "n": 2, "x": 2}] });
        let before = json!({ "h": [{"uid": "u", "n": 1}, {"uid": "u", "n": 2}] });
        let changed = over(object, &before, &json!({ "h": [{"uid": "u", "n": 2}] }));
        assert_eq!(changed, json!({ "h": [{"uid": "u", "n": 2, "x": 2}] }));
    }

    /// Where a list of objects is added to a kind, its items should have a name of [`NAMES`].
    #[test]
    fn the_lists_whose_items_have_no_name_are_known() {
        let mut found = BTreeSet::new();
        for kind in api::KindId::ALL {
            let schema = api::schema::of(kind);
            nameless(schema, schema, "", &mut found);
        }
        let known = [
            "agentTaints: key value effect timeAdded",
            "managedFields: apiVersion fieldsType fieldsV1 manager operation subresource time",
            "near: partitionSet states job required",
            "ports: port protocol hostIP",
            "preferences: weight constraint",
            "rules: exitCodes reasons action",
            "taints: key value effect timeAdded",
            "tolerations: key operator value effect tolerationSeconds",
        ];
        assert_eq!(found, known.map(str::to_owned).into());
    }

    /// Collects the lists in a schema whose items are objects that need not have a name.
    fn nameless(root: &Value, schema: &Value, list: &str, found: &mut BTreeSet<String>) {
        if let Some(target) = schema["$ref"].as_str() {
            return nameless(root, root.pointer(&target[1..]).unwrap(), list, found);
        }
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            nameless(root, inner, field, found);
        }
        for inner in ["anyOf", "oneOf", "allOf"] {
            let any = schema[inner].as_array().into_iter().flatten();
            any.for_each(|inner| nameless(root, inner, list, found));
        }
        nameless_values(root, schema, list, found);
        let mut item = &schema["items"];
        while let Some(target) = item["$ref"].as_str() {
            item = root.pointer(&target[1..]).unwrap();
        }
        if let Some(fields) = item["properties"].as_object() {
            let required = item["required"].as_array().into_iter().flatten();
            let mut required = required.filter_map(Value::as_str);
            if !required.any(|field| NAMES.contains(&field)) {
                let fields: Vec<_> = fields.keys().map(String::as_str).collect();
                found.insert(format!("{list}: {}", fields.join(" ")));
            }
            nameless(root, item, list, found);
        }
    }

    fn nameless_values(root: &Value, schema: &Value, list: &str, found: &mut BTreeSet<String>) {
        if schema["additionalProperties"].is_object() {
            nameless(root, &schema["additionalProperties"], list, found);
        }
    }
}
