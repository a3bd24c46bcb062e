//! Keeps the order of JSON keys where a change leaves the meaning as it is.
//!
//! Two documents with keys in another order mean the same. But parts of a spec that have no type of
//! their own (a job's items, partial templates) are identified by a hash of their text. If a client
//! sends such a part back with its keys sorted, the hash would change, and work that has been done
//! would run again. So where a new spec contains something that is equal to a part of the old one,
//! the old order is kept.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

/// Gives each part of `new` that is equal to the part of `old` at the same path, or to another
/// entry of the same list, the order of keys that it has in `old`. The meaning of `new` does not
/// change.
pub fn keep(old: &Value, new: &mut Value) {
    if old == new {
        // Values compare as equal whatever the order of their keys.
        new.clone_from(old);
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => keep_fields(old, new),
        (Value::Array(old), Value::Array(new)) => keep_entries(old, new),
        _ => (),
    }
}

fn keep_fields(old: &Map<String, Value>, new: &mut Map<String, Value>) {
    for (field, value) in &mut *new {
        if let Some(before) = old.get(field) {
            keep(before, value);
        }
    }
}

fn keep_entries(old: &[Value], new: &mut [Value]) {
    let mut by_meaning: BTreeMap<String, VecDeque<&Value>> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, &Value> = BTreeMap::new();
    for entry in old.iter().filter(|entry| has_keys(entry)) {
        by_meaning.entry(sorted(entry).to_string()).or_default().push_back(entry);
        if let Some(name) = entry["name"].as_str() {
            by_name.insert(name, entry);
        }
    }
    for entry in new.iter_mut().filter(|entry| has_keys(entry)) {
        let equal = by_meaning.get_mut(&sorted(entry).to_string());
        let named = || by_name.get(entry["name"].as_str()?).copied();
        if let Some(before) = equal.and_then(VecDeque::pop_front).or_else(named) {
            keep(before, entry);
        }
    }
}

fn has_keys(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.sort_all_objects();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents as text, because comparing values ignores the order that this is about.
    fn kept(old: &str, new: &str) -> String {
        let (old, mut new): (Value, Value) =
            (serde_json::from_str(old).unwrap(), serde_json::from_str(new).unwrap());
        let meant = new.clone();
        keep(&old, &mut new);
        assert_eq!(new, meant, "it means what it meant");
        new.to_string()
    }

    #[test]
    fn what_is_equal_keeps_its_words_and_what_is_not_has_its_own() {
        let item = r#"{"a":1,"b":{"x":1,"y":2}}"#;
        let other = r#"{"b":{"y":2,"x":1},"a":1}"#;
        assert_eq!(kept(item, other), item);
        assert_eq!(kept(&format!("[{item}]"), &format!("[7,{other}]")), format!("[7,{item}]"));
        let (old, new) =
            (format!(r#"{{"i":[{item}]}}"#), format!(r#"{{"n":1,"i":[{other},{other}]}}"#));
        assert_eq!(kept(&old, &new), format!(r#"{{"n":1,"i":[{item},{other}]}}"#));
        let changed = r#"{"b":{"y":2,"x":1},"a":2}"#;
        assert_eq!(kept(&format!("[{item}]"), &format!("[{changed}]")), format!("[{changed}]"));
    }

    #[test]
    fn equal_entries_keep_their_own_words_each() {
        let (one, other) = (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#);
        let list = format!("[{one},{other}]");
        assert_eq!(kept(&list, &format!("[{other},{one},3]")), format!("[{one},{other},3]"));
    }

    #[test]
    fn an_entry_is_found_by_its_name_too() {
        let old = r#"[{"name":"j","items":[{"a":1,"b":2}]}]"#;
        let new = r#"[{"name":"j","count":1,"items":[{"b":2,"a":1}]}]"#;
        let expected = r#"[{"name":"j","count":1,"items":[{"a":1,"b":2}]}]"#;
        assert_eq!(kept(old, new), expected);
    }
}
