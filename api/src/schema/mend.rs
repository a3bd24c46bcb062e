//! A document without what is wrong in it, so that its rules can be asked.

use serde_json::{Map, Value, json};

use super::walk::{alternatives, required_of, types, words_of};
use crate::path::{self, Step};

/// The document without the fields that `ways` lead to. Those that it cannot do without have a value
/// that their schema allows. Nothing where the document as a whole is wrong.
pub(super) fn mended(schema: &Value, mut document: Value, ways: &[Vec<Step>]) -> Option<Value> {
    for way in ways {
        // A list that holds something wrong is left out as a whole: without the wrong entry the others
        // would have other indexes, and what the rules say of them would name the wrong ones.
        let at = way.iter().rposition(|step| matches!(step, Step::Field(_)))?;
        let (Step::Field(field), above) = way[..=at].split_last()? else { return None };
        let around = above.iter().try_fold(schema, within);
        let map = path::find_mut(&mut document, above).and_then(Value::as_object_mut);
        let Some(map) = map else { continue };
        let requires = |schema: &&Value| required_of(chosen(schema)).any(|it| it == field);
        match around.filter(requires) {
            Some(around) => {
                let inner = within(around, &Step::Field(field.clone()));
                map.insert(field.clone(), inner.map_or_else(|| "x".into(), sample));
            }
            None => drop(map.shift_remove(field)),
        }
    }
    Some(document)
}

/// The schema of what a step leads to.
fn within<'a>(schema: &'a Value, step: &Step) -> Option<&'a Value> {
    let schema = chosen(schema);
    match step {
        Step::Field(field) => {
            let known = schema.get("properties").and_then(|properties| properties.get(field));
            known.or_else(|| schema.get("additionalProperties"))
        }
        Step::Index(_) => schema.get("items"),
    }
}

/// Of a schema that is optional, the one of what may be there.
fn chosen(schema: &Value) -> &Value {
    let is_something = |inner: &&Value| inner.get("type").is_none_or(|it| it != "null");
    let inner = alternatives(schema).and_then(|inner| inner.into_iter().find(is_something));
    inner.unwrap_or(schema)
}

/// A value that a schema allows.
fn sample(schema: &Value) -> Value {
    if let Some(word) = words_of(schema).next() {
        return word.into();
    }
    let schema = chosen(schema);
    let types = types(schema);
    let is = |wanted: &str| types.contains(&wanted);
    if is("object") {
        let field = |field: &str| {
            let inner = within(schema, &Step::Field(field.to_owned()))?;
            Some((field.to_owned(), sample(inner)))
        };
        let fields: Map<String, Value> = required_of(schema).filter_map(field).collect();
        return Value::Object(fields);
    }
    if is("array") {
        return json!([]);
    }
    if is("integer") || is("number") {
        return schema.get("minimum").cloned().unwrap_or_else(|| json!(1));
    }
    if is("boolean") {
        return json!(false);
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("duration") => json!("1s"),
        Some("quantity") => json!("1"),
        Some("date-time") => json!("2026-01-01T00:00:00Z"),
        _ => json!("x"),
    }
}
